"""The layers of Mamba-1 and Mamba-2, whole sequences and token by token, with a memory that goes in and comes out.

"Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023, section 3.4; "Transformers are SSMs", 2024,
section 7. Weights have the names of the published code, which all implementations share. A memory is a pair: the last
K - 1 inputs of the convolution, and the state of the recurrence, which is kept in float32.

Shapes: R rows, S tokens, W width of the layer, D inner channels, K tokens of the convolution, N numbers per channel of
the state, H heads of P channels, G groups of heads.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from arzoo.base.errors import ArzooError
from arzoo.models.common.activations import silu, softplus
from arzoo.models.common.blocked_scan import blocked_step
from arzoo.models.common.chunked_scan import chunked_step
from arzoo.models.common.scans import grouped_scan, selective_scan, short_conv

Memory = tuple[Tensor, Tensor]
"""Last inputs of the convolution (R, K - 1, ...), and the state."""


class ShortConv(nn.Module):
    """Causal convolution of each channel over K tokens, and SiLU."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        # The initial weights of a `Conv1d` over separate channels.
        bound = kernel**-0.5
        self.weight = nn.Parameter(torch.empty(channels, 1, kernel).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(channels).uniform_(-bound, bound))

    def forward(
        self, x: Tensor, past: Tensor | None = None, kept: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Convolve x (R, S, D), which follows on `past` (R, K - 1, D), zeros if None.

        Returns:
            The result (R, S, D), and the last inputs (R, K - 1, D).
        """
        if kept is not None:
            x = x * kept[..., None]
        return silu(short_conv(x, self.weight, self.bias, past)), self._last(x, past, kept)

    def _last(self, x: Tensor, past: Tensor | None, kept: Tensor | None) -> Tensor:
        count = self.weight.shape[-1] - 1
        if past is None:
            past = x.new_zeros(len(x), count, x.shape[2])
        past = past.to(x.dtype)
        if kept is None:
            last = torch.cat([past, x[:, max(x.shape[1] - count, 0) :]], 1)
            return last[:, last.shape[1] - count :]
        # Padding may also follow the tokens of a row: its last token is the last one that is kept.
        length = torch.arange(1, x.shape[1] + 1, device=x.device)
        ends = (kept * length).amax(1, keepdim=True)
        index = ends + torch.arange(count, device=x.device)
        return torch.cat([past, x], 1).gather(1, index[..., None].expand(-1, -1, x.shape[2]))


class SelectiveBranch(nn.Module):
    """A convolution, a selective scan and a gate: the layer of Mamba-1 between its projections.

    Args:
        channels: D.
        state: N.
        rank: Channels from which the steps are projected.
        kernel: K.
    """

    undecayed = frozenset({"A_log", "D"})  # as published, see `arzoo.train.optim`

    def __init__(self, channels: int, state: int, rank: int, kernel: int) -> None:
        super().__init__()
        self.sizes = rank, state, state
        self.conv1d = ShortConv(channels, kernel)
        self.x_proj = nn.Linear(channels, rank + 2 * state, bias=False)
        self.dt_proj = nn.Linear(rank, channels)
        self.A_log = nn.Parameter(torch.arange(1, state + 1).float().log().repeat(channels, 1))
        self.D = nn.Parameter(torch.ones(channels))
        if not self.D.is_meta:
            nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
            self.dt_proj.bias.data.copy_(step_bias(channels))

    def forward(
        self, x: Tensor, gate: Tensor, memory: Memory | None = None, kept: Tensor | None = None
    ) -> tuple[Tensor, Memory]:
        """Scan x (R, S, D), gated by `gate` (R, S, D).

        Args:
            x: Inputs.
            gate: Inputs of the gate, before its SiLU.
            memory: What came before, its state (R, N, D); None is nothing.
            kept: (R, S) bool, False at padding, which may come before or after the tokens of a row; see `Mamba1`.

        Returns:
            (R, S, D), and the memory after the last token.
        """
        past, state = memory or (None, None)
        x, past = self.conv1d(x, past, kept)
        low, B, C = self.x_proj(x).split(self.sizes, -1)
        dt, A = softplus(self.dt_proj(low).float()), -self.A_log.float().exp().t()
        if kept is not None:
            dt = dt * kept[..., None]
        if state is not None and x.shape[1] == 1:
            y, state = blocked_step(x[:, 0], dt[:, 0], A, B[:, 0], C[:, 0], state)
            y = y[:, None]
        else:
            y, state = selective_scan(x, dt, A, B, C, state)
        return (y + x * self.D) * silu(gate), (past, state)


class Mamba1(nn.Module):
    """The layer of Mamba-1.

    Args:
        width: W.
        state: N.
        expand: D / W.
        kernel: K.
        rank: Channels from which the steps are projected.
        bias: Both projections have biases.
        inner: D, if it is no multiple of the width; 0 is expand * width.
    """

    def __init__(
        self, width: int, state: int, expand: int, kernel: int, rank: int, bias: bool = False, inner: int = 0
    ) -> None:
        super().__init__()
        inner = inner or expand * width
        self.in_proj = nn.Linear(width, 2 * inner, bias=bias)
        self.branch = SelectiveBranch(inner, state, rank, kernel)
        self.out_proj = nn.Linear(inner, width, bias=bias)

    def forward(
        self, x: Tensor, memory: Memory | None = None, kept: Tensor | None = None
    ) -> tuple[Tensor, Memory]:
        """Apply the layer to x (R, S, W).

        Args:
            x: Inputs.
            memory: What came before; None is nothing.
            kept: (R, S) bool, False at padding before or after the tokens of a row, which changes neither the outputs
                of tokens nor the memory. Padding before tokens is for rows without a memory. None keeps all.

        Returns:
            (R, S, W), and the memory after the last token.
        """
        y, gate = self.in_proj(x).chunk(2, -1)
        y, memory = self.branch(y, gate, memory, kept)
        return self.out_proj(y.to(x.dtype)), memory


class GatedNorm(nn.Module):
    """RMSNorm of gated channels, over each group of them.

    Args:
        channels: D.
        groups: G.
        eps: Epsilon of the norm.
    """

    def __init__(self, channels: int, groups: int, eps: float) -> None:
        super().__init__()
        self.groups, self.eps = groups, eps
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        """Gate x (R, S, D) by the SiLU of `gate` (R, S, D), then norm it."""
        x = (x * silu(gate)).float().unflatten(-1, (self.groups, -1))
        x = x * (x.square().mean(-1, keepdim=True) + self.eps).rsqrt()
        return x.flatten(-2) * self.weight


class Mamba2(nn.Module):
    """The layer of Mamba-2.

    Args:
        width: W.
        state: N.
        expand: D / W.
        kernel: K.
        head_width: P.
        groups: G.
        bias: Both projections have biases.
        norm_eps: Epsilon of the norm.
    """

    undecayed = frozenset({"A_log", "D", "dt_bias"})

    def __init__(
        self,
        width: int,
        state: int,
        expand: int,
        kernel: int,
        head_width: int,
        groups: int,
        bias: bool = False,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        inner = expand * width
        heads = inner // head_width
        if heads * head_width != inner or heads % groups:
            raise ArzooError(
                f"{inner} inner channels must be whole heads of {head_width}, and the heads {groups} equal groups"
            )
        self.head_width, self.groups = head_width, groups
        shared = inner + 2 * groups * state
        self.sizes = (inner, shared, heads), (inner, groups * state, groups * state)
        self.in_proj = nn.Linear(width, inner + shared + heads, bias=bias)
        self.conv1d = ShortConv(shared, kernel)
        self.dt_bias = nn.Parameter(step_bias(heads))
        self.A_log = nn.Parameter(torch.empty(heads).uniform_(1, 16).log())
        self.D = nn.Parameter(torch.ones(heads))
        self.norm = GatedNorm(inner, groups, norm_eps)
        self.out_proj = nn.Linear(inner, width, bias=bias)

    def forward(
        self, x: Tensor, memory: Memory | None = None, kept: Tensor | None = None
    ) -> tuple[Tensor, Memory]:
        """Apply the layer to x (R, S, W); arguments as those of `Mamba1`, the state is (R, H, P, N)."""
        past, state = memory or (None, None)
        gate, shared, low = self.in_proj(x).split(self.sizes[0], -1)
        shared, past = self.conv1d(shared, past, kept)
        y, B, C = shared.split(self.sizes[1], -1)
        y, B, C = (
            y.unflatten(-1, (-1, self.head_width)),
            *(part.unflatten(-1, (self.groups, -1)) for part in (B, C)),
        )
        dt, A = softplus((low + self.dt_bias).float()), -self.A_log.float().exp()
        if kept is not None:
            dt = dt * kept[..., None]
        skip = y * self.D[:, None]
        if state is not None and x.shape[1] == 1:
            y, state = chunked_step(y[:, 0], dt[:, 0], A, B[:, 0], C[:, 0], state)
            y = y[:, None]
        else:
            y, state = grouped_scan(y, dt, A, B, C, state)
        return self.out_proj(self.norm((y + skip).flatten(2), gate).to(x.dtype)), (past, state)


def step_bias(count: int, least: float = 1e-3, most: float = 0.1) -> Tensor:
    """Biases (count,) for which the steps after softplus are spread evenly over orders of magnitude, as published."""
    dt = torch.empty(count).uniform_(math.log(least), math.log(most)).exp().clamp(min=1e-4)
    return dt + torch.log(-torch.expm1(-dt))
