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

from arzoo.base import files, lock
from arzoo.base.console import note
from arzoo.base.errors import ArzooError
from arzoo.base.files import RECORD, file_sha256


@dataclass
class Output:
    """An output folder while a verb writes into it.

    Attributes:
        folder: The folder.
        facts: Entries of `run.json` beside command, versions and timing; a verb adds to them.
        files: Files written, relative to the folder.
    """

    folder: Path
    facts: dict[str, Any] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)

    def path(self, name: str) -> Path:
        """Return the path of a file to write and add it to the record; a later run with --overwrite removes it."""
        self.files.append(name)
        return self.folder / name


@contextmanager
def output_folder(
    folder: str | Path,
    overwrite: bool,
    arguments: Sequence[str],
    resume: bool = False,
    doing: str = "writes into",
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

    Raises:
        ArzooError: Another process works in the folder, the folder is not empty and may not be overwritten, the path
            is a file, or the disk is full.
    """
    folder = Path(folder)
    if not resume:
        refuse_occupied(folder, overwrite)
    with lock.alone(folder, doing):
        if not resume:
            refuse_occupied(folder, overwrite)  # another process may have written to it meanwhile
            _remove_previous(folder)
        with _recorded(folder, arguments, resume) as output:
            yield output


@contextmanager
def _recorded(folder: Path, arguments: Sequence[str], resume: bool) -> Iterator[Output]:
    """Yield an output folder and write its record at the end."""
    from arzoo.base import runtime

    output, started = Output(folder), time.perf_counter()
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    first_address = len(runtime.addresses)

    def write(status: str) -> None:
        written = [name for name in output.files if (folder / name).is_file()]
        record = {
            "command": shlex.join(["arzoo", *arguments]),
            "status": status,
            "started": now,
            "seconds": round(time.perf_counter() - started, 3),
            **output.facts,
            "versions": runtime.versions(),
            "network": runtime.addresses[first_address:],
            "files": {name: file_sha256(folder / name) for name in written},
        }
        text = json.dumps(record, indent=2, ensure_ascii=False, default=str) + "\n"
        with files.explain_full_disk(RECORD, folder, "Make room, and give the same command again."):
            files.write_text(folder / RECORD, text)

    if resume:
        write("running")
    try:
        yield output
    except BaseException as error:
        try:
            write(f"{type(error).__name__}: {error}")
        except Exception as second:
            note(f"{RECORD} was not written either: {second}")  # the first error is the one to read
        raise
    write("finished")


def refuse_occupied(folder: Path, overwrite: bool) -> None:
    """Raise an ArzooError if a folder is not empty and may not be overwritten, or another process works there."""
    if folder.is_file():
        raise ArzooError(f"{folder} is a file, an output folder is needed. Give another --out.")
    if not folder.exists():
        return
    lock.refuse_busy(folder)
    if not overwrite and any(path.name != lock.FILE for path in folder.iterdir()):
        raise ArzooError(
            f"{folder} exists and is not empty. Give another --out, or allow it with --overwrite."
        )


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
