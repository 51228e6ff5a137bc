"""MAR and DiSA on it, against recordings of the published code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from einops import rearrange
from parity import family
from parity.golden import GRADIENT_TOLERANCE, Golden, assert_close, load
from parity.tapes import Tape, entries, split_at
from parity.wrong import check_noticed, shares
from torch import Tensor

from arzoo.base import registry
from arzoo.core.condition import Cond
from arzoo.core.contracts import Read
from arzoo.core.control import Control, Settings
from arzoo.core.draws import Draws
from arzoo.core.layout import Grid, Ordered
from arzoo.core.tokens import Tokens, TokenSpec
from arzoo.models.common.convert import convert_state, split
from arzoo.models.mar.convert import mar_table
from arzoo.samplers import schedules
from arzoo.samplers.loop import generate, start
from arzoo.samplers.plans.inplace import masked
from arzoo.samplers.plans.shifted import raster
from arzoo.samplers.solvers.diffusion import evaluations, process

NAMES = ("mar", "mar_disa")
RUN = r"(sample|disa|DDIM|DPM_Solver|DPM_Solver\+\+|default)_[\w.\-]+"
KEYS = [
    r"state_dict\..+",
    r"diffusion(\d+|_train)\.(betas|posterior_log_variance_clipped)",
    r"train\.(imgs|labels|mask|orders|encoder_out|decoder_out|loss|terms_(loss|mse|vb)|gradnorm\..+)",
    r"train\.rng\.\d+\.(rand|randint|randn_like)",
    RUN + r"\.(orders|tokens|rng\.\d+\.randn(_like)?)",
]
SETTINGS = r"ctor|settings|num_params|timestep_map_\d+|tokens_per_step_seq\d+_iter\d+|steps_\d+_\d+_iter\d+"
CLIPPED = r"(timestep_map|nfe)_clip(\d+)"
DDIM_LAST = 980
"""Clip of the published DDIM option; its recordings do not name it."""


def flat(picture: Tensor, golden: Golden) -> Tensor:
    """Tokens (B, N, C * p * p) of latents (B, C, h, w), p by p of them each."""
    p = golden.info["ctor"]["patch_size"]
    return rearrange(picture, "b c (h p) (w q) -> b (h w) (c p q)", p=p, q=p)


@dataclass
class Replay:
    """A recording with its weights in our modules."""

    golden: Golden
    backbone: Any
    head: Any

    @classmethod
    def of(cls, golden: Golden) -> Replay:
        ctor = golden.info["ctor"]
        found = convert_state(
            golden.sub("state_dict."), "mar", heads=ctor["encoder_num_heads"],
            decoder_heads=ctor["decoder_num_heads"],
        )  # fmt: skip
        backbone, head = found.parts["backbone"], found.parts["head"]
        config, side = backbone.config, ctor["img_size"] // ctor["vae_stride"] // ctor["patch_size"]
        assert config.grid == (1, side, side)
        assert (config.depth, config.buffer, config.classes) == (
            ctor["encoder_depth"], ctor["buffer_size"], ctor["class_num"],
        )  # fmt: skip
        assert config.decoder[:2] == (ctor["decoder_embed_dim"], ctor["decoder_depth"])
        assert (head.config.depth, head.config.hidden) == (ctor["diffloss_d"], ctor["diffloss_w"])
        head.config = head.config.replace(repeats=ctor["diffusion_batch_mul"])
        return cls(golden, backbone, head)

    @property
    def parts(self) -> dict[str, Any]:
        return {"backbone": self.backbone, "head": self.head}

    def training(self) -> tuple[Tensor, Tensor, Cond]:
        """Tokens, which of them are known, and the condition of the recorded training pass."""
        golden, ctor = self.golden, self.golden.info["ctor"]
        drop = golden["train.rng.0000.rand"] < ctor["label_drop_prob"]
        cond = Cond(len(drop), label=golden["train.labels"], drop=drop)
        return flat(golden["train.imgs"], golden), golden["train.mask"] == 0, cond

    def read(self) -> Read:
        values, known, cond = self.training()
        return self.backbone.features(Tokens.of(values, known), cond, None)

    def terms(self, read: Read) -> tuple[Tensor, Tensor]:
        """Squared error and bound of every repeat, in the published order (repeat, sample, position)."""
        values, _, _ = self.training()
        batch, count = values.shape[:2]
        draws = entries(self.golden, "train.rng")
        assert [entry.kind for entry in draws] == ["rand", "randint", "randn_like"]
        times, noise = (entry.value.view(-1, batch, count, *entry.value.shape[1:]) for entry in draws[1:])
        tape = Tape(batch, [[times.transpose(0, 1).contiguous(), noise.transpose(0, 1).contiguous()]])
        terms = self.head.terms(read, values, tape)
        assert tape.left == [0]
        return tuple(term.transpose(0, 1).flatten() for term in terms)  # type: ignore[return-value]

    def loss(self, read: Read) -> Tensor:
        """The published reduction: masked tokens only."""
        weights = self.golden["train.mask"].repeat(self.head.config.repeats, 1).flatten()
        return (sum(self.terms(read)) * weights).sum() / weights.sum()

    def sample(self, key: str) -> tuple[Tensor, Tensor]:
        """Our and the recorded tokens (B, N, C) of a run."""
        want, how = flat(self.golden[f"{key}.tokens"], self.golden), settings(self.golden, key)
        tape = Tape(len(want), split_at(entries(self.golden, f"{key}.rng"), "randn"))
        spec = TokenSpec(Grid(*self.backbone.config.grid), channels=want.shape[-1])
        plan = masked(spec.layout, self.golden[f"{key}.orders"], how.steps)
        cond = Cond(len(want), label=family.sample_labels(self.golden, "", len(want)))
        model = SimpleNamespace(backbone=self.backbone, heads=[self.head])
        run = start(model, plan, cond, how.control, spec.empty(len(want)), tape)
        for _ in generate(model, run):
            pass
        # Published loops draw noise that they do not add: DDPM's at the last step, DDIM's at all.
        calls = [evaluations(how.control.at(plan.progress(k))) for k in range(len(plan))]
        unused = {"ddpm": [1] * len(calls), "ddim": calls}.get(how.control.solver, [0] * len(calls))
        assert tape.left == unused
        if how.control.solver in ("ddpm", "ddim"):
            assert [len(step) - 1 for step in tape.steps] == calls
        return run.tokens.values, want


@dataclass
class How:
    """Sampling settings that a key and the recording name."""

    steps: int
    control: Control


def settings(golden: Golden, key: str) -> How:
    """The settings of a run: sample_it8_n50_cfg2.9_linear, disa_cosine_50to5_cfg2.9, default_50_cfg2.9, ..."""
    assert re.fullmatch(RUN, key), f"cannot read the settings of {key!r}"
    words, more = key.split("_"), golden.info["settings"]
    numbers = {m[1]: float(m[2]) for word in words if (m := re.fullmatch(r"([a-z]+)(\d[\d.]*)", word))}
    span = next((m for word in words if (m := re.fullmatch(r"(\d+)to(\d+)", word))), None)
    shape = next((word for word in words if word in schedules.SHAPES), None)
    scale = numbers["cfg"]
    rising = more["cfg_schedule"] if "cfg_schedule" in more else shape
    guidance = schedules.over_tokens(1, scale) if rising == "linear" and scale != 1 else scale
    clip = next((int(m[2]) for name in golden.info if (m := re.fullmatch(CLIPPED, name))), None)
    head_steps: Any = int(numbers["n"] if "n" in numbers else words[1]) if span is None else None
    if span is not None:
        head_steps = schedules.anneal(int(span[1]), int(span[2]), shape)
    solver = {"DDIM": "ddim", "DPM": "dpm_solver"}.get(words[0], "ddpm")
    control = Control(
        guidance=guidance,
        temperature=numbers.get("temp", more.get("temperature", 1.0)),
        head_steps=head_steps,
        max_timestep=DDIM_LAST if solver == "ddim" else clip if span else None,
        spacing="stride" if solver == "ddim" else "even",
        solver=solver + ("++" if "++" in key else ""),
    )
    return How(int(numbers["it"] if "it" in numbers else more["num_iter"]), control)


@pytest.fixture(params=NAMES)
def replay(request: pytest.FixtureRequest) -> Replay:
    return Replay.of(load(request.param))


@pytest.fixture
def mar() -> Replay:
    return Replay.of(load("mar"))


def test_every_recorded_tensor_is_compared(replay):
    family.check_keys(replay.golden, KEYS)
    unknown = [k for k in replay.golden.info if not re.fullmatch(f"{SETTINGS}|{CLIPPED}", k)]
    assert not unknown, f"recorded, but compared with nothing: {unknown}"


def test_noise_schedules(mar):
    found = 0
    for key, want in mar.golden.items():
        if match := re.fullmatch(r"diffusion(\d+|_train)\.(\w+)", key):
            steps = process() if match[1] == "_train" else process(int(match[1]))
            name = {"betas": "beta", "posterior_log_variance_clipped": "log_posterior"}[match[2]]
            assert_close(key, torch.from_numpy(getattr(steps, name)), want)
            found += 1
    assert found


def test_timesteps(replay):
    found = 0
    for name, want in replay.golden.info.items():
        if match := re.fullmatch(r"timestep_map_(\d+)", name):
            assert list(process(int(match[1])).timesteps) == want
            found += 1
        if match := re.fullmatch(CLIPPED, name):
            clip = int(match[2])
            for count, value in want.items():
                timesteps = list(process(int(count), clip).timesteps)
                assert value == (timesteps if match[1] == "timestep_map" else len(timesteps)), (name, count)
                if len(timesteps) > 1:
                    assert evaluations(Settings(head_steps=int(count), max_timestep=clip)) == len(timesteps)
                found += 1
    assert found


def test_order_sizes(mar):
    found = 0
    for name, want in mar.golden.info.items():
        if match := re.fullmatch(r"tokens_per_step_seq(\d+)_iter(\d+)", name):
            size, steps = int(match[1]), int(match[2])
            plan = masked(Ordered(size), Draws([0]).permutation(size), steps)
            assert [group.shape[1] for group in plan.groups] == want
            found += 1
    assert found


def test_annealing():
    found = 0
    for name, want in load("mar_disa").info.items():
        if match := re.fullmatch(r"steps_(\d+)_(\d+)_iter(\d+)", name):
            early, late, steps = (int(number) for number in match.groups())
            plan = raster(Ordered(steps))
            for shape, counts in want.items():
                anneal = schedules.anneal(early, late, shape.replace("_", "-"))
                assert [anneal(plan.progress(k)) for k in range(steps)] == counts, (name, shape)
                found += 1
    assert found


def test_training_pass(mar):
    values, known, cond = mar.training()
    encoded, _, padding = mar.backbone.encode(values, known, cond)
    assert padding is None
    assert_close("encoder", encoded, mar.golden["train.encoder_out"])
    read = mar.read()
    assert_close("decoder", read.features[:, :, 0], mar.golden["train.decoder_out"])
    error, bound = mar.terms(read)
    assert_close("squared error", error, mar.golden["train.terms_mse"])
    assert_close("bound", bound, mar.golden["train.terms_vb"])
    assert_close("loss of tokens", error + bound, mar.golden["train.terms_loss"])
    assert_close("loss", mar.loss(read), mar.golden["train.loss"])


def test_gradients(mar):
    weights = {f"{part}.{k}": w for part, m in mar.parts.items() for k, w in m.named_parameters()}
    found = torch.autograd.grad(mar.loss(mar.read()), list(weights.values()))
    table = mar_table(mar.backbone.config, mar.head.config)
    gradients = split(dict(zip(weights, found, strict=True)), table)
    recorded = mar.golden.sub("train.gradnorm.")
    assert gradients.keys() == recorded.keys()
    for name, norm in recorded.items():
        assert_close(f"gradient of {name}", gradients[name].norm(), norm, GRADIENT_TOLERANCE)


def test_parameters(mar):
    count = sum(p.numel() for part in mar.parts.values() for p in part.parameters())
    assert count == mar.golden.info["num_params"]


def test_samples(replay):
    keys = [key.removesuffix(".tokens") for key in replay.golden if key.endswith(".tokens")]
    assert keys
    for key in keys:
        got, want = replay.sample(key)
        assert_close(key, got, want)


def test_wrong_weights_fail(mar):
    """A change of any recorded weight moves the features or the loss beyond the tolerance."""

    def compare() -> None:
        read = mar.read()
        assert_close("decoder_out", read.features[:, :, 0], mar.golden["train.decoder_out"])
        for name, found in zip(("mse", "vb"), mar.terms(read), strict=True):
            assert_close(name, found, mar.golden[f"train.terms_{name}"])

    check_noticed(shares(mar.parts, mar_table(mar.backbone.config, mar.head.config)), compare)


# Millions of parameters (all, head), and tensors of the published file.
SIZES = {"b": (207.92, 35.75, 364), "l": (478.33, 72.23, 476), "h": (942.40, 151.21, 604)}


@pytest.mark.parametrize("size", SIZES)
def test_paper_sizes(size):
    head_name = "diffusion_mlp" if size == "b" else f"diffusion_mlp_{size}"
    with torch.device("meta"):
        parts = [registry.create("backbone", f"mar_{size}"), registry.create("head", head_name)]
    millions = [sum(p.numel() for p in part.parameters()) / 1e6 for part in parts]
    names = [name for join in mar_table(*(part.config for part in parts)).values() for name in join.names]
    assert (round(sum(millions), 2), round(millions[1], 2), len(names)) == SIZES[size]
    assert parts[0].width == parts[1].config.width


def test_published_number_of_parameters_with_the_head_of_the_ablations():
    with torch.device("meta"):
        parts = [
            registry.create("backbone", "mar_l"),
            registry.create("head", "diffusion_mlp", width=1024, depth=3),
        ]
    assert np.isclose(sum(p.numel() for part in parts for p in part.parameters()) / 1e6, 426.36, atol=0.005)
