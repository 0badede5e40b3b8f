"""Integration with Kedro: session, hooks, runner, provenance, and the shape of a run."""
