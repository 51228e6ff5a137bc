"""Code cache: a data set's tokens, encoded once by a tokenizer and read by generator training.

    index.json              format, key, data set, and the finished files with their sizes and hashes
    labels.safetensors      class of each picture
    shard_00000.safetensors tokens of some pictures in one view (see `views`), and which of them exist if some do not

The key of a cache is made of the tokenizer's weights, the data, the transform and, where the number of tokens follows
the picture, the quality that it was encoded to; a generator refuses codes of another
tokenizer. Class names are not part of the key: encoding again updates them. A shard appears completely or not at all,
so encoding that was killed continues with the next shard. One process encodes, others wait. Shards are mapped into
memory, so a cache may be larger than the memory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from arzoo.base import files
from arzoo.base.errors import ArzooError
from arzoo.base.files import SEAL, file_sha256, seal
from arzoo.base.finite import refuse_not_finite
from arzoo.base.lock import alone
from arzoo.core.clips import as_clips
from arzoo.core.contracts import Tokenizer
from arzoo.core.draws import Draws
from arzoo.core.ends import to_canvas, with_ends
from arzoo.core.tokens import Tokens, TokenSpec
from arzoo.data.base import ImageSet
from arzoo.data.views import BLOCK, Views
from arzoo.tokenizers.common.lengths import encoded

FORMAT = 3
VARIABLE = 4
"""Format of caches in which pictures have different numbers of tokens; their key has a quality."""
INDEX, LABELS, SHARD_NAME = "index.json", "labels.safetensors", "shard_{:05d}.safetensors"
SHARD = 64
"""Blocks of pictures per shard."""
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
    """

    folder: Path
    labels: Tensor
    classes: tuple[str, ...]
    spec: TokenSpec
    key: dict[str, Any]
    shards: tuple[str, ...]
    starts: Tensor
    source: str = ""

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

    def rows(self, variants: Tensor, index: Tensor) -> Tensor:
        """Return the canvas (B, N, ...) of pictures `index` (B,) in views `variants` (B,): int64 codes or float32."""
        if self.variable:
            return to_canvas(self.tokens(variants, index), self.canvas).values
        return self._rows("values", variants, index)

    def tokens(self, variants: Tensor, index: Tensor) -> Tokens:
        """Return the tokens of pictures `index` (B,) in views `variants` (B,), as the tokenizer decodes them."""
        kept = self._rows("kept", variants, index) if self.variable else None
        tokens = Tokens.of(self._rows("values", variants, index), kept, self.spec.layout)
        tokens.length = (torch.arange(1, tokens.known.shape[1] + 1) * tokens.known).amax(1)
        return tokens

    def token_counts(self) -> Tensor:
        """Return the number of tokens (n,) of every clean picture."""
        index = torch.arange(len(self.labels))
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
        out = torch.ones(
            len(number), self.spec.layout.size, *shape, dtype=dtype
        )  # `kept` is stored only where tokens are missing
        for which in shard.unique().tolist():
            inside, tensors = shard == which, self._tensors[which]
            if key in tensors:
                out[inside] = tensors[key][number[inside] - self.starts[which]].to(dtype)
        return out

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
        check = _is_intact if name == LABELS or name in hashed else _has_size
        if not check(folder / name, facts):
            raise _damaged(folder, f"{name} is missing or not what was written")
    with safe_open(folder / LABELS, "pt") as file:
        labels = file.get_tensor("labels")
    classes = tuple(index["classes"])
    if tuple(labels.shape) != (index["pictures"],):
        raise _damaged(folder, f"labels of {tuple(labels.shape)} for {index['pictures']} pictures")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(classes):
        raise _damaged(
            folder,
            f"labels from {int(labels.min())} to {int(labels.max())}, there are {len(classes)} classes",
        )
    rows = [0, *(facts["rows"] for facts in index["shards"].values())]
    spec, starts = TokenSpec.from_dict(index["spec"]), torch.tensor(rows).cumsum(0)[:-1]
    return Codes(folder, labels, classes, spec, index["key"], tuple(index["shards"]), starts, index["source"])


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
        if index["format"] not in (FORMAT, VARIABLE):
            why = f"it has format {index['format']}, this version reads {FORMAT} and {VARIABLE}"
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


