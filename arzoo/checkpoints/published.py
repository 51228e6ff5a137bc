"""Published weights that `arzoo convert` reads, by name: file, place, licence and layout. Imports no torch.

The table is `published.json`. Nothing in it is guessed: a file name, licence or hash that its publisher does not say,
or that nobody looked up, is absent and shown as unknown. A licence is that of the repository that publishes it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from arzoo.base.errors import ArzooError
from arzoo.base.files import file_sha256
from arzoo.base.paths import expanded
from arzoo.checkpoints.names import FOREIGN, HUB, address, is_repository

UNKNOWN = "unknown"
_FILE = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)*", re.ASCII)


@dataclass(frozen=True)
class Published:
    """A published model.

    Attributes:
        name: Our name, also that of the converted checkpoint.
        title: What it is.
        layout: Its source, a key of `arzoo.models.common.convert.SOURCES`.
        preset: The registered backbone or tokenizer of its size.
        parameters: Parameters of all its parts, which tell the sizes of a layout apart.
        place: `org/name` on the hub, or the address of the page that links the file.
        file: Name of the file there, empty if unknown.
        licence: License of the repository that publishes it, empty if unknown.
        settings: Settings of the layout that the weights do not say.
        tokenizer: Name of the tokenizer of a generator, empty if arzoo reads none.
        sha256: Hash of the file, empty if unknown.
    """

    name: str
    title: str
    layout: str
    preset: str
    parameters: int
    place: str
    file: str = ""
    licence: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    tokenizer: str = ""
    sha256: str = ""

    @property
    def on_hub(self) -> bool:
        """Whether it is on the Hugging Face hub."""
        return is_repository(self.place)

    @property
    def link(self) -> str:
        """Address of the page with the file."""
        return address(self.place) if self.on_hub else self.place

    def __str__(self) -> str:
        return f"{self.name} ({self.title})"


PUBLISHED = {
    row["name"]: Published(**row)
    for row in json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
}
"""Known published models by name."""


def named_like(file: str, layout: str) -> list[Published]:
    """Return the published models of a layout whose file has this name, or whose own name it has."""
    stem = file.partition(".")[0]
    return [e for e in PUBLISHED.values() if e.layout == layout and (file == e.file or stem == e.name)]


def of_size(layout: str, parameters: int) -> list[Published]:
    """Return the published models of a layout with this number of parameters."""
    return [e for e in PUBLISHED.values() if (e.layout, e.parameters) == (layout, parameters)]


def instructions(entry: Published) -> str:
    """Say how to get a published model: which file, from where, and where to put it."""
    file, command = entry.file or "the file with its weights", f"arzoo convert {entry.name}"
    by_hub = (
        f"With a connection: arzoo convert {HUB}{entry.place}/{entry.file or 'FILE'}. "
        if entry.on_hub
        else ""
    )
    return (
        f"{entry} is published at {entry.link}, license: {entry.licence or UNKNOWN}. {by_hub}Or get {file} there, put "
        f"it into the working directory, then: {command if entry.file else f'arzoo convert FILE {entry.name}'}"
    )


def refuse_foreign(repository: str) -> None:
    """Refuse a repository of the hub that is known to hold published weights and no checkpoint of arzoo.

    Raises:
        ArzooError: It is one of them; the message says how to bring its files in.
    """
    known = [entry for entry in PUBLISHED.values() if entry.place == repository]
    if known:
        files = ", ".join(f"{entry.file or 'FILE'} ({entry.name})" for entry in known)
        raise ArzooError(
            f"{HUB}{repository} holds published weights, not a checkpoint of arzoo: {files}. Bring one in with: "
            f"arzoo convert {HUB}{repository}/{known[0].file or 'FILE'}. Then use it by its name."
        )


@dataclass(frozen=True)
class Source:
    """A file of published weights on this machine.

    Attributes:
        path: The file.
        entry: The published model that was asked for by name or address; None for a file of whatever content.
    """

    path: Path
    entry: Published | None = None

    def choose(
        self, layout: str, parameters: int
    ) -> tuple[Published | None, dict[str, Any], Sequence[Published]]:
        """Recognize the published model.

        Args:
            layout: The recognized source of the weights.
            parameters: Their number of parameters.

        Returns:
            The model that the name of the file says and its size agrees with, None if no one or more than one of the
            same settings; its settings, or theirs; and all models of this layout and size.

        Raises:
            ArzooError: It is not the model that was asked for, or a file with another hash.
        """
        alike = of_size(layout, parameters)
        if self.entry is not None and self.entry not in alike:
            raise ArzooError(
                f"{self.path} is not {self.entry}, which has layout {self.entry.layout} and {self.entry.parameters:,} "
                f"parameters: this file has layout {layout} and {parameters:,}. Look what it is with: arzoo convert "
                f"{self.path} --dry-run"
            )
        named = [entry for entry in self.guesses(layout) if entry in alike]
        digest = file_sha256(self.path) if any(entry.sha256 for entry in named) else ""
        possible = [e for e in named if e.sha256 == digest] or [e for e in named if not e.sha256]
        if named and not possible:
            raise ArzooError(
                f"{self.path} is not the file published as {named[0]}: its sha256 is not {named[0].sha256}. Download "
                "it again."
            )
        settings = possible[0].settings if possible else {}
        same = [entry for entry in possible if entry.settings == settings]
        return (same[0] if len(same) == 1 else None), settings, alike

    def guesses(self, layout: str) -> list[Published]:
        """Return the published models that the file may be by what it is called."""
        return [self.entry] if self.entry is not None else named_like(self.path.name, layout)


def locate(text: str) -> Source:
    """Return a file of published weights.

    Args:
        text: A file, the name of a published model whose file is here or in the cache of the hub, or
            `hf-hub:org/name/file`, which is downloaded.

    Raises:
        ArzooError: There is no such file; the message says where to get it.
    """
    if text.startswith(HUB):
        return _of_hub(text.removeprefix(HUB))
    path = Path(expanded(text))
    if path.is_file():
        return Source(path)
    entry = PUBLISHED.get(text)
    if entry is None:
        hint = (
            ""
            if path.suffix in FOREIGN
            else " `arzoo models --kind published` lists what arzoo knows by name."
        )
        raise ArzooError(f"there is no file {text}, and no checkpoint of that name.{hint}")
    here = Path(entry.file) if entry.file else None
    if here is not None and here.is_file():
        return Source(here, entry)
    if here is not None and entry.on_hub:
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(entry.place, entry.file)
        if isinstance(cached, str):
            return Source(Path(cached), entry)
    raise ArzooError(f"there is no file {entry.file or text} here. {instructions(entry)}")


def _of_hub(text: str) -> Source:
    """Download `org/name/file`, or take it from the cache of the hub."""
    from arzoo.checkpoints.hub import download_file

    owner, _, rest = text.partition("/")
    name, _, file = rest.partition("/")
    repository = f"{owner}/{name}"
    if not file and is_repository(repository):
        refuse_foreign(repository)
    if not is_repository(repository) or not _FILE.fullmatch(file):
        raise ArzooError(
            f"{HUB + text!r} is no file of the hub. Write {HUB}org/name/file, with the file's full name."
        )
    entries = (e for e in PUBLISHED.values() if (e.place, e.file) == (repository, file))
    return Source(download_file(repository, file), next(entries, None))
