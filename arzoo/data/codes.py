"""Code cache: a data set's tokens, made once by a tokenizer and read by generator training.

    index.json              what it is, what made it of which data, and the finished files with their sizes and hashes
    labels.safetensors      class of each picture
    shard_00000.safetensors tokens of some pictures in one view (see `views`)

The cache is keyed by the tokenizer's weights, the data and the transform, and a generator refuses the codes of another
tokenizer. Names of classes are no part of the key: encoding again brings them up to date. A shard appears whole or not
at all, so encoding that was killed continues with the next one; one process encodes, others wait. Shards are mapped
into memory and read where they are needed: a cache may be larger than the memory.
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
"""Blocks of pictures a shard holds."""
SAMPLED = 64 << 20
"""Bytes that are compared with their hashes when a cache is opened."""


@dataclass(frozen=True)
class Codes:
    """Tokens of one split, in one or several views of every picture.

    Attributes:
        folder: Where they are.
        labels: (n,) class of each picture.
        classes: Names of the classes.
        spec: What the tokens are.
        key: What made them: tokenizer, data and transform.
        shards: File names in the order of views and pictures.
        starts: (S,) running number of each shard's first row; view v of picture i has number v * n + i.
        source: Name of the data set or path of the folder that was encoded; empty where nobody said.

    A shard holds `values`, and where tokens are random `spread`, their standard deviation: training sees a fresh sample
    around the values each time, as MAR does with its cached moments.
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
        """Views of a picture; number 0 is the picture itself."""
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
        """Tokens (B, N, ...) of pictures `index` (B,) in views `variants` (B,): int64 codes or float32 vectors."""
        return self._rows("values", variants, index)

    def draw(self, variants: Tensor, index: Tensor, draws: Draws, noise: float = 1.0) -> Tensor:
        """Tokens to train on: those of `rows`, sampled where they are random, with `noise` times their deviation."""
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
            here = shard == which
            out[here] = self._tensors[which][key][number[here] - self.starts[which]].to(out.dtype)
        return out

    @staticmethod
    def load(folder: Path, thorough: bool = False) -> Codes:
        """Open a cache.

        Args:
            folder: Where it is.
            thorough: Compare every file with its hash; without, up to 64 MiB of them, spread over the cache, and the
                sizes of the others, since every process of a training does this.

        Raises:
            ArzooError: The folder is no cache, an unfinished or a damaged one.
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
    """The cache of an index, its files compared with what the index says."""
    wanted = -(-index["pictures"] // BLOCK) * index["key"]["views"]
    if sum(facts["blocks"] for facts in index["shards"].values()) != wanted:
        raise ArzooError(f"{folder} is unfinished. The command that began it continues: arzoo tokenize")
    hashed = index["shards"] if thorough else _sample(index["shards"])
    for name, facts in {LABELS: index["labels"], **index["shards"]}.items():
        same = _is_intact if name == LABELS or name in hashed else _as_long
        if not same(folder / name, facts):
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
    """The index of a finished or unfinished cache, None where there is none.

    Raises:
        ArzooError: It cannot be read, was changed after it was written, or has another format.
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
    """What identifies the codes of a split."""
    return {
        "tokenizer": tokenizer_hash,
        "settings": tokenizer.config.hash(),  # the scale of latents is no weight
        "data": data.sha256,
        "transform": views.key,
        "views": views.count,
    }


def cache_files(pictures: int, views: Views) -> list[str]:
    """Names of the files of a finished cache."""
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
    """Encode a split, or what an earlier call left to do; waits for another process that is at it.

    Args:
        folder: Where the cache is or will be.
        tokenizer: In evaluation mode.
        tokenizer_hash: sha256 of its weights.
        data: The split.
        views: Which copies of a picture.
        batch: Pictures at once, at most 64 count.
        progress: Called with (pictures done, pictures to do).
        source: What finds the data again, see `arzoo.data.source`.
        thorough: Of codes that are there already, look at every byte, see `Codes.load`.

    Raises:
        ArzooError: The folder holds other codes, or the disk is full.
    """
    key = code_key(tokenizer, tokenizer_hash, data, views)
    whole = _finished(folder, key, data.classes, thorough)
    if whole is not None:
        return whole
    device = next(tokenizer.parameters()).device
    blocks = [(view, first) for view in range(views.count) for first in range(0, len(data), BLOCK)]
    done = 0
    with alone(folder, "encodes into", wait=True):
        index = _begin(folder, tokenizer.spec, key, data, source)
        for number, start in enumerate(range(0, len(blocks), SHARD)):
            mine = blocks[start : start + SHARD]
            name = SHARD_NAME.format(number)
            if name not in index["shards"] or not _is_intact(folder / name, index["shards"][name]):
                rows: dict[str, list[Tensor]] = {"values": [], "spread": []}
                for view, first in mine:
                    for part in views.block(data, view, first).to(device).split(batch):
                        for what, tensor in tokens_of(tokenizer, part).items():
                            rows[what].append(tensor)
                    if progress:
                        progress(done + sum(map(len, rows["values"])), views.count * len(data))
                _add(folder, index, name, {key: torch.cat(x) for key, x in rows.items() if x}, len(mine))
            done += index["shards"][name]["rows"]
    return Codes.load(folder)


