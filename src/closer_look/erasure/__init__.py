"""Requests to forget as they come: what was decided, and what can be shown of it later."""
