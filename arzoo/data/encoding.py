"""Encoding of a data set into a code cache (`arzoo.data.codes`).

A shard appears completely or not at all, so encoding that was killed continues with the next shard. One process
encodes, others wait.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from arzoo.base import files
from arzoo.base.errors import ArzooError
from arzoo.base.files import SEAL, file_sha256, seal
from arzoo.base.finite import refuse_not_finite
from arzoo.base.lock import alone
from arzoo.base.registry import called
from arzoo.core.clips import as_clips
from arzoo.core.contracts import Tokenizer
from arzoo.core.tokens import TokenSpec
from arzoo.data.any_size import AnySizeSet
from arzoo.data.base import ImageSet
from arzoo.data.codes import FORMAT, GRIDS, INDEX, LABELS, VARIABLE, Codes, is_intact, read_index
from arzoo.data.views import BLOCK, Views
from arzoo.tokenizers.common.lengths import encoded

SHARD_NAME = "shard_{:05d}.safetensors"
SHARD = 64
"""Blocks of pictures per shard."""


def is_variable(tokenizer: Tokenizer, quality: float | None = None) -> bool:
    """Return whether pictures may have different numbers of tokens when they are encoded to a quality."""
    return quality is not None or tokenizer.spec.subset_ok


def code_key(
    tokenizer: Tokenizer, tokenizer_hash: str, data: ImageSet, views: Views, quality: float | None = None
) -> dict[str, Any]:
    """Return the key of the codes of a split; it has a quality if the number of tokens follows the picture."""
    return {
        "tokenizer": tokenizer_hash,
        "settings": tokenizer.config.hash(),  # the scale of latents is not one of the weights
        "data": data.sha256,
        "transform": views.key(data),
        "views": views.count,
    } | ({"quality": quality} if is_variable(tokenizer, quality) else {})


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
        index = _begin(folder, tokenizer, key, data, source)
        for number, start in enumerate(range(0, len(blocks), SHARD)):
            shard = blocks[start : start + SHARD]
            name = SHARD_NAME.format(number)
            if name not in index["shards"] or not is_intact(folder / name, index["shards"][name]):
                rows: dict[str, list[Tensor]] = {"values": [], "spread": [], "kept": []}
                count = 0
                for view, first in shard:
                    pictures = [(places, x.to(device)) for places, x in views.parts(data, view, first)]
                    for name_of_tensor, tensor in block_tokens(
                        tokenizer, data, pictures, batch, quality
                    ).items():
                        rows[name_of_tensor].append(tensor)
                    count += sum(len(places) for places, _ in pictures)
                    if progress:
                        progress(done + count, views.count * len(data))
                tensors = {key: torch.cat(x) for key, x in rows.items() if x}
                _add(folder, index, name, tensors, len(shard), count)
            done += index["shards"][name]["rows"]
    return Codes.load(folder)


def grids_of(tokenizer: Tokenizer, data: ImageSet) -> Tensor | None:
    """Return rows and columns (n, 2) of the tokens of each picture; None if all have one size."""
    if not isinstance(data, AnySizeSet):
        return None
    return data.sizes // torch.tensor(tokenizer.spec.downscale[1:])


def block_tokens(
    tokenizer: Tokenizer,
    data: ImageSet,
    pictures: Sequence[tuple[Tensor, Tensor]],
    batch: int,
    quality: float | None,
) -> dict[str, Tensor]:
    """Encode a block, which is pictures by size and their places in it; of unlike grids one picture after another."""
    by_size = []
    for _, x in pictures:
        parts = [tokens_of(tokenizer, part, quality) for part in x.split(batch)]
        by_size.append({key: torch.cat([part[key] for part in parts]) for key in parts[0]})
    if not isinstance(data, AnySizeSet):
        return by_size[0]
    order = torch.cat([places for places, _ in pictures]).argsort(stable=True).tolist()
    each = {key: [tokens for part in by_size for tokens in part[key]] for key in by_size[0]}
    return {key: torch.cat([tokens[i] for i in order]) for key, tokens in each.items()}


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
    if is_variable(tokenizer, quality):
        return tensors | {"kept": tokens.present.cpu()}
    if not bool(tokens.present.all()):
        raise ArzooError(
            f"tokenizer {called(tokenizer)} gives pictures different numbers of tokens without a quality, and its "
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


def _begin(
    folder: Path, tokenizer: Tokenizer, key: dict[str, Any], data: ImageSet, source: str
) -> dict[str, Any]:
    """Return the index of a new cache, or of an existing one to be continued."""
    index = read_index(folder)
    if index is not None:
        if index["key"] != key:
            other = ", ".join(name for name in key if key[name] != index["key"].get(name))
            raise ArzooError(
                f"{folder} holds other codes (other {other}). Give another folder, or remove it."
            )
        renamed, index["classes"] = index["classes"] != list(data.classes), list(data.classes)
        if is_intact(folder / LABELS, index["labels"]) and not renamed:
            return index
    else:
        version = GRIDS if isinstance(data, AnySizeSet) else VARIABLE if "quality" in key else FORMAT
        index = {"format": version, "spec": tokenizer.spec.to_dict(), "key": key, "pictures": len(data)}
        index |= {"source": source, "classes": list(data.classes), "shards": {}}
    folder.mkdir(parents=True, exist_ok=True)
    with _room(folder):
        grids = grids_of(tokenizer, data)
        more = {} if grids is None else {"grids": grids}
        files.save_tensors({"labels": data.labels.clone(), **more}, folder / LABELS)
        index["labels"] = _facts(folder / LABELS)
        _write_index(folder, index)
    return index


def _facts(path: Path) -> dict[str, Any]:
    """Size and hash of a file, for `is_intact`."""
    return {"bytes": os.path.getsize(path), "sha256": file_sha256(path)}


def _write_index(folder: Path, index: dict[str, Any]) -> None:
    index[SEAL] = seal(index)
    files.write_text(folder / INDEX, json.dumps(index, indent=2))


def _add(
    folder: Path, index: dict[str, Any], name: str, tensors: dict[str, Tensor], blocks: int, rows: int
) -> None:
    """Write a shard of so many rows, pictures in a view, then the index with its name."""
    path, spec = folder / name, TokenSpec.from_dict(index["spec"])
    with _room(folder):
        files.save_tensors(
            {key: _compact(x, spec) for key, x in tensors.items() if key != "kept" or not bool(x.all())}, path
        )
        index["shards"][name] = {"rows": rows, "blocks": blocks, **_facts(path)}
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
