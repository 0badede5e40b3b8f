"""Names of all parameters in ``conf/<environment>/parameters*.yml``."""

from __future__ import annotations

from closer_look.parameters.evaluation import (
    DownstreamParameters,
    GenerationParameters,
    JudgesParameters,
    MetricsParameters,
    ScoringParameters,
)
from closer_look.parameters.experiment import Experiment, ForgetSetParameters
from closer_look.parameters.models import (
    BaseModelParameters,
    PromptParameters,
    RetainOnlyParameters,
)
from closer_look.parameters.training import FinetuningParameters, UnlearningParameters

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
}
"""Top-level names of the parameters; ``methods`` (name -> ``MethodParameters``) comes on top."""

MODEL_NAMES = ("pretrained", "embedder", "entailment", "include_path")
"""Parameters whose value may be a folder: results depend on its files."""

RUNTIME = ("data", "run", "corpus", "forget_split")
"""Parameters that are part of the catalog's paths."""
