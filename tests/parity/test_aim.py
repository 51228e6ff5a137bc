"""AiM against recordings of the published code: parallel logits, decoding with either numbering, guidance."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from parity.golden import Golden, assert_close, load
from parity.wrong import check_noticed, fails, shares
from torch import Tensor

from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.core.condition import Cond
from arzoo.core.control import Control
from arzoo.core.draws import Draws
from arzoo.core.tokens import Tokens
from arzoo.models.common.convert import convert_state
from arzoo.models.mamba.convert import aim_table
from arzoo.samplers.loop import propose, start
from arzoo.samplers.plans.shifted import raster


class Replay:
    """The recorded model, with its weights in our modules."""

    def __init__(self, golden: Golden) -> None:
        self.golden = golden
        self.codes, self.labels = golden["code"], golden["cond"].flatten()
        side = math.isqrt(self.codes.shape[1])
        self.grid = (side, side) if side * side == self.codes.shape[1] else (1, self.codes.shape[1])
        self.state = golden.sub("state.")
        self.unseen = {
            "groups": golden.info.get("cfg.ssm_cfg.ngroups", 1)
        }  # settings that shapes do not tell
        self.conversion = convert_state(self.state, grid=self.grid, **self.unseen)
        self.backbone, self.head = (self.conversion.parts[part] for part in ("backbone", "head"))
        self.plan = raster(self.backbone.layout)

    def cond(self) -> Cond:
        return Cond(len(self.labels), label=self.labels)

    def logits(self) -> Tensor:
        return self.head.predict(self.backbone.features(Tokens.of(self.codes), self.cond(), self.plan))

    @torch.no_grad()
    def decoded(self, offset: int, guidance: float) -> Tensor:
        """Logits of every step, with the recorded codes fed."""
        backbone = copy.copy(self.backbone)
        backbone.config = self.backbone.config.replace(decoding_offset=offset)
        model = SimpleNamespace(backbone=backbone, heads=[self.head])
        draws = Draws([0] * len(self.codes))
        empty = Tokens.of(torch.zeros_like(self.codes), torch.zeros_like(self.codes, dtype=torch.bool))
        run = start(model, self.plan, self.cond(), Control(guidance=guidance), empty, draws)
        outs = []
        for k, group in enumerate(self.plan.groups):
            run.k = k
            outs.append(propose(model, run).predict())
            run.tokens.commit(group, self.codes[:, group[0]], group)
        return torch.cat(outs, 1)


@pytest.fixture(scope="module")
def golden() -> Golden:
    return load("aim_adaln")


@pytest.fixture
def replay(golden: Golden) -> Replay:
    return Replay(load("aim_adaln"))


def test_every_recorded_tensor_is_compared(golden):
    compared = {
        "code", "cond", "train_logits", "decode_cfg_logits", "decode_scale1_pos0", "decode_scale1_refpos",
    }  # fmt: skip
    assert {key for key in golden if not key.startswith("state.")} <= compared


def test_the_settings_are_those_of_the_file(replay):
    config, info = replay.backbone.config, replay.golden.info
    ours = {
        "d_model": config.width, "n_layer": config.depth, "num_classes": config.classes,
        "ssm_cfg.d_state": config.state_size, "ssm_cfg.headdim": config.head_width, "num_tokens": config.layout.size,
    }  # fmt: skip
    assert all(value == info.get(f"cfg.{name}", value) for name, value in ours.items())
    multiple = info["cfg.pad_vocab_size_multiple"]
    assert config.vocab == -(-info["cfg.vocab_size"] // multiple) * multiple
    assert config.modulation == ("group" if info["cfg.adaln_group"] else "block")
    if info["cfg.adaln_group"]:
        assert config.modulation_groups == info["cfg.num_groups"]
    assert replay.conversion.source == "aim"
    assert replay.conversion.plan == {"name": "raster", "options": {}}


def test_parallel_logits(replay):
    assert_close("logits", replay.logits(), replay.golden["train_logits"])


def test_decoding_numbers_tokens_from_one_as_published(replay):
    assert replay.backbone.config.decoding_offset == 1, "what published samples need is the default"
    assert_close("as published", replay.decoded(1, 1.0), replay.golden["decode_scale1_refpos"])
    assert_close("as in training", replay.decoded(0, 1.0), replay.golden["decode_scale1_pos0"])
    assert_close("as in training", replay.decoded(0, 1.0), replay.golden["train_logits"])
    wrong = lambda: assert_close("", replay.decoded(0, 1.0), replay.golden["decode_scale1_refpos"])  # noqa: E731
    assert fails(wrong), "the numbering makes a difference"


def test_guided_decoding(replay):
    scale = replay.golden.info["cfg_scale"]
    assert_close("guided", replay.decoded(1, scale), replay.golden["decode_cfg_logits"])


def test_wrong_weights_fail(replay):
    """A change of any weight that the training pass uses moves the logits beyond the tolerance."""

    def compare() -> None:
        assert_close("logits", replay.logits(), replay.golden["train_logits"])

    parts = {"backbone": replay.backbone, "head": replay.head}
    # The steps are small, so their weights must change by more.
    check_noticed(shares(parts, aim_table(replay.backbone.config)), compare, change=0.1)


def test_files_with_a_tokenizer_and_one_of_the_shared_names(replay):
    """Published files hold the tokenizer too, and one of the two names of the weights that are shared."""
    published = {f"mamba.{name}": value for name, value in replay.state.items() if name != "lm_head.weight"}
    published["vqvae.quantize.codebook_used"] = torch.zeros(65536)
    found = convert_state(published, grid=replay.grid, **replay.unseen)
    assert found.source == "aim"
    for part, module in found.parts.items():
        for name, value in module.state_dict().items():
            assert torch.equal(value, replay.conversion.parts[part].state_dict()[name]), name


def test_a_grid_that_does_not_fit_is_refused(replay):
    with pytest.raises(
        ArzooError, match=r"a row of positions for each token and one more.*grid of 3 x 7 tokens"
    ):
        convert_state(replay.state, grid=(3, 7))


def test_groups_of_blocks_share_a_modulation(replay):
    """The layout of sizes L and XL, of which there is no recording: the same numbers from weights that say the same."""
    width, depth = replay.backbone.config.width, 4
    config = replay.backbone.config.replace(modulation="group", depth=depth, modulation_groups=depth)
    grouped, plain = config.build().eval(), config.replace(modulation="block").build().eval()
    torch.nn.init.normal_(grouped.group.weight, std=0.2)
    torch.nn.init.normal_(grouped.group.bias, std=0.2)
    weights = grouped.state_dict()
    for i in range(depth):
        rows = slice(3 * i * width, 3 * (i + 1) * width)
        weights[f"blocks.{i}.modulation.weight"] = weights["group.weight"][rows]
        weights[f"blocks.{i}.modulation.bias"] = (
            weights["group.bias"][rows] + weights.pop(f"blocks.{i}.table").flatten()
        )
    plain.load_state_dict({name: value for name, value in weights.items() if not name.startswith("group.")})
    inputs = Tokens.of(replay.codes), replay.cond(), replay.plan
    assert_close("features", grouped.features(*inputs).features, plain.features(*inputs).features)
    table = aim_table(config)
    back = convert_state(
        {join.names[0]: grouped.state_dict()[ours.removeprefix("backbone.")] for ours, join in table.items()
         if ours.startswith("backbone.")}, "aim", grid=replay.grid, **replay.unseen)  # fmt: skip
    assert back.parts["backbone"].config == config


@pytest.mark.parametrize(("size", "millions"), [("b", 147.62), ("l", 349.76), ("xl", 763.29)])
def test_paper_sizes(size, millions):
    config = registry.lookup("backbone", f"aim_{size}")()
    with torch.device("meta"):
        backbone = config.build()
    assert round(sum(p.numel() for p in backbone.parameters()) / 1e6, 2) == millions, (
        "the output layer is shared"
    )
    block = backbone.blocks[0].mixer
    if size == "b":
        shapes = [tuple(p.shape) for p in (block.in_proj.weight, block.conv1d.weight, block.dt_bias)]
        assert shapes == [(3352, 768), (1792, 1, 4), (24,)]
