"""Seconds of a forward and backward pass at the papers' sizes, compared with the bound of its matrix products.

Raster-B, MAR-B and xAR-B with 256 tokens per picture and the VQ tokenizer with 256 x 256 pixels; float32, random
weights, all gradients. The bound is the time of the products of linear layers and convolutions, forward and for both
gradients, with the fastest kernel for each, without attention; a convolution counts as the product with its unrolled
input, which is written nowhere. The peak is the largest resident memory of the process.
Every row is measured in a separate process.

    python benchmarks/training.py
    python benchmarks/training.py --model raster --threads 1 --repeat 5
    python benchmarks/training.py --model raster --threads 1 --other FOLDER  # alternate with another checkout
"""

from __future__ import annotations

import contextlib
import resource
import statistics
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from common import OtherCheckout, seconds, table
from torch import Tensor, nn

from arzoo.core.condition import Cond
from arzoo.core.draws import Draws
from arzoo.core.tokens import Tokens
from arzoo.models.heads.categorical import CategoricalConfig
from arzoo.models.heads.diffusion import DiffusionMLPConfig
from arzoo.models.heads.flow import BackboneFlowConfig
from arzoo.models.llamagen.network import TransformerConfig
from arzoo.models.mar.network import MARConfig
from arzoo.models.xar.network import XARConfig
from arzoo.samplers.plans.inplace import cells, masked
from arzoo.samplers.plans.shifted import raster
from arzoo.tokenizers.vq.network import VQTokenizerConfig
from arzoo.train.products import fast_products

Pass = Callable[[], Tensor]
MODELS = {
    "raster": (TransformerConfig(), CategoricalConfig()),
    "mar": (MARConfig(), DiffusionMLPConfig()),
    "xar": (XARConfig(), BackboneFlowConfig()),
}


def generator(model: str, batch: int) -> tuple[list[nn.Module], Pass]:
    """Networks with random weights and a function that computes the loss of a batch."""
    torch.manual_seed(0)
    backbone, head = (config.build().train() for config in MODELS[model])
    with torch.no_grad():
        for parameter in head.parameters():  # a projection of zeros would stop the gradient
            parameter.add_(torch.randn_like(parameter) * 0.02)
    layout = backbone.layout
    cond, known = Cond(batch, label=torch.arange(batch)), torch.rand(batch, layout.size) < 0.3
    if model == "raster":
        values, plan = torch.randint(0, 16384, (batch, layout.size)), raster(layout)
    else:
        values = torch.randn(batch, layout.size, 16)
        order = Draws([0]).permutation(layout.size)
        plan = cells(layout, 2) if model == "xar" else masked(layout, order, 64)
    tokens = Tokens.of(values, known if model == "mar" else None)

    def loss() -> Tensor:
        read = backbone.features(tokens, cond, plan)
        return head.loss(read, values, Draws(range(batch), 0)).mean()

    return [backbone, head], loss


def tokenizer(batch: int) -> tuple[list[nn.Module], Pass]:
    """The VQ tokenizer and its squared error."""
    torch.manual_seed(0)
    network, x = VQTokenizerConfig().build().train(), torch.rand(batch, 3, 1, 256, 256) * 2 - 1

    def loss() -> Tensor:
        reconstruction, bottleneck = network(x)
        return (reconstruction - x).square().mean() + sum(bottleneck.losses.values())

    return [network], loss


@contextlib.contextmanager
def products(parts: list[nn.Module]) -> Iterator[Counter[tuple[int, int, int]]]:
    """Count the products of linear layers and convolutions by (rows, inputs, outputs) inside the context."""
    counts: Counter[tuple[int, int, int]] = Counter()

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        out, width = layer.weight.shape[0], layer.weight[0].numel()
        counts[output.numel() // out, width, out] += 1

    layers = [m for part in parts for m in part.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    yield counts
    for hook in hooks:
        hook.remove()


def bound(counts: Counter[tuple[int, int, int]]) -> float:
    """Seconds of counted products, forward and for the gradients of inputs and weights."""
    total = 0.0
    for (rows, width, out), count in counts.items():
        x, weight, gradient = torch.randn(rows, width), torch.randn(out, width), torch.randn(rows, out)
        for a, b in ((x, weight), (gradient, weight.t()), (gradient.t(), x.t())):
            kernels: list[Pass] = [lambda a=a, b=b: F.linear(a, b)]
            if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
                multiply = torch.ops.mkldnn._linear_pointwise.default
                kernels.append(lambda a=a, b=b, f=multiply: f(a, b, None, "none", [], ""))
            with torch.no_grad():
                total += count * min(seconds(kernel) for kernel in kernels for _ in range(3))
    return total


def build(model: str, batch: int) -> tuple[list[nn.Module], Callable[[], float]]:
    """Networks, and a forward and backward pass that returns its loss."""
    parts, loss = tokenizer(batch) if model == "vq" else generator(model, batch)

    def run() -> float:
        for part in parts:
            part.zero_grad()
        torch.manual_seed(1)
        with fast_products():
            value = loss()
        value.backward()
        return float(value.detach())

    run()
    return parts, run


def other_pass(folder: Path, model: str, batch: int) -> OtherCheckout:
    """The same pass with the `benchmarks/training.py` of another checkout."""
    return OtherCheckout(folder, f"import training\n_, run = training.build({model!r}, {batch})")


def measure(model: str, arguments: Namespace) -> dict[str, Any]:
    """Measure one row of the table."""
    parts, run = build(model, arguments.batch)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    checkout = other_pass(arguments.other, model, arguments.batch) if arguments.other else None
    times: dict[str, list[float]] = {"arzoo": [], "other": []}
    with products(parts) as counts:
        run()
    for _ in range(arguments.repeat):
        times["arzoo"].append(seconds(run))
        if checkout is not None:
            times["other"].append(checkout())
    median, least = statistics.median(times["arzoo"]), bound(counts)
    row = {
        "batch": arguments.batch, "seconds": round(median, 3), "bound_seconds": round(least, 3),
        "share_of_bound": round(least / median, 3), "peak_mib": round(peak),
    }  # fmt: skip
    if checkout is not None:
        checkout.close()
        other_median = statistics.median(times["other"])
        row |= {"other_seconds": round(other_median, 3), "ratio_to_other": round(median / other_median, 3)}
    return row


def options(parser: ArgumentParser) -> None:
    """Add further options."""
    parser.add_argument("--batch", type=int, default=2, help="pictures per pass (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=3, help="timed passes per row (default: %(default)s)")
    parser.add_argument("--other", type=Path, help="folder of another checkout to alternate with")


if __name__ == "__main__":
    table(__doc__, {"model": [*MODELS, "vq"]}, measure, options)
