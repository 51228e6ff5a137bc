"""Feature networks of few numbers, and what one process of several does with one."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor, nn

from arzoo.data.pictures import FolderPictures
from arzoo.metrics.bank import measure
from arzoo.metrics.comparison import Comparison, figures
from arzoo.models.vision.features import FeatureNet, Features

METRICS = ("fd", "kid", "is", "precision_recall", "density_coverage", "nearest")


class TinyNet(FeatureNet):
    """Mean colors of a picture's quarters through a fixed layer; five classes."""

    name = "tiny"
    sha256 = "0" * 64
    resize = "quarters"
    scaling = "x - 127.5"
    width = 8

    def __init__(self) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(0)
        self.mix = nn.Parameter(torch.randn(12, 8, generator=random) / 64)
        self.classify = nn.Parameter(torch.randn(8, 5, generator=random))

    def read(self, x: Tensor) -> Features:
        pooled = torch.tanh(nn.functional.adaptive_avg_pool2d(x - 127.5, 2).flatten(1) @ self.mix)
        return Features(pooled, pooled @ self.classify)


class TinyClipNet(FeatureNet):
    """Mean colors of frames and of their signed differences in time."""

    name, sha256, resize, scaling = "tiny_clips", "1" * 64, "quarters", "x - 127.5"
    width, of_clips, least_frames = 6, True, 2

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones(()))

    def read(self, x: Tensor) -> Features:
        x = x.mean((3, 4)) / 255 * self.one
        weights = torch.linspace(-1, 1, x.shape[2])
        return Features(torch.cat([x.mean(2), (x * weights).mean(2)], 1))


def tiny_net(path: str | None = None) -> FeatureNet:
    """Few numbers of a picture."""
    return TinyNet()


def scores(samples: str, reference: str, batch: int, net: FeatureNet | None = None) -> dict[str, float]:
    """Figures of two folders."""
    net = net or TinyNet().eval()
    found = [measure(FolderPictures(Path(folder)), net, batch) for folder in (samples, reference)]
    made, _ = figures(Comparison(net, *found, replicates=0), METRICS, strict=True)
    return {name: figure.value for name, figure in made.items()}


def one_of_two(rank: int, store: str, samples: str, reference: str, batch: int, out: str) -> None:
    """Measure beside another process."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    torch.save(scores(samples, reference, batch), f"{out}/{rank}.pt")
    torch.distributed.destroy_process_group()
