"""The pipeline that serves requests to forget; requests are data, so it has always one size."""

from kedro.pipeline import Node, Pipeline

from closer_look.parameters.experiment import Experiment

from .nodes import (
    certify,
    check_requests,
    draw_time_line,
    export_current,
    report_erasure,
    serve_requests,
)

GROUPS = ("erasure", "methods", "unlearning", "forget_set")
MEASURED = ("generation", "scoring", "judges", "metrics", "attacks", "stress")


def create_pipeline(experiment: Experiment) -> Pipeline:
    """Create the pipeline: requests, ledger -> lines, models, certificates, report, export.

    Args:
        experiment: names the splits that hold rows to retain.
    """
    checked = ["requests", "ledger", "served_models", "target_model"]
    checked += ["params:generation", "params:judges", "params:export"]
    served = ("inbox", "ledger", "served_models", "erasure_results", "erasure_checkpoints")
    inputs = {name: name for name in (*served, "refusals", "requests", "data_folder")}
    inputs |= {group: f"params:{group}" for group in (*GROUPS, *MEASURED)}
    inputs |= {split: f"raw_{split}" for split in experiment.splits if split != "forget"}
    return Pipeline(
        [
            Node(check_requests, checked, "inbox", name="check_requests"),
            Node(serve_requests, inputs, "erasure_book", name="serve_requests"),
            Node(
                certify,
                ["erasure_book", "served_models", "certificates", "params:erasure"],
                "n_certificates",
                name="certify",
            ),
            Node(
                export_current,
                ["erasure_book", "served_models", "params:export"],
                "current_model",
                name="export_current",
            ),
            Node(draw_time_line, "erasure_book", "time_line", name="draw_time_line"),
            Node(
                report_erasure,
                ["erasure_book", "time_line"],
                "erasure_report",
                name="report_erasure",
            ),
        ],
        tags="erasure",
    )
