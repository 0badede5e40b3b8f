"""Scores and answers of many model families are those of plain passes over the whole text.

Before fine-tuning and after it, one by one and in batches, as docs/own_model.md says of each.
"""

import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from closer_look.errors import InputError
from closer_look.inference import decoding
from closer_look.inference.generation import generate
from closer_look.inference.scoring import score
from closer_look.models import declared_size, packing
from closer_look.models.language_model import model_kind
from closer_look.models.output_head import check_output_head
from closer_look.models.readiness import check_model
from closer_look.models.tokens import encode, encode_prompts
from closer_look.models.weights_files import read_headers
from closer_look.parameters.training import FinetuningParameters
from closer_look.training.finetuning import finetune

DOCUMENT = Path(__file__).parents[2] / "docs" / "own_model.md"
QUESTIONS = ["Who?", "Where was Ada born?", "Who taught Bo to sail on the wide lake?", "Where?"]
ANSWERS = ["Bo.", "In Rome, on a hill.", "Nobody did, as far as anyone knows.", "There."]


def rope(kind, **settings):
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 1e4, "factor": 4.0} | settings}


def layers(*kinds):
    return {"layer_types": list(kinds)}


SHORT = {"original_max_position_embeddings": 32}  # rows are longer
LONG = {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4} | SHORT
LATENT = {
    **{"num_key_value_heads": 4, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8},
    **{"q_lora_rank": 16, "kv_lora_rank": 16},
}
ROUTED = {"n_group": 1, "topk_group": 1, "n_routed_experts": 4, "first_k_dense_replace": 1}
MIXED = layers("linear_attention", "full_attention")
FAMILIES = {
    "llama": {},
    "gemma3_text": layers("sliding_attention", "full_attention"),
    "llama4_text": layers("chunked_attention", "full_attention"),
    "lfm2": layers("conv", "full_attention"),
    "bloom": {},
    "nemotron": {},
}
AS_THEY_ARE = [
    *("qwen2", "qwen3", "qwen3_moe", "mistral", "mixtral", "ministral3", "phi", "phi3", "phimoe"),
    *("gemma", "gemma2", "gemma3", "granite", "olmo", "olmo2", "smollm3", "stablelm", "cohere"),
    *("glm", "glm4", "starcoder2", "opt", "gpt2", "gpt_neox", "gptj", "gpt_oss", "exaone4", "doge"),
    *("falcon", "mpt", "llama4", "mamba", "falcon_mamba", "rwkv", "xlstm"),
]
MORE_FAMILIES = {
    **{family: {} for family in AS_THEY_ARE},
    # Its frequencies change beyond max_position_embeddings, where rows are refused.
    "llama with dynamic RoPE": rope("dynamic"),
    "llama with Llama 3 RoPE": rope("llama3", low_freq_factor=1.0, high_freq_factor=4.0, **SHORT),
    "llama with YaRN": rope("yarn", **SHORT),
    "phi3 with long RoPE": rope("longrope", **LONG) | SHORT,
    "falcon with ALiBi": {"alibi": True},
    "gemma3n_text": {
        **{"num_kv_shared_layers": 0, "hidden_size_per_layer_input": 8, "laurel_rank": 8},
        **{"vocab_size_per_layer_input": 300, "activation_sparsity_pattern": [0.0, 0.0]},
        **layers("sliding_attention", "full_attention"),
    },
    "deepseek_v3": LATENT | ROUTED,
    "minicpm3": LATENT,
    "mamba2": {"num_heads": 8, "head_dim": 8, "expand": 2},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "qwen3_next": MIXED,
    "qwen3_5_text": MIXED,
    "granitemoehybrid": layers("mamba", "attention"),
    "falcon_h1": {"mamba_d_ssm": 64, "mamba_n_heads": 8, "mamba_d_head": 8},
    "bamba": {"attn_layer_indices": [1]},
    "olmo_hybrid": MIXED,
    "nemotron_h": {"hybrid_override_pattern": "M*"},
    "recurrent_gemma": {"num_hidden_layers": 3},
}
LOOKING_AHEAD = {
    "bert": {},
    "roberta": {},
    "gemma3_text with bidirectional attention": {"use_bidirectional_attention": True},
}
NAMES = {
    decoding.decode_together: "together",
    decoding.decode_alone: "alone",
    decoding.decode_without_cache: "without a cache",
}


