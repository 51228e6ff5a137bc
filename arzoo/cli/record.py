"""`search.json`: what `arzoo search` found out about every picture, and what lets the same command go on."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from arzoo.base import runtime
from arzoo.base.errors import ArzooError, some
from arzoo.base.files import explain_full_disk, read_json, write_text
from arzoo.cli.earlier import differences

SEARCH = "search.json"


@dataclass
class Record:
    """The file in an output folder.

    Attributes:
        folder: The folder.
        settings: Settings of the command, as plain data; they decide whether a command may go on.
        pictures: An entry per finished picture.
    """

    folder: Path
    settings: dict[str, Any]
    pictures: list[dict[str, Any]] = field(default_factory=list)

    def read(self) -> None:
        """Read the finished pictures, if the folder holds any.

        Raises:
            ArzooError: The file is damaged, or of a search with other settings.
        """
        if not (self.folder / SEARCH).exists():
            return
        settings, pictures = self.stored()
        if changes := differences(settings, self.settings):
            raise ArzooError(
                f"{self.folder} holds another search, with {some(changes, 4)}. Give another --out, or start anew with "
                "--overwrite."
            )
        self.pictures = pictures

    def stored(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return settings and finished pictures of the search that the folder holds, whichever it is.

        Raises:
            ArzooError: The file is damaged, or there is none.
        """
        path = self.folder / SEARCH
        try:
            stored = read_json(path)
            settings, pictures = dict(stored["settings"]), [dict(entry) for entry in stored["pictures"]]
            for entry in pictures:
                [Path(name) for name in entry["files"]], int(entry["index"])
        except (ArzooError, KeyError, TypeError, ValueError) as error:
            raise ArzooError(
                f"{path} is damaged ({error}). Give another --out, or start anew with --overwrite."
            ) from error
        return settings, pictures

    def finished(self, facts: dict[str, Any]) -> dict[str, Any] | None:
        """Return the entry of a picture that is finished and whose files are here; None otherwise."""
        for entry in self.pictures:
            same = all(entry.get(name) == value for name, value in facts.items())
            if same and all((self.folder / name).is_file() for name in entry["files"]):
                return entry
        return None

    def add(self, entry: dict[str, Any]) -> None:
        """Add the entry of a finished picture, in the place of one with its number, and write the file."""
        others = [each for each in self.pictures if each["index"] != entry["index"]]
        self.pictures = sorted([*others, entry], key=lambda each: each["index"])
        head = {"settings": self.settings, "versions": runtime.versions()}
        lines = [
            f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in head.items()
        ]
        entries = ",\n".join(json.dumps(each, ensure_ascii=False) for each in self.pictures)
        text = "{\n" + ",\n".join([*lines, f'"pictures": [\n{entries}\n]']) + "\n}\n"
        with explain_full_disk(SEARCH, self.folder, "Make room, and give the same command again."):
            write_text(self.folder / SEARCH, text)
