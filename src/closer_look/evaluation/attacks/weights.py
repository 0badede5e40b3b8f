"""What attacks on a model's weights share: which they are, how they are put back, how one asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pandas as pd

from closer_look.errors import InputError
from closer_look.evaluation.attacks.attack import AttackContext, ask

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter
    from transformers import PreTrainedModel

    from closer_look.models.language_model import LanguageModel


def ask_rows(
    model: LanguageModel, rows: pd.DataFrame, context: AttackContext, setting: str
) -> pd.DataFrame:
    """Ask a model the questions of rows as they are, greedily.

    Returns:
        A row each: ``setting``, ``row_id``, ``question`` and ``generated``.
    """
    questions = list(rows["question"])
    generated = ask(model, questions, context, description=f"Asking, {setting}")
    return rows[["row_id", "question"]].assign(setting=setting, generated=generated)


def ask_after(
    changes: Mapping[str, Callable[[Tensor], Tensor]],
    model: LanguageModel,
    rows: pd.DataFrame,
    context: AttackContext,
) -> pd.DataFrame:
    """Ask a model the questions of rows after each of several changes to all its matrices.

    Adapters are merged first: what is changed is the model as it would be handed on.

    Args:
        changes: setting -> what becomes of a matrix; each starts from the model as it was given.
        model: given back with the weights that it had.
        rows: the rows attacked.
        context: settings of generation.

    Returns:
        See ``ask_rows``; the rows again for each setting.

    Raises:
        InputError: the weights are quantised already.
    """
    import torch

    answers = []
    for setting, change in changes.items():
        with weights_restored(model.model), _merged(model.model):
            with torch.no_grad():
                for weight in matrices(model.model):
                    weight.copy_(change(weight))
            answers.append(ask_rows(model, rows, context, setting))
    return pd.concat(answers, ignore_index=True)


def matrices(model: PreTrainedModel) -> list[Parameter]:
    """List the matrices of a model's layers, those of experts too.

    Embeddings and the output head are left out, as quantised models leave them, and so are
    adapters.
    """
    from torch.nn import Embedding

    outside = [module for module in model.modules() if isinstance(module, Embedding)]
    outside += [head] if (head := model.get_output_embeddings()) is not None else []
    left_out = {id(weight) for module in outside for weight in module.parameters()}
    return [
        weight
        for name, weight in model.named_parameters()
        if weight.dim() >= 2 and id(weight) not in left_out and "lora_" not in name
    ]


@contextmanager
def weights_restored(model: PreTrainedModel) -> Iterator[None]:
    """Put back, bit for bit, the weights that a model had; a copy of them waits on the CPU.

    Raises:
        InputError: the weights are quantised: they cannot be changed and asked like others.
    """
    import torch

    if getattr(model, "is_quantized", False):
        raise InputError(
            f"{model.name_or_path}: its weights are quantised, and attacks that change weights "
            f"need them as they were trained; leave these attacks out of experiment.stress"
        )
    own = [(weight, weight.detach().to("cpu", copy=True)) for weight in model.parameters()]
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, value in own:
                weight.copy_(value)
        model.zero_grad()
        model.eval()


@contextmanager
def _merged(model: PreTrainedModel) -> Iterator[None]:
    """Merge a model's adapters, if it has any; unmerging rounds, so restore its weights around."""
    from peft import PeftModel

    if not isinstance(model, PeftModel):
        yield
        return
    model.merge_adapter()
    try:
        yield
    finally:
        model.unmerge_adapter()
