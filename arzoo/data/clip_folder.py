"""Folders of clips: one sub-folder per class, or all clips in one folder, with optional captions.

A clip file is a video, an animation, or a sub-folder of numbered pictures. Clips are decoded once into the cache and
mapped into memory; clips of one file are in one split.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image

from arzoo.base.config import whole_number
from arzoo.base.console import progress
from arzoo.base.errors import ArzooError
from arzoo.base.files import RECORD
from arzoo.base.runtime import cache_folder, explain_cache
from arzoo.base.walk import tree
from arzoo.data.base import ImageSet
from arzoo.data.captions import captions_of
from arzoo.data.clip_files import (
    ANIMATIONS,
    PICTURES,
    SUFFIXES,
    VIDEOS,
    Frame,
    clips_of,
    counted,
    frames_of,
    numbered,
    resampled,
)
from arzoo.data.clip_store import kept_clips, write_clips
from arzoo.data.folder import HELD_OUT
from arzoo.data.picture_files import (
    FOREIGN,
    GRID,
    Listing,
    of_classes,
    of_links,
    refuse_unreadable,
    shows_steps,
    unread,
)
from arzoo.data.reading import SUFFIXES as STILLS

FRAMES = 17
"""Frames of clips where no number is given."""
_VERSION = 2
"""Number that changes with the rules of decoding, so that clips are decoded again."""
_DAMAGED = "are damaged: the clips before the damage are read"
_VARIABLE = "have a variable frame rate: with fps their frames are taken by time, without it as they come"


def holds_clips(folder: Path) -> bool:
    """Return whether a folder can only be read as clips: a command drew them, or it has videos and nothing still."""
    try:
        if json.loads((folder / RECORD).read_text(encoding="utf-8"))["config"]["format"] is not None:
            return True
    except (OSError, ValueError, KeyError, TypeError):
        pass
    files = [path for path in tree(folder).files if path.name != GRID and not shows_steps(path)]
    suffixes = {path.suffix.lower() for path in files}
    if not suffixes & VIDEOS or suffixes & PICTURES:
        return False
    return not any(_is_still(path) for path in files if path.suffix.lower() in ANIMATIONS)


def _is_still(path: Path) -> bool:
    """Return whether a GIF or WebP can be read and has one frame."""
    try:
        with Image.open(path) as image:
            return not getattr(image, "is_animated", False)
    except Exception:  # decoders raise errors of any kind for damaged files
        return False


def clip_folder(
    folder: Path, size: int, frames: int, fps: float | None = None, stride: int | None = None
) -> ImageSet:
    """Read a folder of clips.

    Classes are the sub-folders in alphabetical order; clips directly in the folder form one class. A folder of numbered
    pictures is a clip.

    Args:
        folder: Folder of the clips.
        size: Side in pixels to which they are resized and cropped.
        frames: Frames of a clip; longer files give several.
        fps: Frames per second to which files are resampled; by default every frame is taken.
        stride: Frames from the beginning of a clip to that of the next one of the same file; by default clips follow
            each other.

    Raises:
        ArzooError: No clip can be read, the captions cannot be read, a number is not positive, or the disk is full.
        MissingPackage: There are videos and PyAV is not installed.
    """
    size = whole_number(size, "the side of clips in pixels", 1)
    frames = whole_number(frames, "the number of frames of clips", 1)
    stride = frames if stride is None else whole_number(stride, "the stride of clips in frames", 1)
    listing = list_clips(folder)
    key = _hash([str(folder.resolve()), size, frames, fps, stride])
    place = cache_folder() / "data" / f"clips-{key[:16]}"
    fingerprint = _hash([_VERSION, [_identity(folder, path) for path in listing.files]])
    facts: dict[str, Any] = {"files": [], "held_out": []}

    def write() -> None:
        clips = _decoded(listing, size, frames, fps, stride, facts)
        write_clips(place, (frames, size, size, 3), clips, fingerprint=fingerprint, facts=facts)

    with explain_cache():
        stored = kept_clips(place, lambda index: index["fingerprint"] == fingerprint, write)
    clips, facts = (stored[0], stored[1]["facts"]) if stored is not None else (torch.empty(0), facts)
    remarks = [*listing.remarks, *facts["remarks"]]
    if not len(clips):
        count, skipped = len(listing.files), facts["skipped"]
        content = f"{count} clip files, none usable ({skipped[0]})" if count else "no clip files"
        more = "".join(f" Besides, {remark}." for remark in listing.remarks)
        raise ArzooError(
            f"{folder} has {content}. Put clips ({', '.join(sorted(SUFFIXES))}, or folders of numbered pictures) of at "
            f"least {frames} frames there, one sub-folder per class.{more}"
        )
    paths = [folder / name for name in facts["files"]]
    captions, of_captions = captions_of(folder, paths, "clip")
    names = listing.classes(paths)
    classes = tuple(sorted(set(names)))
    for remark in (remarks := [*remarks, *of_captions]):
        warnings.warn(remark, stacklevel=3)
    return ImageSet(
        name=listing.name,
        images=clips[:, 0] if frames == 1 else clips,
        labels=torch.tensor([classes.index(name) for name in names]),
        classes=classes,
        held_out=torch.tensor(facts["held_out"]),
        captions=captions,
        report=(*remarks, *facts["skipped"][1:]),
        files=tuple(facts["files"]),
        fps=fps or facts["fps"],
    )


def list_clips(folder: Path) -> Listing:
    """List the clip files of a folder and its sub-folders, among them folders of numbered pictures.

    Raises:
        ArzooError: The folder cannot be read.
    """
    content = tree(folder)
    refuse_unreadable(folder, content)
    files = [
        path
        for path in content.files
        if FOREIGN not in path.relative_to(folder).parts and not shows_steps(path)
    ]
    pictures = [path for path in files if path.suffix.lower() in PICTURES]
    parents = {path.parent for path in pictures} - {folder}
    sequences = {parent for parent in parents if len(numbered(parent)) > 1}
    loose = [path for path in pictures if path.parent not in sequences and path.name != GRID]
    clips = sorted([*(path for path in files if path.suffix.lower() in SUFFIXES), *sequences])
    remarks = unread(folder, files, SUFFIXES | STILLS)
    if loose:
        remarks.append(
            f"{len(loose)} pictures in {folder} are left out, as they are no folder of numbered pictures, the first: "
            f"{loose[0].relative_to(folder)}"
        )
    remarks += [*of_links(folder, content, SUFFIXES, "clip"), *of_classes(folder, content, clips, "clip")]
    return Listing(folder, tuple(clips), tuple(remarks))


def _decoded(
    listing: Listing, size: int, frames: int, fps: float | None, stride: int, facts: dict[str, Any]
) -> Iterator[np.ndarray]:
    """Yield the clips (1, T, H, W, 3), those of the validation split first, and fill in the facts about them.

    The files of the validation split are those with the lowest hashes of their names that can be read.
    """
    names = {path: path.relative_to(listing.folder).as_posix() for path in listing.files}
    held_out = max(len(names) // HELD_OUT, 1) if len(names) > 1 else 0
    usable, counts, skipped, durations = list[Path](), Counter[str](), list[str](), list[float]()
    with progress(f"reading {listing.name}", "files") as tell:
        for done, path in enumerate(_order(names, lambda: len(usable) < held_out), 1):
            gaps: list[Fraction] = []
            watched = _watched(frames_of(path, fps), gaps, [] if path.is_dir() else durations)
            clips = clips_of(resampled(watched, fps), frames, size, stride)
            count, error = 0, ""
            try:
                for clip in clips:
                    count += 1
                    facts["files"].append(names[path])
                    facts["held_out"].append(len(usable) < held_out)
                    yield clip[None]
            except ArzooError:  # not the file's fault
                raise
            except (OSError, ValueError) as damage:
                error = str(damage)
            if count:
                usable.append(path)
                counts[_DAMAGED] += bool(error)
                counts[_VARIABLE] += _varies(gaps)
            else:
                short = f"it has {counted(len(gaps))}, too few for a clip of {frames}"
                skipped.append(f"{names[path]}: {error or short}")
            tell(done, len(names))
    if len(usable) == 1:
        facts["held_out"] = [False] * len(facts["held_out"])
    remarks = [
        f"{number} of {len(usable)} clip files in {listing.folder} {what}"
        for what, number in (+counts).items()
    ]
    if skipped:
        remarks.append(
            f"{listing.folder}: skipped {len(skipped)} of {len(names)} clip files, the first: {skipped[0]}"
        )
    facts |= {"skipped": skipped, "remarks": remarks, "fps": 1 / median(durations) if durations else None}


def _order(names: dict[Path, str], held_out: Callable[[], bool]) -> Iterator[Path]:
    """Yield files in the order of the hashes of their names while they are held out, then in that of their paths."""
    rest = sorted(names, key=lambda path: hashlib.sha256(names[path].encode()).hexdigest())
    while rest and held_out():
        yield rest.pop(0)
    yield from sorted(rest)


def _watched(frames: Iterable[Frame], gaps: list[Fraction], durations: list[float]) -> Iterator[Frame]:
    """Yield frames and note how long each is seen, in ticks of the file and in seconds."""
    for frame in frames:
        gaps.append(frame.duration / frame.tick)
        durations.append(float(frame.duration))
        yield frame


def _varies(gaps: list[Fraction]) -> bool:
    """Return whether frames are seen for different times; the last one may, and rounding makes two ticks."""
    return len(gaps) > 2 and max(gaps[:-1]) - min(gaps[:-1]) > 2


def _identity(folder: Path, path: Path) -> list[Any]:
    """Name, size and time of change of a file, or of the pictures of a folder."""
    files = numbered(path) if path.is_dir() else [path]
    facts = [(file.relative_to(folder).as_posix(), file.stat()) for file in files]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in facts]


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
