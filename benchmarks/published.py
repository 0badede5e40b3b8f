"""The published protocol of unlearning (arXiv 2410.08109), written plainly.

Every row has five variants padded to 500 tokens, whatever the loss. Each variant that the loss
reads goes through the model alone, with the logits of all positions. A second model is the
reference.
"""

from __future__ import annotations

import inspect

import torch
from accelerate.utils import send_to_device

from closer_look.evaluation.judges import load_embedder, load_nli
from closer_look.losses import FORGET, RETAIN, kl, sequence_nll
from closer_look.models.tokens import IGNORED, encode, encode_prompts, prompt_batch

LENGTH = 500  # of rows in training
BATCH_SIZE = 8  # in evaluation
VARIANTS = ("forget", "retain", "forget_idk", "retain_idk", "forget_mismatch")


def tokenise(tokenizer, plan, questions, length=LENGTH):
    """Tokenise each variant into token ids, attention mask and labels, (rows, length)."""
    by_id = questions.set_index("row_id")
    forget, retain = (by_id.loc[plan[f"{side}_row_id"]] for side in ("forget", "retain"))
    pairs = {
        "forget": (forget["question"], forget["answer"]),
        "retain": (retain["question"], retain["answer"]),
        "forget_idk": (forget["question"], plan["refusal"]),
        "retain_idk": (retain["question"], plan["refusal"]),
        "forget_mismatch": (forget["question"], retain["answer"]),
    }
    return {name: padded(tokenizer, *map(list, pairs[name]), length) for name in VARIANTS}


def padded(tokenizer, asked, answers, length=None):
    """Tokenise and pad rows, to the longest of them if no length is given."""
    rows = encode(tokenizer, asked, answers)
    length = length or max(map(len, rows))
    ids = torch.full((len(rows), length), tokenizer.eos_token_id)
    labels = torch.full((len(rows), length), IGNORED)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row.prompt + row.answer)
        labels[i, len(row.prompt) : len(row)] = torch.tensor(row.answer)
    lengths = torch.tensor([len(row) for row in rows])
    mask = (torch.arange(length) < lengths[:, None]).long()
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def loss(model, reference_model, variants, method):
    """Compute the method's loss on a batch of all variants."""
    forget = _term(model, reference_model, variants, "forget", FORGET[method.forget.loss].function)
    retain = _term(model, reference_model, variants, "retain", RETAIN[method.retain.loss].function)
    return method.forget.weight * forget + method.retain.weight * retain


def _term(model, reference_model, variants, side, function):
    names = inspect.signature(function).parameters
    prefixes = {"": side, "idk_": f"{side}_idk", "mismatch_": f"{side}_mismatch"}
    given = {}
    for prefix, variant in prefixes.items():
        if f"{prefix}labels" not in names:
            continue
        batch = send_to_device(variants[variant], model.device)
        given[f"{prefix}logits"] = _logits(model, batch)
        given[f"{prefix}labels"] = batch["labels"][:, 1:]
        reads_reference = f"reference_{prefix}nll" in names or function is kl
        if reads_reference:
            with torch.no_grad():
                reference = _logits(reference_model, batch)
            if function is kl:
                return kl(given["logits"], reference)  # over every position, padding too
            given[f"reference_{prefix}nll"] = sequence_nll(reference, given[f"{prefix}labels"])
    return function(**given)


def _logits(model, batch):
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    return model(**inputs).logits[:, :-1]


@torch.inference_mode()
def score(language_model, answers, length):
    """Score with a pass for each kind of answer, rows padded to one length, all logits."""
    model, tokenizer = language_model
    model.eval()
    for _, kind in answers.groupby("kind"):
        for start in range(0, len(kind), BATCH_SIZE):
            rows = kind.iloc[start : start + BATCH_SIZE]
            batch = padded(tokenizer, list(rows["question"]), list(rows["text"]), length)
            batch = send_to_device(batch, model.device)
            sequence_nll(_logits(model, batch), batch["labels"][:, 1:])


@torch.inference_mode()
def generate(language_model, rows, length):
    """Generate in batches in the order of the rows, each until its last answer has ended."""
    model, tokenizer = language_model
    prompts = encode_prompts(tokenizer, list(rows["question"]))
    texts = []
    for start in range(0, len(prompts), BATCH_SIZE):
        inputs = send_to_device(prompt_batch(prompts[start : start + BATCH_SIZE]), model.device)
        del inputs["position_ids"]
        output = model.generate(
            **inputs, max_length=length, do_sample=False, pad_token_id=tokenizer.eos_token_id
        )
        width = inputs["input_ids"].shape[1]
        texts += tokenizer.batch_decode(output[:, width:], skip_special_tokens=True)
    return texts


def judge(generated, references, embedder, nli):
    """Judge with models loaded for this set, one sentence and one pair at a time."""
    encoder, classifier = load_embedder.__wrapped__(embedder), load_nli.__wrapped__(nli)
    for text, reference in zip(generated, references, strict=True):
        for sentence in (text, reference):
            encoder.encode(sentence, show_progress_bar=False)
        classifier({"text": reference, "text_pair": text}, truncation=True)
