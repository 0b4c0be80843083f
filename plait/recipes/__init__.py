"""Recipes that come with the package: one file each, whose docstring is a promise."""
