"""Kedro glue: session, hooks, runner, provenance, and the shape of a run."""
