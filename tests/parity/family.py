"""Replays recordings of LlamaGen, NAR and PAR. Every size, label, seed and setting is read from the recording."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from parity.golden import GRADIENT_TOLERANCE, Golden, assert_close, assert_equal
from parity.wrong import check_noticed, shares
from torch import Tensor

from arzoo.base import registry
from arzoo.core.condition import Cond
from arzoo.core.contracts import Read
from arzoo.core.control import Control, Schedule
from arzoo.core.draws import Draws
from arzoo.core.plan import Plan
from arzoo.core.tokens import Tokens
from arzoo.models.common.convert import convert_state, split
from arzoo.models.llamagen.convert import transformer_table
from arzoo.models.llamagen.network import Transformer
from arzoo.samplers.loop import generate, start

Interval = Callable[[float, int], Schedule]


def knobs(key: str) -> dict[str, float]:
    """Settings that a key names: seed7_cfg1.5_k20 -> {"seed": 7.0, "cfg": 1.5, "k": 20.0}; a word alone counts as 1."""
    found: dict[str, float] = {}
    for word in key.split("_"):
        match = re.fullmatch(r"([a-z]+)(-?\d+(?:\.\d+)?)?", word)
        assert match, f"cannot read the setting {word!r} of {key!r}"
        found[match[1]] = float(match[2] or 1)
    unknown = found.keys() - {"greedy", "seed", "cfg", "interval", "k", "p", "t"}
    assert not unknown, f"{key!r} names settings this test does not know: {unknown}"
    return found


def control(key: str, interval: Interval) -> Control:
    """The sampling settings that a key names. Published code takes a guidance of 1 or less as off, k0 as no top-k."""
    k = knobs(key)
    guidance: float | Schedule = max(k.get("cfg", 1.0), 1.0)
    if k.get("interval", -1) > -1:
        guidance = interval(guidance, int(k["interval"]))
    return Control(
        guidance=guidance,
        temperature=k.get("t", 1.0),
        top_k=int(k.get("k", 0)),
        top_p=k.get("p", 1.0),
        greedy="greedy" in k,
    )


class GlobalDraws(Draws):
    """torch's global generator, called as the published samplers do: once a position, or once for the whole group."""

    def __init__(self, batch: int, seed: int, whole_group: bool) -> None:
        super().__init__([0] * batch)
        torch.manual_seed(seed)
        self.whole_group = whole_group

    def at(self, step: int) -> Draws:
        return self

    def categorical(self, probs: Tensor) -> Tensor:
        probs = probs / probs.sum(-1, keepdim=True)
        if self.whole_group:
            return torch.multinomial(probs.flatten(0, 1), 1).view(probs.shape[:2])
        return torch.cat([torch.multinomial(p, 1) for p in probs.unbind(1)], 1)


