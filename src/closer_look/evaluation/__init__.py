"""Evaluation: judges of answers, known questions, and general benchmarks."""
