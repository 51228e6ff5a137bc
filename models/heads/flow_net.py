"""FlowAR's head: a small transformer that denoises a group jointly, conditioned position by position.

"FlowAR: Scale-wise Autoregressive Image Generation Meets Flow Matching", 2024, section 3.3 ("spatial adaLN").

Shapes: R rows, m positions, C channels, D width of the features, W width of the head.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from arzoo.base.errors import ArzooError
from arzoo.base.registry import register
from arzoo.core.contracts import Read
from arzoo.core.layout import Grid, Pyramid
from arzoo.core.pyramid import square_levels
from arzoo.core.readouts import average_readouts
from arzoo.core.tokens import gather_positions
from arzoo.models.common.activations import silu
from arzoo.models.common.attention import Attention, attend
from arzoo.models.common.embeddings import TimeEmbedding, time_tensor
from arzoo.models.common.modulation import (
    GatedMlp,
    ModulatedBlock,
    Modulation,
    Rotary,
    initialise,
    time_index,
)
from arzoo.models.common.rope import rotate
from arzoo.models.heads.flow import Flow, FlowConfig
from arzoo.samplers.solvers.flow import Solver, denser_end, flow_solver


@dataclass(frozen=True, kw_only=True)
class FlowNetConfig(FlowConfig):
    """Sizes of a `FlowNet`.

    Attributes:
        width: Channels of the features.
        hidden: Channels of the head, a multiple of 64.
        depth: Blocks.
        cross: Each block also attends to the features (the published choice for all but the smallest model).
        grid: (t, h, w) of the token canvas.
        levels: Sides of a pyramid of square levels, coarse to fine, instead of `grid`.
        norm_eps: Epsilon of RMSNorm.
    """

    width: int = 768
    hidden: int = 1024
    depth: int = 2
    cross: bool = False
    grid: tuple[int, int, int] = (1, 16, 16)
    levels: tuple[int, ...] = (1, 2, 4, 8, 16)
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        if self.hidden < 64 or self.hidden % 64:
            raise ArzooError(f"attention heads are 64 wide: hidden must be a multiple, got {self.hidden}")

    @property
    def layout(self) -> Grid | Pyramid:
        """Positions of the canvas."""
        return square_levels(self.levels) if self.levels else Grid(*self.grid)

    def build(self) -> FlowNet:
        """Build a head with fresh weights."""
        return FlowNet(self)


class FlowNet(Flow):
    """FlowAR's head. Solvers of ordinary equations use the published grid of times, `denser_end`."""

    config: FlowNetConfig
    joint = True

    def __init__(self, config: FlowNetConfig) -> None:
        super().__init__(config)
        width, net, eps = config.width, config.hidden, config.norm_eps
        hidden, heads = 8 * net // 3, net // 64
        self.time, self.condition = TimeEmbedding(net), nn.Linear(width, net)
        self.input, self.output = nn.Linear(config.channels, net), nn.Linear(net, config.channels)
        self.blocks = nn.ModuleList(
            CrossBlock(width, net, heads, hidden, eps)
            if config.cross
            else ModulatedBlock(net, heads, hidden, eps, qkv_bias=False)
            for _ in range(config.depth)
        )
        self.norm = nn.RMSNorm(net, eps, elementwise_affine=False)
        self.modulation = nn.Linear(net, 2 * net)
        self.rotary = Rotary(config.layout, 64)
        initialise(self)

    def repeated_blocks(self) -> list[nn.Module]:
        """Return its transformer blocks."""
        return [*self.blocks]

    def solver(self, name: str) -> Solver:
        """Return a solver by name; those of ordinary equations use the published grid of times."""
        solver = flow_solver(name)
        return solver if solver.name == "euler-maruyama" else replace(solver, grid=denser_end, least=2)

    def prepare(self, read: Read) -> Read:
        """Project the features and compute their keys and values, which all solver steps share."""
        features = average_readouts(read)
        parts = [self.condition(features)]
        if self.config.cross:
            rope = self._turns(read, len(features))
            parts += [block.context(features, rope) for block in self.blocks]
        return replace(read, prepared=torch.cat(parts, -1))

    def _turns(self, read: Read, rows: int) -> Tensor:
        return self.rotary(read.positions.repeat(rows // len(read.positions), 1))

    def predict(self, read: Read, x: Tensor | None = None, t: Tensor | float | None = None) -> Tensor:
        """Predict the velocity (r, m, C) of noisy tokens x (r, m, C).

        Args:
            read: Features of r rows; its `parts`, if any, are denoised separately.
            x: Noisy tokens.
            t: One number, or (r, m) equal inside a group.
        """
        assert x is not None
        assert t is not None
        time = time_tensor(t, x.device)
        if read.parts:
            assert time.dim() == 2
            out = torch.zeros_like(x)
            for part in read.parts:
                index = part.positions.expand(len(x), -1)
                velocity = self.predict(part, gather_positions(x, index), time.gather(1, index))
                out = out.scatter(1, index[..., None].expand_as(velocity), velocity)
            return out
        net, rope = self.config.hidden, self._turns(read, len(x))
        features, contexts = None, [None] * len(self.blocks)
        if read.prepared is None:
            features = average_readouts(read)
            condition = self.condition(features)
        else:
            count = read.prepared.shape[2] // (2 * net)
            condition, *contexts = read.prepared.split([net] + [2 * net] * count, -1)
        time = self.time(time_index(time[:, :1] if time.dim() == 2 else time.reshape(1, 1)))
        both = silu(condition + time)
        y = self.input(x.to(condition.dtype))
        if not self.config.cross:
            for block in self.blocks:
                y = block(y, Modulation(both), rope)
        else:
            for block, context in zip(self.blocks, contexts, strict=True):
                y = block(y, silu(time), both, rope, context, features)
        shift, scale = self.modulation(both).chunk(2, -1)
        return self.output(self.norm(y) * (1 + scale) + shift)


class CrossBlock(nn.Module):
    """Self-attention modulated by the time, cross-attention to the features, feed-forward modulated by both.

    The features stand at the same positions as the tokens, and both are rotated. The cross-attention has no gate.
    """

    def __init__(self, width: int, net: int, heads: int, hidden: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.RMSNorm(net, eps, elementwise_affine=False)
        self.attention = Attention(net, heads, proj_bias=True)
        self.query_norm, self.feature_norm = nn.RMSNorm(net, eps), nn.RMSNorm(width, eps)
        self.query, self.key_value = nn.Linear(net, net, bias=False), nn.Linear(width, 2 * net, bias=False)
        self.proj = nn.Linear(net, net)
        self.mlp = GatedMlp(net, hidden)
        self.modulation1, self.modulation2 = nn.Linear(net, 3 * net), nn.Linear(net, 3 * net)

    def context(self, features: Tensor, rope: Tensor) -> Tensor:
        """Compute rotated keys and values (r, m, 2 W) of features (r, m, D)."""
        key_value = self.key_value(self.feature_norm(features))
        key_value = key_value.view(*key_value.shape[:2], 2 * self.heads, -1)
        return torch.cat(
            [rotate(key_value[:, :, : self.heads], rope), key_value[:, :, self.heads :]], 2
        ).flatten(2)

    def forward(
        self,
        x: Tensor,
        time: Tensor,
        both: Tensor,
        rope: Tensor,
        context: Tensor | None = None,
        features: Tensor | None = None,
    ) -> Tensor:
        """Apply the block.

        Args:
            x: (r, m, W).
            time: (1 or r, 1, W) the embedded time after its activation.
            both: (r, m, W) time and features after their activation.
            rope: (1 or r, m, 1, 32) complex.
            context: (r, m, 2 W), from `context`.
            features: (r, m, D), from which the block computes the context if it is None: in training its weights may
                be sharded over processes, and are complete inside this call only.
        """
        if context is None:
            assert features is not None
            context = self.context(features, rope)
        gate, scale, shift = self.modulation1(time).chunk(3, -1)
        x = x + gate * self.attention(self.norm(x) * (1 + scale) + shift, rope, None)
        rows, count = x.shape[:2]
        query = rotate(self.query(self.query_norm(x)).view(rows, count, self.heads, -1), rope)
        key, value = context.view(rows, count, 2 * self.heads, -1).transpose(1, 2).chunk(2, 1)
        x = x + self.proj(attend(query.transpose(1, 2), key, value, None).transpose(1, 2).flatten(2))
        gate, scale, shift = self.modulation2(both).chunk(3, -1)
        return x + gate * self.mlp(self.norm(x) * (1 + scale) + shift)


@register("head")
def flow_net() -> FlowNetConfig:
    """A small transformer draws a scale jointly (FlowAR-S)."""
    return FlowNetConfig()


@register("head")
def flow_net_l() -> FlowNetConfig:
    """The same with cross-attention (FlowAR-L)."""
    return FlowNetConfig(width=1024, depth=12, cross=True)


@register("head")
def flow_net_h() -> FlowNetConfig:
    """The same, wider (FlowAR-H)."""
    return FlowNetConfig(width=1536, hidden=1536, depth=12, cross=True, head_steps=50)


@register("head")
def flow_net_tiny() -> FlowNetConfig:
    """The small transformer for 8 x 8 tokens of 8 channels that trains on a CPU."""
    return FlowNetConfig(width=192, channels=8, hidden=128, levels=(1, 2, 4, 8))
