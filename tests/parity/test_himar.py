"""Hi-MAR against recordings of the published code; every size, label and setting is read from the recording."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from parity import family
from parity.golden import GRADIENT_TOLERANCE, Golden, assert_close, assert_equal, load
from parity.tapes import Entry, Tape
from parity.wrong import check_noticed, shares
from torch import Tensor

from arzoo.base import registry
from arzoo.core.condition import Cond
from arzoo.core.contracts import Read
from arzoo.core.control import Control
from arzoo.core.layout import Grid, Pyramid
from arzoo.core.tokens import Tokens, TokenSpec
from arzoo.models.common.convert import convert_state, split
from arzoo.models.himar.convert import himar_table
from arzoo.models.himar.network import DENSE, PIVOTS
from arzoo.samplers import schedules
from arzoo.samplers.loop import generate, start
from arzoo.samplers.plans.inplace import falling_ranks
from arzoo.samplers.plans.pivots import pivots
from arzoo.samplers.solvers.diffusion import process
from arzoo.train.masking import cosine_count

KEYS = [
    r"state_dict\..+",
    r"heads\.(mlp\.(c|t|x|out)|dit\.(z|t|x|out))",
    r"train\.(cond|x|labels|loss|loss1|loss2|grad_norms\..+|tape\.\d+\.0001)",
    r"train\.log\.(forward_mae_(en|de)coder_stage[12]|random_masking_step|sample_orders_step)\.\d+",
    r"sample\.\d+\.(big|small|labels|orders|tape\.\d+\.0001|z_stage[12]\.\d+)",
]
SETTINGS = (
    r"(cfg|enc)\.\w+|settings|train\.(epoch|np_seed|torch_seed)|(train|sample\.\d+)\.tape\.\d+\.0000|"
    r"sample\.\d+\.(respacing|timestep_map|torch_seed|np_seed|kwargs\.(num_iter|cfg|re_cfg|cfg_schedule|temperature))"
)
KINDS = ["rand", "rand", "randint", "randn_like", "rand", "rand", "rand", "rand", "randint", "randn_like"]
"""The draws of a training pass: an unused one, label drop, times, noise, another unused one, the share of hidden dense
tokens, pivot replacement, label drop, time, noise."""


def flat(picture: Tensor) -> Tensor:
    """Tokens (B, N, C) of latents (B, C, h, w)."""
    return picture.flatten(2).transpose(1, 2)


def alone(features: Tensor) -> Read:
    """The Read of features (B, n, D)."""
    return Read(torch.arange(features.shape[1])[None], features[:, :, None])


@dataclass
class Replay:
    """A recording with its weights in our modules."""

    golden: Golden
    backbone: Any
    heads: list

    @classmethod
    def of(cls, golden: Golden) -> Replay:
        info = golden.info
        found = convert_state(
            golden.sub("state_dict."), heads=info["enc.encoder_num_heads"],
            decoder_heads=info["enc.decoder_num_heads"], dit_heads=info["cfg.head"],
        )  # fmt: skip
        assert found.source == "himar"
        parts = found.parts
        backbone, head, dit = parts["backbone"], parts["head"], parts["head1"]
        side = info["cfg.img_size"] // info["cfg.vae_stride"] // info["cfg.patch_size"]
        config = backbone.config
        assert config.levels == (info["cfg.cond_scale"], side)
        assert found.plan["options"]["steps"][0] == 4 * info["cfg.cond_scale"]
        assert (config.width, config.depth) == (info["enc.encoder_embed_dim"], info["enc.encoder_depth"])
        assert (config.buffer, config.classes) == (info["cfg.buffer_size"], info["cfg.class_num"])
        assert (config.decoder[0], config.mlp_ratio) == (info["enc.decoder_depth"], info["enc.mlp_ratio"])
        assert (head.config.depth, head.config.hidden) == (info["cfg.diffloss_d"], info["cfg.diffloss_w"])
        assert (dit.config.depth, dit.config.hidden) == (info["cfg.gdm_d"], info["cfg.gdm_w"])
        assert dit.config.mlp_ratio == info["cfg.ratio"]
        head.config = head.config.replace(repeats=info["cfg.diffusion_batch_mul"])
        return cls(golden, backbone, [head, dit])

    @property
    def parts(self) -> dict[str, Any]:
        return {"backbone": self.backbone, "head": self.heads[0], "head1": self.heads[1]}

    @property
    def table(self) -> dict:
        return himar_table(*(part.config for part in self.parts.values()))

    def tape(self, key: str) -> list[Entry]:
        """The recorded calls; the JSON says their kinds."""
        found = []
        while f"{key}.{len(found):04d}.0001" in self.golden:
            name = f"{key}.{len(found):04d}"
            found.append(Entry(self.golden.info[f"{name}.0000"], self.golden[f"{name}.0001"]))
        return found

    def number(self, i: int) -> Tensor:
        return self.golden[f"train.tape.{i:04d}.0001"]

    @property
    def masks(self) -> list[Tensor]:
        """(B, N) bool of each stage, True where it is hidden."""
        return [self.golden[f"train.log.random_masking_step.{i:04d}"] == 1 for i in range(2)]

    def canvas(self) -> Tokens:
        """The training canvas: known pivots are those of the first stage, known dense tokens those of the second."""
        values = torch.cat([flat(self.golden["train.cond"]), flat(self.golden["train.x"])], 1)
        count = self.backbone.pivots
        first, second = self.masks
        return Tokens.of(values, ~torch.cat([first[:, :count], second[:, count:]], 1))

    def conds(self) -> tuple[Cond, Cond]:
        labels, share = self.golden["train.labels"], self.golden.info["cfg.label_drop_prob"]
        first, second = (Cond(len(labels), label=labels, drop=self.number(i) < share) for i in (1, 7))
        return first, second

    def hidden(self) -> Tensor:
        """Which samples see no pivots in the second stage."""
        info = self.golden.info
        rate = info["cfg.step_stage2_rate"] * min(1.0, info["train.epoch"] / info["cfg.step_warmup"])
        return self.number(6) <= 1 - rate

    def read(self) -> Read:
        return self.backbone.staged(self.canvas(), self.conds(), self.hidden())

    def losses(self, read: Read) -> tuple[Tensor, Tensor]:
        """The published reductions of both stages, with their weights."""
        assert read.stages is not None
        values, hidden = self.canvas().values, 1 - self.canvas().known.float()
        batch, repeats = len(values), self.heads[0].config.repeats
        times, noise = (
            self.number(i).view(repeats, batch, self.backbone.pivots, -1).transpose(0, 1) for i in (2, 3)
        )
        tapes = [[times, noise], [self.number(8), flat(self.number(9))]]
        losses = []
        for stage, (head, part, tape) in enumerate(zip(self.heads, read.stages, tapes, strict=True)):
            span = self.backbone.layout.span(stage)
            draws = Tape(batch, [[value.contiguous() for value in tape]])
            each, weights = head.loss(part, values[:, span], draws), hidden[:, span]
            assert draws.left == [0]
            count = weights.sum() if stage == PIVOTS else weights.numel()
            losses.append(self.backbone.stage_weights[stage] * (each * weights).sum() / count)
        return losses[0], losses[1]

    def loss(self) -> Tensor:
        """The loss of the training: stages weigh by their positions."""
        sizes = [grid.size for grid in self.backbone.layout.levels]
        pairs = zip(self.losses(self.read()), sizes, strict=True)
        return sum(loss * size for loss, size in pairs) / sum(sizes)  # type: ignore[return-value]

    def run(self, key: str):
        """A run with the recorded orders, settings and draws, before its first step."""
        asked = {name: self.golden.info[f"{key}.kwargs.{name}"] for name in
                 ("num_iter", "cfg", "re_cfg", "cfg_schedule", "temperature")}  # fmt: skip
        labels, orders = self.golden[f"{key}.labels"], self.golden[f"{key}.orders"]
        count, layout = self.backbone.pivots, self.backbone.layout
        steps = [4 * self.golden.info["cfg.cond_scale"], asked["num_iter"]]
        plan = pivots(layout, [orders[:, :count], orders[:, count:] - count], steps)
        respacing = re.fullmatch(r"(ddim)?(\d+)", self.golden.info[f"{key}.respacing"])
        assert respacing is not None
        spacing, number = "stride" if respacing[1] else "even", int(respacing[2])
        assert list(process(number, None, spacing).timesteps) == self.golden.info[f"{key}.timestep_map"]
        rising = asked["cfg_schedule"] == "linear"
        controls = [
            Control(
                guidance=schedules.over_tokens(1, w) if rising and w != 1 else w,
                temperature=asked["temperature"], head_steps=number, spacing=spacing,
            )
            for w in (asked["re_cfg"], asked["cfg"])
        ]  # fmt: skip
        tape = Tape(len(labels), self.draws(key, number, steps))
        tokens = TokenSpec(layout, channels=self.backbone.config.channels).empty(len(labels))
        cond = Cond(len(labels), label=labels)
        return start(self, plan, cond, controls, tokens, tape)

    def draws(self, key: str, number: int, steps: list[int]) -> list[list[Tensor]]:
        """The recorded draws of every step, without the unused one before each noise of the second stage's steps."""
        groups: list[list[Tensor]] = []
        for entry in self.tape(f"{key}.tape"):
            if entry.kind == "randn":
                groups.append([])
            groups[-1].append(entry.value if entry.value.dim() < 4 else flat(entry.value).contiguous())
        assert len(groups) == sum(steps)
        for k in range(steps[0], len(groups)):
            assert len(groups[k]) == 1 + 2 * number
            groups[k] = [groups[k][0], *groups[k][2::2]]
        assert all(len(group) == 1 + number for group in groups)
        return groups


