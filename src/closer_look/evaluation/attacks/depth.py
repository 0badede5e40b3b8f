"""Depth: how much of an answer the layers of a model still hold, by activation patching."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from pydantic import PositiveFloat

from closer_look.evaluation.attacks.attack import AttackContext
from closer_look.evaluation.attacks.facts import Fact, find_facts, last_logits
from closer_look.models.language_model import LanguageModel

if TYPE_CHECKING:
    from torch import Tensor


def depth(
    model: LanguageModel,
    rows: pd.DataFrame,
    context: AttackContext,
    *,
    target_model: LanguageModel,
    retain_only_model: LanguageModel,
    threshold: PositiveFloat,
) -> pd.DataFrame:
    """Compute 1 - unlearning depth score of each row (arXiv 2605.24614, equations 1 to 5).

    The target model reads the question and the true answer. Behind one layer, its hidden states
    where it predicts the fact's tokens are replaced by those of another model. What these tokens
    lose of their log-probability, on average, is what the other model lacks at that layer:
    ``lacking`` for the model attacked, ``baseline`` for the retain-only model. Over the layers
    whose baseline is above the threshold, the score is ::

        sum(baseline * clip(lacking / baseline, 0, 1)) / sum(baseline)

    It is 0 for the target model itself and 1 for the retain-only model.

    Args:
        model: the model attacked.
        rows: the rows attacked. Left out are those in whose answer there is no fact (see
            ``facts.find_facts``), and those of which no layer of the retain-only model lacks more
            than the threshold, as published.
        context: the run's rows, which tell what a rare word is.
        target_model: the model before unlearning.
        retain_only_model: a model that was never trained on the rows.
        threshold: nats per token, published as 0.05.

    Returns:
        ``setting`` (""), ``row_id`` and ``recovered``, 1 - the score; or a line whose ``reason``
        says that no row is left.
    """
    models = (model, target_model, retain_only_model)
    facts = [find_facts(one.tokenizer, rows, context.questions) for one in models]
    lines = []
    for attacked, target, retain_only in zip(*facts, strict=True):
        baseline = _lacking(retain_only_model, retain_only, target_model, target)
        lacking = _lacking(model, attacked, target_model, target)
        encodes = baseline > threshold
        if encodes.any():
            # baseline * clip(lacking / baseline, 0, 1), without the division
            erased = lacking.clamp(min=0).minimum(baseline)[encodes].sum()
            score = (erased / baseline[encodes].sum()).item()
            lines.append({"setting": "", "row_id": target.row_id, "recovered": 1 - score})
    if not lines:
        return pd.DataFrame({"reason": ["the retain-only model lacks nothing of the answers"]})
    return pd.DataFrame(lines)


def _lacking(
    source_model: LanguageModel, source: Fact, target_model: LanguageModel, target: Fact
) -> Tensor:
    """Compute what a fact loses when a layer's states come from another model, (layers,) in nats.

    All layers are patched in one pass: a copy of the row for each, and one without a patch.
    """
    import torch

    from closer_look.models.hidden_states import hooked_layers

    n_tokens = len(target.labels)
    states: list[Tensor] = []

    def keep(number: int, output: Tensor) -> Tensor:
        states.append(output[0, -n_tokens:])
        return output

    def patch(number: int, output: Tensor) -> Tensor:
        output = output.clone()
        output[number, -n_tokens:] = states[number].to(output)
        return output

    with torch.inference_mode():
        with hooked_layers(source_model.model, keep):
            last_logits(source_model.model, [source.text], 1)
        with hooked_layers(target_model.model, patch):
            texts = [target.text] * (len(states) + 1)
            logits = last_logits(target_model.model, texts, n_tokens)
    log_probabilities = logits.float().log_softmax(-1)  # (layers + 1, tokens, V)
    means = log_probabilities[:, range(n_tokens), target.labels].mean(-1).cpu()
    return means[-1] - means[:-1]
