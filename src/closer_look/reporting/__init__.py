"""Reporting: tables, figures and the report."""
