"""Cache of the features of data sets, so that the next evaluation against the same reference starts at once.

The key is a hash of the network, the resize rule and the pixels. A file carries the hash of its content; a damaged
file, or one without a hash, is measured again.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from arzoo.base.files import atomic_file
from arzoo.base.runtime import cache_folder, cache_remedy
from arzoo.data.pictures import Pictures
from arzoo.metrics.bank import PictureFeatures, Progress, feature_bytes, measure, of_all_processes
from arzoo.metrics.scores.frechet import Statistics
from arzoo.models.vision.features import FeatureNet

HASH = "sha256"
"""Key of `content_sha256` in the metadata of a file."""
MOST_BYTES = 1 << 28
"""Largest size of features that are cached; statistics of larger data sets can be saved with `save_statistics`."""


def measure_once(
    pictures: Pictures, net: FeatureNet, batch: int = 32, progress: Progress | None = None
) -> PictureFeatures:
    """Measure pictures as `measure` does, but those of a data set only the first time."""
    if not _keepable(pictures, net):
        return measure(pictures, net, batch, progress)
    path = _path(pictures, net)
    features = _read(path)
    if not all(of_all_processes(features is not None)):  # all of them must take the same branch
        features = measure(pictures, net, batch, progress)
        if features.spatial is None:
            _write(path, features)
    assert features is not None
    return features


def is_kept(pictures: Pictures, net: FeatureNet) -> bool:
    """Return whether `measure_once` would read the features of pictures from the cache."""
    return _keepable(pictures, net) and _read(_path(pictures, net)) is not None


def _keepable(pictures: Pictures, net: FeatureNet) -> bool:
    return pictures.lasting and feature_bytes(len(pictures), net) <= MOST_BYTES


def _path(pictures: Pictures, net: FeatureNet) -> Path:
    key = hashlib.sha256(f"{net.sha256} {net.resize} {len(pictures)}".encode())
    if pictures.frames > 1:  # the same pixels in another order of frames
        key.update(f" {pictures.frames} {pictures.size}".encode())
    for start in range(0, len(pictures), 256):
        key.update(pictures.read(range(start, min(start + 256, len(pictures)))).numpy().tobytes())
    return cache_folder() / "features" / f"{net.name}-{key.hexdigest()[:16]}.safetensors"


def _read(path: Path) -> PictureFeatures | None:
    try:
        with safe_open(path, "pt") as file:
            stored = (file.metadata() or {}).get(HASH)
            kept = {name: file.get_tensor(name) for name in file.keys()}
    except Exception:  # the reader raises errors of many kinds for damaged files
        return None
    if stored != content_sha256(kept) or not {"features", "digests", "brightest"} <= kept.keys():
        return None
    features, digests = kept["features"], kept["digests"]
    sha256 = hashlib.sha256(digests.numpy().tobytes()).hexdigest()
    return PictureFeatures(
        len(features),
        Statistics.of(features),
        sha256,
        features=features,
        logits=kept.get("logits"),
        brightest=int(kept["brightest"]),
        digests=digests,
    )


def content_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Return the sha256 of names, types, shapes and bits of tensors."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def _write(path: Path, measured: PictureFeatures) -> None:
    brightest = torch.tensor(measured.brightest, dtype=torch.uint8)
    parts = {
        "features": measured.features,
        "digests": measured.digests,
        "logits": measured.logits,
        "brightest": brightest,
    }
    tensors = {name: value.contiguous() for name, value in parts.items() if value is not None}
    try:
        with atomic_file(path) as partial:
            save_file(tensors, partial, metadata={HASH: content_sha256(tensors)})
    except OSError as error:
        warnings.warn(
            f"features are not kept for the next time ({error.strerror or error}). {cache_remedy()}",
            stacklevel=3,
        )
