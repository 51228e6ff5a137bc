"""Claim: a picture from the first tokens of an ordered tokenizer beats a grid cut at as many tokens ("FlexTok", 2025).

    python scripts/dev/reproduce/prefixes.py
    python scripts/dev/reproduce/prefixes.py --ordered runs/ordered_emoji64/checkpoint --tokens 1 4 16 --num 40

Reconstructs held-out drawings from the first tokens of an ordered tokenizer, and from equally many codes of a grid,
chosen and completed in several ways (`GridCuts.arms`). Flows draw from the noise of seed 0, as `decode` does.
"""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

import claim
import torch
from torch import Tensor, nn

from arzoo import data as datasets
from arzoo.base.console import progress
from arzoo.base.errors import UsageError
from arzoo.checkpoints.folder import open_checkpoint
from arzoo.core.clips import as_clips
from arzoo.core.contracts import Tokenizer
from arzoo.core.layout import Grid
from arzoo.core.tokens import Tokens
from arzoo.data.base import ImageSet
from arzoo.data.pictures import DataPictures, chosen_rows
from arzoo.data.transforms import composite, to_model
from arzoo.metrics.bank import measure
from arzoo.metrics.comparison import Comparison, figures
from arzoo.metrics.evaluation import RebuiltPictures, protocol_of
from arzoo.metrics.rate import OWN, Rate
from arzoo.metrics.reference import Reference
from arzoo.metrics.scores.reconstruction import ReconstructionBank
from arzoo.models.vision.features import feature_net
from arzoo.tokenizers.common.perceptual import PerceptualDistance

METRICS = ("psnr", "perceptual", "fd")


class FewPlaces(nn.Module):
    """A grid tokenizer of which only the codes of some places are decoded, the others being filled in.

    Args:
        tokenizer: Its tokens are a grid of codes.
        source: (N,) for every place the one whose code it shows, -1 for that of `filler`.
        filler: (N,) codes.
    """

    def __init__(self, tokenizer: Tokenizer, source: Tensor, filler: Tensor) -> None:
        super().__init__()
        self.tokenizer, self.source, self.filler = tokenizer, source, filler

    def encode(self, x: Tensor) -> Tokens:
        """Encode clips, and fill in the codes that are left out."""
        tokens = self.tokenizer.encode(x)
        tokens.values = torch.where(self.source < 0, self.filler, tokens.values[:, self.source.clamp(min=0)])
        return tokens

    def decode(self, tokens: Tokens) -> Tensor:
        """Decode them."""
        return self.tokenizer.decode(tokens)


def evenly_spread(grid: Grid) -> Tensor:
    """Places of a grid (N,) evenly spread from the first on: each is the farthest from those before it."""
    places = grid.coords()[:, 1:].double()
    order, distance = [0], torch.full((grid.size,), torch.inf, dtype=torch.float64)
    for _ in range(grid.size - 1):
        distance = torch.minimum(distance, (places - places[order[-1]]).square().sum(1))
        order.append(int(distance.argmax()))
    return torch.tensor(order)


def nearest_kept(grid: Grid, kept: Tensor) -> Tensor:
    """For every place of a grid (N,) the nearest one among those kept."""
    places = grid.coords()[:, 1:].double()
    return kept[(places[:, None] - places[kept]).square().sum(2).argmin(1)]


def only(kept: Tensor, size: int) -> Tensor:
    """For every place (N,) itself if it is kept, else -1."""
    return torch.full((size,), -1).scatter(0, kept, kept)


@torch.inference_mode()
def codes_of(tokenizer: Tokenizer, data: ImageSet) -> Tensor:
    """Codes (n, N) of all pictures of a data set."""
    parts = []
    with progress("codes of training pictures", "pictures") as report:
        for rows in torch.arange(len(data)).split(32):
            pictures = to_model(composite(data.pixels(rows)))
            parts.append(tokenizer.encode(as_clips(pictures)).values)
            report(int(rows[-1]) + 1, len(data))
    return torch.cat(parts)


def entropies(codes: Tensor, vocab: int) -> Tensor:
    """Entropy in bits (N,) of the codes (n, N) at every place."""
    shares = torch.stack([torch.bincount(place, minlength=vocab) for place in codes.T]).double() / len(codes)
    return -torch.xlogy(shares, shares).sum(1) / torch.log(torch.tensor(2.0))


