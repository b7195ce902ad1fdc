"""The run folder: rounds, records, events, status, reports."""
