"""A training as files that travel: to machines without internet, in parts of a bounded size, and its weights back."""
