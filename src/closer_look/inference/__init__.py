"""Inference: score given answers, generate a model's own."""
