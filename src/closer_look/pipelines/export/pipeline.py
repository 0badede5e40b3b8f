"""The pipeline of the export."""

from kedro.pipeline import Node, Pipeline

from closer_look.data.cells import Cell
from closer_look.parameters.experiment import Experiment

from .nodes import export_model


def create_pipeline(scenario: str, experiment: Experiment, n_tasks: int) -> Pipeline:
    """Create the pipeline: each method's last model and the run's results -> a folder."""
    membership = {"membership": f"{scenario}.membership"} if experiment.membership else {}
    cells = [Cell(scenario, method, n_tasks) for method in experiment.methods]
    return Pipeline(
        [
            Node(
                export_model,
                {
                    "model": cell.dataset("model"),
                    "method": f"params:methods.{cell.method}",
                    "summary_table": f"{scenario}.summary_table",
                    "questions": "questions",
                    "run_record": f"{scenario}.run_record",
                    "export": "params:export",
                }
                | membership,
                cell.dataset("export"),
                name=f"export_{cell.method}",
                namespace=scenario,  # not the method's, which the tables of the run have left
            )
            for cell in cells
        ],
        tags="export",
    )
