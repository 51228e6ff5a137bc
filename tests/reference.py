"""Tiny backbones and heads that together can read every plan, written for clarity: the subjects of the contract tests.

Shapes as in arzoo.core.contracts; D is the width of the tiny networks.
"""

import torch
from torch import nn

from arzoo.core.canvas import BackboneConfig, CanvasConfig
from arzoo.core.contracts import Backbone, Head, Read
from arzoo.core.layout import Pyramid
from arzoo.core.state import State
from arzoo.core.tokens import gather_positions
from arzoo.models.common.attention import Block
from arzoo.models.common.decoder_only import CachedDecoder

WIDTH, HEADS, CLASSES = 16, 2, 5


def blocks(count):
    return nn.ModuleList(Block(WIDTH, HEADS, 2 * WIDTH, 1e-5) for _ in range(count))


def rows_like(x, rows):
    """(1 or B, ...) values for `rows` rows, [x; x] under guidance."""
    return x.repeat(rows // len(x), *[1] * (x.dim() - 1))


class Embed(nn.Module):
    """Tokens of any kind plus their positions."""

    def __init__(self, spec, positions=True):
        super().__init__()
        self.spec = spec
        self.code = nn.Linear(max(spec.channels, 1), WIDTH)
        if spec.discrete:
            self.code = nn.Embedding(spec.vocab * spec.codebooks, WIDTH)
        if positions:
            self.position = nn.Parameter(torch.randn(spec.layout.size, WIDTH))

    def content(self, values):
        if not self.spec.discrete:
            return self.code(values)
        if self.spec.codebooks == 1:
            return self.code(values)
        return self.code(values + self.spec.vocab * torch.arange(self.spec.codebooks)).sum(-2)


class Shifted(CachedDecoder):
    """Causal over ranks, any layout, axes, extras and codebooks."""

    config = BackboneConfig()

    def __init__(self, spec, axes=1, extras=0):
        super().__init__()
        self.width, self.axes, self.extras, self.depth = WIDTH, axes, extras, 1 + axes
        self.label = nn.Embedding(CLASSES + 1, WIDTH)
        self.token = Embed(spec, positions=False)
        self.extra = nn.Parameter(torch.randn(extras, WIDTH)) if extras else None
        self.place = nn.Parameter(torch.randn(spec.layout.size + extras + 1, WIDTH))
        self.blocks = blocks(self.depth)

    def prefix(self, cond):
        return self.label(cond.label_or(CLASSES))[:, None]

    def prefix_positions(self, count):
        return self.place[-1:].expand(count, -1)[None]

    def positions(self, slots):
        return self.place[slots]

    def embed(self, values, slots, plan):
        size = plan.layout.size
        x = self.token.content(gather_positions(values, slots.clamp(max=size - 1)))
        if self.extra is None:
            return x
        return torch.where((slots >= size)[..., None], self.extra[(slots - size).clamp(min=0)], x)

    def new_cache(self, rows, capacity):
        shape = rows, HEADS, capacity, WIDTH // HEADS
        return [(torch.zeros(shape), torch.zeros(shape)) for _ in self.blocks]

    def trunk(self, x, positions, mask, cache, fill, cond):
        x, outs = x + positions, []
        for i, block in enumerate(self.blocks):
            x = block(x, None, mask, cache and cache[i], fill)
            if i >= self.depth - self.axes:
                outs.append(x)
        return torch.stack(outs, 2)


class Masked(Backbone):
    """Bidirectional: re-encodes what is known at every step, a mask query elsewhere. No cache."""

    config, width = BackboneConfig(), WIDTH
    readouts, bidirectional = frozenset({"inplace"}), True

    def __init__(self, spec):
        super().__init__()
        self.label = nn.Embedding(CLASSES + 1, WIDTH)
        self.token, self.query, self.blocks = Embed(spec), nn.Parameter(torch.randn(WIDTH)), blocks(2)

    def encode(self, values, known, cond):
        rows = cond.batch
        x = torch.where(
            rows_like(known, rows)[..., None], self.token.content(rows_like(values, rows)), self.query
        )
        x = torch.cat([self.label(cond.label_or(CLASSES))[:, None], x + self.token.position], 1)
        for block in self.blocks:
            x = block(x, None, None)
        return x[:, 1:, None]

    def features(self, tokens, cond, plan):
        positions = torch.arange(plan.layout.size)[None]
        return Read(positions, self.encode(tokens.values, tokens.known, cond))

    def step(self, state, tokens, step):
        group = state.plan.drawn(step)
        out = self.encode(tokens.values, tokens.known, state.cond)
        index = rows_like(group.expand(state.batch, -1), len(out))[..., None, None]
        return Read(group, out.gather(1, index.expand(-1, -1, 1, WIDTH)))


class NextX(Backbone):
    """The backbone is the denoiser: clean groups are cached, a noisy query probes the cache without being stored."""

    config, width = BackboneConfig(), WIDTH
    readouts, gives = frozenset({"inplace"}), frozenset({"query"})

    def __init__(self, spec):
        super().__init__()
        self.label = nn.Embedding(CLASSES + 1, WIDTH)
        self.token, self.time, self.blocks = Embed(spec), nn.Linear(1, WIDTH), blocks(2)
        self.out = nn.Linear(WIDTH, spec.channels)

    def inputs(self, values, positions, t):
        times = torch.as_tensor(t).expand(values.shape[:2]).to(values.dtype)
        return self.token.content(values) + self.token.position[positions] + self.time(times[..., None])

    def prefix(self, cond):
        return self.label(cond.label_or(CLASSES))[:, None]

    def run(self, x, mask, cache=None, fill=0):
        for i, block in enumerate(self.blocks):
            x = block(x, None, mask, cache and cache[i], fill)
        return x

    def features(self, tokens, cond, plan):
        """Sequence [label, clean, noisy]: clean sees its ranks, noisy sees lower ranks and its own group."""
        n, everything = plan.layout.size, torch.arange(plan.layout.size)[None]
        rank = plan.slot_rank
        same, lower = rank[:, :, None] == rank[:, None], rank[:, :, None] > rank[:, None]
        mask = torch.zeros(len(rank), 2 * n + 1, 2 * n + 1, dtype=torch.bool)
        mask[:, :, 0] = True
        mask[:, 1 : n + 1, 1 : n + 1] = same | lower
        mask[:, n + 1 :, 1 : n + 1], mask[:, n + 1 :, n + 1 :] = lower, same
        prefix, clean = self.prefix(cond), self.inputs(tokens.values, everything, 0.0)

        def query(x, t):
            y = self.run(torch.cat([prefix, clean, self.inputs(x, everything, t)], 1), mask[:, None])
            return self.out(y[:, n + 1 :])

        return Read(everything, query=query)

    def start(self, cond, plan, branches):
        state = State(plan, cond, branches)
        shape = state.rows, HEADS, plan.layout.size + 1, WIDTH // HEADS
        state.kv = [(torch.zeros(shape), torch.zeros(shape)) for _ in self.blocks]
        self.run(self.prefix(state.cond), None, state.kv, 0)
        state.fill = 1
        return state

    def step(self, state, tokens, step):
        slots, ranks = state.pending(step)
        if slots.shape[1]:
            x = self.inputs(gather_positions(tokens.values, slots[: state.batch]), slots[: state.batch], 0.0)
            mask = None
            if ranks > 1:
                seen = state.seen()
                mask = torch.ones(len(slots), slots.shape[1], state.fill + slots.shape[1], dtype=torch.bool)
                mask[:, :, 1:] = state.plan.mask(slots, seen)
                mask = mask[:, None]
            self.run(rows_like(x, state.rows), mask, state.kv, state.fill)
            state.fill += slots.shape[1]
        group = state.plan.groups[step]

        def query(x, t):
            probe = [tuple(torch.cat([old[: len(x), :, : state.fill], torch.zeros(len(x), HEADS, x.shape[1],
                     WIDTH // HEADS)], 2) for old in layer) for layer in state.kv]  # fmt: skip
            positions = rows_like(group.expand(state.batch, -1), len(x))
            return self.out(self.run(self.inputs(x, positions, t), None, probe, state.fill))

        return Read(group, query=query)


class Draft(Backbone):
    """Inputs at a level are computed from the canvas of coarser levels and stay in the cache."""

    config, width = BackboneConfig(), WIDTH
    readouts = frozenset({"draft"})

    def __init__(self, spec):
        super().__init__()
        self.label = nn.Embedding(CLASSES + 1, WIDTH)
        self.token, self.blocks = Embed(spec), blocks(2)

    def drafts(self, values, cond, layout: Pyramid):
        """(R, N, D): at level i the mean of all coarser tokens, the label at level 0."""
        label = self.label(cond.label_or(CLASSES))[:, None]
        content, parts = self.token.content(rows_like(values, cond.batch)), []
        for i, grid in enumerate(layout.levels):
            coarse = content[:, : layout.span(i).start]
            parts.append((label + coarse.sum(1, keepdim=True)).expand(-1, grid.size, -1))
        return torch.cat(parts, 1) + self.token.position

    def run(self, x, mask, cache=None, fill=0):
        for i, block in enumerate(self.blocks):
            x = block(x, None, mask, cache and cache[i], fill)
        return x

    def features(self, tokens, cond, plan):
        everything = torch.arange(plan.layout.size)[None]
        out = self.run(
            self.drafts(tokens.values, cond, plan.layout), plan.mask(everything, everything)[:, None]
        )
        return Read(everything, out[:, :, None])

    def start(self, cond, plan, branches):
        state = State(plan, cond, branches)
        shape = state.rows, HEADS, plan.layout.size, WIDTH // HEADS
        state.kv = [(torch.zeros(shape), torch.zeros(shape)) for _ in self.blocks]
        state.tensors["features"] = torch.zeros(state.rows, plan.layout.size, WIDTH)
        return state

    def step(self, state, tokens, step):
        slots, ranks = state.pending(step + 1)  # the drafts of this step are inputs of this step
        if slots.shape[1]:
            x = self.drafts(tokens.values, state.cond, state.plan.layout)[:, slots[0]]
            mask = state.plan.mask(slots, state.seen())[:, None] if ranks > 1 else None
            state.tensors["features"][:, slots[0]] = self.run(x, mask, state.kv, state.fill)
            state.fill += slots.shape[1]
        group = state.plan.groups[step]
        return Read(group, state.tensors["features"][:, group[0], None])


class Pivots(Masked):
    """Two stages: masked over the coarse level, then over the fine one beside vectors of the finished pivots."""

    def features(self, tokens, cond, plan, stage=0):
        span = plan.layout.span(stage)
        known = tokens.known.clone()
        if stage == 0:
            known[:, span.stop :] = False
        everything = torch.arange(plan.layout.size)[None, span]
        return Read(everything, self.encode(tokens.values, known, cond)[:, span])

    def step(self, state, tokens, step):
        plan = state.plan
        stage = plan.stage[step]
        if stage == 1 and "pivots_B" not in state.tensors:
            state.tensors["pivots_B"] = tokens.values[:, plan.layout.span(0)].clone()
        values = tokens.values.clone()
        if stage == 1:
            values[:, plan.layout.span(0)] = state.tensors["pivots_B"]
        span = plan.layout.span(stage)
        read = self.features(
            type(tokens)(values, tokens.known, tokens.given, tokens.length), state.cond, plan, stage
        )
        inside = tokens.known[:, span], values[:, span]
        return Read(
            read.positions, read.features, known=inside[0], values=inside[1], span=(1, span.stop - span.start)
        )


class FeatureFlow(Head):
    """Velocity from features, noisy token and time; Euler steps from noise at t = 1 to data at t = 0."""

    config = CanvasConfig()
    discrete, knobs = False, frozenset({"temperature", "head_steps"})

    def __init__(self, channels):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(WIDTH + channels + 1, WIDTH), nn.SiLU(), nn.Linear(WIDTH, channels)
        )
        self.channels = channels

    def predict(self, read, x=None, t=None):
        h = read.features[:, :, 0]
        x = rows_like(x, len(h))
        time = torch.as_tensor(t).expand(x.shape[:2]).to(x.dtype)[..., None]
        return self.net(torch.cat([h, x, time], -1))

    def sample(self, predict, read, at, draws):
        x, steps = draws.normal((draws.batch, read.positions.shape[1], self.channels)), max(at.head_steps, 1)
        for i in range(steps):
            x = x - predict(x, 1 - i / steps) / steps
        return x

    def loss(self, read, targets, draws=None):
        noise, t = draws.normal(targets.shape), draws.uniform(targets.shape[:2], torch.float32)
        noisy = targets + t[..., None] * (noise - targets)
        return (self.predict(read, noisy, t) - (noise - targets)).square().mean(-1)


class QueryFlow(FeatureFlow):
    """The same flow with the backbone as velocity field; no parameters."""

    needs = frozenset({"query"})

    def __init__(self, channels):
        nn.Module.__init__(self)
        self.channels = channels

    def predict(self, read, x=None, t=None):
        return read.query(x, t)
