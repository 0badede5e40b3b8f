"""A model and its text: folders, prompts, tokens, and the forward pass."""
