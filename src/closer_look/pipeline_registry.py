"""The pipelines that ``kedro run --pipelines`` knows."""

from kedro.pipeline import Pipeline

from closer_look.experiment import load_experiment
from closer_look.pipelines import finetuning, forget_set
from closer_look.scenarios import create_scenario


def register_pipelines() -> dict[str, Pipeline]:
    """The scenarios, and the two stages that they share.

    ``fictitious`` unlearns the first task alone, ``continual`` one task after another.
    """
    experiment = load_experiment()
    continual = create_scenario("continual", experiment, n_tasks=experiment.n_tasks)
    return {
        "forget_set": forget_set.create_pipeline(experiment),
        "finetuning": finetuning.create_pipeline(),
        "fictitious": create_scenario("fictitious", experiment, n_tasks=1),
        "continual": continual,
        "__default__": continual,
    }