@pytest.fixture
def replay() -> Replay:
    return Replay.of(load("himar"))


def runs(golden: Golden) -> list[str]:
    """The sampling runs whose tensors are stored."""
    return sorted({m[1] for key in golden if (m := re.fullmatch(r"(sample\.\d+)\.orders", key))})


def test_every_recorded_tensor_is_compared(replay):
    family.check_keys(replay.golden, KEYS)
    unknown = [k for k in replay.golden.info if not re.fullmatch(SETTINGS, k)]
    assert not unknown, f"recorded, but compared with nothing: {unknown}"
    assert [entry.kind for entry in replay.tape("train.tape")] == KINDS


def check_heads(replay: Replay) -> None:
    golden = replay.golden.sub("heads.")
    mlp, dit = replay.heads
    read = alone(golden["mlp.c"][:, None])
    out = mlp.predict(read, golden["mlp.x"][:, None], golden["mlp.t"][:, None])[:, 0]
    assert_close("mlp", out, golden["mlp.out"])
    out = dit.predict(alone(flat(golden["dit.z"])), flat(golden["dit.x"]), golden["dit.t"])
    assert_close("dit", out, flat(golden["dit.out"]))


def test_heads(replay):
    check_heads(replay)


def test_masks_follow_the_orders(replay):
    golden, count = replay.golden, replay.backbone.pivots
    order = golden["train.log.sample_orders_step.0000"]
    size = order.shape[1]
    assert torch.equal(order.sort(1).values, torch.arange(size).expand_as(order))
    first, second = replay.masks
    hidden = int(first[0, :count].sum())
    assert math.ceil(count * golden.info["cfg.mask_ratio_min"]) <= hidden <= count
    assert_equal(
        "first", first[:, :count], torch.zeros_like(first).scatter(1, order[:, :hidden], True)[:, :count]
    )
    assert bool(first[:, count:].all()), "the first stage sees no dense token"
    assert not bool(second[:, :count].any()), "the second one sees something of every pivot"
    if golden.info["cfg.cos"]:
        expected = cosine_count(float(replay.number(5)), size - count)
        masked = torch.zeros_like(second).scatter(1, order[:, count : count + expected], True)
        assert_equal("second", second, masked)


