"""Picture files of a folder: which ones are read, which are left out, and their headers.

Training, encoding, evaluation and reconstruction read folders by these rules and give the same remarks.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from arzoo.base.errors import ArzooError, some
from arzoo.base.files import RECORD
from arzoo.base.walk import Tree, tree
from arzoo.data.captions import TABLES
from arzoo.data.reading import SUFFIXES

GRID = "grid.png"
STEPS = ".steps"
"""Before the ending of animations that `arzoo generate` writes beside pictures and clips, which are neither."""
SETTINGS = "arzoo"
"""Text chunk in which `arzoo generate` records how a picture was made."""
_BESIDE = frozenset(
    {
        ".apng",
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
"""Types of files that are ignored silently beside pictures; other types that are not read are named in a remark."""
_NO_PICTURES = frozenset({"LICENSE", "README", "NOTICE", "COPYING", "CITATION", "Makefile", "SHA256SUMS"})
FOREIGN = "__MACOSX"
"""Folder in archives of macOS with metadata under the names of pictures."""
SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing", "dev", "eval"})
_LOSSY = {"JPEG": "JPEG", "MPO": "JPEG", "JPEG2000": "JPEG"}
_OPACITY = "have an opacity channel: white was laid under them"
_DEEP = "have 16 bits per channel, 8 are read"
_GUESSED = "have 32 bits per pixel: the brightest pixel decides whether white is 1, 255 or 65535"
_PALETTE = "have a palette of at most 256 colors"
_INKS = "have CMYK colors, which were converted to RGB without a color profile"
_FRAMES = "have several frames or pages: the first is read"


@dataclass(frozen=True)
class Listing:
    """The picture files of a folder.

    Attributes:
        folder: The folder.
        files: Picture files in the order of their paths; in a folder written by `arzoo generate`, the recorded ones.
        remarks: Remarks on files that are left out, and on classes that may be unintended.
    """

    folder: Path
    files: tuple[Path, ...]
    remarks: tuple[str, ...]

    def classes(self, files: Sequence[Path]) -> list[str]:
        """Return the class of each file: its first sub-folder, or the name of the folder itself."""
        places = [path.relative_to(self.folder).parts for path in files]
        return [parts[0] if len(parts) > 1 else self.name for parts in places]

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.name or self.folder.absolute().name


@dataclass(frozen=True)
class Head:
    """Header of a picture file.

    Attributes:
        size: (H, W) of the upright picture.
        lossy_as: Name of the format if it is lossy, else empty.
        settings: Settings that `arzoo generate` wrote into the file.
        remarks: Conversions that happen when the file is read.
    """

    size: tuple[int, int]
    lossy_as: str
    settings: dict[str, Any]
    remarks: tuple[str, ...]


def shows_steps(path: Path) -> bool:
    """Return whether a file is an animation of how a picture or clip was drawn."""
    return path.stem.endswith(STEPS) and path.suffix.lower() in (".webp", ".gif")


def list_pictures(folder: Path) -> Listing:
    """List the picture files of a folder and its sub-folders; links to folders are followed.

    Raises:
        ArzooError: The folder cannot be read.
    """
    content = tree(folder)
    refuse_unreadable(folder, content)
    all_files = [
        path
        for path in content.files
        if FOREIGN not in path.relative_to(folder).parts and not shows_steps(path)
    ]
    pictures = [path for path in all_files if path.suffix.lower() in SUFFIXES]
    remarks = unread(folder, all_files, SUFFIXES)
    chosen: list[Path] = []
    sheets = 0
    by_folder: dict[Path, list[Path]] = {}
    for path in pictures:
        by_folder.setdefault(path.parent, []).append(path)
    for parent, siblings in by_folder.items():
        kept, count, notes = _recorded(parent, siblings)
        chosen += kept
        sheets += count
        remarks += notes
    if sheets:
        remarks.append(f"{sheets} contact sheets ({GRID}) in {folder} are left out")
    files = tuple(sorted(chosen))
    remarks += [
        *of_links(folder, content, SUFFIXES, "picture"),
        *of_classes(folder, content, files, "picture"),
    ]
    return Listing(folder, files, tuple(remarks))


def _recorded(folder: Path, pictures: list[Path]) -> tuple[list[Path], int, list[str]]:
    """Pictures of one folder that are read, the number of its contact sheets, and remarks."""
    try:
        recorded = json.loads((folder / RECORD).read_text(encoding="utf-8"))["files"]
        names = {
            name
            for name in recorded
            if Path(name).suffix.lower() in SUFFIXES
            and Path(name).name == name
            and not shows_steps(Path(name))
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
    """Return whether a picture is a contact sheet written by a command, also after it was copied."""
    try:
        return bool(settings := head(path).settings) and "index" not in settings
    except ArzooError:
        return False


def refuse_unreadable(folder: Path, content: Tree) -> None:
    """Raise an ArzooError if a folder cannot be read."""
    if folder in content.unreadable:
        raise ArzooError(f"{folder} may not be read. Change its permissions, or name another folder.")


def unread(folder: Path, files: Iterable[Path], suffixes: frozenset[str]) -> list[str]:
    """Remark on files of types that are not read."""
    others = [path for path in files if path.suffix.lower() not in suffixes | _BESIDE]
    others = [path for path in others if path.stem not in _NO_PICTURES and path.name not in TABLES]
    if not others:
        return []
    types = sorted({path.suffix.lower() or "files without a type" for path in others})
    return [f"{len(others)} files of {folder} are left out, as {', '.join(types)} are not read"]


def of_links(folder: Path, content: Tree, suffixes: frozenset[str], what: str) -> list[str]:
    """Remarks on links, hidden files of the types that are read, and folders that may not be read."""

    def named(paths: Sequence[Path]) -> str:
        return f"the first: {paths[0].relative_to(folder)}"

    hidden = [
        path for path in content.hidden if not path.name.startswith("._") and _has_files(path, suffixes)
    ]
    of_kind = {
        "lead nowhere": [path for path in content.broken if path.suffix.lower() in suffixes | {""}],
        "lead to folders that are read by another name, and are passed over": content.repeated,
    }
    remarks = [
        f"{len(paths)} links in {folder} {kind}, {named(paths)}" for kind, paths in of_kind.items() if paths
    ]
    if hidden:
        remarks.append(
            f"{len(hidden)} hidden {what}s or folders of {what}s in {folder} are left out, {named(hidden)}"
        )
    if content.unreadable:
        remarks.append(
            f"{len(content.unreadable)} folders in {folder} are left out, as they may not be read, "
            f"{named(content.unreadable)}"
        )
    return remarks


def _has_files(hidden: Path, suffixes: frozenset[str]) -> bool:
    """Return whether a hidden file is of a type that is read, or a hidden folder holds one."""
    if not hidden.is_dir():
        return hidden.suffix.lower() in suffixes
    try:
        return any(path.suffix.lower() in suffixes for path in hidden.iterdir())
    except OSError:
        return False


def of_classes(folder: Path, content: Tree, files: Sequence[Path], what: str) -> list[str]:
    """Remarks on sub-folders that are not classes, and on splits that are read as classes."""
    read = {path.relative_to(folder).parts[0] for path in files if path.parent != folder}
    every = {path.relative_to(folder).parts[0] for path in content.folders} - {FOREIGN}
    without = sorted(every - read - {path.name for path in files})  # a folder may be a clip
    remarks = []
    if files and without:
        remarks.append(f"no {what} is read in {some(without, 5)} of {folder}: they make no class")
    splits = sorted(name for name in read if name.lower() in SPLITS)
    if splits and (len(splits) > 1 or len(read) == 1):
        remarks.append(
            f"{some(splits, 5)} of {folder} look like parts of a data set and are read as classes: name one of them "
            f"instead ({folder / splits[0]}), so that parts are not mixed"
        )
    return remarks


def remarks_on(name: str | Path, heads: Sequence[Head]) -> list[str]:
    """Return the remarks on pictures, each with the number of pictures that have it.

    Args:
        name: Folder of the pictures, or another name for them.
        heads: Headers of the pictures.
    """
    counts = Counter(remark for picture in heads for remark in picture.remarks)
    return [f"{count} of {len(heads)} pictures of {name} {remark}" for remark, count in counts.items()]


def head(path: Path) -> Head:
    """Read the header of a picture without decoding the picture.

    Raises:
        ArzooError: The file is not a picture.
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
    conditions = {
        _OPACITY: image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info,
        _DEEP: image.mode.startswith("I;16") or any(";16" in codec for codec in codecs),
        _GUESSED: image.mode in ("I", "F"),
        _PALETTE: image.mode == "P",
        _INKS: image.mode == "CMYK",
        _FRAMES: getattr(image, "is_animated", False),
    }
    return [remark for remark, holds in conditions.items() if holds]


def _lossless_webp(path: Path) -> bool:
    """Return whether the first frame of a WebP file is a VP8L chunk, which is lossless."""
    with path.open("rb") as file:
        file.seek(12)  # after RIFF, length, WEBP
        while len(start := file.read(8)) == 8:
            kind, length = start[:4], int.from_bytes(start[4:], "little")
            if kind in (b"VP8L", b"VP8 "):
                return kind == b"VP8L"
            # A frame of an animation has a header of 16 bytes before the chunks of its picture.
            file.seek(16 if kind == b"ANMF" else length + length % 2, 1)
    return False
