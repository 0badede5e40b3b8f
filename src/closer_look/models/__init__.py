"""Models and their text: folders, prompts, tokens, and the forward pass."""