def tokens_of(tokenizer: Tokenizer, pictures: Tensor) -> dict[str, Tensor]:
    """What a shard holds of pictures (B, 3, H, W) in [-1, 1]: `values`, and `spread` where tokens are random.

    Raises:
        ArzooError: The tokenizer leaves tokens out, and which is not stored.
    """
    tokens, spread = tokenizer.distribution(as_clips(pictures))
    if not bool((tokens.known & tokens.kept).all()):
        raise ArzooError(
            f"{type(tokenizer).__name__} gives pictures different numbers of tokens, and a code cache holds all tokens "
            "of every picture. Use a tokenizer that keeps all of them, such as those on a grid."
        )
    return {"values": tokens.values.cpu()} | ({} if spread is None else {"spread": spread.cpu()})


def _finished(folder: Path, key: dict[str, Any], classes: Sequence[str], thorough: bool) -> Codes | None:
    """A cache that has nothing left to do, so that many processes may read it at once."""
    try:
        codes = Codes.load(folder, thorough)
    except ArzooError:
        return None
    return codes if codes.key == key and codes.classes == tuple(classes) else None


def refuse_other_codes(codes: Sequence[Codes], tokenizer_hash: str, settings: str) -> None:
    """Compare the tokenizer that made the codes with the one a generator is to draw for.

    Args:
        codes: Of all splits.
        tokenizer_hash: sha256 of the tokenizer's weights.
        settings: Hash of its settings, which the scale of vectors belongs to.

    Raises:
        ArzooError: They differ.
    """
    for found in codes:
        if found.key["tokenizer"] != tokenizer_hash:
            raise ArzooError(
                f"the codes in {found.folder} were made by tokenizer {str(found.key['tokenizer'])[:12]}, the generator "
                f"uses {tokenizer_hash[:12]}. Encode the data again with: arzoo tokenize DATA --tokenizer NAME"
            )
        if found.key["settings"] != settings:
            raise ArzooError(
                f"the codes in {found.folder} were made by these weights with settings {found.key['settings']}, the "
                f"tokenizer has {settings}, such as another scale. Encode the data again with: arzoo tokenize DATA "
                "--tokenizer NAME"
            )


def _begin(folder: Path, spec: TokenSpec, key: dict[str, Any], data: ImageSet, source: str) -> dict[str, Any]:
    """The index of a new cache, or of one that is to be continued."""
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
    """What `_is_intact` compares a file with."""
    return {"bytes": os.path.getsize(path), "sha256": file_sha256(path)}


def _write_index(folder: Path, index: dict[str, Any]) -> None:
    index[SEAL] = seal(index)
    files.write_text(folder / INDEX, json.dumps(index, indent=2))


def _is_intact(path: Path, facts: dict[str, Any]) -> bool:
    """Whether a file is what the index says."""
    return _as_long(path, facts) and file_sha256(path) == facts["sha256"]


def _as_long(path: Path, facts: dict[str, Any]) -> bool:
    """Whether a file is there in the size that the index says."""
    return path.is_file() and path.stat().st_size == facts["bytes"]


def _sample(shards: dict[str, Any]) -> list[str]:
    """Some shards, evenly spread, of about `SAMPLED` bytes together; one at least."""
    total = sum(facts["bytes"] for facts in shards.values())
    step = max(1, -(-total // SAMPLED))
    return list(shards)[::step]


def _add(folder: Path, index: dict[str, Any], name: str, tensors: dict[str, Tensor], blocks: int) -> None:
    """Write a shard, then the index that names it."""
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
    """Codes in the smallest integers that hold them."""
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
