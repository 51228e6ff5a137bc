"""Output folders and their record `run.json`."""

from __future__ import annotations

import datetime
import json
import shlex
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from arzoo.base import files, lock, runtime
from arzoo.base.console import note
from arzoo.base.files import RECORD, file_sha256
from arzoo.cli.earlier import FINISHED, REQUEST, RUNNING, Earlier, not_empty, occupied

RECORD_SECONDS = 10.0
"""Seconds after which the record of a command that goes on is written again."""


@dataclass
class Output:
    """An output folder while a verb writes into it.

    Attributes:
        folder: The folder.
        command: The typed command.
        facts: Entries of `run.json` beside command, versions and timing; a verb adds to them.
        files: Files written, relative to the folder, with their hashes where those are known.
        earlier: What the same command has written there before, and its request.
    """

    folder: Path
    command: str
    facts: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str | None] = field(default_factory=dict)
    earlier: Earlier = field(default_factory=lambda: Earlier(Path()))

    def __post_init__(self) -> None:
        self._clock, self._recorded = time.perf_counter(), 0.0
        self._started = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        self._addresses = len(runtime.addresses)

    def path(self, name: str) -> Path:
        """Return the path of a file to write and add it to the record; a later run with --overwrite removes it."""
        self.files[name] = None
        return self.folder / name

    def save(self) -> None:
        """Write the record if that was long ago, so that a killed process can be continued."""
        if time.perf_counter() - self._recorded > RECORD_SECONDS:
            self.record(RUNNING)

    def record(self, status: str) -> None:
        """Write `run.json`."""
        for name, known in self.files.items():
            if known is None and (self.folder / name).is_file():
                self.files[name] = file_sha256(self.folder / name)
        record = {
            "command": self.command,
            "status": status,
            "started": self._started,
            "seconds": round(time.perf_counter() - self._clock, 3),
            **({REQUEST: self.earlier.request} if self.earlier.request else {}),
            **self.facts,
            "versions": runtime.versions(),
            "network": runtime.addresses[self._addresses :],
            "files": {name: known for name, known in self.files.items() if (self.folder / name).is_file()},
        }
        text = json.dumps(record, indent=2, ensure_ascii=False, default=str) + "\n"
        with files.explain_full_disk(RECORD, self.folder, "Make room, and give the same command again."):
            files.write_text(self.folder / RECORD, text)
        self._recorded = time.perf_counter()


@contextmanager
def output_folder(
    folder: str | Path,
    overwrite: bool,
    arguments: Sequence[str],
    resume: bool = False,
    doing: str = "writes into",
    earlier: Earlier | None = None,
) -> Iterator[Output]:
    """Prepare an output folder, keep other processes out, and write its `run.json` at the end, also after a failure.

    Overwriting removes only the files that the previous run recorded, never anything else in the folder.

    Args:
        folder: The folder; it is created if it does not exist.
        overwrite: Allow a folder that is not empty.
        arguments: The command line after `arzoo`.
        resume: Continue with the content of the folder: nothing is refused or removed. `run.json` is written at the
            start with the status "running", which stays if the process is killed.
        doing: What this process does in the folder, for the message of another process.
        earlier: What the same request has written into the folder, which is continued, unless `overwrite`.

    Raises:
        ArzooError: Another process works in the folder, the folder is not empty and may not be overwritten, the path
            is a file, or the disk is full.
    """
    folder = Path(folder)
    if not resume:
        refuse_occupied(folder, overwrite or earlier is not None)
    with lock.alone(folder, doing):
        output = Output(folder, shlex.join(["arzoo", *arguments]), earlier=earlier or Earlier(folder))
        if earlier is not None and not overwrite:
            output.earlier = earlier.now()
            output.files |= output.earlier.files
        elif not resume:
            refuse_occupied(folder, overwrite)  # another process may have written to it meanwhile
            _remove_previous(folder)
        with _recorded(output, resume or earlier is not None):
            yield output


@contextmanager
def _recorded(output: Output, resume: bool) -> Iterator[None]:
    """Write the record of an output folder at the end."""
    if resume:
        output.record(RUNNING)
    try:
        yield
    except BaseException as error:
        try:
            output.record(f"{type(error).__name__}: {error}")
        except Exception as second:
            note(f"{RECORD} was not written either: {second}")  # the first error is the one to read
        raise
    output.record(FINISHED)


def refuse_occupied(folder: Path, overwrite: bool) -> None:
    """Raise an ArzooError if a folder is not empty and may not be overwritten, or another process works there."""
    full = occupied(folder)
    if folder.exists():
        lock.refuse_busy(folder)
    if full and not overwrite:
        raise not_empty(folder)


def refuse_foreign(folder: Path, overwrite: bool) -> None:
    """As `refuse_occupied`, unless a command that compares requests has written into the folder, see `Earlier`."""
    try:
        made = REQUEST in json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        made = False
    refuse_occupied(folder, overwrite or made)


def is_untouched(folder: Path) -> bool:
    """Return whether a folder holds only what a command leaves that ended before its first result.

    That is its record and hidden files: the lock, and incomplete files of a killed process.
    """
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")} <= {RECORD}


def _remove_previous(folder: Path) -> None:
    try:
        names = json.loads((folder / RECORD).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    remove(folder, names)


def remove(folder: Path, names: Iterable[str]) -> None:
    """Remove files that a record names, and their folders once empty; what lies outside the folder stays."""
    root = folder.resolve()
    paths = [path for name in names if root in (path := (folder / name).resolve()).parents]
    for path in paths:
        if path.is_file():
            path.unlink()
    for parent in {path.parent for path in paths} - {root}:
        with suppress(OSError):  # it holds other files
            parent.rmdir()
