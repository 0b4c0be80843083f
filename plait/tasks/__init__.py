"""What is given, what is predicted, how it is scored: one file a family of tasks."""