class GridCuts:
    """Ways to keep a few codes of a grid, as good as they can be without more than codes.

    Args:
        tokenizer: Its tokens are a grid of codes.
        train: Training pictures, which decide what can be left out.
    """

    def __init__(self, tokenizer: Tokenizer, train: ImageSet) -> None:
        self.tokenizer, self.layout = tokenizer, tokenizer.spec.layout
        codes = codes_of(tokenizer, train)
        mean = composite(train.images).double().mean(0, keepdim=True).round()
        with torch.inference_mode():
            self.mean = tokenizer.encode(as_clips(to_model(mean))).values[0]
        self.by_entropy = entropies(codes, tokenizer.spec.vocab).argsort(descending=True, stable=True)
        self.spread = evenly_spread(self.layout)

    def arms(self, count: int) -> dict[str, FewPlaces]:
        """Tokenizers that keep `count` codes, by the way in which they choose and complete them.

        * first rows: reading order; a place that is left out shows the code of the mean training picture.
        * surest last: the same for places in order of the entropy of their codes in training pictures, largest first.
        * spread, copied: evenly spread places; the others copy the nearest of them.
        """
        size = self.layout.size
        rows, uncertain = only(torch.arange(count), size), only(self.by_entropy[:count], size)
        copied = nearest_kept(self.layout, self.spread[:count])
        ways = {
            "first rows": (rows, self.mean),
            "surest last": (uncertain, self.mean),
            "spread, copied": (copied, self.mean),
        }
        return {f"grid, {name}": FewPlaces(self.tokenizer, *way) for name, way in ways.items()}


def main() -> None:
    """Reconstruct, score and write."""
    options = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    options.add_argument("--ordered", default="ordered_emoji64", help="tokenizer (default: %(default)s)")
    options.add_argument("--grid", default="vq_emoji64", help="tokenizer (default: %(default)s)")
    options.add_argument(
        "--tokens", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32], help="default: 1 2 4 8 16 32"
    )
    options.add_argument("--data", default="emoji64", help="data set (default: %(default)s)")
    options.add_argument("--num", type=int, default=0, help="held-out pictures, 0 for all (default)")
    arguments = options.parse_args()
    ordered, grid = (open_checkpoint(name).load("tokenizer") for name in (arguments.ordered, arguments.grid))
    if not ordered.spec.prefix_ok:
        raise UsageError(f"--ordered must have prefixes that are pictures, but {arguments.ordered} has none")
    if not isinstance(grid.spec.layout, Grid) or not grid.spec.discrete:
        raise UsageError(f"--grid must be a tokenizer of a grid of codes, got {type(grid).__name__}")
    data = datasets.load(arguments.data)
    held_out = data.split("validation")
    chosen = held_out.select(torch.tensor(chosen_rows(len(held_out), arguments.num)))
    originals, net = DataPictures(chosen, f"{data.name} validation"), feature_net()
    reference = Reference(originals.name, measure(originals, net))
    perceptual, cuts = PerceptualDistance(), GridCuts(grid, data.split("train"))
    rows: dict[str, dict[str, Any]] = {}
    cells, head = [], ["tokens", "tokenizer"]
    lengths = [(count, {"ordered": ordered, **cuts.arms(count)}) for count in arguments.tokens]
    for count, arms in [*lengths, (grid.spec.layout.size, {"grid, complete": grid})]:
        for name, tokenizer in arms.items():
            bank = ReconstructionBank(0, perceptual)
            rate = Rate(tokens=count) if tokenizer is ordered else OWN
            rebuilt = RebuiltPictures(tokenizer, originals, bank, rate)
            with progress(f"{name}, {count} tokens", "pictures") as report:
                samples = measure(rebuilt, net, progress=report)
            comparison = Comparison(net, samples, reference.measured, pairs=bank.pairs())
            scores, _ = figures(comparison, METRICS, strict=True)
            rows.setdefault(name, {})[str(count)] = {key: score.to_dict() for key, score in scores.items()}
            shown = zip(scores.values(), (2, 2, 1), strict=True)
            cells.append(
                [str(count), name, *(claim.with_error(x.value, x.error, digits) for x, digits in shown)]
            )
            print(" | ".join(cells[-1]), flush=True)
    protocol = protocol_of(rebuilt, reference, net).to_dict()
    claim.write(
        "prefixes", "Few tokens: ordered ones, or a part of a grid", [*head, *scores], cells, rows,
        pictures=len(originals), seeds=[], protocol=protocol | {"noise": "seed 0"},
    )  # fmt: skip


if __name__ == "__main__":
    main()
