"""VAR, both layouts, against recordings of the published code. Every size, label and setting is read from them.

With 5 levels or more, roundings of `more_smooth` grow by its sharpness, hence its tolerance of 3e-4.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from parity.family import check_keys
from parity.flow_tapes import flat, record
from parity.golden import GRADIENT_TOLERANCE, Golden, assert_close, assert_equal, load
from parity.golden import variant as golden_variant
from parity.tapes import entries
from parity.wrong import check_noticed, shares
from torch import Tensor

from arzoo.base import registry
from arzoo.core.clips import as_pictures
from arzoo.core.condition import Cond
from arzoo.core.contracts import Head
from arzoo.core.control import Control
from arzoo.core.draws import Draws
from arzoo.core.tokens import Tokens
from arzoo.models.common.convert import convert_state, split
from arzoo.models.var.convert import var_buffers, var_table
from arzoo.samplers.filters import probabilities
from arzoo.samplers.loop import generate, start
from arzoo.samplers.schedules import over_steps
from arzoo.tokenizers.msvq.convert import from_msvq

SMOOTH = 3e-4
KEYS = [
    r"vae\..+",  # the tokenizer's, compared in test_msvq.py
    r"vars?\.sd\..+",
    r"vars?\.train\.(labels|x_BLCv_wo_first_l|gt_BL)",
    r"vars?\.train\.(eval|step)\.(rng\.\d+\.(rand|bernoulli)|labels_after_class_dropout|logits|loss_per_token|loss)",
    r"vars?\.train\.(eval|step)\.(L_mean|L_tail|acc_mean_percent|act\.(x_in|head_nm|block\d+(\.attn)?))",
    r"vars?\.train\.step\.(grad(_norms)?\..+|grad_total_norm)",
    r"vars?\.gen\..+\.(labels|img|rng\.\d+\.(exponential|multinomial(\.p|\.q_exponential)?))",
    r"vars?\.gen\..+\.scale\d+\.(logits_cfg|kept|idx|h_emb|f_hat)",
]


@pytest.fixture(scope="module")
def whole() -> Golden:
    return load("var")


@pytest.fixture(params=["var", "vars"])
def variant(whole, request) -> str:
    return golden_variant(whole, request.param)


@pytest.fixture
def golden(whole, variant) -> Golden:
    return whole.sub(f"{variant}.")


@pytest.fixture
def tokenizer(whole):
    levels = tuple(whole.info["config"]["patch_nums"])
    return from_msvq(whole.sub("vae.sd."), whole["vae.img"].shape[-1], levels).parts["tokenizer"]


@pytest.fixture
def model(golden, tokenizer):
    found = convert_state(golden.sub("sd."))
    backbone, head = found.parts["backbone"], found.parts["head"]
    backbone.attach(tokenizer.spec)
    plan = registry.create("plan", found.plan["name"], layout=tokenizer.spec.layout, **found.plan["options"])
    return SimpleNamespace(backbone=backbone, heads=[head], plan=plan, table=var_table(backbone.config))


def weights(model, which: str = "parameters") -> dict[str, Tensor]:
    parts = {"backbone": model.backbone, "head": model.heads[0]}
    return {f"{p}.{n}": w for p, module in parts.items() for n, w in getattr(module, f"named_{which}")()}


class Training:
    """A recorded training pass: in evaluation mode, or a step with branches that are skipped."""

    def __init__(self, whole: Golden, golden: Golden, variant: str, model, kind: str) -> None:
        self.model, self.recorded = model, golden.sub(f"train.{kind}.")
        arguments = whole.info[f"{variant}_ctor"]
        kinds, draws = zip(*entries(self.recorded, "rng"), strict=True)
        assert kinds[0] == "rand" and set(kinds[1:]) <= {"bernoulli"}  # noqa: PT018
        labels, self.targets = golden["train.labels"], golden["train.gt_BL"]
        self.cond = Cond(len(labels), label=labels, drop=draws[0] < arguments["cond_drop_rate"])
        rates = torch.linspace(0, arguments["drop_path_rate"], len(model.backbone.blocks)).tolist()
        self.kept = list(draws[1:])
        for block, rate in zip(model.backbone.blocks, rates, strict=True):
            block.drop_path.p = rate
            block.drop_path.forward = lambda x, rate=rate: self.skip(x, rate) if kind == "step" else x

    def skip(self, x: Tensor, rate: float) -> Tensor:
        """Skip a branch as recorded."""
        return x * self.kept.pop(0) / (1 - rate) if rate else x

    def read(self):
        return self.model.backbone.features(Tokens.of(self.targets), self.cond, self.model.plan)

    def logits(self) -> Tensor:
        return self.model.heads[0].predict(self.read())


@pytest.fixture
def training(whole, golden, variant, model):
    return lambda kind: Training(whole, golden, variant, model, kind)


def test_every_recorded_tensor_is_compared(whole):
    check_keys(whole, KEYS)


def test_sizes_and_the_inverse(whole, golden, variant, model):
    config, info, arguments = model.backbone.config, whole.info["config"], whole.info[f"{variant}_ctor"]
    found = (config.width, config.depth, config.heads)
    assert found == tuple(arguments[name] for name in ("embed_dim", "depth", "num_heads"))
    assert (config.vocab, config.code_channels, config.classes) == (
        info["V"],
        info["Cvae"],
        info["num_classes"],
    )
    assert config.levels == tuple(info["patch_nums"])
    assert config.shared_modulation == (variant == "vars")
    assert sum(w.numel() for w in weights(model).values()) == whole.info[f"{variant}_num_params"]
    state, back = golden.sub("sd."), split(weights(model), model.table)
    assert back.keys() == state.keys() - {name for name, _ in var_buffers(state, config)}
    for name in back:
        assert_equal(name, back[name], state[name])


@pytest.mark.parametrize("kind", ["eval", "step"])
def test_training_pass(golden, model, training, kind):
    run = training(kind)
    drafts = torch.cat(model.backbone.drafts(Tokens.of(run.targets)), 1)
    assert_close("inputs", drafts, golden["train.x_BLCv_wo_first_l"])
    null = torch.tensor(model.backbone.config.classes)
    labels = torch.where(run.cond.dropped, null, golden["train.labels"])
    assert_equal("labels", labels, run.recorded["labels_after_class_dropout"])
    backbone, recorded = model.backbone, run.recorded
    modules = {f"block{i}": block for i, block in enumerate(backbone.blocks)}
    modules |= {f"{name}.attn": block.attention for name, block in modules.items()}
    inputs = []
    hook = backbone.blocks[0].register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    outputs = record(modules, lambda: outputs_of.append(run.read())) if (outputs_of := []) == [] else {}
    hook.remove()
    outputs |= {"x_in": inputs[0], "head_nm": outputs_of[0].features[:, :, 0]}
    for key, want in recorded.sub("act.").items():
        assert_close(key, outputs[key], want)
    logits = model.heads[0].predict(outputs_of[0])
    assert_close("logits", logits, recorded["logits"])
    losses, span = (
        model.heads[0].loss(outputs_of[0], run.targets),
        model.plan.layout.span(len(model.plan) - 1),
    )
    assert_close("loss per token", losses, recorded["loss_per_token"])
    assert_close("loss", losses.mean(), recorded["loss"])
    assert_close("mean", losses.mean(), recorded["L_mean"])
    assert_close("last level", losses[:, span].mean(), recorded["L_tail"])
    hits = (logits.argmax(-1) == run.targets).float().mean() * 100
    assert abs(float(hits - recorded["acc_mean_percent"])) < 1e-3


def test_gradients(model, training):
    run = training("step")
    loss = model.heads[0].loss(run.read(), run.targets).mean()
    names = weights(model)
    found = dict(zip(names, torch.autograd.grad(loss, list(names.values())), strict=True))
    gradients, norms = split(found, model.table), run.recorded.sub("grad_norms.")
    assert not run.kept, "recorded draws are left"
    assert gradients.keys() == norms.keys()
    for key, want in norms.items():
        assert_close(f"norm of {key}", gradients[key].norm(), want, GRADIENT_TOLERANCE)
    for key, want in run.recorded.sub("grad.").items():
        assert_close(key, gradients[key], want, GRADIENT_TOLERANCE)
    total = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
    assert_close("norm of all", total, run.recorded["grad_total_norm"], GRADIENT_TOLERANCE)


def test_parallel_and_stepped_agree_on_recorded_codes(model, training):
    """Logits of the recorded codes, level by level from the cache."""
    run = training("eval")
    state, tokens = model.backbone.start(run.cond, model.plan, 1), Tokens.of(run.targets)
    with torch.no_grad():
        read = [model.backbone.step(state, tokens, k) for k in range(len(model.plan))]
        logits = torch.cat([model.heads[0].predict(part) for part in read], 1)
    assert_close("logits", logits, run.recorded["logits"])


def runs(golden: Golden) -> list[str]:
    """Names of the recorded samples."""
    return sorted({key.split(".scale0.")[0] for key in golden.sub("gen.") if ".scale0." in key})


class Tape(Draws):
    """Recorded draws: codes from recorded exponential numbers, of our own probabilities."""

    def __init__(self, batch: int, recorded: Golden) -> None:
        super().__init__([0] * batch)
        self.calls, self.recorded = entries_of(recorded), recorded

    def at(self, step: int, attempt: int = 0) -> Draws:
        return self

    def categorical(self, probs: Tensor) -> Tensor:
        number, kind = self.calls.pop(0)
        assert kind == "multinomial"
        key = f"rng.{number}.multinomial"
        probs = (probs / probs.sum(-1, keepdim=True)).flatten(0, 1)
        assert_close("probabilities", probs, self.recorded[f"{key}.p"], 1e-4)
        codes = (probs / self.recorded[f"{key}.q_exponential"]).argmax(-1, keepdim=True)
        assert_equal("codes", codes, self.recorded[key])
        return codes.view(self.batch, -1)

    def uniform(self, shape, dtype: torch.dtype = torch.float64, only: Tensor | None = None) -> Tensor:
        """The uniform numbers of which the recorded exponential ones are the negative logarithms."""
        number, kind = self.calls.pop(0)
        assert kind == "exponential"
        exponential = self.recorded[f"rng.{number}.exponential"]
        assert exponential.shape == tuple(shape)
        return exponential.double().neg().exp()


def entries_of(recorded: Golden) -> list[tuple[str, str]]:
    """Numbers and kinds of the recorded calls, in order."""
    found = {tuple(key.split(".")[1:3]) for key in recorded if key.startswith("rng.")}
    return sorted(found)


def settings_of(whole: Golden, name: str) -> tuple[dict, Control]:
    """The settings of a run, and our knobs for them: guidance w = 1 + t, where t rises from 0 to cfg."""
    settings = whole.info["gen"][name]
    control = Control(
        guidance=over_steps(1.0, 1.0 + settings["cfg"]) if settings["cfg"] else 1.0,
        top_k=settings["top_k"],
        top_p=settings["top_p"] or 1.0,
        more_smooth=settings["more_smooth"],
    )
    return settings, control


def redrawn(whole: Golden, variant: str, golden: Golden, model, tokenizer, name: str) -> None:
    """Draw a recorded sample again and compare every recorded stage of it."""
    recorded, spec = golden.sub(f"gen.{name}."), tokenizer.spec
    settings, control = settings_of(whole, f"{variant}.gen.{name}")
    draws, null = Tape(settings["B"], recorded), model.backbone.config.classes
    if settings["labels"] is None:  # drawn before anything else
        number, _ = draws.calls.pop(0)
        labels = recorded[f"rng.{number}.multinomial"].flatten()
    else:
        labels = torch.tensor(settings["labels"]).expand(settings["B"])
    if "labels" in recorded:
        assert_equal("labels", torch.where(labels < 0, null, labels), recorded["labels"])
    cond = Cond(settings["B"], label=labels)
    run = start(model, model.plan, cond, control, spec.empty(settings["B"]), draws)
    tolerance = SMOOTH if settings["more_smooth"] else 2e-5
    for step in generate(model, run):
        stage = recorded.sub(f"scale{step.k}.")
        logits = step.proposal.predict()
        assert_close("guided logits", logits, stage["logits_cfg"], tolerance)
        kept = probabilities(logits.clone(), step.proposal.settings) > 0
        assert_equal("kept codes", kept.to(torch.uint8), stage["kept"])
        assert_equal("codes", step.run.tokens.at(step.group), stage["idx"])
        vectors = step.run.tokens.vectors(spec.canvas.table)
        assert_close("vectors", vectors[:, step.group[0]], flat(stage["h_emb"]), tolerance)
        assert_close("sum", spec.canvas(vectors, step.k + 1), stage["f_hat"], tolerance)
    assert not draws.calls, "recorded draws are left"
    with torch.no_grad():
        picture = (as_pictures(tokenizer.decode(run.tokens)).clamp(-1, 1) + 1) / 2
    assert_close("picture", picture, recorded["img"], tolerance)


def test_samples(whole, variant, golden, model, tokenizer):
    names = runs(golden)
    assert names
    for name in names:
        redrawn(whole, variant, golden, model, tokenizer, name)


def test_a_call_per_level(golden, model, tokenizer):
    calls, block = [], model.backbone.blocks[0]
    hook = block.register_forward_hook(lambda *args: calls.append(args[1][0].shape[:2]))
    run = start(model, model.plan, Cond(1), Control(guidance=2.0), tokenizer.spec.empty(1), Draws([0]))
    assert all(step.proposal for step in generate(model, run))
    hook.remove()
    assert calls == [(2, grid.size) for grid in tokenizer.spec.layout.levels], "both branches in one call"


def test_wrong_weights_fail(model, training):
    run = training("eval")

    def compare() -> None:
        with torch.no_grad():
            assert_close("logits", run.logits(), run.recorded["logits"])

    # The embeddings of classes that the pass does not use, and the factor beyond its limit, cannot be noticed.
    used = {name: join for name, join in model.table.items() if not name.endswith("attention.scale")}
    found = shares({"backbone": model.backbone, "head": model.heads[0]}, used)
    check_noticed(found, compare, change=0.05)


@pytest.mark.parametrize("depth", [16, 20, 24, 30, 36])
def test_paper_sizes(whole, depth):
    facts = whole.info["param_counts"][f"d{depth}"]
    config = registry.lookup("backbone", f"var_d{depth}")()
    head: Head = registry.lookup("head", "categorical_plain")().replace(
        width=config.width, vocab=config.vocab
    )
    with torch.device("meta"):
        model = SimpleNamespace(backbone=config.build(), heads=[head.build()])
    assert sum(w.numel() for w in weights(model).values()) == facts["total"]
    assert sum(w.numel() for w in model.backbone.blocks[0].parameters()) == facts["per_block"]
    assert (config.width, config.heads, config.layout.size) == (facts["width"], facts["heads"], facts["L"])
    assert (config.shared_modulation, config.levels) == (facts["shared_aln"], tuple(facts["patch_nums"]))
    published = split(weights(model), var_table(config))
    assert {"blocks.0.ada_gss", "shared_ada_lin.1.bias"} <= published.keys() or depth < 36
    assert len(published) == 10 + depth * (12 if depth < 36 else 11) + (0 if depth < 36 else 2)
