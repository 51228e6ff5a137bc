"""Code cache: a data set's tokens, encoded once by a tokenizer and read by generator training.

    index.json              format, key, data set, and the finished files with their sizes and hashes
    labels.safetensors      class of each picture
    shard_00000.safetensors tokens of some pictures in one view (see `views`)

The key of a cache is made of the tokenizer's weights, the data and the transform; a generator refuses codes of another
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
from arzoo.core.tokens import TokenSpec
from arzoo.data.base import ImageSet
from arzoo.data.views import BLOCK, Views

FORMAT = 3
INDEX, LABELS, SHARD_NAME = "index.json", "labels.safetensors", "shard_{:05d}.safetensors"
SHARD = 64
"""Blocks of pictures per shard."""
SAMPLED = 64 << 20
"""Bytes of shards whose hashes are checked when a cache is opened."""


@dataclass(frozen=True)
class Codes:
    """Tokens of one split, in one or several views of every picture.

    A shard holds `values` and, where tokens are distributions, their standard deviation `spread`: training draws a new
    sample around the values each time, as MAR does with its cached moments.

    Attributes:
        folder: Folder of the cache.
        labels: (n,) class of each picture.
        classes: Names of the classes.
        spec: Kind and layout of the tokens.
        key: Hashes of tokenizer, data and transform.
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

    @cached_property
    def _tensors(self) -> list[dict[str, Tensor]]:
        """Content of every shard, mapped into memory."""
        out = []
        for name in self.shards:
            with safe_open(self.folder / name, "pt") as file:
                out.append({key: file.get_tensor(key) for key in file.keys()})
        return out

    def rows(self, variants: Tensor, index: Tensor) -> Tensor:
        """Return tokens (B, N, ...) of pictures `index` (B,) in views `variants` (B,): int64 codes or float32."""
        return self._rows("values", variants, index)

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
        out = torch.empty(len(number), self.spec.layout.size, *self.spec.token_shape, dtype=self.spec.dtype)
        for which in shard.unique().tolist():
            inside = shard == which
            out[inside] = self._tensors[which][key][number[inside] - self.starts[which]].to(out.dtype)
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
        if index["format"] != FORMAT:
            why = f"it has format {index['format']}, this version reads {FORMAT}"
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


def code_key(tokenizer: Tokenizer, tokenizer_hash: str, data: ImageSet, views: Views) -> dict[str, Any]:
    """Return the key of the codes of a split."""
    return {
        "tokenizer": tokenizer_hash,
        "settings": tokenizer.config.hash(),  # the scale of latents is not one of the weights
        "data": data.sha256,
        "transform": views.key,
        "views": views.count,
    }


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

    Raises:
        ArzooError: The folder holds other codes, or the disk is full.
    """
    key = code_key(tokenizer, tokenizer_hash, data, views)
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
                rows: dict[str, list[Tensor]] = {"values": [], "spread": []}
                for view, first in shard:
                    for part in views.block(data, view, first).to(device).split(batch):
                        for name_of_tensor, tensor in tokens_of(tokenizer, part).items():
                            rows[name_of_tensor].append(tensor)
                    if progress:
                        progress(done + sum(map(len, rows["values"])), views.count * len(data))
                _add(folder, index, name, {key: torch.cat(x) for key, x in rows.items() if x}, len(shard))
            done += index["shards"][name]["rows"]
    return Codes.load(folder)


def tokens_of(tokenizer: Tokenizer, pictures: Tensor) -> dict[str, Tensor]:
    """Encode pictures (B, 3, H, W) in [-1, 1] as `values`, and `spread` where tokens are distributions.

    Raises:
        ArzooError: The tokenizer leaves tokens out, which a cache cannot store.
    """
    tokens, spread = tokenizer.distribution(as_clips(pictures))
    if not bool((tokens.known & tokens.kept).all()):
        raise ArzooError(
            f"{type(tokenizer).__name__} gives pictures different numbers of tokens, but a code cache holds all tokens "
            "of every picture. Use a tokenizer that keeps all of them, such as one on a grid."
        )
    return {"values": tokens.values.cpu()} | ({} if spread is None else {"spread": spread.cpu()})


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
        index = {"format": FORMAT, "spec": spec.to_dict(), "key": key, "pictures": len(data)}
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
        files.save_tensors({key: _compact(x, spec) for key, x in tensors.items()}, path)
        index["shards"][name] = {"rows": len(tensors["values"]), "blocks": blocks, **_facts(path)}
        index["shards"] = dict(sorted(index["shards"].items()))
        _write_index(folder, index)


def _room(folder: Path) -> Any:
    return files.explain_full_disk(
        "codes", folder, "Finished shards are kept: make room, and the same command continues."
    )


def _compact(values: Tensor, spec: TokenSpec) -> Tensor:
    """Convert codes to the smallest integer type that holds them."""
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
