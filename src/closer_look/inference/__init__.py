"""Ask a model: score given answers, generate its own."""