def read_table():
    """What the document says: family -> how it is scored, and how it answers."""
    text = DOCUMENT.read_text(encoding="utf-8").split("## Families")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in text.splitlines()]
    return {
        re.sub(r"`", "", family): tuple(ways)
        for families, *ways in (row for row in rows if len(row) == 3)
        for family in families.split(", ")
        if "`" in family
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


def compare(language_model, n_tokens=16):
    """Compare scores and answers with those of plain passes."""
    language_model.model.eval()
    expected = plain_nll(language_model)
    for batch_size in (1, 4):
        scores = score(language_model, QUESTIONS, ANSWERS, batch_size)
        assert scores["nll"].tolist() == pytest.approx(expected, rel=1e-4)
    longest = max(map(len, encode_prompts(language_model.tokenizer, QUESTIONS)))
    expected = plain_answers(language_model, n_tokens)
    for batch_size in (1, 4):
        answers = generate(language_model, QUESTIONS, longest + n_tokens, batch_size)["generated"]
        for answer, plain in zip(answers, expected, strict=True):
            assert answer.startswith(plain.rstrip("\ufffd"))


@pytest.mark.parametrize(
    "family",
    [*FAMILIES, *(pytest.param(one, marks=pytest.mark.slow) for one in MORE_FAMILIES)],
)
def test_a_family_is_scored_and_answers_as_it_does_plainly(make_family, family):
    settings = (FAMILIES | MORE_FAMILIES)[family]
    language_model = make_family(family.partition(" ")[0], **settings)
    check_model(language_model)
    check_output_head(language_model)
    compare(language_model)
    parameters = FinetuningParameters(learning_rate=1e-3, epochs=2, batch_size=2, seed=1)
    finetune(language_model, QUESTIONS, ANSWERS, parameters)
    compare(language_model)
    kind = model_kind(language_model.model)
    is_packed = packing.proven.get(kind, (0, False))[1]
    found = ("packed" if is_packed else "row by row", NAMES[decoding._chosen[kind][1]])
    assert read_table()[family] == found


@pytest.mark.parametrize(
    "family",
    [*FAMILIES, *(pytest.param(one, marks=pytest.mark.slow) for one in MORE_FAMILIES)],
)
def test_a_family_has_no_more_weights_than_its_files(make_family, tmp_path, monkeypatch, family):
    settings = (FAMILIES | MORE_FAMILIES)[family]
    make_family(family.partition(" ")[0], **settings).model.save_pretrained(tmp_path)
    n_values = read_headers([str(tmp_path)]).n_values
    buffers = 2100  # GPT-J saves no table of its positions
    declared_size._build(str(tmp_path), AutoModelForCausalLM, n_values + buffers)
    with pytest.raises(declared_size._TooManyError):
        declared_size._build(str(tmp_path), AutoModelForCausalLM, n_values * 9 // 10)


def test_the_table_names_what_was_tried_and_nothing_else():
    assert read_table().keys() == FAMILIES.keys() | MORE_FAMILIES.keys() | LOOKING_AHEAD.keys()


@pytest.mark.parametrize("family", LOOKING_AHEAD)
def test_a_model_that_looks_ahead_is_refused(make_family, family):
    language_model = make_family(family.partition(" ")[0], **LOOKING_AHEAD[family])
    with pytest.raises(InputError, match="is no causal language model"):
        check_model(language_model)
    assert read_table()[family] == ("refused", "refused")
