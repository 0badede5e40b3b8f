"""Project hooks."""

from __future__ import annotations

import logging
import os
import warnings
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from closer_look import experiment

log = logging.getLogger(__name__)


class ExperimentHooks:
    """Hand the live configuration (--env, --params) to the pipeline factories."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Before Kedro builds the pipelines; anew for each run that a process makes."""
        experiment.use(context.config_loader)
        pipelines.configure("closer_look.pipeline_registry")


class ProgressHooks:
    """One log line a node, and libraries that leave the terminal to the project's own bars."""

    def __init__(self) -> None:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        # PEFT asks transformers by a name that is to go.
        warnings.filterwarnings("ignore", ".is_gradient_checkpointing. is deprecated")

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline) -> None:
        """Count the nodes to come."""
        self.n_nodes = len(pipeline.nodes)
        self.n_started = 0

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        """Say which node starts."""
        self.n_started += 1
        log.info("[%d/%d] %s", self.n_started, self.n_nodes, node.name)
