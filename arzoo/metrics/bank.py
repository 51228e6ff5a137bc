"""FeatureBank: features of a set of pictures, collected over batches and processes."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from arzoo.base.errors import ArzooError
from arzoo.data.pictures import Pictures
from arzoo.metrics.scores.frechet import Gaussian, Statistics
from arzoo.models.vision.features import FeatureNet, Features

KEEP_BYTES = 1 << 32
"""Largest size of features that are kept, for errors and metrics that compare single pictures; sums are always kept."""
_SUM = Statistics | Gaussian
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class PictureFeatures:
    """Features and statistics of one set of pictures, the input of all metrics.

    Attributes:
        count: Number of pictures, None if stored statistics do not record it.
        statistics: Statistics of the pooled features.
        sha256: Hash of the pictures in their order, or of the file with the statistics.
        spatial: Statistics of the spatial features.
        features: (n, D) pooled features in the order of the pictures.
        logits: (n, K).
        places: (n, S) spatial features in the order of the pictures.
        brightest: Largest value of any picture, None if only statistics are known.
        digests: (n, 32) uint8 sha256 of each picture.
    """

    count: int | None
    statistics: _SUM
    sha256: str
    spatial: _SUM | None = None
    features: Tensor | None = None
    logits: Tensor | None = None
    places: Tensor | None = None
    brightest: int | None = None
    digests: Tensor | None = None

    @cached_property
    def copies(self) -> Counter[bytes]:
        """Number of occurrences of each picture, by its hash."""
        return Counter(bytes(row) for row in self.digests.numpy()) if self.digests is not None else Counter()

    def select(self, rows: Tensor) -> PictureFeatures:
        """Return the features of some pictures, which must have been kept."""
        assert self.features is not None
        assert self.digests is not None
        features, digests = self.features[rows], self.digests[rows]
        logits = None if self.logits is None else self.logits[rows]
        statistics = Statistics.of(features)
        sha256, brightest = _sha256(digests), self.brightest
        return PictureFeatures(
            len(rows),
            statistics,
            sha256,
            features=features,
            logits=logits,
            brightest=brightest,
            digests=digests,
        )


class FeatureBank(Metric):
    """Features of pictures, accumulated over batches; `compute` gathers them from all processes.

    Sums of features and of their products are kept in float64, and rows are sorted by the numbers of the pictures, so
    the result is the same for any batch size and number of processes.

    Args:
        net: The network.
        keep: Keep features and logits of each picture, not only the sums.
        **options: Options of `torchmetrics.Metric`.

    Example:
        >>> bank = FeatureBank(feature_net())           # doctest: +SKIP
        >>> for rows, images in batches:                # doctest: +SKIP
        ...     bank.update(images, rows)
        >>> bank.measured().statistics                  # doctest: +SKIP
    """

    full_state_update = False

    def __init__(self, net: FeatureNet, keep: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.net, self.keep = net, keep
        blank = torch.zeros(1, 32, 32, 3, dtype=torch.uint8, device=_device(net))
        probe = Features(blank) if net.of_clips else net(blank)
        widths = {"pooled": net.width} | (
            {} if probe.spatial is None else {"spatial": probe.spatial.shape[1]}
        )
        available = {"features": True, "logits": probe.logits is not None, "places": "spatial" in widths}
        self.kept = [name for name, present in available.items() if present and keep]
        for name, width in widths.items():
            self.add_state(f"{name}_total", torch.zeros(width, dtype=torch.float64), "sum")
            self.add_state(f"{name}_products", torch.zeros(width, width, dtype=torch.float64), "sum")
        for name in ("rows", "digests", *self.kept):
            self.add_state(name, [], "cat")
        self.add_state("brightest", torch.zeros((), dtype=torch.uint8), "max")
        self.summed = list(widths)

    def update(self, images: Tensor, rows: Tensor) -> None:
        """Add pictures (B, H, W, 3) or clips (B, T, H, W, 3) uint8 with the numbers `rows` (B,) in their set."""
        features = self.net(images.to(_device(self.net)))
        for name in self.summed:
            x = getattr(features, name).cpu().double()
            getattr(self, f"{name}_total").add_(x.sum(0))
            getattr(self, f"{name}_products").add_(x.T @ x)
        digests = [
            hashlib.sha256(picture.tobytes()).digest() for picture in images.cpu().contiguous().numpy()
        ]
        parts = {
            "rows": rows.cpu(),
            "digests": torch.frombuffer(bytearray(b"".join(digests)), dtype=torch.uint8).view(-1, 32),
            "features": features.pooled.float().cpu(),
            "logits": None if features.logits is None else features.logits.float().cpu(),
            "places": None if features.spatial is None else features.spatial.float().cpu(),
        }
        self.brightest: Tensor = torch.maximum(self.brightest, images.max().cpu())
        for name in ("rows", "digests", *self.kept):
            cast("list[Tensor]", getattr(self, name)).append(cast(Tensor, parts[name]))

    def compute(self) -> dict[str, Tensor]:
        """Return the sums, and in the order of the pictures what was kept, of all processes together.

        Raises:
            ArzooError: A picture was measured twice or not at all.
        """
        lists = {name: dim_zero_cat(getattr(self, name)) for name in ("rows", "digests", *self.kept)}
        order = lists["rows"].argsort(stable=True)
        if not torch.equal(lists["rows"][order], torch.arange(len(order))):
            raise ArzooError(
                f"of {len(order)} pictures some were measured twice and others not at all; every process must take "
                "its own rows"
            )
        sums = {f"{name}_{what}" for name in self.summed for what in ("total", "products")} | {"brightest"}
        return {name: getattr(self, name) for name in sums} | {k: v[order] for k, v in lists.items()}

    def measured(self) -> PictureFeatures:
        """Return the features and statistics that metrics need.

        Raises:
            ArzooError: As in `compute`, or a feature is not finite.
        """
        state = self.compute()
        n = len(state["rows"])
        sums = {
            name: Statistics(n, state[f"{name}_total"], state[f"{name}_products"]) for name in self.summed
        }
        values = [part.total for part in sums.values()] + [state[name] for name in self.kept]
        if not all(bool(numbers.isfinite().all()) for numbers in values):
            raise ArzooError(
                f"{self.net.name} gives features that are not finite numbers; are its weights damaged?"
            )
        return PictureFeatures(
            count=n,
            statistics=sums["pooled"],
            sha256=_sha256(state["digests"]),
            spatial=sums.get("spatial"),
            features=state.get("features"),
            logits=state.get("logits"),
            places=state.get("places"),
            brightest=int(state["brightest"]),
            digests=state["digests"],
        )


def measure(
    pictures: Pictures,
    net: FeatureNet,
    batch: int = 32,
    progress: Progress | None = None,
    seen: Callable[[Tensor, Tensor], None] | None = None,
) -> PictureFeatures:
    """Measure a set of pictures; with several processes each one measures its share.

    Args:
        pictures: The set.
        net: The network.
        batch: Pictures per batch, without influence on the result.
        progress: Called with (pictures done, pictures to do) of this process.
        seen: Called with (images, rows) of each batch.
    """
    rows = own_rows(len(pictures), pictures.name)
    bank = FeatureBank(net, keep=feature_bytes(len(pictures), net) <= KEEP_BYTES)
    for done, chunk in _counted(rows.split(batch)):
        images = pictures.read(chunk.tolist())
        bank.update(images, chunk)
        if seen:
            seen(images, chunk)
        if progress:
            progress(done, len(rows))
    return bank.measured()


def feature_bytes(n: int, net: FeatureNet) -> int:
    """Return the size in bytes of the features of n pictures."""
    return n * (net.width + net.spatial_width) * 4


def own_rows(n: int, name: str = "the set") -> Tensor:
    """Return the numbers of the pictures that this process measures in a set of n.

    Raises:
        ArzooError: There are more processes than pictures.
    """
    rank, world = 0, 1
    if _distributed():
        rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    if n < max(world, 2):
        raise ArzooError(
            f"{name} has {n} picture{'s' * (n != 1)}, too few to be measured by {world} process{'es' * (world > 1)}: "
            f"give at least {max(world, 2)}"
        )
    return torch.arange(rank, n, world)


def of_all_processes(value: Any) -> list[Any]:
    """Return the values of all processes in the order of their ranks, in each of them."""
    if not _distributed():
        return [value]
    values: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values


def _distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _counted(chunks: tuple[Tensor, ...]) -> Any:
    done = 0
    for chunk in chunks:
        done += len(chunk)
        yield done, chunk


def _sha256(digests: Tensor) -> str:
    return hashlib.sha256(digests.contiguous().numpy().tobytes()).hexdigest()


def _device(net: FeatureNet) -> torch.device:
    return next(net.parameters(), torch.zeros(0)).device
