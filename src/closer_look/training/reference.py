"""Scoring by the frozen reference model, once before a task is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pandas as pd
import torch
from accelerate.utils import send_to_device

from closer_look.inference.scoring import score
from closer_look.models.hidden_states import layer_number, layer_states
from closer_look.models.language_model import computation_fingerprint
from closer_look.models.output_head import OutputHead, check_states
from closer_look.models.packing import answer_states, pack, packed_attention
from closer_look.models.tokens import encode
from closer_look.system.code import code_hash
from closer_look.system.memory import in_passes
from closer_look.training.checkpoints import library_versions
from closer_look.training.objective import ALTERNATE, ANSWER, REFUSAL, SCORED, Objective
from closer_look.training.reference_scores import ReferenceCache, ReferenceScores, cache_key

if TYPE_CHECKING:
    from torch import Tensor

    from closer_look.models.language_model import LanguageModel
    from closer_look.models.tokens import Batch, Tokens
    from closer_look.parameters.methods import MethodParameters
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

    Most losses need none. NPO needs the nll of the forget answers, DPO also that of the refusals,
    KL the last hidden states of the retain rows, UNDIAL those of the forget rows, and RMU the
    output of a layer on the retain rows. Scores that another method or run has computed with the
    same model come from the cache.

    Args:
        language_model: the frozen reference.
        plan: see ``objective.texts_of``.
        questions: the questions table.
        method: names the losses.
        batch_size: rows in one forward pass, halved when they do not fit into memory.
        cache: where to look for scores and keep them; by default nowhere.

    Raises:
        InputError: a single row does not fit into memory, or the model's logits do not follow from
            its last hidden states (KL, UNDIAL).
    """
    terms = Objective(method).terms
    variants = [v for v in SCORED if method.reads(f"reference_{v}nll")]
    of_states = [term for term in terms if "reference_logits" in term.inputs]
    of_layers = [term for term in terms if "reference_activations" in term.inputs]
    if not variants and not of_states and not of_layers:
        return ReferenceScores(NO_NLL)
    fingerprint = computation_fingerprint(language_model)
    tables = [
        _forget_nll(language_model, texts, batch_size, fingerprint, cache)
        for texts in _texts(plan, questions, variants)
    ]
    nll = pd.concat(tables).drop_duplicates(["row_id", "text"]) if tables else NO_NLL
    states, activations = {}, {}
    for term in of_states + of_layers:
        rows = questions[questions["row_id"].isin(plan[f"{term.side}_row_id"])]
        of_layer = term in of_layers
        found = _states(
            language_model,
            rows,
            term,
            batch_size,
            layer_number(language_model.model, method.activations.layer) if of_layer else None,
            fingerprint,
            cache,
        )
        (activations if of_layer else states).update(found)
    head = OutputHead(language_model.model).weights if of_states else {}
    return ReferenceScores(nll, states, head, activations)


def _texts(
    plan: pd.DataFrame, questions: pd.DataFrame, variants: Sequence[str]
) -> Iterator[pd.DataFrame]:
    """Yield ``row_id``, ``question``, ``text`` of each variant, each text of a row once."""
    asked = questions.set_index("row_id").loc[plan["forget_row_id"]]
    texts = {ANSWER: asked["answer"].to_numpy(), REFUSAL: plan["refusal"].to_numpy()}
    if ALTERNATE in variants:
        texts[ALTERNATE] = plan["alternate"].to_numpy()
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
    key = cache_key(fingerprint, "nll", encoded, code_hash(_forget_nll), *library_versions())
    return texts[["row_id", "text"]].assign(nll=cache.get(key, compute)["nll"].numpy())


def _states(
    language_model: LanguageModel,
    rows: pd.DataFrame,
    term: LossTerm,
    batch_size: int,
    layer: int | None,
    fingerprint: str,
    cache: ReferenceCache,
) -> dict[str, Tensor]:
    """Return hidden states at the positions that a loss takes, by row: (positions, hidden size).

    They are those of a layer, or the last ones, from which logits follow.
    """
    asked, answers = list(rows["question"]), list(rows["answer"])
    kind = "hidden states in order" if layer is None else f"layer {layer} in order"
    key = cache_key(
        fingerprint,
        f"{kind}, {term.parameters.positions}",
        encode(language_model.tokenizer, asked, answers),
        code_hash(_states),
        *library_versions(),
    )
    (encoded,) = term.encode(language_model.tokenizer, asked, {ANSWER: answers}).values()
    states = cache.get(key, lambda: _hidden_states(language_model, encoded, batch_size, layer))
    return {row_id: states[str(number)] for number, row_id in enumerate(rows["row_id"])}


@torch.inference_mode()
def _hidden_states(
    language_model: LanguageModel, rows: Sequence[Tokens], batch_size: int, layer: int | None
) -> dict[str, Tensor]:
    """Compute hidden states at the answers of rows.

    Returns:
        Number of a row, as text, -> (positions, hidden size), fp32 on the CPU.

    Raises:
        InputError: the logits do not follow from these states.
    """
    model, _ = language_model
    model.eval()
    states = {}

    def pass_states(chosen: Sequence[int]) -> tuple[Batch, Sequence[Tensor]]:
        if layer is None:
            batch = send_to_device(pack([rows[i] for i in chosen]), model.device)
            outputs = answer_states(model, batch)
        else:
            batch = send_to_device(pack([rows[i].one_later() for i in chosen]), model.device)
            outputs = layer_states(model, batch, layer)
        return batch, outputs.float().cpu().split(batch["answer_lengths"])

    with packed_attention(model, max(map(len, rows))):
        for chosen, passed in in_passes(pass_states, range(len(rows)), batch_size):
            batch, of_rows = passed
            states |= zip(map(str, chosen), map(torch.clone, of_rows), strict=True)
        if layer is None:
            check_states(model, batch, of_rows[-1])
    return states
