"""What the same command has left in its output folder before: it continues, or needs to do nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from arzoo.base import lock
from arzoo.base.errors import ArzooError, Interrupted, some
from arzoo.base.files import RECORD, file_sha256

REQUEST = "request"
"""Entry of `run.json`: what decides the content of the files, as plain data."""
RUNNING, FINISHED = "running", "finished"
"""Statuses in `run.json` of a command that goes on or was killed, and of one that came to its end."""
_SHOWN = 60
"""Most letters of a setting in a message."""


@dataclass(frozen=True)
class Earlier:
    """Files that a command with the same request has written into a folder.

    Attributes:
        folder: The folder.
        request: What decides the content of the files, as plain data; empty for a command that compares none.
        record: Its `run.json`; empty if there is no such command.
        files: Hashes of the recorded files that are as they were written, by their names.
    """

    folder: Path
    request: Mapping[str, Any] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def of(folder: Path, request: Mapping[str, Any]) -> Earlier:
        """Read the record of a folder.

        Raises:
            ArzooError: Another process works there, the folder holds something else or what another request made, or
                its files have changed since.
        """
        if not occupied(folder):
            return Earlier(folder, request)
        lock.refuse_busy(folder)
        try:
            record = _record(folder)
            before, files = dict(record[REQUEST]), dict(record["files"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise not_empty(folder) from error
        changes = differences(before, request)
        if changes:
            raise not_empty(folder, f": it holds what another command made, with {some(changes, 4)}")
        present = {name: file_sha256(folder / name) for name in files if (folder / name).is_file()}
        changed = [name for name, sha256 in present.items() if sha256 != files[name]]
        # A killed command may have written a file anew that its record still has as it was.
        if changed and record.get("status") != RUNNING:
            raise not_empty(folder, f", and {some(changed, 4)} changed since this command wrote it")
        kept = {name: sha256 for name, sha256 in present.items() if name not in changed}
        return Earlier(folder, request, record, kept)

    def now(self) -> Earlier:
        """Return what is there now; files are read again only if another process has written there meanwhile.

        Raises:
            ArzooError: As `of`.
        """
        try:
            if self.record and self.record == _record(self.folder):  # every command writes it first
                return self
        except (OSError, ValueError, TypeError):
            pass
        return Earlier.of(self.folder, self.request)

    @property
    def facts(self) -> dict[str, Any]:
        """What the command itself recorded."""
        general = ("command", "status", "started", "seconds", "versions", "network", "files", REQUEST)
        return {name: fact for name, fact in self.record.items() if name not in general}

    def has(self, names: Iterable[str]) -> bool:
        """Return whether all these files are as they were written."""
        return self.files.keys() >= set(names)

    @property
    def finished(self) -> bool:
        """Whether the command came to its end, and all of its files are still there."""
        return self.record.get("status") == FINISHED and self.has(self.record["files"])


def _record(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / RECORD).read_text(encoding="utf-8")))


def occupied(folder: Path) -> bool:
    """Return whether a folder holds anything, beside the lock that a killed process left.

    Raises:
        ArzooError: It is a file.
    """
    if folder.is_file():
        raise ArzooError(f"{folder} is a file, an output folder is needed. Give another --out.")
    return folder.exists() and any(path.name != lock.FILE for path in folder.iterdir())


def stopped(finished: int, count: int, folder: Path) -> Interrupted:
    """Return what Ctrl-C raises where pictures are kept as they are finished; the message says how to go on."""
    return Interrupted(
        f"stopped: {finished} of {count} pictures are finished, in {folder}. The same command draws the others"
    )


def not_empty(folder: Path, why: str = "") -> ArzooError:
    """Return the error for an output folder whose content is to be kept."""
    return ArzooError(
        f"{folder} exists and is not empty{why}. Give another --out, or allow it with --overwrite."
    )


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the settings of a recorded request and of one as it is that differ, in words."""
    now = json.loads(json.dumps(now, default=str))
    names = [name for name in {**now, **before} if before.get(name) != now.get(name)]
    return [
        f"{name.replace('_', '-')} {_short(before.get(name))}, not {_short(now.get(name))}" for name in names
    ]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict)) else str(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
