"""The pipeline that verifies a certificate."""

from kedro.pipeline import Node, Pipeline

from .nodes import verify_certificate


def create_pipeline() -> Pipeline:
    """Create the pipeline: certificate, ledger, models -> verification, which is not kept."""
    inputs = ["ledger", "erasure_models", "params:certificate", "params:erasure"]
    node = Node(verify_certificate, inputs, "verification", name="verify_certificate")
    return Pipeline([node], tags="verify")
