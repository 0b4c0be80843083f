"""Keys of those who may ask: a file of names and hashes, so that reading it gives no key away."""

from __future__ import annotations

import hashlib
from pathlib import Path

from plait.errors import ConfigError


def hashed(key: str) -> str:
    """What a file of keys holds of one."""
    return hashlib.sha256(key.encode()).hexdigest()


def read_keys(path: Path) -> dict[str, str]:
    """Names by the hash of their key: a file of lines `NAME SHA256`, as `plait key NAME` adds them. Raises
    ConfigError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"--keys {path}: {getattr(error, 'strerror', None) or error}; expected a file of keys: plait key NAME --keys FILE makes one"
        ) from error
    keys = {}
    for number, entry in enumerate(lines, 1):
        if not entry.strip() or entry.startswith("#"):
            continue
        name, _, digest = entry.strip().rpartition(" ")
        if not name or len(digest) != 64 or set(digest) - set("0123456789abcdef"):
            raise ConfigError(f"{path}:{number}: expected NAME SHA256, as plait key NAME writes it")
        keys[digest] = name
    if not keys:
        raise ConfigError(f"--keys {path}: there are no keys in it; plait key NAME --keys FILE makes one")
    return keys
