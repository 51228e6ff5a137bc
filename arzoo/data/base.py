"""ImageSet: pictures or clips in memory with classes, captions and splits."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from arzoo.base.config import whole_number
from arzoo.base.errors import ArzooError, UnknownName, some


@dataclass(frozen=True)
class ImageSet:
    """A data set of pictures of one size, or of clips of one size and number of frames.

    `arzoo.data.any_size` has sets of pictures of unlike sizes.

    Attributes:
        name: Name of the data set.
        images: (n, H, W, 3) or (n, H, W, 4) uint8; with four channels the last one is opacity. Clips are
            (n, T, H, W, 3).
        labels: (n,) int64 class of each picture.
        classes: Class names; a label is an index into them.
        held_out: (n,) bool, True for pictures of the validation split.
        captions: One caption per picture, or None.
        coarse: (n,) int64 broader label, or None.
        coarse_classes: Names of the broader labels.
        mirrorable: (n,) bool, True for pictures that may be mirrored.
        report: Remarks on the files: those that were left out, and changes to the others.
        sides: Shortest and longest side in pixels of the original files, where pictures were resized.
        cropping: What was cut off the original pictures, in words; empty if nothing was.
        files: Path of each picture's file relative to the folder; empty for pictures that are not from a folder.
        fps: Frames per second of clips, where it is known.
    """

    name: str
    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    held_out: Tensor
    captions: tuple[str, ...] | None = None
    coarse: Tensor | None = None
    coarse_classes: tuple[str, ...] = ()
    mirrorable: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))
    report: tuple[str, ...] = ()
    sides: tuple[int, int] | None = None
    cropping: str = ""
    files: tuple[str, ...] = ()
    fps: float | None = None

    def __post_init__(self) -> None:
        if len(self.mirrorable) != len(self):
            object.__setattr__(self, "mirrorable", torch.ones(len(self), dtype=torch.bool))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.images.shape[-3], self.images.shape[-2]

    @property
    def least_size(self) -> tuple[int, int]:
        """Smallest H and smallest W of all pictures."""
        return self.size

    @property
    def resolution(self) -> str:
        """The size of the pictures in words, width first."""
        return f"{self.size[1]} x {self.size[0]}"

    @property
    def frames(self) -> int:
        """Frames T of a clip, 1 for pictures."""
        return self.images.shape[1] if self.images.dim() == 5 else 1

    @cached_property
    def sha256(self) -> str:
        """Hash of pixels, labels and `mirrorable`; computed once, since a data set does not change.

        It does not cover class names and captions, as neither tokenizers nor codes depend on them: see
        `annotations_sha256`.
        """
        digest = hashlib.sha256()
        for part in self.images.split(256):  # a set in a file may be larger than the memory
            digest.update(part.contiguous().numpy().data)
        digest.update(self.labels.numpy().tobytes())
        digest.update(self.mirrorable.numpy().tobytes())
        return digest.hexdigest()

    def pixels(self, rows: slice | Tensor) -> Tensor:
        """Return some pictures as (B, H, W, 3 or 4) uint8, or clips as (B, T, H, W, 3)."""
        return self.images[rows]

    def by_size(self, rows: Tensor) -> list[Tensor]:
        """Divide rows (B,) into those of each size, and return their places in `rows`, which ascend."""
        return [torch.arange(len(rows))]

    def select(self, rows: Tensor) -> ImageSet:
        """Return a data set of some pictures, in the order of `rows`; consecutive ones are not copied."""
        captions = None if self.captions is None else tuple(self.captions[i] for i in rows.tolist())
        return replace(
            self,
            **self._images_of(rows),
            labels=self.labels[rows],
            held_out=self.held_out[rows],
            captions=captions,
            coarse=None if self.coarse is None else self.coarse[rows],
            mirrorable=self.mirrorable[rows],
            files=tuple(self.files[i] for i in rows.tolist()) if self.files else (),
        )

    def _images_of(self, rows: Tensor) -> dict[str, Any]:
        """The fields of some pictures that hold pixels."""
        consecutive = len(rows) > 0 and bool((rows.diff() == 1).all())
        part: slice | Tensor = slice(int(rows[0]), int(rows[-1]) + 1) if consecutive else rows
        return {"images": self.images[part]}

    def split(self, name: str) -> ImageSet:
        """Return the pictures of the split "train" or "validation".

        Raises:
            UnknownName: There is no such split.
        """
        if name not in ("train", "validation"):
            raise UnknownName("split", name, ["train", "validation"])
        rows = torch.nonzero(self.held_out == (name == "validation"))[:, 0]
        return self.select(rows)

    def labels_of_captions(self) -> dict[str, set[int]]:
        """Return the labels of all pictures of each caption, in lower case; none without captions."""
        labels = defaultdict[str, set[int]](set)
        for caption, label in zip(self.captions or (), self.labels.tolist(), strict=False):
            labels[caption.casefold()].add(label)
        return dict(labels)

    def label_of(self, name: str | int) -> int:
        """Return the label of a class, see the function `label_of`."""
        return label_of(name, self.classes)


def annotations_sha256(classes: Sequence[str], captions: Sequence[str] | None = None) -> str:
    """Compute the hash of class names and captions.

    Args:
        classes: Names of the classes.
        captions: Captions of all pictures, where they are the condition.
    """
    annotations = [list(classes), None if captions is None else list(captions)]
    return hashlib.sha256(json.dumps(annotations).encode()).hexdigest()


def spread(count: int, num: int) -> list[int]:
    """Return `num` indices that are evenly spread over `count` ones, each several times if there are fewer of them."""
    return [i * count // num for i in range(num)]


def label_of(name: str | int, classes: Sequence[str]) -> int:
    """Return the label of a class; the same rule holds for `--class` on the command line and `classes=` in Python.

    A number is the index of a class, from 0, unless some class is named by a number: then numbers are names. A part of
    a name is refused. `Generator.generate("cat-face")` in Python goes beyond the rule: CLASS alone means all classes
    CLASS/STYLE in turn.

    Args:
        name: A name, or a number, also as text.
        classes: Names of all classes; if empty, classes have no names and any index is valid.

    Raises:
        UnknownName: There is no such class; the message lists the names that the text is a part of, and near ones.
        ArzooError: The name is neither a text nor an integer, or the index is out of range.
    """
    text = name if isinstance(name, str) else str(whole_number(name, "a class that is no name"))
    if text in classes:
        return list(classes).index(text)
    if not _NUMBER.fullmatch(text):
        raise UnknownName("class", text, *_like(text, classes))
    if any(map(_NUMBER.fullmatch, classes)):
        raise UnknownName(
            "class",
            text,
            classes,
            "Classes are named by numbers here, so a number is a name and not an index.",
        )
    index = int(text)
    if classes and not 0 <= index < len(classes):
        raise ArzooError(
            f"class {index} is out of range: there are {len(classes)} classes, 0 to {len(classes) - 1}"
        )
    return index


def _like(text: str, classes: Sequence[str]) -> tuple[Sequence[str], str]:
    """Return the names to suggest for a text that names no class, and a sentence about those that it is a part of."""
    part_of = [name for name in classes if text and text.casefold() in name.casefold()]
    if not part_of:
        words = {word for name in classes for word in _WORD.findall(name.casefold())}
        close = set(difflib.get_close_matches(text.casefold(), words, n=3, cutoff=0.7))
        near = [name for name in classes if close & {*_WORD.findall(name.casefold())}]
        return classes, f"Names with a like word: {some(near)}." if near else ""
    if len(part_of) == 1:
        return part_of, ""
    return (), f"It fits {len(part_of)} names: {some(part_of, _LISTED)}. Give a whole name."


_WORD = re.compile(r"[^\W_]+")
_LISTED = 20
"""Most names that a message lists."""
_NUMBER = re.compile(r"-?[0-9]+")