def code_key(
    tokenizer: Tokenizer, tokenizer_hash: str, data: ImageSet, views: Views, quality: float | None = None
) -> dict[str, Any]:
    """Return the key of the codes of a split; it has a quality if the number of tokens follows the picture."""
    variable = quality is not None or tokenizer.spec.subset_ok
    return {
        "tokenizer": tokenizer_hash,
        "settings": tokenizer.config.hash(),  # the scale of latents is not one of the weights
        "data": data.sha256,
        "transform": views.key,
        "views": views.count,
    } | ({"quality": quality} if variable else {})


def cache_files(pictures: int, views: Views) -> list[str]:
    """Return the names of the files of a finished cache."""
    shards = -(-(-(-pictures // BLOCK) * views.count) // SHARD)
    return [INDEX, LABELS, *(SHARD_NAME.format(number) for number in range(shards))]


@torch.inference_mode()
def encode_split(
    folder: Path,
    tokenizer: Tokenizer,
    tokenizer_hash: str,
    data: ImageSet,
    views: Views,
    batch: int = BLOCK,
    progress: Callable[[int, int], None] | None = None,
    source: str = "",
    thorough: bool = True,
    quality: float | None = None,
) -> Codes:
    """Encode a split, or the rest of it after an interrupted call; waits for another process that encodes it.

    Args:
        folder: Folder of the cache.
        tokenizer: Tokenizer in evaluation mode.
        tokenizer_hash: sha256 of the tokenizer's weights.
        data: The split.
        views: Views of every picture.
        batch: Pictures per forward pass, at most 64.
        progress: Called with (views encoded, views to encode).
        source: Name of the data, see `arzoo.data.source`.
        thorough: Check every byte of existing codes, see `Codes.load`.
        quality: Acceptable mean absolute error of pixels in [0, 1], which the number of tokens of a picture follows;
            by default the tokenizer's own, or all tokens.

    Raises:
        ArzooError: The folder holds other codes, the disk is full, or the tokenizer does not take the quality.
    """
    key = code_key(tokenizer, tokenizer_hash, data, views, quality)
    existing = _finished(folder, key, data.classes, thorough)
    if existing is not None:
        return existing
    device = next(tokenizer.parameters()).device
    blocks = [(view, first) for view in range(views.count) for first in range(0, len(data), BLOCK)]
    done = 0
    with alone(folder, "encodes into", wait=True):
        index = _begin(folder, tokenizer.spec, key, data, source)
        for number, start in enumerate(range(0, len(blocks), SHARD)):
            shard = blocks[start : start + SHARD]
            name = SHARD_NAME.format(number)
            if name not in index["shards"] or not _is_intact(folder / name, index["shards"][name]):
                rows: dict[str, list[Tensor]] = {"values": [], "spread": [], "kept": []}
                for view, first in shard:
                    for part in views.block(data, view, first).to(device).split(batch):
                        for name_of_tensor, tensor in tokens_of(tokenizer, part, quality).items():
                            rows[name_of_tensor].append(tensor)
                    if progress:
                        progress(done + sum(map(len, rows["values"])), views.count * len(data))
                _add(folder, index, name, {key: torch.cat(x) for key, x in rows.items() if x}, len(shard))
            done += index["shards"][name]["rows"]
    return Codes.load(folder)


def tokens_of(tokenizer: Tokenizer, pictures: Tensor, quality: float | None = None) -> dict[str, Tensor]:
    """Encode pictures (B, 3, H, W) in [-1, 1] as the tensors of a shard, with `kept` if their number may differ.

    Raises:
        ArzooError: The tokenizer does not take the quality, or leaves tokens out although its contract says otherwise.
    """
    clips = as_clips(pictures)
    if quality is None:
        tokens, spread = tokenizer.distribution(clips)
    else:
        tokens, spread = encoded(tokenizer, clips, quality), None
    tensors = {"values": tokens.values.cpu()} | ({} if spread is None else {"spread": spread.cpu()})
    if quality is not None or tokenizer.spec.subset_ok:
        return tensors | {"kept": tokens.present.cpu()}
    if not bool(tokens.present.all()):
        raise ArzooError(
            f"{type(tokenizer).__name__} gives pictures different numbers of tokens without a quality, and its "
            "contract does not say so (TokenSpec.subset_ok): padding would be stored as tokens"
        )
    return tensors


def _finished(folder: Path, key: dict[str, Any], classes: Sequence[str], thorough: bool) -> Codes | None:
    """Open a finished cache, without a lock so that many processes may read it at once; None if it is not finished."""
    try:
        codes = Codes.load(folder, thorough)
    except ArzooError:
        return None
    return codes if codes.key == key and codes.classes == tuple(classes) else None


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


def _begin(folder: Path, spec: TokenSpec, key: dict[str, Any], data: ImageSet, source: str) -> dict[str, Any]:
    """Return the index of a new cache, or of an existing one to be continued."""
    index = read_index(folder)
    if index is not None:
        if index["key"] != key:
            other = ", ".join(name for name in key if key[name] != index["key"].get(name))
            raise ArzooError(
                f"{folder} holds other codes (other {other}). Give another folder, or remove it."
            )
        renamed, index["classes"] = index["classes"] != list(data.classes), list(data.classes)
        if _is_intact(folder / LABELS, index["labels"]) and not renamed:
            return index
    else:
        version = VARIABLE if "quality" in key else FORMAT
        index = {"format": version, "spec": spec.to_dict(), "key": key, "pictures": len(data)}
        index |= {"source": source, "classes": list(data.classes), "shards": {}}
    folder.mkdir(parents=True, exist_ok=True)
    with _room(folder):
        files.save_tensors({"labels": data.labels.clone()}, folder / LABELS)
        index["labels"] = _facts(folder / LABELS)
        _write_index(folder, index)
    return index


def _facts(path: Path) -> dict[str, Any]:
    """Size and hash of a file, for `_is_intact`."""
    return {"bytes": os.path.getsize(path), "sha256": file_sha256(path)}


def _write_index(folder: Path, index: dict[str, Any]) -> None:
    index[SEAL] = seal(index)
    files.write_text(folder / INDEX, json.dumps(index, indent=2))


def _is_intact(path: Path, facts: dict[str, Any]) -> bool:
    """Return whether a file has the size and the hash of the index."""
    return _has_size(path, facts) and file_sha256(path) == facts["sha256"]


def _has_size(path: Path, facts: dict[str, Any]) -> bool:
    """Return whether a file exists and has the size of the index."""
    return path.is_file() and path.stat().st_size == facts["bytes"]


def _sample(shards: dict[str, Any]) -> list[str]:
    """Choose evenly spread shards of about `SAMPLED` bytes in total, at least one."""
    total = sum(facts["bytes"] for facts in shards.values())
    step = max(1, -(-total // SAMPLED))
    return list(shards)[::step]


def _add(folder: Path, index: dict[str, Any], name: str, tensors: dict[str, Tensor], blocks: int) -> None:
    """Write a shard, then the index with its name."""
    path, spec = folder / name, TokenSpec.from_dict(index["spec"])
    with _room(folder):
        files.save_tensors(
            {key: _compact(x, spec) for key, x in tensors.items() if key != "kept" or not bool(x.all())}, path
        )
        index["shards"][name] = {"rows": len(tensors["values"]), "blocks": blocks, **_facts(path)}
        index["shards"] = dict(sorted(index["shards"].items()))
        _write_index(folder, index)


def _room(folder: Path) -> Any:
    return files.explain_full_disk(
        "codes", folder, "Finished shards are kept: make room, and the same command continues."
    )


def _compact(values: Tensor, spec: TokenSpec) -> Tensor:
    """Convert codes to the smallest integer type that holds them."""
    if values.dtype == torch.bool:
        return values
    if not spec.discrete:
        refuse_not_finite(
            {"values": values}, "the tokens of these pictures", "The tokenizer has diverged: take another."
        )
        return values.float()
    return values.to(torch.int16 if spec.vocab <= 1 << 15 else torch.int32)


def _damaged(folder: Path, why: str) -> ArzooError:
    return ArzooError(
        f"{folder} is not a whole code cache ({why}). "
        "The command that made it repairs it (arzoo tokenize), or remove it."
    )
