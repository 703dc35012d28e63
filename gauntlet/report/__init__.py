"""Robustness reports: request and results (schema), measurement (measure), and their summary (assemble, page)."""
