"""One process trains in a folder: a second one would remove what the first is writing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from arzoo.errors import ArzooError

try:
    import fcntl
except ImportError:  # Windows; a second start is not noticed there
    fcntl = None  # type: ignore[assignment]

FILE = ".lock"
_held: set[tuple[int, Path]] = set()
"""Process and folder: the command holds its folder around the training, which would ask for it once more."""


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Keep other processes from training in a folder, which is made if absent.

    The lock is that of `lockf`: it ends with the process, however that ends, and processes forked to prepare data
    do not inherit it, so a killed run can be continued at once. Its file stays; it says nothing.

    Args:
        out: Folder of the run.

    Raises:
        ArzooError: Another process trains there.
    """
    mine = os.getpid(), out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    if fcntl is None or mine in _held:
        yield
        return
    with (out / FILE).open("a") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            raise ArzooError(
                f"another process trains in {out}. Wait until it is done, stop it, or give another --out"
            ) from error
        except OSError:
            pass  # a file system without locks
        _held.add(mine)
        try:
            yield
        finally:
            _held.discard(mine)
