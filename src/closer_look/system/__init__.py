"""The machine: memory, progress, costs, locks and fingerprints, without models, rows or Kedro."""