def test_training_pass(replay):
    golden, canvas, (first, second) = replay.golden, replay.canvas(), replay.conds()
    encoded, z = replay.backbone.pivot_pass(canvas.values, canvas.known, first)
    assert_close("encoder 1", encoded, golden["train.log.forward_mae_encoder_stage1.0000"])
    assert_close("decoder 1", z, golden["train.log.forward_mae_decoder_stage1.0000"])
    count = replay.backbone.pivots
    vectors = replay.backbone.shown(z[:, :count], canvas.known[:, :count], replay.hidden())
    encoded, dense = replay.backbone.dense_pass(vectors, canvas.values, canvas.known, second)
    assert_close("encoder 2", encoded, golden["train.log.forward_mae_encoder_stage2.0000"])
    assert_close("decoder 2", dense, golden["train.log.forward_mae_decoder_stage2.0000"])
    read = replay.read()
    assert torch.equal(read.features[:, :count, 0], z[:, :count])
    assert torch.equal(read.features[:, count:, 0], dense[:, count:])
    for name, got in zip(("loss1", "loss2"), replay.losses(read), strict=True):
        assert_close(name, got, golden[f"train.{name}"])
    assert_close("loss", replay.loss(), golden["train.loss"])


def test_gradients(replay):
    weights = {f"{part}.{k}": w for part, m in replay.parts.items() for k, w in m.named_parameters()}
    found = torch.autograd.grad(replay.loss(), list(weights.values()))
    gradients = split(dict(zip(weights, found, strict=True)), replay.table)
    recorded = replay.golden.sub("train.grad_norms.")
    assert gradients.keys() == recorded.keys()
    for name, norm in recorded.items():
        assert_close(f"gradient of {name}", gradients[name].norm(), norm, GRADIENT_TOLERANCE)


