"""Verification: whether a certificate, the ledger and the model still say the same."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
