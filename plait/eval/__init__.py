"""Scores with intervals, judges, and the report."""
