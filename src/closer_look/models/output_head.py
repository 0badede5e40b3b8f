"""What a model makes of its last hidden states: output head, bias, scale, soft cap, as it does it.

Families differ here, and name it differently. So the model's own code runs, with a stand-in for its
layers that gives back the states.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

import torch
from accelerate.utils import send_to_device
from accelerate.utils.memory import should_reduce_batch_size
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer

from closer_look.errors import InputError
from closer_look.models.packing import answer_logits, answer_states, layers_of, pack
from closer_look.models.tokens import Tokens

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from transformers import PreTrainedModel

    from closer_look.models.language_model import LanguageModel
    from closer_look.models.tokens import Batch


class OutputHead:
    """A frozen copy of all that a model does after its layers.

    Its weights may be those of another model of the same kind.
    """

    def __init__(self, model: PreTrainedModel, weights: dict[str, Tensor] | None = None) -> None:
        """Copy the weights of the model's head, or take those of another (``weights``).

        Adapters on the head are merged into the copy.
        """
        model = model.get_base_model() if isinstance(model, PeftModel) else model
        layers = layers_of(model)
        self.model = deepcopy(model, {id(layers): _GivenStates(layers)})
        for name, child in list(self.model.named_children()):
            if isinstance(child, BaseTunerLayer):
                child.merge()
                setattr(self.model, name, child.get_base_layer())
        self.model.eval().requires_grad_(False)
        if weights is not None:
            self.model.load_state_dict(weights)

    @property
    def weights(self) -> dict[str, Tensor]:
        """The weights by name, on the CPU, such as ``lm_head.weight``, (V, hidden size)."""
        return {name: weight.cpu().clone() for name, weight in self.model.state_dict().items()}

    @torch.no_grad()
    def __call__(self, states: Tensor) -> Tensor:
        """Compute logits from last hidden states: (n, hidden size) -> (n, V)."""
        states = states[None].to(self.model.dtype)
        return self.model(inputs_embeds=states, use_cache=False).logits[0]


class _GivenStates(torch.nn.Module):
    """In place of a model's layers: has their settings, and gives back the states it is given."""

    def __init__(self, layers: Module) -> None:
        super().__init__()
        settings = {name: one for name, one in vars(layers).items() if not name.startswith("_")}
        # A head may ask an inner part of the layers, as OPT's does.
        self.__dict__.update(settings, **dict.fromkeys(dict(layers.named_children()), self))

    def forward(self, *_: object, inputs_embeds: Tensor, **__: object) -> _Output:
        return _Output([inputs_embeds])


class _Output(tuple):
    """The states as models read them, first or by name; whatever else they ask for is None."""

    __slots__ = ()

    @property
    def last_hidden_state(self) -> Tensor:
        return self[0]

    def __getattr__(self, name: str) -> None:
        return None


def check_output_head(language_model: LanguageModel) -> None:
    """Check, on a few tokens, that the model's logits follow from its last hidden states.

    Raises:
        InputError: they do not, or its code does something else that cannot be taken apart.
    """
    model, tokenizer = language_model
    ids = tokenizer("One, two.")["input_ids"]
    batch = send_to_device(pack([Tokens(ids[:1], ids[1:])]), model.device)
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            check_states(model, batch, answer_states(model, batch))
    except InputError:
        raise
    except Exception as error:  # code of any family: it may fail in any way
        if should_reduce_batch_size(error):
            raise
        raise _no_output_head(model) from None
    finally:
        model.train(was_training)


def check_states(model: PreTrainedModel, batch: Batch, states: Tensor) -> None:
    """Check that the last logits of a batch follow from their states, (n, hidden size).

    Raises:
        InputError: they do not.
    """
    logits = answer_logits(model, batch)[-len(states) :].float()
    found = OutputHead(model)(states.float().to(logits.device))
    if not torch.allclose(found, logits, rtol=1e-3, atol=1e-4 * logits.abs().max().item()):
        raise _no_output_head(model)


def _no_output_head(model: PreTrainedModel) -> InputError:
    return InputError(
        f"{model.name_or_path}: the logits of {type(model).__name__} do not follow from its last "
        f"hidden states, which the reference is kept by for 'kl'; choose another retain loss"
    )
