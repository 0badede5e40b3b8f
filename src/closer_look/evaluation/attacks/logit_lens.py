"""Logit lens: an answer may be decodable in the middle of a model that does not give it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from closer_look.evaluation.attacks.attack import AttackContext
from closer_look.evaluation.attacks.facts import Fact, find_facts, last_logits
from closer_look.models.language_model import LanguageModel

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


def logit_lens(model: LanguageModel, rows: pd.DataFrame, context: AttackContext) -> pd.DataFrame:
    """Read the answer behind each layer, as if the model ended there.

    The hidden states behind a layer go straight to the model's final norm and output head
    (nostalgebraist, https://www.lesswrong.com/posts/AcKRB8wDpdaN6v6ru). The model reads the
    question and the true answer up to its fact (see ``facts.find_facts``); a row is recovered if
    the fact's first token is the most likely one.

    Args:
        model: the model attacked.
        rows: the rows attacked; those in whose answer there is no fact are left out.
        context: the run's rows, which tell what a rare word is.

    Returns:
        ``setting``, a setting for each layer, ``row_id`` and ``recovered`` (0 or 1).
    """
    import torch

    lines = []
    with torch.inference_mode():
        for fact in find_facts(model.tokenizer, rows, context.questions):
            logits = _logits_of_layers(model.model, fact)
            hits = logits.argmax(-1) == fact.labels[0]
            lines += [
                {"setting": f"layer {number} of {len(hits)}", "row_id": fact.row_id}
                | {"recovered": float(hit)}
                for number, hit in enumerate(hits.tolist(), 1)
            ]
    return pd.DataFrame(lines, columns=["setting", "row_id", "recovered"])


def _logits_of_layers(model: PreTrainedModel, fact: Fact) -> Tensor:
    """Compute what each layer's output says of a fact's first token, (layers, V).

    What follows on the last layer runs on the outputs of all layers, as a batch.
    """
    import torch

    from closer_look.models.hidden_states import decoder_layers, hooked_layers

    last = len(decoder_layers(model)) - 1
    outputs = []

    def keep(number: int, states: Tensor) -> Tensor:
        outputs.append(states)
        return torch.cat(outputs) if number == last else states

    text = fact.text[: len(fact.text) + 1 - len(fact.labels)]
    with hooked_layers(model, keep):
        return last_logits(model, [text], 1)[:, 0]
