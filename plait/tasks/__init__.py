"""Tasks: input, target, phrasings and scores; one file a family."""
