"""DualOptim: an optimiser with moments of its own for each of two losses (arXiv 2504.15827)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.utils import get_total_norm
from torch.optim import AdamW, Optimizer

from closer_look.training.sharding import whole

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter

APART = "gradient_of_retain"  # attribute of a parameter, beside ``grad``


def keep_apart(retain_gradients: Mapping[Parameter, Tensor], max_norm: float) -> dict[str, float]:
    """Hand the retain gradients to ``DualOptim``; the parameters hold the forget gradients.

    Args:
        retain_gradients: parameter -> gradient.
        max_norm: to which they are clipped together; the Trainer clips the forget gradients.

    Returns:
        Their ``retain_gradient_norm`` before, which is checked as everything that is logged.
    """
    norm = whole(get_total_norm(list(retain_gradients.values()))).item()
    for parameter, gradient in retain_gradients.items():
        setattr(parameter, APART, gradient * min(max_norm / (norm + 1e-6), 1.0))
    return {"retain_gradient_norm": norm}


class DualOptim(Optimizer):
    """Two AdamW on the same parameters: one for the forget gradient, then one for the other.

    Both momentum and second moment are the gradient's own. The published code takes the two
    gradients at different weights, in turn; here both are of the same weights.
    """

    def __init__(self, params: Any, **settings: Any) -> None:
        """Set up two optimisers that share learning rate and groups.

        Args:
            params: parameters or groups, as every optimiser takes them.
            settings: see ``torch.optim.AdamW``.
        """
        # One pass over the weights instead of several, as the Trainer's own AdamW makes it. On a
        # CPU it would round otherwise than before.
        settings["fused"] = torch.cuda.is_available()
        self.forget = AdamW(params, **settings)
        super().__init__(self.forget.param_groups, self.forget.defaults)
        self.retain = AdamW(self.param_groups, **settings)
        # One list: a schedule changes the learning rate of all.
        self.forget.param_groups = self.retain.param_groups = self.param_groups

    @property
    def both(self) -> tuple[AdamW, AdamW]:
        """The two optimisers."""
        return self.forget, self.retain

    def step(self, closure: None = None) -> None:
        """Make a step of each optimiser."""
        self.forget.step()
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = parameter.__dict__.pop(APART, None)
        self.retain.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the states of both."""
        return {"forget": self.forget.state_dict(), "retain": self.retain.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the states of both."""
        for name in ("forget", "retain"):
            getattr(self, name).load_state_dict(state_dict[name])
        self.param_groups = self.retain.param_groups = self.forget.param_groups
