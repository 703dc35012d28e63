"""Robustness reports: what is asked (schema), what is measured (measure), what is said of it (assemble, page)."""
