"""Judge a model: embedders, entailment, benchmarks."""
