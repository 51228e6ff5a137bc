"""Picture files of a folder: which ones count, what is left out, and what they say of themselves before decoding.

Training, encoding, evaluation and reconstruction read folders by these rules, and tell the same remarks.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from arzoo.base.errors import ArzooError
from arzoo.base.files import RECORD
from arzoo.base.walk import Tree, tree
from arzoo.data.captions import TABLES
from arzoo.data.reading import SUFFIXES

GRID = "grid.png"
SETTINGS = "arzoo"
"""Text chunk in which `arzoo generate` says how a picture was made."""
_BESIDE = frozenset(
    {
        ".txt",
        ".md",
        ".json",
        ".jsonl",
        ".csv",
        ".tsv",
        ".yaml",
        ".yml",
        ".xml",
        ".html",
        ".log",
        ".ini",
        ".db",
        ".url",
    }
)
"""What lies beside pictures and is none; every other type that is not read is named."""
_NO_PICTURES = frozenset({"LICENSE", "README", "NOTICE", "COPYING", "CITATION", "Makefile", "SHA256SUMS"})
_FOREIGN = "__MACOSX"
"""Folder in which archives of macOS keep what is no picture under the names of pictures."""
SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing", "dev", "eval"})
_LOSSY = {"JPEG": "JPEG", "MPO": "JPEG", "JPEG2000": "JPEG"}
_OPACITY = "have an opacity channel: white was laid under them"
_DEEP = "have 16 bits a channel, 8 are read"
_GUESSED = "have 32 bits a pixel: the brightest one decides whether white is 1, 255 or 65535"
_PALETTE = "have a palette of at most 256 colours"
_INKS = "have colours of inks (CMYK), which became RGB without a colour profile"
_FRAMES = "have several frames or pages: the first is read"


@dataclass(frozen=True)
class Listing:
    """The picture files of a folder.

    Attributes:
        folder: Which.
        files: In the order of their paths; of a folder that `arzoo generate` wrote, those it recorded.
        remarks: What is left out, and what may not be as it was meant.
    """

    folder: Path
    files: tuple[Path, ...]
    remarks: tuple[str, ...]

    def classes(self, files: Sequence[Path]) -> list[str]:
        """The class of each of the files: its first folder, or this one's name."""
        places = [path.relative_to(self.folder).parts for path in files]
        return [parts[0] if len(parts) > 1 else self.name for parts in places]

    @property
    def name(self) -> str:
        """How the folder is called."""
        return self.folder.name or self.folder.absolute().name


@dataclass(frozen=True)
class Head:
    """What a file says of itself.

    Attributes:
        size: (H, W), upright.
        lossy_as: Format, if it was stored with loss, else empty.
        settings: Those that `arzoo generate` wrote into it.
        remarks: What is done to it that a reader should know.
    """

    size: tuple[int, int]
    lossy_as: str
    settings: dict[str, Any]
    remarks: tuple[str, ...]


def list_pictures(folder: Path) -> Listing:
    """The picture files of a folder and of its sub-folders, links to folders followed.

    Raises:
        ArzooError: The folder cannot be read.
    """
    found = tree(folder)
    if folder in found.closed:
        raise ArzooError(f"{folder} may not be read. Change its permissions, or name another folder.")
    there = [path for path in found.files if _FOREIGN not in path.relative_to(folder).parts]
    pictures = [path for path in there if path.suffix.lower() in SUFFIXES]
    remarks = _unread(folder, there)
    chosen: list[Path] = []
    sheets = 0
    together: dict[Path, list[Path]] = {}
    for path in pictures:
        together.setdefault(path.parent, []).append(path)
    for parent, inside in together.items():
        kept, count, notes = _recorded(parent, inside)
        chosen += kept
        sheets += count
        remarks += notes
    if sheets:
        remarks.append(f"{sheets} contact sheets ({GRID}) in {folder} are left out")
    files = tuple(sorted(chosen))
    remarks += [*_of_links(folder, found), *_of_classes(folder, found, files)]
    return Listing(folder, files, tuple(remarks))


