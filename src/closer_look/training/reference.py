"""Scoring by the frozen reference model, once before a task is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pandas as pd
import torch
from accelerate.utils import send_to_device

from closer_look.inference.scoring import score
from closer_look.models.language_model import model_fingerprint
from closer_look.models.output_head import OutputHead, check_states
from closer_look.models.packing import answer_states, pack, packed_attention
from closer_look.models.tokens import encode
from closer_look.system.memory import in_passes
from closer_look.training.objective import ANSWER, REFUSAL, Objective
from closer_look.training.reference_scores import ReferenceCache, ReferenceScores, cache_key

if TYPE_CHECKING:
    from torch import Tensor

    from closer_look.models.language_model import LanguageModel
    from closer_look.models.tokens import Batch
    from closer_look.parameters.training import MethodParameters
    from closer_look.training.objective import LossTerm

NO_CACHE = ReferenceCache()
NO_NLL = pd.DataFrame({"row_id": [], "text": [], "nll": []}).astype({"nll": float})


def reference_scores(
    language_model: LanguageModel,
    plan: pd.DataFrame,
    questions: pd.DataFrame,
    method: MethodParameters,
    batch_size: int,
    cache: ReferenceCache = NO_CACHE,
) -> ReferenceScores:
    """Compute the reference scores that a method's losses read, each text once.

    GA, ME, IDK, GD and AP need none. NPO needs the nll of the forget answers, DPO also that of the
    refusals, and KL the hidden states of the retain rows. Scores that another method or run has
    computed with the same model come from the cache.

    Args:
        language_model: the frozen reference.
        plan: ``forget_row_id``, ``retain_row_id`` and ``refusal`` of each row.
        questions: the questions table.
        method: names the losses.
        batch_size: rows in one forward pass, halved when they do not fit into memory.
        cache: where to look for scores and keep them; by default nowhere.

    Raises:
        InputError: a single row does not fit into memory, or the model's logits do not follow from
            its last hidden states (KL).
    """
    objective = Objective(method)
    variants = [v for v in (ANSWER, REFUSAL) if f"reference_{v}nll" in objective.forget.inputs]
    is_compared = method.reads_reference_logits
    if not variants and not is_compared:
        return ReferenceScores(NO_NLL, {}, {})
    fingerprint = model_fingerprint(language_model)
    tables = [
        _forget_nll(language_model, texts, batch_size, fingerprint, cache)
        for texts in _texts(plan, questions, variants)
    ]
    nll = pd.concat(tables).drop_duplicates(["row_id", "text"]) if tables else NO_NLL
    if not is_compared:
        return ReferenceScores(nll, {}, {})
    rows = questions[questions["row_id"].isin(plan["retain_row_id"])]
    key = cache_key(
        fingerprint,
        f"hidden states in order, {objective.retain.parameters.positions}",
        encode(language_model.tokenizer, list(rows["question"]), list(rows["answer"])),
    )
    states = cache.get(
        key, lambda: _hidden_states(language_model, rows, objective.retain, batch_size)
    )
    states = {row_id: states[str(number)] for number, row_id in enumerate(rows["row_id"])}
    return ReferenceScores(nll, states, OutputHead(language_model.model).weights)


def _texts(
    plan: pd.DataFrame, questions: pd.DataFrame, variants: Sequence[str]
) -> Iterator[pd.DataFrame]:
    """Yield ``row_id``, ``question``, ``text`` of each variant, each text of a row once."""
    asked = questions.set_index("row_id").loc[plan["forget_row_id"]]
    texts = {ANSWER: asked["answer"].to_numpy(), REFUSAL: plan["refusal"].to_numpy()}
    for variant in variants:
        table = asked[["question"]].assign(text=texts[variant]).reset_index()
        yield table.drop_duplicates(["row_id", "text"]).sort_values(["row_id", "text"])


def _forget_nll(
    language_model: LanguageModel,
    texts: pd.DataFrame,
    batch_size: int,
    fingerprint: str,
    cache: ReferenceCache,
) -> pd.DataFrame:
    def compute() -> dict[str, Tensor]:
        scores = score(
            language_model,
            list(texts["question"]),
            list(texts["text"]),
            batch_size,
            description="Scoring reference",
        )
        return {"nll": torch.tensor(scores["nll"].to_numpy())}

    encoded = encode(language_model.tokenizer, list(texts["question"]), list(texts["text"]))
    key = cache_key(fingerprint, "nll", encoded)
    return texts[["row_id", "text"]].assign(nll=cache.get(key, compute)["nll"].numpy())


@torch.inference_mode()
def _hidden_states(
    language_model: LanguageModel, rows: pd.DataFrame, term: LossTerm, batch_size: int
) -> dict[str, Tensor]:
    """Compute the inputs of the output head at the positions that a loss takes.

    Returns:
        Number of a row, as text, -> (positions, hidden size), fp32 on the CPU.

    Raises:
        InputError: the logits do not follow from these states.
    """
    model, tokenizer = language_model
    model.eval()
    (encoded,) = term.encode(
        tokenizer, list(rows["question"]), {ANSWER: list(rows["answer"])}
    ).values()
    states = {}

    def pass_states(chosen: Sequence[int]) -> tuple[Batch, Sequence[Tensor]]:
        batch = send_to_device(pack([encoded[i] for i in chosen]), model.device)
        return batch, answer_states(model, batch).float().cpu().split(batch["answer_lengths"])

    with packed_attention(model, max(map(len, encoded))):
        for chosen, passed in in_passes(pass_states, range(len(encoded)), batch_size):
            batch, of_rows = passed
            states |= zip(map(str, chosen), map(torch.clone, of_rows), strict=True)
        check_states(model, batch, of_rows[-1])
    return states
