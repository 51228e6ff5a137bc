"""NBP in its four published layouts against recordings of the published code.

Frame prediction and texts, each in blocks and token by token. Every size and setting is read from the recordings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from parity.family import GlobalDraws, check_keys
from parity.golden import GRADIENT_TOLERANCE, Golden, assert_close, assert_equal, load
from parity.wrong import check_noticed, fails, shares

from arzoo.base import registry
from arzoo.core.condition import Cond
from arzoo.core.contracts import Read
from arzoo.core.control import Control
from arzoo.core.layout import Grid
from arzoo.core.plan import Plan
from arzoo.core.tokens import Tokens
from arzoo.models.common.convert import convert_state, split
from arzoo.models.nbp.convert import nbp_table
from arzoo.models.nbp.network import NBP
from arzoo.samplers.loop import generate, start

KEYS = [
    r"(state_dict|grad)\..+",
    r"c|z|input_ids|target|logits|loss|attn_mask|sample_input|sample_mask",
    r"(greedy|sampled)(_codes)?",
]


@dataclass
class Replay:
    """A recording, with its weights in our modules."""

    golden: Golden
    backbone: NBP
    heads: list
    plan: Plan

    @classmethod
    def of(cls, golden: Golden) -> Replay:
        setting = settings(golden)
        grid, block = tuple(setting["grid"]), setting["token_number_per_step"]
        found = convert_state(
            golden.sub("state_dict."), "nbp", heads=setting["n_head"], grid=grid, block=block,
            vocab=setting["visual_vocab"], text_vocab=setting["text_vocab"],
        )  # fmt: skip
        backbone = found.parts["backbone"]
        assert backbone.config.shift == golden.info["shift"]
        assert found.plan["options"] == {"size": block, "hybrid": setting["hybrid"]}
        plan = registry.lookup("plan", found.plan["name"])(Grid(*grid), **found.plan["options"])
        return cls(golden, backbone, [found.parts["head"]], plan)

    @property
    def codes(self) -> torch.Tensor:
        return self.golden["z"].flatten(1)

    @property
    def block(self) -> int:
        return settings(self.golden)["token_number_per_step"]

    @property
    def first(self) -> int:
        """The first predicted position: without a condition, the first block is given."""
        return 0 if settings(self.golden)["hybrid"] else self.block

    def cond(self, shifted: torch.Tensor | None = None) -> Cond:
        """The condition of the training pass, or of ids as the network reads them."""
        text = self.golden["c"] if shifted is None else shifted - self.backbone.extras - 1
        if not self.backbone.config.prefix_length:
            return Cond(len(text))
        return Cond(len(text), text=text[:, : self.backbone.config.text_length])

    def read(self) -> Read:
        return self.backbone.features(Tokens.of(self.codes), self.cond(), self.plan)

    def logits(self) -> torch.Tensor:
        return self.heads[0].predict(self.read())[:, self.first :]

    def losses(self) -> torch.Tensor:
        return self.heads[0].loss(self.read(), self.codes)[:, self.first :]

    def inputs(self) -> tuple[torch.Tensor, int]:
        """Slots in the order of feeding (1, S), and the number of prefix tokens."""
        return self.plan.fed(-1, len(self.plan) - 1), self.backbone.config.prefix_length

    def mask(self, cond: Cond, slots: torch.Tensor) -> torch.Tensor:
        mask = self.backbone.full_mask(cond, self.plan, slots, self.backbone.config.prefix_length)
        return mask.expand(cond.batch, -1, -1)[:, None]

    def sample(self, control: Control) -> tuple[torch.Tensor, int]:
        """Ids (B, n) of the tokens that are drawn, and the number of network calls."""
        given, prefix = self.golden["sample_input"], self.backbone.config.prefix_length
        rows, count = len(given), given.shape[1] - prefix
        values = torch.zeros(rows, self.plan.layout.size, dtype=torch.long)
        values[:, :count] = given[:, prefix:] - self.backbone.config.shift
        known = (torch.arange(values.shape[1]) < count).expand(rows, -1)
        draws = GlobalDraws(rows, self.golden.info["sample_seed"], whole_group=False)
        run = start(self, self.plan, self.cond(given), control, Tokens.of(values, known), draws)
        calls, trunk = [], self.backbone.trunk
        # Counted after the prefix; the first step is read from it, or feeds all that is given.
        self.backbone.trunk = lambda *args: (calls.append(1), trunk(*args))[1]  # type: ignore[method-assign]
        try:
            for _ in generate(self, run):
                pass
        finally:
            del self.backbone.trunk
        return run.tokens.values[:, count:] + self.backbone.config.shift, len(calls) + bool(prefix)


def settings(golden: Golden) -> dict[str, Any]:
    """The published constructor arguments."""
    return {name.removeprefix("config."): v for name, v in golden.info.items() if name.startswith("config.")}


@pytest.fixture(params=["nbp_k600_nbp", "nbp_k600_ntp", "nbp_ucf_hybrid", "nbp_ucf_ntp"])
def replay(request: pytest.FixtureRequest) -> Replay:
    return Replay.of(load(request.param))


def test_every_recorded_tensor_is_compared(replay):
    check_keys(replay.golden, KEYS)


def test_inputs_and_targets(replay):
    slots, prefix = replay.inputs()
    shift, size = replay.backbone.config.shift, replay.plan.layout.size
    codes = replay.codes.gather(1, slots.clamp(max=size - 1).expand(len(replay.codes), -1)) + shift
    fed = torch.where(slots < size, codes, slots - size + 1)
    ids = torch.cat([replay.backbone.ids(replay.cond()), fed], 1)
    assert ids.shape[1] == prefix + slots.shape[1]
    assert_equal("inputs", ids, replay.golden["input_ids"])
    assert_equal("targets", replay.codes[:, replay.first :] + shift, replay.golden["target"])


def test_masks(replay):
    slots, prefix = replay.inputs()
    assert_equal("mask", replay.mask(replay.cond(), slots), replay.golden["attn_mask"])
    given = replay.golden["sample_input"]
    first = slots[:, : given.shape[1] - prefix]
    assert_equal("mask of the prompt", replay.mask(replay.cond(given), first), replay.golden["sample_mask"])


def test_training_pass(replay):
    loss = replay.losses().mean()
    assert_close("logits", replay.logits(), replay.golden["logits"])
    assert_close("loss", loss, replay.golden["loss"].squeeze())
    recorded = {name: value for name, value in replay.golden.items() if name.startswith("grad.")}
    if recorded:
        parts = {"backbone": replay.backbone, "head": replay.heads[0]}
        weights = {f"{part}.{name}": w for part, m in parts.items() for name, w in m.named_parameters()}
        got = torch.autograd.grad(loss, list(weights.values()))
        table = nbp_table(replay.backbone.config)
        ours = split(dict(zip(weights, got, strict=True)), table)
        for name, want in recorded.items():
            value = ours[name.removeprefix("grad.")]
            value = value.norm() if want.dim() == 0 and value.dim() else value
            assert_close(f"gradient of {name}", value, want, GRADIENT_TOLERANCE)


@pytest.mark.parametrize("kind", ["greedy", "sampled"])
def test_samples(replay, kind):
    info = replay.golden.info
    control = Control(greedy=True)
    if kind == "sampled":
        # Without top-k the published code ignores top-p.
        control = Control(top_k=info["top_k"] or 0, top_p=info["top_p"] if info["top_k"] else 1.0)
    ids, calls = replay.sample(control)
    assert_equal(kind, ids, replay.golden[kind])
    codes = (ids - info["shift"]).clamp(min=0)
    assert_equal(f"{kind} codes", codes, replay.golden[f"{kind}_codes"])
    assert calls == info["steps"]


def test_wrong_weights_fail(replay):
    """A change of any weight that the training pass uses moves the logits beyond the tolerance.

    The same number in all keys of a head changes no softmax, so biases of keys have no effect.
    """
    table = nbp_table(replay.backbone.config)
    used = {name: join for name, join in table.items() if name != "backbone.null"}
    parts = {"backbone": replay.backbone, "head": replay.heads[0]}
    weights = [(name, w) for name, w in shares(parts, used) if not name.endswith("attn.key.bias")]

    def compare() -> None:
        assert_close("logits", replay.logits(), replay.golden["logits"])

    check_noticed(weights, compare)


def test_wrong_twins_fail(replay):
    """An order of other blocks, positions that are off by one, or other ids are noticed."""

    def compare() -> None:
        assert_close("logits", replay.logits(), replay.golden["logits"])

    backbone, place = replay.backbone, replay.backbone.place.data
    backbone.place.data = place.roll(1, 1)
    assert fails(compare)
    backbone.place.data = place
    compare()
    replay.golden["z"] = (replay.golden["z"] + 1) % backbone.config.vocab
    assert fails(compare)


@pytest.mark.parametrize(
    ("name", "blocks", "total"),
    [
        ("nbp_ucf_base", 680.0, 982.8),
        ("nbp_ucf_xl", 1208.6, 1612.4),
        ("nbp_ucf_3b", 3625.2, 4230.8),
        ("nbp_k600_base", 680.0, 884.4),
        ("nbp_k600_xl", 1208.6, 1481.2),
        ("nbp_k600_3b", 3625.2, 4034.1),
    ],
)
def test_published_sizes(name, blocks, total):
    config = registry.lookup("backbone", name)()
    with torch.device("meta"):
        backbone = config.build()
        head = registry.lookup("head", backbone.code_head)().replace(
            width=config.width, vocab=config.vocab, shift=config.shift
        )
        parts = backbone, head.build()
    count = sum(p.numel() for part in parts for p in part.parameters())
    assert round(sum(p.numel() for p in backbone.blocks.parameters()) / 1e6, 1) == blocks
    assert round(count / 1e6, 1) == total
    assert len(backbone.token.weight) == (96016 if "ucf" in name else 64000)
    names = split(
        {f"{p}.{k}": v for p, m in zip(("backbone", "head"), parts, strict=True) for k, v in m.state_dict().items()},
        nbp_table(config),
    )  # fmt: skip
    assert names["transformer.pos_emb"].shape == (1, 5120, config.width)
    assert names["transformer.uncond_embedding"].shape == (8 if "ucf" in name else 0, config.width)
    assert all(re.match(r"transformer\.", key) for key in names)
