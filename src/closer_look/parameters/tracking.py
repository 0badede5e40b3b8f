"""Parameters of experiment tracking."""

from __future__ import annotations

from closer_look.parameters.base import Name, Parameters


class TrackingParameters(Parameters):
    """Where the results of a run are logged beside its own files; none depends on it."""

    mlflow: Name | None = None
    """Address of MLflow's store, such as ``sqlite:///mlflow.db`` or a server's URL; none if
    absent."""
    experiment: Name = "closer-look"
    """MLflow's experiment in which the runs stand together."""
