"""Training: fine-tuning, unlearning, and the loop and checkpoints that both use."""
