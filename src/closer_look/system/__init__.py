"""The machine: memory, progress, costs, locks and fingerprints. No model, no row, no Kedro."""