def test_samples(replay):
    """Features of every step, sizes of groups, and all tokens."""
    keys = runs(replay.golden)
    assert keys
    for key in keys:
        golden, run = replay.golden.sub(f"{key}."), replay.run(key)
        count, batch = replay.backbone.pivots, len(golden["labels"])
        for _ in generate(replay_model(replay, golden), run):
            pass
        assert run.draws.left == [1] * len(run.plan), "published loops draw a noise that they do not add"
        assert_close(f"{key} pivots", run.tokens.values[:, :count], flat(golden["small"]))
        assert_close(f"{key} dense", run.tokens.values[:, count:], flat(golden["big"]))
        assert batch == run.tokens.values.shape[0]


def replay_model(replay: Replay, golden: Golden) -> SimpleNamespace:
    """The model, whose features are compared with the recorded ones at every step."""
    outer, seen = replay.backbone, {PIVOTS: 0, DENSE: 0}

    def pass_of(stage: int, *args: Any) -> Any:
        x, z = type(outer).pass_of(outer, stage, *args)
        want = golden[f"z_stage{stage + 1}.{seen[stage]:04d}"]
        seen[stage] += 1
        rows = min(
            len(z), len(want)
        )  # the published loop leaves out the null branch of a stage without guidance
        assert_close(f"features of stage {stage}, step {seen[stage]}", z[:rows], want[:rows])
        assert len(z) >= len(want)
        return x, z

    outer.pass_of = pass_of
    return SimpleNamespace(backbone=outer, heads=replay.heads)


def test_order_of_sampling(replay):
    """Numbers of tokens of the published models, and guidance at the last dense step."""
    sizes = [len(row) for row in _groups(64, 32)]
    assert sizes == [1] * 13 + [2, 2, 2, 3, 2, 2, 3, 3, 2] + [3] * 10
    assert [len(row) for row in _groups(256, 4)] == [20, 55, 84, 97]
    assert [len(row) for row in _groups(256, 12)] == [3, 6, 11, 15, 18, 22, 26, 27, 31, 31, 33, 33]
    layout = Pyramid((Grid(1, 8, 8), Grid(1, 16, 16)))
    plan = pivots(layout, [torch.arange(64), torch.arange(256)], [32, 4])
    scale = schedules.over_tokens(1, 2.5)
    found = [round(scale(plan.progress(k)), 3) for k in range(32, 36)]
    assert found == [1.117, 1.439, 1.932, 2.494]


def _groups(size: int, steps: int) -> list[Tensor]:
    rank = falling_ranks(torch.arange(size)[None], steps)[0]
    return [(rank == k).nonzero() for k in range(steps)]


def test_wrong_weights_fail(replay):
    """A change of any recorded weight moves the features or a loss beyond the tolerance."""

    def compare() -> None:
        check_heads(replay)
        read = replay.read()
        for name, got in zip(("loss1", "loss2"), replay.losses(read), strict=True):
            assert_close(name, got, replay.golden[f"train.{name}"])
        for stage, name in enumerate(("forward_mae_decoder_stage1", "forward_mae_decoder_stage2")):
            span = replay.backbone.layout.span(stage)
            want = replay.golden[f"train.log.{name}.0000"][:, span]
            assert_close(name, read.features[:, span, 0], want)

    check_noticed(shares(replay.parts, replay.table), compare)


# Millions of trained parameters, tensors of the published file, and millions of the first head.
PUBLISHED = {"b": (244.47, 497, 35.75), "l": (529.23, 645, 72.23), "h": (1090.57, 829, 151.21)}


@pytest.mark.parametrize("size", PUBLISHED)
def test_paper_sizes(size):
    end = "" if size == "b" else f"_{size}"
    with torch.device("meta"):
        parts = [
            registry.create("backbone", f"himar_{size}"),
            registry.create("head", f"diffusion_mlp{end}"),
            registry.create("head", f"dit{end}"),
        ]
    millions = [sum(p.numel() for p in part.parameters()) / 1e6 for part in parts]
    table = himar_table(*(part.config for part in parts))
    names = [name for join in table.values() for name in join.names]
    total, tensors, mlp = PUBLISHED[size]
    assert (round(sum(millions), 2), len(names) + 2) == (total, tensors)
    assert round(millions[1], 2) == mlp
    assert [part.config.width for part in parts[1:]] == [parts[0].width] * 2
    assert parts[0].config.levels == (8, 16)
    assert parts[2].config.grid == (1, 16, 16)
