"""Code cache: a data set's tokens, encoded once by a tokenizer and read by generator training.

    index.json              format, key, data set, and the finished files with their sizes and hashes
    labels.safetensors      class of each picture, and its grid of tokens if they differ
    shard_00000.safetensors tokens of some pictures in one view (see `views`), and which of them exist if some do not;
                            of unlike grids one picture after another

The key of a cache is made of the tokenizer's weights, the data, the transform and, where the number of tokens follows
the picture, the quality that it was encoded to; a generator refuses codes of another tokenizer. Class names are not
part of the key: encoding again updates them. Shards are mapped into memory, so a cache may be larger than the memory.
`arzoo.data.encoding` writes caches.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from arzoo.base.errors import ArzooError
from arzoo.base.files import SEAL, file_sha256, seal
from arzoo.core.draws import Draws
from arzoo.core.ends import to_canvas, with_ends
from arzoo.core.layout import Grid, Layout
from arzoo.core.tokens import Tokens, TokenSpec
from arzoo.data.any_size import same_rows
from arzoo.data.views import BLOCK

FORMAT = 3
VARIABLE = 4
"""Format of caches in which pictures have different numbers of tokens; their key has a quality."""
GRIDS = 5
"""Format of caches in which every picture has a grid of its own."""
INDEX, LABELS = "index.json", "labels.safetensors"
SAMPLED = 64 << 20
"""Bytes of shards whose hashes are checked when a cache is opened."""


@dataclass(frozen=True)
class Codes:
    """Tokens of one split, in one or several views of every picture.

    A shard holds `values` and, where tokens are distributions, their standard deviation `spread`: training draws a new
    sample around the values each time, as MAR does with its cached moments. Where tokens are missing, `kept` says which
    are not.

    Attributes:
        folder: Folder of the cache.
        labels: (n,) class of each picture.
        classes: Names of the classes.
        spec: Kind and layout of the tokens.
        key: Hashes of tokenizer, data and transform, and the quality.
        shards: File names in the order of views and pictures.
        starts: (S,) running number of each shard's first row; view v of picture i has number v * n + i.
        source: Name of the data set or path of the folder that was encoded; empty if unknown.
        grids: (n, 2) int64, rows and columns of the tokens of each picture; None if all have the layout of `spec`.
    """

    folder: Path
    labels: Tensor
    classes: tuple[str, ...]
    spec: TokenSpec
    key: dict[str, Any]
    shards: tuple[str, ...]
    starts: Tensor
    source: str = ""
    grids: Tensor | None = None

    @property
    def variants(self) -> int:
        """Number of views of every picture; view 0 is the picture itself."""
        return int(self.key["views"])

    @property
    def variable(self) -> bool:
        """Whether pictures may have different numbers of tokens."""
        return "quality" in self.key

    @cached_property
    def canvas(self) -> TokenSpec:
        """Kind and layout of `rows`: that of the tokens, with the symbols of `arzoo.core.ends` if they are variable.

        Raises:
            ArzooError: The tokens are variable and not one code a position.
        """
        return with_ends(self.spec) if self.variable else self.spec

    @cached_property
    def _tensors(self) -> list[dict[str, Tensor]]:
        """Content of every shard, mapped into memory."""
        out = []
        for name in self.shards:
            with safe_open(self.folder / name, "pt") as file:
                out.append({key: file.get_tensor(key) for key in file.keys()})
        return out

    def layout_of(self, index: Tensor) -> Layout:
        """Return the layout of the tokens of pictures `index` (B,).

        Raises:
            ArzooError: They have unlike grids, see `by_grid`.
        """
        if self.grids is None:
            return self.spec.layout
        grids = self.grids[index].unique(dim=0)
        if len(grids) != 1:
            raise ArzooError(
                f"tokens of {len(grids)} grids cannot be one tensor: ask for those of a grid (Codes.by_grid)"
            )
        return Grid(1, *grids[0].tolist())

    def by_grid(self, index: Tensor) -> list[Tensor]:
        """Divide pictures `index` (B,) into those of each grid, and return their places in `index`, which ascend."""
        return [torch.arange(len(index))] if self.grids is None else same_rows(self.grids[index])

    def rows(self, variants: Tensor, index: Tensor) -> Tensor:
        """Return the canvas (B, N, ...) of pictures `index` (B,) in views `variants` (B,): int64 codes or float32.

        Raises:
            ArzooError: The pictures have unlike grids.
        """
        if self.variable:
            return to_canvas(self.tokens(variants, index), self.canvas).values
        return self._rows("values", variants, index)

    def tokens(self, variants: Tensor, index: Tensor) -> Tokens:
        """Return the tokens of pictures `index` (B,) in views `variants` (B,), as the tokenizer decodes them."""
        kept = self._rows("kept", variants, index) if self.variable else None
        tokens = Tokens.of(self._rows("values", variants, index), kept, self.layout_of(index))
        tokens.length = (torch.arange(1, tokens.known.shape[1] + 1) * tokens.known).amax(1)
        return tokens

    def token_counts(self) -> Tensor:
        """Return the number of tokens (n,) of every clean picture."""
        index = torch.arange(len(self.labels))
        if self.grids is not None:
            return self.grids.prod(1)
        if not self.variable:
            return torch.full_like(index, self.spec.layout.size)
        return torch.cat([self._rows("kept", torch.zeros_like(i), i).sum(1) for i in index.split(4096)])

    def draw(self, variants: Tensor, index: Tensor, draws: Draws, noise: float = 1.0) -> Tensor:
        """Return tokens to train on: those of `rows`, or samples around them with `noise` times their deviation."""
        values = self.rows(variants, index)
        if "spread" not in self._tensors[0] or not noise:
            return values
        spread = self._rows("spread", variants, index)
        return values + noise * spread * draws.normal(values.shape)

    def _rows(self, key: str, variants: Tensor, index: Tensor) -> Tensor:
        number = variants * len(self.labels) + index
        shard = torch.searchsorted(self.starts, number, right=True) - 1
        shape, dtype = self.spec.token_shape, self.spec.dtype
        if key == "kept":
            shape, dtype = (), torch.bool
        size = self.layout_of(index).size
        out = torch.ones(
            len(number), size, *shape, dtype=dtype
        )  # `kept` is stored only where tokens are missing
        for which in shard.unique().tolist():
            inside, tensors = shard == which, self._tensors[which]
            if key not in tensors:
                continue
            if self.grids is None:
                out[inside] = tensors[key][number[inside] - self.starts[which]].to(dtype)
            else:
                first = self._before(number[inside]) - self._before(self.starts[which])
                out[inside] = tensors[key][first[:, None] + torch.arange(size)].to(dtype)
        return out

    @cached_property
    def _ends(self) -> Tensor:
        """(n + 1,) number of tokens of one view before each picture, and of all pictures."""
        counts = self.token_counts()
        return torch.cat([counts.new_zeros(1), counts.cumsum(0)])

    def _before(self, number: Tensor) -> Tensor:
        """Number of tokens before rows of the cache, by their running numbers."""
        count = len(self.labels)
        return number // count * self._ends[-1] + self._ends[number % count]

    @staticmethod
    def load(folder: Path, thorough: bool = False) -> Codes:
        """Open a cache.

        Args:
            folder: Folder of the cache.
            thorough: Check the hash of every file; otherwise check the hashes of up to 64 MiB of shards, spread over
                the cache, and the sizes of the others, since every process of a training does this.

        Raises:
            ArzooError: The folder is not a cache, or the cache is unfinished or damaged.
        """
        index = read_index(folder)
        if index is None:
            raise ArzooError(
                f"{folder} is not a code cache. Make one with: arzoo tokenize DATA --tokenizer NAME"
            )
        try:
            return _load(folder, index, thorough)
        except ArzooError:
            raise
        except Exception as error:
            raise _damaged(folder, f"{type(error).__name__}: {error}") from error


def _load(folder: Path, index: dict[str, Any], thorough: bool) -> Codes:
    """Open the cache of an index after checking its files against the index."""
    blocks = -(-index["pictures"] // BLOCK) * index["key"]["views"]
    if sum(facts["blocks"] for facts in index["shards"].values()) != blocks:
        raise ArzooError(f"{folder} is unfinished. The command that began it continues: arzoo tokenize")
    hashed = index["shards"] if thorough else _sample(index["shards"])
    for name, facts in {LABELS: index["labels"], **index["shards"]}.items():
        check = is_intact if name == LABELS or name in hashed else has_size
        if not check(folder / name, facts):
            raise _damaged(folder, f"{name} is missing or not what was written")
    with safe_open(folder / LABELS, "pt") as file:
        labels = file.get_tensor("labels")
        grids = file.get_tensor("grids") if index["format"] == GRIDS else None
    classes = tuple(index["classes"])
    if tuple(labels.shape) != (index["pictures"],):
        raise _damaged(folder, f"labels of {tuple(labels.shape)} for {index['pictures']} pictures")
    if grids is not None and (tuple(grids.shape) != (len(labels), 2) or bool((grids < 1).any())):
        raise _damaged(folder, f"grids of {tuple(grids.shape)} for {index['pictures']} pictures")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(classes):
        raise _damaged(
            folder,
            f"labels from {int(labels.min())} to {int(labels.max())}, there are {len(classes)} classes",
        )
    rows = [0, *(facts["rows"] for facts in index["shards"].values())]
    spec, starts = TokenSpec.from_dict(index["spec"]), torch.tensor(rows).cumsum(0)[:-1]
    shards = tuple(index["shards"])
    return Codes(folder, labels, classes, spec, index["key"], shards, starts, index["source"], grids)


def read_index(folder: Path) -> dict[str, Any] | None:
    """Read the index of a finished or unfinished cache; None if there is none.

    Raises:
        ArzooError: The index cannot be read, was changed after it was written, or has another format.
    """
    path = folder / INDEX
    if not path.exists():
        return None
    why = ""
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        if index["format"] not in (FORMAT, VARIABLE, GRIDS):
            why = f"it has format {index['format']}, this version reads {FORMAT} to {GRIDS}"
        elif index.get(SEAL) != seal(index):  # as it was written, so every entry is there and of its type
            why = f"{INDEX} was changed after it was written"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = f"{type(error).__name__}: {error}"
    if why:
        raise ArzooError(
            f"{folder} is not a whole code cache ({why}). Remove it, or make it again with: arzoo tokenize DATA "
            "--tokenizer NAME --out FOLDER --overwrite"
        )
    return dict(index)


def refuse_other_codes(codes: Sequence[Codes], tokenizer_hash: str, settings: str) -> None:
    """Refuse codes of another tokenizer than the generator's.

    Args:
        codes: Codes of all splits.
        tokenizer_hash: sha256 of the weights of the generator's tokenizer.
        settings: Hash of its settings, which include the scale of vectors.

    Raises:
        ArzooError: Weights or settings differ.
    """
    for split in codes:
        if split.key["tokenizer"] != tokenizer_hash:
            raise ArzooError(
                f"the codes in {split.folder} were made by tokenizer {str(split.key['tokenizer'])[:12]}, the generator "
                f"uses {tokenizer_hash[:12]}. Encode the data again with: arzoo tokenize DATA --tokenizer NAME"
            )
        if split.key["settings"] != settings:
            raise ArzooError(
                f"the codes in {split.folder} were made by these weights with settings {split.key['settings']}, the "
                f"tokenizer has {settings}, such as another scale. Encode the data again with: arzoo tokenize DATA "
                "--tokenizer NAME"
            )


def refuse_other_lengths(codes: Sequence[Codes], canvas: TokenSpec) -> None:
    """Refuse variable codes for a generator that draws all tokens of every picture, and the other way round.

    Args:
        codes: Codes of all splits.
        canvas: Contract of the generator's canvas.

    Raises:
        ArzooError: Only one of both knows where a picture ends, or the splits differ in quality.
    """
    for split in codes:
        if split.variable and not canvas.ends:
            raise ArzooError(
                f"the codes in {split.folder} have as many tokens as each picture needs{_to_quality(split)}, and the "
                "generator draws all tokens of every picture. Train one that draws its own end (in Python "
                "Generator.create(..., ends=True), in a recipe quality), or encode the data without --quality."
            )
        if canvas.ends and not split.variable:
            raise ArzooError(
                f"the codes in {split.folder} have all {split.spec.layout.size} tokens of every picture, and the "
                "generator learns where a picture ends. Encode the data with: arzoo tokenize DATA --tokenizer NAME "
                "--quality Q"
            )
    if len({split.key.get("quality") for split in codes}) > 1:
        each = ", ".join(f"{split.folder}{_to_quality(split)}" for split in codes)
        raise ArzooError(f"the splits were encoded to different qualities: {each}. Encode them with one.")


def _to_quality(codes: Codes) -> str:
    quality = codes.key.get("quality")
    return "" if quality is None else f" for quality {quality:g}"


def is_intact(path: Path, facts: dict[str, Any]) -> bool:
    """Return whether a file has the size and the hash of the index."""
    return has_size(path, facts) and file_sha256(path) == facts["sha256"]


def has_size(path: Path, facts: dict[str, Any]) -> bool:
    """Return whether a file exists and has the size of the index."""
    return path.is_file() and path.stat().st_size == facts["bytes"]


def _sample(shards: dict[str, Any]) -> list[str]:
    """Choose evenly spread shards of about `SAMPLED` bytes in total, at least one."""
    total = sum(facts["bytes"] for facts in shards.values())
    step = max(1, -(-total // SAMPLED))
    return list(shards)[::step]


def _damaged(folder: Path, why: str) -> ArzooError:
    return ArzooError(
        f"{folder} is not a whole code cache ({why}). "
        "The command that made it repairs it (arzoo tokenize), or remove it."
    )
