"""References of a comparison: a data set, a folder, or an npz file of pictures or statistics."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from arzoo.base import registry
from arzoo.base.errors import ArzooError, UnknownName
from arzoo.base.paths import expanded
from arzoo.data import load
from arzoo.data.base import ImageSet
from arzoo.data.npz import NpzFile, text, write_npz
from arzoo.data.pictures import DataPictures, FolderPictures, NpzPictures, Pictures, by, chosen_rows
from arzoo.data.scored_clips import FolderClips, Frames
from arzoo.metrics.bank import PictureFeatures, Progress
from arzoo.metrics.cache import measure_once
from arzoo.metrics.scores.frechet import Gaussian
from arzoo.models.vision.features import FeatureNet
from arzoo.models.vision.inception import Inception

FRAMES = "frames"
"""Key of the frames of clips whose statistics a file holds, in words."""
_ROUNDING = 1e-3
"""Share of the largest eigenvalue by which rounding to float32 may move an eigenvalue of 0 below 0."""


@dataclass(frozen=True)
class Reference:
    """The set that samples are compared with.

    Attributes:
        name: Name in the protocol.
        measured: Its features or statistics.
        loss: How many of its pictures were stored with loss, in words; empty if none.
        notes: Remarks for readers of the scores.
        timing: How its clips were taken from longer ones, see `Pictures`.
        resizing: How its pictures were resized, see `Pictures`; None if only statistics are known.
    """

    name: str
    measured: PictureFeatures
    loss: str = ""
    notes: tuple[str, ...] = ()
    timing: Mapping[str, Any] = field(default_factory=dict)
    resizing: str | None = None


def data_split(name: str, split: str, size: int | None = None, part: Frames | None = None) -> ImageSet:
    """Open a data set by name, or a folder, or a split of it.

    Args:
        name: Name of a data set, or path of a folder.
        split: "train", "validation" or "all".
        size: Side of the pictures of a folder.
        part: How its clips are taken, None for pictures or what the data set has.

    Raises:
        UnknownName: There is no such data set.
    """
    known = name in registry.names("dataset")
    if not part:
        data = load(name, None if known else size)
    elif known:  # what is said of times is for the files that its clips are compared with
        data = load(name, size, part.total)
    else:
        data = load(name, size, part.total, part.fps, part.stride)
    return data if split == "all" else data.split(split)


def pictures_of(
    name: str,
    split: str = "all",
    size: tuple[int, ...] | None = None,
    num: int = 0,
    part: Frames | None = None,
) -> Pictures:
    """Open a set of pictures or clips: a data set by name, a folder, or an npz file of pictures.

    Args:
        name: Name of a data set, or a path.
        split: Split of a data set, or of a folder as training splits it; an npz file has none.
        size: (H, W) to which pictures of a folder are resized; if None, they must all have one size.
        num: Number of pictures, evenly spread; 0 for all.
        part: How clips are taken, None for pictures or what the data set has.

    Raises:
        UnknownName: It is none of these.
        ArzooError: There are no pictures, they cannot be read, or a split of a folder has fewer than 2.
    """
    path = Path(expanded(name))
    known = name in registry.names("dataset")
    if known or (path.is_dir() and split != "all"):
        data = (
            data_split(name, split, size[0] if size else None, part)
            if known
            else _folder_split(path, split, size, part)
        )
        if num:
            data = data.select(torch.tensor(chosen_rows(len(data), num)))
        name = name if known else data.name
        return DataPictures(data, name if split == "all" else f"{name} {split}")
    if path.suffix == ".npz":
        return NpzPictures(path, num)
    if path.is_dir():
        return FolderClips(path, part, size, num) if part else FolderPictures(path, size, num)
    raise UnknownName(
        "data set", name, registry.names("dataset"), "Or give a folder of pictures, or an npz file."
    )


def _folder_split(path: Path, split: str, size: tuple[int, ...] | None, part: Frames | None) -> ImageSet:
    """Open a split of a folder, the same as in training on the folder."""
    data = data_split(str(path), split, size[0] if size else None, part)
    if len(data) < 2:
        raise ArzooError(
            f"the {split} part of {path} has {len(data)} of its pictures, distances take 2 at least. Compare with all "
            "of them (--split all), or name other pictures with --reference"
        )
    return data


def read_reference(
    name: str,
    net: FeatureNet,
    size: tuple[int, ...] | None,
    split: str = "all",
    batch: int = 32,
    progress: Progress | None = None,
    part: Frames | None = None,
) -> Reference:
    """Measure a reference, or read its statistics.

    Statistics in a file are used even if it has pictures too, as in the ADM evaluator, where they are those of the
    whole training set and the pictures are a part of it.

    Args:
        name: A data set, a folder or an npz file.
        net: The network.
        size: (H, W) of the samples, None if only their statistics are known.
        split: Part of a data set.
        batch: Pictures per batch.
        progress: As in `measure`.
        part: Frames of the samples that are scored, None for pictures.

    Raises:
        UnknownName: There is no such data set, folder or file.
        ArzooError: Its pictures have another size than the samples, or its statistics come from another network.
    """
    path = Path(expanded(name))
    stored, pictures = _opened(name, net, size, split, part)
    notes: list[str] = []
    if stored is not None and "net_sha256" not in NpzFile(path):
        notes.append(f"{path.name} does not say how its pictures were resized; {net.name} takes {net.resize}")
    if pictures is None:
        assert stored is not None
        return Reference(path.name, stored, notes=tuple(notes))
    measured = measure_once(pictures, net, batch, progress)
    if stored is not None:
        measured = replace(
            measured,
            count=stored.count,
            statistics=stored.statistics,
            spatial=stored.spatial,
            sha256=stored.sha256,
        )
    loss = pictures.loss(f"reference {pictures.noun}")
    return Reference(
        pictures.name, measured, loss, (*notes, *pictures.notes), pictures.timing, pictures.resizing
    )


def pictures_to_measure(
    name: str, net: FeatureNet, size: tuple[int, ...] | None, split: str = "all", part: Frames | None = None
) -> Pictures | None:
    """Return the pictures that `read_reference` measures, None if it only reads statistics.

    Raises:
        As in `read_reference`.
    """
    return _opened(name, net, size, split, part)[1]


def _opened(
    name: str, net: FeatureNet, size: tuple[int, ...] | None, split: str, part: Frames | None
) -> tuple[PictureFeatures | None, Pictures | None]:
    """Return the statistics in the file of a reference, and its pictures that are to be measured, if any."""
    path = Path(expanded(name))
    stored = stored_statistics(path, net, part) if path.suffix == ".npz" else None
    if stored is not None and "arr_0" not in NpzFile(path):
        return stored, None
    pictures = pictures_of(name, split, size, part=part)
    if pictures.frames > 1 and part is None:
        raise ArzooError(
            f"the reference {pictures.name} has clips of {pictures.frames} frames, the samples are pictures"
        )
    if size is not None and pictures.size != size:
        raise ArzooError(
            f"the reference {pictures.name} has pictures of {by(pictures.size)}, the samples are {by(size)}. Resize "
            "the reference: samples are scored as they are."
        )
    return stored, part.of(pictures) if part else pictures


def stored_statistics(path: Path, net: FeatureNet, part: Frames | None = None) -> PictureFeatures | None:
    """Read the statistics in an npz file, None if it has none.

    Raises:
        ArzooError: The statistics come from another network or an unknown one, or from other frames, or are damaged.
    """
    file = NpzFile(path)
    if "mu" not in file and "sigma" not in file:
        return None
    digest = hashlib.sha256()
    pooled = _gaussian(file, "mu", "sigma", digest)
    if "net_sha256" in file:
        net_sha256, net_name, resize = (str(file.array(name, 0)) for name in ("net_sha256", "net", "resize"))
        if (net_sha256, resize) != (net.sha256, net.resize):
            raise ArzooError(
                f"the statistics in {path} were made by {net_name} ({net_sha256[:12]}, {resize}), scores are taken "
                f"with {net.name} ({net.sha256[:12]}, {net.resize}). Use --net {net_name}, or make them again."
            )
    elif not net.standard or net.of_clips:
        raise ArzooError(
            f"{path} does not say which network its statistics come from; such files are made by the Inception "
            f"network of FID, and the scores are taken with {net.name}. Use --net inception_v3, or make statistics "
            "with: arzoo evaluate PICTURES --save-statistics FILE.npz"
        )
    elif "mu_s" in file and net.resize != Inception.resize:
        raise ArzooError(
            f"the statistics in {path} are those of the ADM evaluator, whose pictures are resized {Inception.resize}; "
            f"{net.name} takes {net.resize}. Use --preset adm, or statistics that were made like the scores."
        )
    if len(pooled.mean) != net.width:
        raise ArzooError(
            f"{path} has statistics of {len(pooled.mean)} features, {net.name} gives {net.width}"
        )
    stored, scored = str(file.array(FRAMES, 0)) if FRAMES in file else "", part.words if part else ""
    if stored != scored:
        raise ArzooError(
            f"the statistics in {path} are those of {stored or 'no'} frames of clips, {scored or 'none'} are scored. "
            "Make them again with the same --frames"
        )
    spatial = _gaussian(file, "mu_s", "sigma_s", digest) if "mu_s" in file else None
    count = pooled.count
    # Statistics that arzoo wrote have the hash of their pictures, so both are the same reference.
    sha256 = str(file.array("pictures_sha256", 0)) if "pictures_sha256" in file else digest.hexdigest()
    brightest = int(file.array("brightest", 0)) if "brightest" in file else None
    return PictureFeatures(count, pooled, sha256, spatial, brightest=brightest)


def save_statistics(
    path: Path,
    measured: PictureFeatures,
    net: FeatureNet,
    overwrite: bool = False,
    part: Frames | None = None,
) -> None:
    """Write statistics in the layout of the ADM evaluator, with the network and the frames of clips they come from.

    Raises:
        ArzooError: The file exists and `overwrite` is off.
    """
    arrays = {
        "mu": measured.statistics.mean.numpy(),
        "sigma": measured.statistics.covariance.numpy(),
        "n": np.array(measured.count),
        "pictures_sha256": text(measured.sha256),
        "net": text(net.name),
        "net_sha256": text(net.sha256),
        "resize": text(net.resize),
    }
    if part:
        arrays[FRAMES] = text(part.words)
    if measured.brightest is not None:
        arrays["brightest"] = np.array(measured.brightest)
    if measured.spatial is not None:
        arrays |= {
            "mu_s": measured.spatial.mean.numpy(),
            "sigma_s": measured.spatial.covariance.numpy(),
        }
    write_npz(path, arrays, overwrite)


def _gaussian(file: NpzFile, mean: str, covariance: str, digest: hashlib._Hash) -> Gaussian:
    mu, sigma = file.array(mean, 1), file.array(covariance, 2)
    if mu.dtype.kind != "f" or sigma.dtype.kind != "f":
        raise ArzooError(
            f"{mean!r} and {covariance!r} of {file.path} must be floats, got {mu.dtype} and {sigma.dtype}"
        )
    if sigma.shape != (len(mu), len(mu)):
        raise ArzooError(f"{covariance!r} of {file.path} is {sigma.shape}, {mean!r} has {len(mu)} numbers")
    if not np.allclose(sigma, sigma.T, rtol=1e-4, atol=1e-6 * max(1.0, float(np.abs(sigma).max(initial=0)))):
        raise ArzooError(f"{covariance!r} of {file.path} is not symmetric, so it is no covariance")
    count = int(file.array("n", 0)) if "n" in file else None
    mu, sigma = mu.astype(np.float64), sigma.astype(np.float64)
    values = np.linalg.eigvalsh(sigma)
    if values[0] < -_ROUNDING * abs(values).max():
        raise ArzooError(
            f"{covariance!r} of {file.path} has the eigenvalue {values[0]:.3g} beside {values[-1]:.3g}: a covariance "
            "has none below 0. Make the statistics again."
        )
    digest.update(mu.tobytes() + sigma.tobytes())
    return Gaussian(torch.from_numpy(mu), torch.from_numpy(sigma), count)
