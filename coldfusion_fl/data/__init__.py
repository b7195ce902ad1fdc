"""Labelled data: catalogues, tasks, rows and metrics."""
