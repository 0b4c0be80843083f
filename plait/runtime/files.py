"""Atomic writes, hashes of files, and the manifest of a data folder."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of a file, read in chunks. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk (fsync). Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def atomic_write(path: Path, text: str | bytes) -> None:
    """Write text, in UTF-8, or bytes to a partial file beside `path`, sync and rename it: readers see the old file or the new one, complete.
    Raises OSError."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_bytes(text if isinstance(text, bytes) else text.encode())
        sync(partial)
        partial.replace(path)
    except OSError:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def manifest_of(folder: Path) -> dict[str, Any]:
    """The manifest that `plait data build` wrote; empty for any other folder, even if it has a manifest.json."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    is_own = isinstance(manifest, dict) and {"format", "sources", "notes", "files"} <= set(manifest)
    return manifest if is_own and isinstance(manifest["files"], dict) else {}
