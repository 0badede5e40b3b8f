"""The pipeline of the export."""

from kedro.pipeline import Node, Pipeline

from closer_look.data.cells import Cell
from closer_look.parameters.experiment import Experiment

from .nodes import export_model


def create_pipeline(scenario: str, experiment: Experiment, n_tasks: int) -> Pipeline:
    """Create the pipeline: each method's last model and the run's results -> a folder.

    Of several seeds, it is the model of the first.
    """
    seed = experiment.each_seed[0]
    table = "summary_table" if seed is None else "seed_table"
    optional = {"membership": f"{scenario}.membership"} if experiment.membership else {}
    if seed is not None and experiment.stress:  # else it is in the table
        optional["residual"] = f"{scenario}.residual_knowledge"
    cells = [Cell(scenario, method, n_tasks, seed) for method in experiment.methods]
    return Pipeline(
        [
            Node(
                export_model,
                {
                    "model": cell.dataset("model"),
                    "method": f"params:methods.{cell.method}",
                    "summary_table": f"{scenario}.{table}",
                    "questions": "questions",
                    "run_record": f"{scenario}.run_record",
                    "export": "params:export",
                }
                | optional,
                cell.dataset("export"),
                name=f"export_{cell.method}",
                namespace=scenario,  # not the method's, which the tables of the run have left
            )
            for cell in cells
        ],
        tags="export",
    )
