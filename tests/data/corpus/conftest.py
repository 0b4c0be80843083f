"""Fixtures of this folder's tests."""

from built_folders import listed, packed  # noqa: F401
