"""The tri-directional Mamba layer of TokenUnify: a volume is scanned forward, backward and across its slices.

"TokenUnify: Scaling Up Autoregressive Pretraining for Neuron Segmentation", 2025, whose published code calls the layer
"bimamba v3"; "SegMamba: Long-range Sequential Modeling Mamba For 3D Medical Image Segmentation", 2024 (tri-orientated
Mamba). Decisions, all from the published code:

* the three scans share the projections and have a convolution, step sizes, rates and a gate each; their sum is not
  divided;
* the scan across slices takes the voxels in equal parts, `slices` of them, and reads the first of each part, then the
  second of each, and so on. The number of parts is 5 at every stage, whatever the number of slices of the volume;
* there is no residual around the layer.

Shapes: B samples, C channels, Z Y X sides of the volume, S = Z Y X voxels, D inner channels.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from arzoo.base.errors import ArzooError
from arzoo.models.mamba.layers import SelectiveBranch


class Branch(SelectiveBranch):
    """One of the scans of `TriMamba`.

    Args:
        channels: D.
        state: Numbers per channel of the state.
        rank: Channels from which the steps are projected.
        kernel: Tokens of the convolution.
        spread: Step sizes begin spread over orders of magnitude, as those of Mamba do; otherwise with the initial
            biases of any linear layer, as published for the scans that are not forward.
    """

    undecayed = frozenset()  # here the rates are decayed, as published

    def __init__(self, channels: int, state: int, rank: int, kernel: int, spread: bool) -> None:
        super().__init__(channels, state, rank, kernel)
        if not spread:
            self.dt_proj.reset_parameters()


class TriMamba(nn.Module):
    """Three scans of Mamba-1 over the same inputs, summed.

    Args:
        width: C.
        state: Numbers per channel of the state.
        expand: D / C.
        kernel: Tokens of the convolutions.
        rank: Channels from which the steps are projected; 0 is C / 16, rounded up.
        slices: Parts of the scan across slices.
    """

    def __init__(
        self, width: int, state: int = 16, expand: int = 2, kernel: int = 4, rank: int = 0, slices: int = 5
    ) -> None:
        super().__init__()
        self.slices = slices
        inner, rank = expand * width, rank or math.ceil(width / 16)
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        self.forth, self.back, self.across = (
            Branch(inner, state, rank, kernel, spread=i == 0) for i in range(3)
        )
        self.out_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x_BSC: Tensor) -> Tensor:
        """Apply the layer to voxels in raster order.

        Raises:
            ArzooError: Their number is no multiple of the parts.
        """
        refuse_uneven(x_BSC.shape[1], self.slices)
        x, gate = self.in_proj(x_BSC).chunk(2, -1)
        y = self.forth(x, gate)[0]
        y = y + self.back(x.flip(1), gate.flip(1))[0].flip(1)
        across = self.across(_interleave(x, self.slices), _interleave(gate, self.slices))[0]
        return self.out_proj(y + _interleave(across, across.shape[1] // self.slices))


class MambaLayer(nn.Module):
    """A norm and a `TriMamba` over the voxels of a volume. Arguments as those of `TriMamba`."""

    def __init__(
        self, width: int, state: int = 16, expand: int = 2, kernel: int = 4, rank: int = 0, slices: int = 5
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mixer = TriMamba(width, state, expand, kernel, rank, slices)

    def forward(self, x_BCZYX: Tensor) -> Tensor:
        """Apply the layer to a volume; errors as those of `TriMamba`."""
        voxels = x_BCZYX.flatten(2).transpose(1, 2)
        return self.mixer(self.norm(voxels)).transpose(1, 2).unflatten(2, x_BCZYX.shape[2:])


def refuse_uneven(voxels: int, slices: int) -> None:
    """Refuse a number of voxels that is no multiple of the parts of the scan across slices.

    Raises:
        ArzooError: It is not.
    """
    if voxels % slices:
        raise ArzooError(
            f"the scan across slices takes {slices} equal parts, but a stage has {voxels} voxels: crop or pad the "
            f"volume so that {slices} divides them, or train a network with another number of `slices`"
        )


def _interleave(x_BSD: Tensor, parts: int) -> Tensor:
    """Take the first of each of `parts` equal parts, then the second of each; undone by parts = S / parts."""
    return x_BSD.unflatten(1, (parts, -1)).transpose(1, 2).flatten(1, 2)