@dataclass
class Replay:
    """One recorded variant, with its weights in our modules."""

    golden: Golden
    backbone: Transformer
    heads: list
    plan: Plan

    @classmethod
    def of(cls, golden: Golden, config: dict[str, Any], source: str) -> Replay:
        """Convert the recorded weights; `config` holds the published constructor arguments."""
        defaults = golden.info.get("settings", {}).get("defaults", {})
        other = {name: config.get(name, defaults.get(name)) for name in ("norm_eps", "rope_base")}
        side = math.isqrt(config.get("block_size", 0))
        found = convert_state(
            golden.sub("sd."), source, heads=config["n_head"], grid=tuple(config.get("latent_shape", (side, side))),
            **{name: value for name, value in other.items() if value is not None},
        )  # fmt: skip
        backbone, head = found.parts["backbone"], found.parts["head"]
        expected = config["dim"], config["vocab_size"], config["n_layer"]
        assert (backbone.config.width, backbone.config.vocab, backbone.config.depth) == expected
        plan = registry.lookup("plan", found.plan["name"])(backbone.layout, **found.plan["options"])
        return cls(golden, backbone, [head], plan)

    @property
    def head(self):
        return self.heads[0]

    def cond(self) -> Cond:
        """The condition of the training pass."""
        if "emb" in self.golden:
            text = self.golden["emb"]
            return Cond(len(text), text=text, text_mask=self.golden["emb_mask"])
        label = self.golden["cond"].flatten()
        return Cond(len(label), label=label)

    def read(self, codes: Tensor, cond: Cond) -> Read:
        return self.backbone.features(Tokens.of(codes), cond, self.plan)

    def logits(self, codes: Tensor, cond: Cond) -> Tensor:
        return self.head.predict(self.read(codes, cond))

    def layout(self) -> tuple[Tensor, int]:
        """Slots in the order of feeding (1, S), and the number of prefix tokens."""
        with torch.no_grad():
            return self.plan.fed(-1, len(self.plan)), self.backbone.prefix(self.cond()).shape[1]

    def raster_mask(self) -> Tensor:
        """The attention rule (1 or B, S, S) of the parallel pass with the inputs in raster order."""
        slots, count = self.layout()
        order = torch.cat([torch.arange(count), count + slots[0].argsort()])
        return self.backbone.full_mask(self.cond(), self.plan, slots, count)[:, order][:, :, order]

    def rotary(self, slots: Tensor, count: int) -> Tensor:
        """Rotary rows of the prefix and of slots."""
        return torch.cat([self.backbone.prefix_positions(count)[0], self.backbone.positions(slots)[0]])

    def gradients(self, loss: Tensor) -> dict[str, Tensor]:
        """Gradients of all weights under their published names."""
        parts = {"backbone": self.backbone, "head": self.head}
        weights = {
            f"{part}.{name}": w for part, module in parts.items() for name, w in module.named_parameters()
        }
        found = torch.autograd.grad(loss, list(weights.values()))
        return split(dict(zip(weights, found, strict=True)), transformer_table(self.backbone.config))

    def generate(self, key: str, cond: Cond, interval: Interval, whole_group: bool) -> tuple[Tensor, int]:
        """Tokens (B, N) drawn with the settings of a key, and how often the network ran."""
        calls, trunk = [], self.backbone.trunk
        self.backbone.trunk = lambda *args: (calls.append(1), trunk(*args))[1]  # type: ignore[method-assign]
        try:
            size = self.plan.layout.size
            tokens = Tokens.of(*(torch.zeros(cond.batch, size, dtype=t) for t in (torch.long, torch.bool)))
            draws = GlobalDraws(cond.batch, int(knobs(key).get("seed", 0)), whole_group)
            run = start(self, self.plan, cond, control(key, interval), tokens, draws)
            for _ in generate(self, run):
                pass
        finally:
            del self.backbone.trunk
        return run.tokens.values, len(calls)


def sample_labels(golden: Golden, variant: str, batch: int) -> Tensor:
    """Labels of the recorded samples: numbers in the settings, or the name of the tensor that holds them."""
    found = [value for key, value in golden.info["settings"].items() if key.endswith("labels")]
    assert len(found) == 1, "the settings must name the labels of the samples once"
    value = found[0]
    if isinstance(value, str):
        return golden[value.split(";")[0].replace("<variant>", variant)].flatten()[:batch]
    return torch.tensor(value)[:batch]


def check_gradients(name: str, replay: Replay, loss: Tensor) -> None:
    """Compare recorded gradients, or the norms that are recorded in their place."""
    got = replay.gradients(loss)
    for key, want in replay.golden.sub("grad.").items():
        value = got[key].norm() if want.dim() == 0 else got[key]
        assert_close(f"{name} gradient of {key}", value, want, GRADIENT_TOLERANCE)


def check_valid_losses(name: str, losses: Tensor, golden: Golden) -> None:
    """Losses (B, N) averaged over the samples that a key like `train_loss_valid_101` flags."""
    for key, want in golden.items():
        if match := re.fullmatch(r"train_loss_valid_([01]+)", key):
            valid = torch.tensor([float(flag) for flag in match[1]])[:, None].expand_as(losses)
            assert_close(f"{name} {key}", (losses * valid).sum() / valid.sum().clamp(min=1), want.squeeze())


