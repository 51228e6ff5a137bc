"""Heads for continuous tokens that predict a velocity and integrate it: rectified flow, t = 1 noise, t = 0 data.

Three networks behind one head: the backbone itself (xAR), an MLP per token, and a small transformer over a jointly
drawn group (`flow_net`). They differ in `predict`, the distribution of training times, the published solver and its
time grid.

Shapes: B samples, R rows, m positions, G groups, C channels, D width of the features, W width of the head.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from arzoo.base.registry import register
from arzoo.core.canvas import CanvasConfig
from arzoo.core.contracts import Head, Predict, Read
from arzoo.core.control import Settings
from arzoo.core.draws import Draws
from arzoo.core.readouts import average_readouts
from arzoo.models.common.activations import silu
from arzoo.models.common.embeddings import TimeEmbedding, time_tensor
from arzoo.models.common.modulation import initialise
from arzoo.models.heads.residual import ConditionedMLP
from arzoo.samplers.solvers.flow import Solver, flow_solver


@dataclass(frozen=True, kw_only=True)
class FlowConfig(CanvasConfig):
    """Settings of all flow heads.

    Attributes:
        channels: Numbers per token.
        solver: Solver where the settings give none.
        head_steps: Head steps where the settings give none.
        times: Distribution of training times, uniform or the sigmoid of a normal number.
    """

    channels: int = 16
    solver: str = "euler"
    head_steps: int = 25
    times: Literal["uniform", "logit-normal"] = "uniform"


class Flow(Head):
    """Draws by integrating a velocity, trains by regressing on it. Subclasses define `predict`."""

    config: FlowConfig
    discrete = False
    knobs = frozenset({"temperature", "head_steps", "solver"})

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.config = config

    def solver(self, name: str) -> Solver:
        """Return a solver by name, with the time grid that this head was published with."""
        return flow_solver(name)

    def evaluations(self, settings: Settings) -> int:
        """Count the network calls of the solver for one group.

        Raises:
            UnknownName: There is no such solver.
            ArzooError: The solver needs more steps.
        """
        solver = self.solver(settings.solver or self.config.solver)
        return solver.calls(settings.head_steps or self.config.head_steps)

    def sample(self, predict: Predict, read: Read, settings: Settings, draws: Draws) -> Tensor:
        """Draw vectors (B, m, C) at the positions of the Read; a group is drawn jointly where the velocity is joint.

        Known tokens are shown to the network with the same amount of noise as the others, and returned unchanged. The
        temperature scales all noise.

        Raises:
            ArzooError: There is no such solver, or it needs more steps.
        """
        solver, device = self.solver(settings.solver or self.config.solver), read.positions.device
        times = solver.times(settings.head_steps or self.config.head_steps)
        shape = draws.batch, read.positions.shape[-1], self.config.channels
        start = draws.normal(shape).to(device) * settings.temperature

        def pinned(x: Tensor, t: float) -> Tensor:
            if read.known is None:
                return x
            assert read.values is not None
            return torch.where(read.known[..., None], (1 - t) * read.values + t * start, x)

        def noise() -> Tensor:
            return draws.normal(shape, torch.float64) * settings.temperature

        drawn = solver.integrate(lambda x, t: predict(pinned(x, t), t), start, times, noise)
        return pinned(drawn, 0.0)

    def loss(self, read: Read, targets: Tensor, draws: Draws | None = None) -> Tensor:
        """Return the squared error (B, m) of the velocity, averaged over channels; one time per sample and group.

        Args:
            read: Read of all positions, with the groups as `parts`; without parts each token has its own time.
            targets: (B, m, C) clean tokens.
            draws: Draws first the times (B, G) or (B, m), then the noise (B, m, C).
        """
        assert draws is not None, "a flow head draws times and noise in training"
        times = self.times(read, targets, draws)
        noise = draws.normal(targets.shape).to(targets)
        share = times[..., None]
        velocity = self.predict(read, (1 - share) * targets + share * noise, times)
        return (velocity - (noise - targets)).square().mean(-1)

    def times(self, read: Read, targets: Tensor, draws: Draws) -> Tensor:
        """Draw training times (B, m), equal inside a group."""
        draw = draws.uniform if self.config.times == "uniform" else draws.logit_normal
        if not read.parts:
            return draw(targets.shape[:2]).to(targets)
        drawn = draw((len(targets), len(read.parts))).to(targets)
        times = targets.new_zeros(targets.shape[:2])
        for column, part in zip(drawn.split(1, 1), read.parts, strict=True):
            index = part.positions.expand(len(times), -1)
            times.scatter_(1, index, column.expand_as(index))
        return times


@dataclass(frozen=True, kw_only=True)
class BackboneFlowConfig(FlowConfig):
    """Settings of a `BackboneFlow`, as published for xAR."""

    solver: str = "euler-maruyama"
    head_steps: int = 50
    times: Literal["uniform", "logit-normal"] = "logit-normal"

    def build(self) -> BackboneFlow:
        """Build the head, which has no weights."""
        return BackboneFlow(self)


class BackboneFlow(Flow):
    """The backbone is the denoiser (xAR, 2025, section 3.3); the head has no parameters."""

    joint, needs = True, frozenset({"query"})

    def predict(self, read: Read, x: Tensor | None = None, t: Tensor | float | None = None) -> Tensor:
        """Predict the velocity (r, m, C) of noisy tokens x (r, m, C) at t, for as many rows as x has."""
        assert read.query is not None
        assert x is not None
        assert t is not None
        return read.query(x, t)


@dataclass(frozen=True, kw_only=True)
class FlowMLPConfig(FlowConfig):
    """Sizes of a `FlowMLP`.

    Attributes:
        width: Channels of the features.
        hidden: Channels of the head.
        depth: Residual blocks.
    """

    width: int = 768
    hidden: int = 1024
    depth: int = 3

    def build(self) -> FlowMLP:
        """Build a head that starts at velocity zero."""
        return FlowMLP(self)


class FlowMLP(Flow):
    """One velocity per token, from its features alone: the MLP of MAR's diffusion head trained as a rectified flow.

    "Autoregressive Image Generation without Vector Quantization" (MAR), 2024, section 3.2, for the network: residual
    blocks modulated by time and features, modulations and output starting at zero. It fits any backbone that gives
    features.
    """

    config: FlowMLPConfig

    def __init__(self, config: FlowMLPConfig) -> None:
        super().__init__(config)
        net = config.hidden
        self.time, self.condition = TimeEmbedding(net), nn.Linear(config.width, net)
        self.input, self.output = nn.Linear(config.channels, net), nn.Linear(net, config.channels)
        self.blocks = nn.ModuleList(ConditionedMLP(net) for _ in range(config.depth))
        self.norm = nn.LayerNorm(net, 1e-6, elementwise_affine=False)
        self.modulation = nn.Linear(net, 2 * net)
        initialise(self)
        for layer in (self.output, self.modulation, *(block.modulation for block in self.blocks)):
            if not layer.weight.is_meta:
                nn.init.zeros_(layer.weight)

    def repeated_blocks(self) -> list[nn.Module]:
        """Return its residual blocks."""
        return [*self.blocks]

    def prepare(self, read: Read) -> Read:
        """Project the features, which all solver steps share."""
        return replace(read, prepared=self.condition(average_readouts(read)))

    def predict(self, read: Read, x: Tensor | None = None, t: Tensor | float | None = None) -> Tensor:
        """Predict the velocity (r, m, C) of noisy tokens x (r, m, C) at t, a number or (r, m)."""
        assert x is not None
        assert t is not None
        prepared = self.prepare(read).prepared if read.prepared is None else read.prepared
        assert prepared is not None
        time = time_tensor(t, x.device)
        condition = silu(prepared + self.time(1000 * (time if time.dim() == 2 else time.reshape(1, 1))))
        y = self.input(x.to(prepared.dtype))
        for block in self.blocks:
            y = block(y, condition)
        shift, scale = self.modulation(condition).chunk(2, -1)
        return self.output(self.norm(y) * (1 + scale) + shift)


@register("head")
def backbone_flow() -> BackboneFlowConfig:
    """The backbone is the velocity field (xAR)."""
    return BackboneFlowConfig()


@register("head")
def flow_mlp() -> FlowMLPConfig:
    """A rectified flow per token (MAR with a flow head)."""
    return FlowMLPConfig()


@register("head")
def flow_mlp_tiny() -> FlowMLPConfig:
    """A flow head that trains on a CPU: 3 blocks, 256 channels, the sizes of `diffusion_mlp_tiny`."""
    return FlowMLPConfig(width=256, hidden=256)
