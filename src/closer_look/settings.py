"""Kedro settings of the project."""

from closer_look.datasets.whole_files import write_whole_files
from closer_look.hooks import ExperimentHooks, QuietHooks
from closer_look.session import Session

write_whole_files()  # what a killed run was writing is not taken for a result

SESSION_CLASS = Session

HOOKS = (ExperimentHooks(), QuietHooks())

CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "merge_strategy": {"parameters": "soft"},  # an environment states only what differs
}
