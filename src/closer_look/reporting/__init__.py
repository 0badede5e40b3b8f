"""Tell a reader: tables, figures and the report."""
