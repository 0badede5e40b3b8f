"""Names of all parameters in ``conf/<environment>/parameters*.yml``."""

from __future__ import annotations

import re
from typing import Any

from closer_look.errors import InputError
from closer_look.parameters.attacks import AttackParameters, StressParameters
from closer_look.parameters.benchmark import BenchmarkParameters
from closer_look.parameters.engine import EngineParameters
from closer_look.parameters.erasure import ErasureParameters
from closer_look.parameters.evaluation import (
    DownstreamParameters,
    GenerationParameters,
    JudgesParameters,
    MetricsParameters,
    ScoringParameters,
)
from closer_look.parameters.experiment import Experiment, ForgetSetParameters
from closer_look.parameters.methods import MethodParameters
from closer_look.parameters.models import (
    BaseModelParameters,
    ExportParameters,
    MeasuredModelParameters,
    PromptParameters,
    RetainOnlyParameters,
)
from closer_look.parameters.plan import PlanParameters
from closer_look.parameters.tracking import TrackingParameters
from closer_look.parameters.training import FinetuningParameters, UnlearningParameters
from closer_look.parameters.tuning import TuningParameters

GROUPS = {
    "experiment": Experiment,
    "forget_set": ForgetSetParameters,
    "base_model": BaseModelParameters,
    "prompt": PromptParameters,
    "retain_only": RetainOnlyParameters,
    "finetuning": FinetuningParameters,
    "unlearning": UnlearningParameters,
    "generation": GenerationParameters,
    "scoring": ScoringParameters,
    "judges": JudgesParameters,
    "metrics": MetricsParameters,
    "downstream": DownstreamParameters,
    "stress": StressParameters,
    "benchmark": BenchmarkParameters,
    "tuning": TuningParameters,
    "export": ExportParameters,
    "engine": EngineParameters,
    "plan": PlanParameters,
    "tracking": TrackingParameters,
    "erasure": ErasureParameters,
}
"""Top-level names of the parameters."""

NAMED = {
    "methods": MethodParameters,
    "models": MeasuredModelParameters,
    "attacks": AttackParameters,
}
"""Further top-level names, each of a mapping: name -> parameters."""

MODEL_NAMES = ("pretrained", "embedder", "entailment", "include_path", "evaluation")
"""Parameters whose value may be a folder: results depend on its files."""

RUNTIME = ("data", "run", "corpus", "forget_split", "certificate")
"""Single parameters: those that are part of the catalog's paths, and the certificate to verify."""


def as_model(name: str, value: Any) -> Any:
    """Return a group, or a method, model or attack, as its pydantic model; others unchanged.

    Kedro does this only for parameters of the pipelines that it runs.

    Args:
        name: such as "base_model" or "methods.me_gd".
        value: as in the configuration, or a model already.

    Raises:
        InputError: the values are invalid; the message lists all faults.
    """
    of_many = re.fullmatch(rf"({'|'.join(NAMED)})\.\w+", name)
    model = NAMED[of_many[1]] if of_many else GROUPS.get(name)
    try:
        return value if model is None else model.model_validate(value)
    except ValueError as error:
        raise InputError(f"parameter {name}.{error}") from None
