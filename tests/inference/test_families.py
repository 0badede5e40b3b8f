"""Scores and answers of many model families are those of plain passes over the whole text."""

import pytest
import torch

from closer_look.errors import InputError
from closer_look.inference import decoding
from closer_look.inference.generation import generate
from closer_look.inference.scoring import score
from closer_look.models import packing
from closer_look.models.language_model import model_kind
from closer_look.models.readiness import check_model
from closer_look.models.tokens import encode, encode_prompts

QUESTIONS = ["Who?", "Where was Ada born?", "Who taught Bo to sail on the wide lake?", "Where?"]
ANSWERS = ["Bo.", "In Rome, on a hill.", "Nobody did, as far as anyone knows.", "There."]

FAMILIES = {  # how rows go through the model, and how it answers
    "llama": ("packed", "together"),
    "qwen3": ("packed", "together"),
    "gemma3_text": ("packed", "together"),
    "gpt2": ("packed", "together"),
    "mamba": ("one by one", "alone"),
    "jamba": ("one by one", "without a cache"),
    "qwen3_next": ("one by one", "without a cache"),
    "llama4_text": ("one by one", "together"),
    "nemotron": ("one by one", "together"),
}
MORE_FAMILIES = {
    **dict.fromkeys(
        ["qwen2", "qwen3_moe", "mistral", "mixtral", "phi", "phi3", "gemma", "granite", "olmo"],
        ("packed", "together"),
    ),
    **dict.fromkeys(
        ["olmo2", "smollm3", "stablelm", "cohere", "glm", "starcoder2", "opt", "gpt_neox"],
        None,  # whichever is found
    ),
    **dict.fromkeys(
        ["bloom", "falcon", "gpt_oss", "gptj", "mpt", "phimoe", "doge", "lfm2", "falcon_mamba"],
        None,
    ),
    **dict.fromkeys(
        ["recurrent_gemma", "rwkv", "bamba", "granitemoehybrid", "nemotron_h", "olmo_hybrid"], None
    ),
}
NAMES = {
    decoding.decode_together: "together",
    decoding.decode_alone: "alone",
    decoding.decode_without_cache: "without a cache",
}


@torch.no_grad()
def plain_nll(language_model):
    nll = []
    for row in encode(language_model.tokenizer, QUESTIONS, ANSWERS):
        ids = torch.tensor([row.prompt + row.answer])
        logits = language_model.model(input_ids=ids, use_cache=False).logits[0].float()
        predicted = logits.log_softmax(-1)[len(row.prompt) - 1 : -1]
        nll.append(-predicted.gather(1, torch.tensor(row.answer)[:, None]).sum().item())
    return nll


@torch.no_grad()
def plain_answers(language_model, n_tokens):
    model, tokenizer = language_model
    answers = []
    for prompt in encode_prompts(tokenizer, QUESTIONS):
        ids = list(prompt)
        while (
            len(ids) < len(prompt) + n_tokens and tokenizer.eos_token_id not in ids[len(prompt) :]
        ):
            logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits
            ids.append(logits[0, -1].argmax().item())
        answers.append(tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True).strip())
    return answers


@pytest.mark.parametrize(
    ("family", "ways"),
    [
        *FAMILIES.items(),
        *(pytest.param(*one, marks=pytest.mark.slow) for one in MORE_FAMILIES.items()),
    ],
)
def test_a_family_is_scored_and_answers_as_it_does_plainly(make_family, family, ways):
    language_model = make_family(family)
    check_model(language_model)
    expected = plain_nll(language_model)
    for batch_size in (1, 4):
        scores = score(language_model, QUESTIONS, ANSWERS, batch_size)
        assert scores["nll"].tolist() == pytest.approx(expected, abs=1e-3, rel=1e-4)
    prompts = encode_prompts(language_model.tokenizer, QUESTIONS)
    room = 16
    max_length = max(map(len, prompts)) + room
    expected = plain_answers(language_model, room)
    for batch_size in (1, 4):
        answers = generate(language_model, QUESTIONS, max_length, batch_size)["generated"]
        for answer, plain in zip(answers, expected, strict=True):
            assert answer.startswith(plain.rstrip("\ufffd"))
    kind = model_kind(language_model.model)
    is_packed = packing._proven.get(kind, (0, False))[1]
    found = ("packed" if is_packed else "one by one", NAMES[decoding._chosen[kind][1]])
    assert ways is None or found == ways


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_model_that_looks_ahead_is_refused(make_family, family):
    with pytest.raises(InputError, match="is no causal language model"):
        check_model(make_family(family))
