"""The registry of pipelines for ``kedro run --pipelines``."""

from kedro.framework.project import pipelines as pipelines_of_project
from kedro.pipeline import Pipeline

from closer_look.pipelines import erasure, export, finetuning, forget_set, inspection, plan, verify
from closer_look.pipelines.scenarios import create_measure, create_scenario
from closer_look.project.experiment import (
    ALL,
    load_attacks,
    load_benchmark,
    load_experiment,
    load_methods,
)


def register_pipelines() -> dict[str, Pipeline]:
    """Create the scenarios that the environment's splits allow, and the two stages they share.

    ``inspect`` shows what they would train, and trains nothing; ``plan`` tells what memory, disk
    and time that would take. ``export`` writes the models of the default scenario to take away,
    ``export_fictitious`` those of the other. ``erasure`` serves requests to forget as
    they come, and ``verify`` checks a certificate of one.

    ``continual`` unlearns all tasks one after another, ``fictitious`` only the first. An
    environment with the split ``neighbour`` has ``real_world`` instead, with its only task.
    ``measure`` trains nothing: it is there if the experiment names models to measure. ``stress`` is
    the default scenario with attacks on its last models; if the experiment names none, with all,
    and a report of its own. ``benchmark`` is the default scenario with each method tuned and
    trained with several seeds, and a leaderboard.
    """
    experiment, methods = load_experiment(), load_methods()
    if "neighbour" in experiment.splits:
        scenarios = {"real_world": 1}
    else:
        scenarios = {"continual": experiment.n_tasks, "fictitious": 1}
    attacks = load_attacks(experiment.stress)
    pipelines = {
        name: create_scenario(name, experiment, methods, n_tasks, attacks)
        for name, n_tasks in scenarios.items()
    }
    default = next(iter(scenarios))
    compared = load_benchmark(experiment)
    requested = pipelines_of_project._requested_pipelines
    # A run of other pipelines needs none of its many nodes.
    if compared and (requested is None or "benchmark" in requested):
        pipelines["benchmark"] = create_scenario(
            "benchmark", compared, methods, scenarios[default], attacks, tuned=True
        )
    pipelines["stress"] = pipelines[default]
    if not attacks:
        of_all = experiment, methods, scenarios[default], load_attacks(ALL)
        pipelines["stress"] = create_scenario(default, *of_all, prefix="stress_")
    exports = {
        "export" if name == default else f"export_{name}": export.create_pipeline(
            name, experiment, n_tasks
        )
        for name, n_tasks in scenarios.items()
    }
    if experiment.models and not (experiment.finetuning and experiment.known_only):
        pipelines["measure"] = create_measure("measure", experiment)
    return pipelines | {
        **exports,
        "forget_set": forget_set.create_pipeline(experiment),
        "finetuning": finetuning.create_pipeline(experiment),
        "inspect": inspection.create_pipeline(experiment),
        "plan": plan.create_pipeline(experiment),
        "erasure": erasure.create_pipeline(experiment),
        "verify": verify.create_pipeline(),
        "__default__": pipelines[default],
    }
