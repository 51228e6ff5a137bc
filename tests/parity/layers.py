"""Gradients of a single layer against a recording."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from parity.golden import GRADIENT_TOLERANCE, Golden, assert_close
from torch import Tensor, nn

from arzoo.models.common.convert import Join, split


def check_gradients(
    layer: nn.Module, x: Tensor, y: Tensor, table: Mapping[str, Join], of_x: Tensor, of_weights: Golden
) -> None:
    """Compare the gradients of the sum of squares of the outputs y with respect to inputs x and all weights.

    Args:
        layer: The layer, whose weights `table` calls "layer.NAME".
        x: Its inputs, which require gradients.
        y: Its outputs.
        table: The published names of its weights.
        of_x: The recorded gradient of the inputs.
        of_weights: Those of the weights, by published name.
    """
    weights = {f"layer.{name}": weight for name, weight in layer.named_parameters()}
    grads = torch.autograd.grad(y.square().sum(), [x, *weights.values()])
    assert_close("gradient of x", grads[0], of_x, GRADIENT_TOLERANCE)
    by_name = split(dict(zip(weights, grads[1:], strict=True)), table)
    assert by_name.keys() == of_weights.keys()
    for name, want in of_weights.items():
        assert_close(f"gradient of {name}", by_name[name], want, GRADIENT_TOLERANCE)
