"""Seconds of a forward and backward pass at the papers' sizes, beside the bound of its matrix products.

Raster-B, MAR-B and xAR-B with 256 tokens a picture and the VQ tokenizer with 256 x 256 pixels; float32, random weights,
every gradient. The bound is the time of the products of the linear layers alone, forward and for both gradients, by the
fastest kernel for each; convolutions and attention are not in it. The peak is the process's largest resident memory.
Every row is measured in a process of its own.

    python benchmarks/training.py
    python benchmarks/training.py --model raster --threads 1 --repeat 5
    python benchmarks/training.py --model raster --threads 1 --other FOLDER  # another checkout in turn (A B A B)
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
from common import Other, seconds, table
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
    """Networks with random weights and what computes the loss of a batch."""
    torch.manual_seed(0)
    backbone, head = (config.build().train() for config in MODELS[model])
    with torch.no_grad():
        for parameter in head.parameters():  # a projection of zeros would hand no gradient on
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
        found, bottleneck = network(x)
        return (found - x).square().mean() + bottleneck.codebook + bottleneck.commitment

    return [network], loss


@contextlib.contextmanager
def linear_layers(parts: list[nn.Module]) -> Iterator[Counter[tuple[int, int, int]]]:
    """Counts (rows, inputs, outputs) of the products of linear layers while it is open."""
    found: Counter[tuple[int, int, int]] = Counter()

    def count(layer: nn.Linear, inputs: tuple[Tensor, ...]) -> None:
        rows = inputs[0].numel() // layer.in_features
        found[rows, layer.in_features, layer.out_features] += 1

    layers = [m for part in parts for m in part.modules() if isinstance(m, nn.Linear)]
    hooks = [layer.register_forward_pre_hook(count) for layer in layers]
    yield found
    for hook in hooks:
        hook.remove()


def bound(found: Counter[tuple[int, int, int]]) -> float:
    """Seconds of counted products, forward and for the gradients of inputs and weights."""
    total = 0.0
    for (rows, width, out), count in found.items():
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


def other_pass(folder: Path, model: str, batch: int) -> Other:
    """The same pass by the `benchmarks/training.py` of another checkout."""
    return Other(folder, f"import training\n_, run = training.build({model!r}, {batch})")


def measure(model: str, arguments: Namespace) -> dict[str, Any]:
    """One row of the table."""
    parts, run = build(model, arguments.batch)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    other = other_pass(arguments.other, model, arguments.batch) if arguments.other else None
    times: dict[str, list[float]] = {"ours": [], "other": []}
    with linear_layers(parts) as found:
        run()
    for _ in range(arguments.repeat):
        times["ours"].append(seconds(run))
        if other is not None:
            times["other"].append(other())
    ours, least = statistics.median(times["ours"]), bound(found)
    row = {
        "batch": arguments.batch, "seconds": round(ours, 3), "bound_seconds": round(least, 3),
        "share_of_bound": round(least / ours, 3), "peak_mib": round(peak),
    }  # fmt: skip
    if other is not None:
        other.close()
        theirs = statistics.median(times["other"])
        row |= {"other_seconds": round(theirs, 3), "ratio_to_other": round(ours / theirs, 3)}
    return row


def options(parser: ArgumentParser) -> None:
    """Arguments beside the choices."""
    parser.add_argument("--batch", type=int, default=2, help="pictures a pass (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=3, help="counted passes a row (default: %(default)s)")
    parser.add_argument("--other", type=Path, help="folder of another checkout to run in turn")


if __name__ == "__main__":
    table(__doc__, {"model": [*MODELS, "vq"]}, measure, options)
