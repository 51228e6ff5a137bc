"""Every plan with a backbone and a head that can read it."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import torch
from contracts.networks import (
    bare_head,
    diffusion,
    dit,
    flow_mlp,
    head,
    himar,
    mamba,
    mar,
    maskgit,
    nbp,
    plain_head,
    rar,
    shaken,
    transformer,
)
from reference import CLASSES, Draft, FeatureFlow, Masked, NextX, Pivots, QueryFlow, Shifted

from arzoo.core.condition import Cond
from arzoo.core.control import Control
from arzoo.core.draws import Draws
from arzoo.core.layout import Grid, Ordered, Pyramid
from arzoo.core.plan import Plan
from arzoo.core.tokens import Tokens, TokenSpec
from arzoo.models.flowar.network import FlowARConfig
from arzoo.models.heads.flow import BackboneFlowConfig
from arzoo.models.heads.flow_net import FlowNetConfig
from arzoo.models.var.network import VARConfig
from arzoo.models.xar.network import XARConfig
from arzoo.samplers import schedules
from arzoo.samplers.loop import generate, start
from arzoo.samplers.plans.inplace import cells, confident, inplace, masked, subsamples, whole
from arzoo.samplers.plans.ordered import ordered
from arzoo.samplers.plans.pivots import pivots
from arzoo.samplers.plans.scales import scales
from arzoo.samplers.plans.shifted import custom, next_block, next_neighbor, parallel, raster, zipar
from arzoo.tokenizers.quantizers.multi_scale import LevelSums, MultiScaleQuantizer

SQUARE, CLIP, SQUARES, LINE = Grid(1, 4, 4), Grid(3, 2, 3), Grid(2, 4, 4), Ordered(12)
LEVELS = Pyramid((Grid(1, 1, 1), Grid(1, 2, 2), Grid(1, 3, 3)))
TWO = Pyramid((Grid(1, 2, 2), Grid(1, 4, 4)))
SAMPLES, SEEDS = 3, [5, 6, 7]


@dataclass
class Case:
    """Parts that fit. `plan(batch)` makes the order, one a sample where it is random."""

    spec: TokenSpec
    plan: Callable[[int], Plan]
    model: SimpleNamespace
    control: Control
    first_given: int = 0

    def tokens(self, values=None, known=None, batch=SAMPLES):
        """A canvas; the first tokens are given where the plan cannot draw them."""
        if values is None:
            values = self.example()[:batch] if self.first_given else self.spec.empty(batch).values
        if known is None:
            known = torch.zeros(len(values), self.spec.layout.size, dtype=torch.bool)
        known = known | (torch.arange(self.spec.layout.size) < self.first_given)
        return Tokens.of(values, known)

    def example(self):
        """Any values, the same for all tests."""
        shape = (SAMPLES, self.spec.layout.size, *self.spec.token_shape)
        random = torch.Generator().manual_seed(11)
        if self.spec.discrete:
            return torch.randint(self.spec.vocab, shape, generator=random)
        return torch.randn(shape, generator=random)

    def begin(self, tokens=None, seeds=SEEDS, plan=None, control=None, branches=None, labels=None):
        """A run before its first step."""
        labels = torch.arange(len(seeds)) if labels is None else labels
        cond = Cond(len(seeds), label=labels)
        tokens = self.tokens(batch=len(seeds)) if tokens is None else tokens
        plan = plan or self.plan(len(seeds))
        return start(self.model, plan, cond, control or self.control, tokens, Draws(seeds), branches)

    def finish(self, run, until=None):
        """Draw what is left (or up to a step)."""
        for _ in generate(self.model, run):
            if run.k == until:
                break
        return run


def orders(n, batch, seed=0):
    return torch.stack(
        [torch.randperm(n, generator=torch.Generator().manual_seed(seed + i)) for i in range(batch)]
    )


def case(spec, plan, backbone, heads=None, control=None, **kwargs):
    axes = backbone.axes
    heads = heads or [head(spec, axes, backbone.width)]
    control = control or Control(guidance=schedules.over_steps(1.5, 3.0), top_k=7, head_steps=3)
    model = SimpleNamespace(backbone=backbone.eval(), heads=[h.eval() for h in heads])
    return Case(spec, plan if callable(plan) else lambda batch: plan, model, control, **kwargs)


def two_stages(spec, heads, control, steps=(2, 3)):
    """Hi-MAR over 2 x 2 pivots and 4 x 4 tokens."""
    return case(
        spec, lambda b: pivots(TWO, [orders(4, b), orders(16, b)], steps), himar(spec), heads, control
    )


MODULATED = {
    "width": 16, "encoder_depth": 1, "decoder_depth": 1, "heads": 2, "channels": 4, "classes": CLASSES, "dropout": 0.0,
}  # fmt: skip


def next_x(plan, layout=SQUARE, **solver):
    """xAR over any order of a grid or a pyramid."""
    sides = tuple(level.h for level in layout.levels) if layout is LEVELS else ()
    backbone = XARConfig(**MODULATED, grid=(1, 4, 4), levels=sides).build()
    control = Control(guidance=schedules.over_steps(1.5, 3.0), head_steps=4, interval=(0, 0.8), **solver)
    return case(
        TokenSpec(layout, channels=4), plan, backbone, [BackboneFlowConfig(channels=4).build()], control
    )


def scale_wise(cross):
    """FlowAR with either kind of block."""
    sides = tuple(level.h for level in LEVELS.levels)
    head = FlowNetConfig(channels=4, width=16, hidden=64, depth=1, cross=cross, levels=sides).build()
    control = Control(guidance=schedules.over_steps(1.0, 3.0), head_steps=schedules.anneal(5, 2))
    backbone = FlowARConfig(**MODULATED, levels=sides).build()
    return case(TokenSpec(LEVELS, channels=4), scales(LEVELS), backbone, [head], control)


def next_scale(shared=False):
    """VAR, with a modulation a block or one for all, over a quantizer with all weights at random."""
    with torch.random.fork_rng():  # a tokenizer stays the same where other weights are asked for
        torch.manual_seed(0)
        quantizer = shaken(MultiScaleQuantizer(11, 4, LEVELS), 0.5)
    spec = TokenSpec(LEVELS, vocab=11, prefix_ok=True, canvas=LevelSums(quantizer))
    sizes = {"width": 16, "depth": 2, "heads": 2, "hidden_width": 24, "vocab": 11, "code_channels": 4}
    config = VARConfig(**sizes, levels=(1, 2, 3), classes=CLASSES, shared_modulation=shared)
    backbone = shaken(config.build(), 0.3)
    backbone.attach(spec)
    return case(spec, scales(LEVELS), backbone, plain_head(spec))


def cases(seed=0):
    """Name -> case; fresh weights that follow from the seed and the name."""
    codes, clip, squares, line = (TokenSpec(layout, vocab=11) for layout in (SQUARE, CLIP, SQUARES, LINE))
    several = TokenSpec(SQUARE, vocab=11, codebooks=3)
    vectors, pyramid, two = (TokenSpec(layout, channels=4) for layout in (SQUARE, LEVELS, TWO))
    levels = TokenSpec(LEVELS, vocab=11)
    continuous = TokenSpec(SQUARE, channels=4)
    shared = torch.randperm(16, generator=torch.Generator().manual_seed(3))
    stages = [Control(guidance=2.0, head_steps=2), Control(guidance=1.5, head_steps=3)]
    annealed = Control(
        guidance=schedules.over_tokens(1, 2.5), head_steps=schedules.anneal(5, 2), max_timestep=950
    )
    moving, two_codes = TokenSpec(CLIP, channels=4), TokenSpec(TWO, vocab=11)
    by_stage = Control(
        guidance=schedules.by_stage(schedules.over_tokens(1, 2.5), 1.5), max_timestep=950,
        head_steps=schedules.by_stage(4, schedules.anneal(5, 2)),
    )  # fmt: skip
    surest = Control(guidance=schedules.power_cosine(3.0, 2.0), temperature=schedules.falling(4.0))
    builders = {
        "raster": lambda: case(codes, raster(SQUARE), Shifted(codes)),
        "raster clip": lambda: case(clip, raster(CLIP), Shifted(clip)),
        "raster vectors": lambda: case(vectors, raster(SQUARE), Shifted(vectors)),
        "raster codebooks": lambda: case(several, raster(SQUARE), Shifted(several)),
        "next-neighbor": lambda: case(codes, next_neighbor(SQUARE), Shifted(codes, axes=2)),
        "next-neighbor clip": lambda: case(clip, next_neighbor(CLIP), Shifted(clip, axes=3)),
        "parallel": lambda: case(codes, parallel(SQUARE, 2), Shifted(codes, extras=3)),
        "parallel clip": lambda: case(squares, parallel(SQUARES, 2), Shifted(squares, extras=3)),
        "next-block hybrid": lambda: case(codes, next_block(SQUARE, 4, hybrid=True), Shifted(codes, extras=3)),
        "next-block given": lambda: case(codes, next_block(SQUARE, 4), Shifted(codes), first_given=4),
        "zipar": lambda: case(codes, zipar(SQUARE, 2), Shifted(codes)),
        "zipar clip": lambda: case(clip, zipar(CLIP, 1), Shifted(clip)),
        "zipar vectors": lambda: case(vectors, zipar(SQUARE, 3), Shifted(vectors)),
        "ordered": lambda: case(line, ordered(LINE), Shifted(line)),
        "ordered by four": lambda: case(line, ordered(LINE, 4), Shifted(line, extras=3)),
        "custom": lambda: case(codes, custom(SQUARE, shared), Shifted(codes)),
        "custom a sample": lambda: case(codes, lambda b: custom(SQUARE, orders(16, b)), Shifted(codes)),
        "masked": lambda: case(codes, lambda b: masked(SQUARE, orders(16, b), 5), Masked(codes)),
        "masked vectors": lambda: case(vectors, lambda b: masked(SQUARE, orders(16, b), 5), Masked(vectors)),
        "confident": lambda: case(codes, confident(SQUARE, 5), Masked(codes), control=surest),
        "masked in next-neighbor order": lambda: case(codes, inplace(next_neighbor(SQUARE)), Masked(codes)),
        "cells": lambda: case(continuous, cells(SQUARE, 2), NextX(continuous), [QueryFlow(4)]),
        "subsamples": lambda: case(continuous, subsamples(SQUARE, 2), NextX(continuous), [QueryFlow(4)]),
        "whole": lambda: case(continuous, whole(SQUARE), NextX(continuous), [QueryFlow(4)]),
        "scales": lambda: case(levels, scales(LEVELS), Draft(levels)),
        "scales vectors": lambda: case(pyramid, scales(LEVELS), Draft(pyramid)),
        "pivots": lambda: case(
            two, lambda b: pivots(TWO, [orders(4, b), orders(16, b)], [2, 3]), Pivots(two),
            [FeatureFlow(4), FeatureFlow(4)], stages,
        ),
        "xar cells": lambda: next_x(cells(SQUARE, 2)),
        "xar tokens": lambda: next_x(cells(SQUARE, 4), solver="euler"),
        "xar raster": lambda: next_x(inplace(raster(SQUARE)), solver="heun"),
        "xar subsamples": lambda: next_x(subsamples(SQUARE, 2)),
        "xar whole": lambda: next_x(whole(SQUARE)),
        "xar scales": lambda: next_x(scales(LEVELS, readout="inplace"), LEVELS),
        "xar masked": lambda: next_x(lambda b: masked(SQUARE, orders(16, b), 5)),
        "flowar": lambda: scale_wise(cross=False),
        "flowar cross": lambda: scale_wise(cross=True),
        "var": lambda: next_scale(),
        "var shared": lambda: next_scale(shared=True),
        "flow mlp raster": lambda: case(vectors, raster(SQUARE), Shifted(vectors), flow_mlp()),
        "flow mlp next-neighbor": lambda: case(vectors, next_neighbor(SQUARE), Shifted(vectors, axes=2), flow_mlp()),
        "flow mlp masked": lambda: case(
            vectors, lambda b: masked(SQUARE, orders(16, b), 5), Masked(vectors), flow_mlp()),
        "transformer raster": lambda: case(codes, raster(SQUARE), transformer(codes)),
        "transformer ordered": lambda: case(
            line, ordered(LINE), transformer(TokenSpec(Grid(1, 1, 12), vocab=11), learned_positions=True)
        ),
        "transformer ordered by four": lambda: case(
            line, ordered(LINE, 4), transformer(TokenSpec(Grid(1, 1, 12), vocab=11), extras=3, learned_positions=True)
        ),
        "transformer codebooks": lambda: case(several, raster(SQUARE), transformer(several)),
        "transformer zipar": lambda: case(codes, zipar(SQUARE, 2), transformer(codes)),
        "transformer neighbor codebooks": lambda: case(
            several, next_neighbor(SQUARE), transformer(several, 2)
        ),
        "transformer zipar codebooks": lambda: case(several, zipar(SQUARE, 1), transformer(several)),
        "transformer next-neighbor": lambda: case(codes, next_neighbor(SQUARE), transformer(codes, axes=2)),
        "transformer next-neighbor clip": lambda: case(clip, next_neighbor(CLIP), transformer(clip, axes=3)),
        "transformer next-block tiles": lambda: case(
            codes, next_block(SQUARE, 4, hybrid=True, height=2), transformer(codes, extras=3)),
        "transformer next-block clip": lambda: case(
            clip, next_block(CLIP, 3, hybrid=True), transformer(clip, extras=2)),
        "transformer absolute clip": lambda: case(
            clip, next_neighbor(CLIP), transformer(clip, axes=3, absolute_positions=True)
        ),
        "transformer absolute parallel clip": lambda: case(
            squares, parallel(SQUARES, 2), transformer(squares, extras=3, absolute_positions=True)
        ),
        "maskgit": lambda: case(codes, confident(SQUARE, 5), maskgit(codes), plain_head(codes), surest),
        "maskgit masked": lambda: case(
            codes, lambda b: masked(SQUARE, orders(16, b), 5), maskgit(codes), plain_head(codes)
        ),
        "rar raster": lambda: case(codes, raster(SQUARE), rar(codes), plain_head(codes)),
        "rar a sample": lambda: case(codes, lambda b: custom(SQUARE, orders(16, b)), rar(codes), plain_head(codes)),
        "rar next-block given": lambda: case(
            codes, next_block(SQUARE, 4), rar(codes), plain_head(codes), first_given=4),
        "mamba raster": lambda: case(codes, raster(SQUARE), mamba(codes)),
        "mamba by block": lambda: case(codes, raster(SQUARE), mamba(codes, modulation="block"), bare_head(codes)),
        "mamba by group": lambda: case(
            clip, raster(CLIP), mamba(clip, modulation="group", modulation_groups=2, groups=2), bare_head(clip)),
        "mamba next-neighbor": lambda: case(codes, next_neighbor(SQUARE), mamba(codes, axes=2)),
        "mamba ordered by four": lambda: case(
            line, ordered(LINE, 4), mamba(TokenSpec(Grid(1, 1, 12), vocab=11), extras=3)),
        "mamba next-block causal given": lambda: case(
            codes, next_block(SQUARE, 4, causal=True), mamba(codes), first_given=4),
        "mamba a sample": lambda: case(codes, lambda b: custom(SQUARE, orders(16, b)), mamba(codes)),
        "mamba vectors": lambda: case(
            vectors, raster(SQUARE), mamba(vectors), [diffusion(vectors, 16, 0.02)], annealed),
        "mamba1 raster": lambda: case(codes, raster(SQUARE), mamba(codes, version=1)),
        "mamba1 codebooks": lambda: case(several, raster(SQUARE), mamba(several, version=1, positions=False)),
        "mamba1 parallel by block": lambda: case(
            codes, parallel(SQUARE, 2), mamba(codes, version=1, extras=3, modulation="block"), bare_head(codes)),
        "mamba1 next-block clip": lambda: case(
            clip, next_block(CLIP, 3, hybrid=True), mamba(clip, version=1, extras=2)),
        "mamba1 vectors": lambda: case(
            vectors, next_neighbor(SQUARE), mamba(vectors, version=1, axes=2), [diffusion(vectors, 16, 0.02)], annealed
        ),
        "nbp hybrid": lambda: case(
            clip, next_block(CLIP, 3, hybrid=True), *nbp(clip, classes=CLASSES, extras=2)),
        "nbp token by token": lambda: case(codes, next_block(SQUARE, 1, hybrid=True), *nbp(codes, classes=CLASSES)),
        "nbp given": lambda: case(codes, next_block(SQUARE, 4), *nbp(codes), first_given=4),
        "mar": lambda: case(
            vectors, lambda b: masked(SQUARE, orders(16, b), 5), mar(vectors), [diffusion(vectors)], annealed
        ),
        "mar confident": lambda: case(codes, confident(SQUARE, 5), mar(codes), [head(codes, width=24)], surest),
        "mar clip": lambda: case(
            moving, lambda b: masked(CLIP, orders(18, b), 4), mar(moving), [diffusion(moving)], annealed
        ),
        "mar in next-neighbor order": lambda: case(
            vectors, inplace(next_neighbor(SQUARE)), mar(vectors), [diffusion(vectors)], annealed
        ),
        "mar with a dit head": lambda: case(
            vectors, lambda b: masked(SQUARE, orders(16, b), 5), mar(vectors), [dit(vectors)], annealed
        ),
        "himar": lambda: two_stages(two, [diffusion(two), dit(two)], by_stage),
        "himar with two heads a token": lambda: two_stages(two, [diffusion(two), diffusion(two)], annealed),
        "himar codes": lambda: two_stages(two_codes, [head(two_codes, width=24) for _ in range(2)], None),
        "mar with a flow head": lambda: case(
            vectors, lambda b: masked(SQUARE, orders(16, b), 5), mar(vectors), flow_mlp(24)
        ),
        "mar with a joint flow head": lambda: case(
            vectors, lambda b: masked(SQUARE, orders(16, b), 5), mar(vectors),
            [shaken(FlowNetConfig(channels=4, width=24, hidden=64, depth=1, grid=(1, 4, 4), levels=()).build())],
        ),
        "mar codebooks": lambda: case(several, lambda b: masked(SQUARE, orders(16, b), 5), mar(several)),
        "mar codes": lambda: case(codes, lambda b: masked(SQUARE, orders(16, b), 5), mar(codes)),
        "raster with a diffusion head": lambda: case(
            vectors, raster(SQUARE), Shifted(vectors), [diffusion(vectors, 16, 0.02)], annealed
        ),
        "transformer vectors": lambda: case(
            vectors, raster(SQUARE), transformer(vectors), [diffusion(vectors, 16, 0.02)], annealed
        ),
        "transformer next-neighbor vectors": lambda: case(
            vectors, next_neighbor(SQUARE), transformer(vectors, axes=2), [diffusion(vectors, 16, 0.02)], annealed
        ),
        "flowar with a head a token": lambda: case(
            pyramid, scales(LEVELS), FlowARConfig(**MODULATED, levels=(1, 2, 3)).build(), flow_mlp()
        ),
        "transformer parallel": lambda: case(codes, parallel(SQUARE, 2), transformer(codes, extras=3)),
        "transformer next-block causal": lambda: case(
            clip, next_block(CLIP, 3, hybrid=True, causal=True), transformer(clip, extras=2)
        ),
        "rar next-block causal given": lambda: case(
            codes, next_block(SQUARE, 4, causal=True), rar(codes), plain_head(codes), first_given=4),
    }  # fmt: skip
    built = {}
    for name, build in builders.items():
        torch.manual_seed(seed + zlib.crc32(name.encode()))
        built[name] = build()
    return built
