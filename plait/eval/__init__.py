"""Evaluation of a checkpoint: scores with intervals, judges, baselines, reports."""
