"""A folder for one process alone."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from plait.errors import ConfigError

PATIENCE = 3.0  # seconds: what a process that was killed had open takes a moment to go
IN_USE = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)  # other errors: this file system knows no locks

_held = set[int]()  # descriptors, which a forked process must not keep: it may outlive this one


def _close_held() -> None:
    for descriptor in _held:
        os.close(descriptor)  # the lock stays with whom it is forked from
    _held.clear()


os.register_at_fork(after_in_child=_close_held)


@contextmanager
def alone(folder: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Hold a folder that is there; nobody else holds it meanwhile, in this process or another. The lock is on the folder itself (flock), so that
    nothing is left of it after a kill. Raises ConfigError where somebody else still holds it after `patience` seconds, OSError for no folder."""
    descriptor = _locked(folder, time.monotonic() + patience)
    try:
        yield
    finally:
        if descriptor in _held:  # a forked process has closed it
            _close(descriptor)


def _locked(folder: Path, until: float) -> int:
    """The descriptor of a folder, locked: of the one that has the name now, where it was replaced while this waited."""
    while True:
        descriptor = os.open(folder, os.O_RDONLY)
        _held.add(descriptor)
        try:
            _wait(descriptor, folder, until)
            if os.path.samestat(os.fstat(descriptor), os.stat(folder)):
                return descriptor
        except BaseException:
            _close(descriptor)
            raise
        _close(descriptor)


def _close(descriptor: int) -> None:
    _held.discard(descriptor)
    os.close(descriptor)


def _wait(descriptor: int, folder: Path, until: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in IN_USE:
                return
            if time.monotonic() > until:
                raise ConfigError(
                    f"{folder} is in use by another training; expected one at a time: wait for it, stop it, or choose another with --out"
                ) from error
            time.sleep(0.05)
        else:
            return
