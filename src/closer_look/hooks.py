"""Project hooks."""

from __future__ import annotations

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines

from closer_look import experiment


class ExperimentHooks:
    """Hand the live configuration (--env, --params) to the pipeline factories."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Before Kedro builds the pipelines; anew for each run that a process makes."""
        experiment.use(context.config_loader)
        pipelines.configure("closer_look.pipeline_registry")