def _recorded(folder: Path, pictures: list[Path]) -> tuple[list[Path], int, list[str]]:
    """Of the pictures that lie in one folder those that count, the number of contact sheets, and remarks."""
    try:
        recorded = json.loads((folder / RECORD).read_text(encoding="utf-8"))["files"]
        names = {
            name for name in recorded if Path(name).suffix.lower() in SUFFIXES and Path(name).name == name
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        names = set()
    named = {folder / name for name in names - {GRID}}
    rest = [path for path in pictures if path.name != GRID or not (named or _is_sheet(path))]
    kept = [path for path in rest if path in named] if named else rest
    notes = []
    if len(kept) < len(named):
        notes.append(f"{len(named) - len(kept)} pictures that run.json of {folder} names are missing")
    if len(kept) < len(rest):
        notes.append(
            f"{len(rest) - len(kept)} pictures of {folder} are left out, as its run.json does not name them"
        )
    return kept, len(pictures) - len(rest), notes


def _is_sheet(path: Path) -> bool:
    """Whether a picture is a contact sheet that one of our verbs wrote, wherever it was copied."""
    try:
        return bool(made := head(path).settings) and "index" not in made
    except ArzooError:
        return False


def _unread(folder: Path, files: Iterable[Path]) -> list[str]:
    """A remark on files of types that are not read."""
    others = [path for path in files if path.suffix.lower() not in SUFFIXES | _BESIDE]
    others = [path for path in others if path.stem not in _NO_PICTURES and path.name not in TABLES]
    if not others:
        return []
    types = sorted({path.suffix.lower() or "files without a type" for path in others})
    return [f"{len(others)} files of {folder} are left out, as {', '.join(types)} are not read"]


def _of_links(folder: Path, found: Tree) -> list[str]:
    """Remarks on links, on what is hidden, and on what may not be read."""

    def named(paths: Sequence[Path]) -> str:
        return f"the first: {paths[0].relative_to(folder)}"

    hidden = [path for path in found.hidden if not path.name.startswith("._") and _pictures_in(path)]
    of_links = {
        "lead nowhere": [path for path in found.broken if path.suffix.lower() in SUFFIXES | {""}],
        "lead to folders that are read by another name, and are passed over": found.twice,
    }
    remarks = [
        f"{len(paths)} links in {folder} {what}, {named(paths)}" for what, paths in of_links.items() if paths
    ]
    if hidden:
        remarks.append(
            f"{len(hidden)} hidden pictures or folders of pictures in {folder} are left out, {named(hidden)}"
        )
    if found.closed:
        remarks.append(
            f"{len(found.closed)} folders in {folder} are left out, as they may not be read, {named(found.closed)}"
        )
    return remarks


def _pictures_in(hidden: Path) -> bool:
    """Whether a hidden file is a picture, or a hidden folder holds one."""
    if not hidden.is_dir():
        return hidden.suffix.lower() in SUFFIXES
    try:
        return any(path.suffix.lower() in SUFFIXES for path in hidden.iterdir())
    except OSError:
        return False


def _of_classes(folder: Path, found: Tree, files: Sequence[Path]) -> list[str]:
    """Remarks on sub-folders that are no class, or a class that they were hardly meant to be."""
    read = {path.relative_to(folder).parts[0] for path in files if path.parent != folder}
    every = {path.relative_to(folder).parts[0] for path in found.folders} - {_FOREIGN}
    without = sorted(every - read)
    remarks = []
    if files and without:
        remarks.append(f"no picture is read in {_some(without)} of {folder}: they make no class")
    splits = sorted(name for name in read if name.lower() in SPLITS)
    if splits and (len(splits) > 1 or len(read) == 1):
        remarks.append(
            f"{_some(splits)} of {folder} look like parts of a data set and are read as classes: name one of them "
            f"instead ({folder / splits[0]}), so that parts are not mixed"
        )
    return remarks


def remarks_on(name: str | Path, heads: Sequence[Head]) -> list[str]:
    """Remarks about pictures of a folder, or of another name, each with how many it is of."""
    counts = Counter(remark for found in heads for remark in found.remarks)
    return [f"{count} of {len(heads)} pictures of {name} {remark}" for remark, count in counts.items()]


def head(path: Path) -> Head:
    """Size, format and settings of a picture, without decoding it.

    Raises:
        ArzooError: It is not one.
    """
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(0x0112, 1) >= 5  # orientations that exchange the sides
            size = (image.width, image.height) if turned else (image.height, image.width)
            settings = json.loads(image.info.get(SETTINGS, "{}"))
            kind = _LOSSY.get(str(image.format), "")
            if image.format == "WEBP" and not _lossless_webp(path):
                kind = "lossy WebP"
            settings = settings if isinstance(settings, dict) else {}
            return Head(size, kind, settings, tuple(_remarks(image)))
    except (OSError, ValueError, SyntaxError, TypeError, Image.DecompressionBombError) as error:
        raise ArzooError(
            f"{path} is not a picture that can be read ({error}). Replace or remove it."
        ) from error


def _remarks(image: Image.Image) -> list[str]:
    codecs = [str(tile[3]) for tile in getattr(image, "tile", [])]
    found = {
        _OPACITY: image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info,
        _DEEP: image.mode.startswith("I;16") or any(";16" in codec for codec in codecs),
        _GUESSED: image.mode in ("I", "F"),
        _PALETTE: image.mode == "P",
        _INKS: image.mode == "CMYK",
        _FRAMES: getattr(image, "is_animated", False),
    }
    return [remark for remark, holds in found.items() if holds]


def _lossless_webp(path: Path) -> bool:
    """Whether the first frame of a WebP file is a VP8L chunk, the lossless one."""
    with path.open("rb") as file:
        file.seek(12)  # behind RIFF, length, WEBP
        while len(head := file.read(8)) == 8:
            kind, length = head[:4], int.from_bytes(head[4:], "little")
            if kind in (b"VP8L", b"VP8 "):
                return kind == b"VP8L"
            # A frame of an animation has 16 bytes of its own before the chunks of its picture.
            file.seek(16 if kind == b"ANMF" else length + length % 2, 1)
    return False


def _some(names: Sequence[str], most: int = 5) -> str:
    """Some names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