def check_samples(
    name: str, replay: Replay, cond: Cond, interval: Interval, whole_group: bool = False, prefix: str = "gen."
) -> set[int]:
    """Redraw every recorded sample, token for token; returns how often the network ran, over all of them."""
    counts = set()
    for key, want in replay.golden.sub(prefix).items():
        got, calls = replay.generate(key, cond, interval, whole_group)
        assert_equal(f"{name} {key}", got, want)
        counts.add(calls)
    return counts


def check_keys(golden: Golden, patterns: Iterable[str]) -> None:
    """Fail on recorded tensors that no test looks at."""
    unknown = [key for key in golden if not any(re.fullmatch(pattern, key) for pattern in patterns)]
    assert not unknown, f"recorded, but compared with nothing: {unknown}"


def fact(golden: Golden, name: str) -> Any:
    """What the JSON of a recording says; skips the calling test when it does not."""
    if name not in golden.info:
        pytest.skip(f"the recording {golden.path} says nothing of {name!r}")
    return golden.info[name]


def check_greedy_repeats(replay: Replay, cond: Cond, expected: bool, prefix: str = "gen.") -> None:
    """Whether the parallel pass has its largest logits at the codes of greedy samples without guidance."""
    for key, codes in replay.golden.sub(prefix).items():
        if "greedy" in knobs(key) and knobs(key).get("cfg", 1) <= 1:
            assert torch.equal(replay.logits(codes, cond).argmax(-1), codes) == expected, key


def preset(name: str) -> tuple[Any, dict[str, Tensor]]:
    """Config of a registered backbone, and the weights of it and its head, by published name, on the meta device."""
    config = registry.lookup("backbone", name)()
    head = registry.lookup("head", "categorical")()
    with torch.device("meta"):
        parts = {
            "backbone": config.build(),
            "head": head.replace(width=config.width, vocab=config.vocab, axes=config.axes).build(),
        }
    weights = {f"{part}.{key}": v for part, module in parts.items() for key, v in module.state_dict().items()}
    return config, split(weights, transformer_table(config))


def check_sizes(family: str, counts: dict[str, dict[str, int]]) -> None:
    """Parameters and widths of the paper sizes, {"GPT-B": {"c2i": ..., "t2i": ..., "ffn": ...}}."""
    for size, facts in counts.items():
        short = size.removeprefix("GPT-").lower()
        for kind, name in (("c2i", f"{family}_{short}"), ("t2i", f"{family}_t2i_{short}")):
            config, weights = preset(name)
            got = {
                kind: sum(w.numel() for key, w in weights.items() if not key.endswith("uncond_embedding")),
                "ffn": config.hidden,
                "blocks": config.depth + config.axes - 1,
                "head_dim": config.width // config.heads,
            }
            assert {key: got[key] for key in facts if key in got} == {
                k: v for k, v in facts.items() if k in got
            }, name
            assert facts.keys() <= got.keys() | {"c2i", "t2i"}, f"{size} records {list(facts)}"


def check_names(family: str, info: dict[str, Any]) -> int:
    """Published names and shapes of paper sizes, from entries like B_keys and XL_t2i_head_keys; returns how many."""
    count = 0
    for entry, want in info.items():
        match = re.fullmatch(r"([A-Z0-9]+)(_t2i)?(_head)?_keys", entry)
        if match is None:
            continue
        _, weights = preset(f"{family}{match[2] or ''}_{match[1].lower()}")
        got = {key: list(w.shape) for key, w in weights.items()}
        assert (want.items() <= got.items()) if match[3] else (want == got), entry
        count += 1
    return count


def check_perturbed(
    replay: Replay, cond: Cond, codes: str = "idx", order: Callable[[Tensor], Tensor] = lambda logits: logits
) -> None:
    """Show that the comparison of logits notices a change of any recorded weight.

    The null caption is left out: the recorded training pass does not use it.
    """
    table = transformer_table(replay.backbone.config)
    used = {name: join for name, join in table.items() if name != "backbone.condition.null"}

    def compare() -> None:
        logits = order(replay.logits(replay.golden[codes], cond))
        assert_close("train_logits", logits, replay.golden["train_logits"])

    check_noticed(shares({"backbone": replay.backbone, "head": replay.head}, used), compare)
