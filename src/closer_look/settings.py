"""Kedro settings of the project."""

import os
import sys
import warnings

from closer_look.datasets.whole_files import write_whole_files
from closer_look.project.configuration import ConfigLoader
from closer_look.project.hooks import ExperimentHooks, ProvenanceHooks
from closer_look.project.session import Session
from closer_look.project.tracking import TrackingHooks

os.environ.setdefault("DO_NOT_TRACK", "1")  # kedro-telemetry comes with Kedro
# The terminal shows only the project's own lines and bars.
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# PEFT still uses a deprecated name of transformers.
warnings.filterwarnings("ignore", ".is_gradient_checkpointing. is deprecated")
# It asks whether the base model of adapters has another vocabulary now, which none here gets.
warnings.filterwarnings("ignore", r"Could not find a config file in \w+://")

# A terminal that is not in UTF-8 shows other characters by their numbers, and no error.
for stream in (sys.stdout, sys.stderr):
    if hasattr(stream, "reconfigure"):  # not in a notebook
        stream.reconfigure(errors="backslashreplace")

write_whole_files()  # so that a half-written file of a killed run is not taken for a result

SESSION_CLASS = Session

HOOKS = (ExperimentHooks(), ProvenanceHooks(), TrackingHooks())

CONFIG_LOADER_CLASS = ConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "merge_strategy": {"parameters": "soft"},  # an environment lists only what differs from base
}
