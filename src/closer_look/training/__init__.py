"""Change a model: fine-tuning, unlearning, and what both need."""
