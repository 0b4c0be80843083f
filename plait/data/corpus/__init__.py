"""From sources to a data set: collecting, near-duplicates, splits by key, leaks, packing, previews, statistics."""
