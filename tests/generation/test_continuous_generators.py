"""Every family of continuous tokens as a generator: created, stored, loaded and drawn from, over a KL tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from command import CLASSES, tiny_kl_tokenizer, tiny_tokenizer
from continuous import FAMILIES, MODULATED, SMALL, all_families, made

from arzoo.base.errors import ArzooError, UnknownName
from arzoo.checkpoints.folder import open_checkpoint
from arzoo.core.condition import Cond
from arzoo.core.control import Control
from arzoo.core.layout import Grid, Pyramid
from arzoo.core.pyramid import finest, on_canvas, preview
from arzoo.core.tokens import Tokens
from arzoo.data.transforms import to_model
from arzoo.generation import fit
from arzoo.generation.generator import Generator
from arzoo.metrics.samples import DrawnPictures, balanced
from arzoo.samplers.plans.samples import for_samples

SEEDS = [3, 4, 5, 6]
every_family = pytest.mark.parametrize("name", FAMILIES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Checkpoints of all families, and of the tokenizer beside them."""
    return all_families(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def models(folder) -> dict[str, Generator]:
    return {name: Generator.load(folder / name) for name in FAMILIES}


def canvas(model: Generator, seeds: list[int], labels: list[int], **options: object) -> Tokens:
    """Tokens of one batch."""
    *_, last = model.stream(Cond(len(seeds), label=torch.tensor(labels)), seeds, **options)
    return last.run.tokens


def of_tokenizer(model: Generator, tokens: Tokens) -> torch.Tensor:
    """Those of the tokenizer among the values of a canvas."""
    return finest(tokens, model.plan().layout).values


@every_family
def test_a_checkpoint_says_all_that_draws(folder, models, name, tmp_path):
    _, plan, options = FAMILIES[name]
    model, fresh = models[name], made(name, folder / "tok")
    index = json.loads((folder / name / "model_index.json").read_text())
    assert index["plan"] == {"name": plan, "options": options.get("plan_options", {})}
    assert model.plan_options == fresh.plan_options
    assert model.control == fresh.control == options["control"]
    assert [head.config for head in model.heads] == [head.config for head in fresh.heads]
    assert model.backbone.config == fresh.backbone.config
    assert len(model.plan()) == len(fresh.plan())
    model.save(tmp_path / "again")
    again = Generator.load(tmp_path / "again", tokenizer=folder / "tok")
    first, second = (m.generate([0, 1], seeds=[3, 4]) for m in (model, again))
    assert first.float().std() > 20, "pictures that are all alike would prove nothing"
    assert torch.equal(first, second)


@pytest.mark.parametrize(("old", "new"), [('"regions": 2', '"regions": 1'), ('"late": 3', '"late": 4')])
def test_plan_and_knobs_are_under_the_seal(folder, tmp_path, old, new):
    path = tmp_path / "model_index.json"
    text = (folder / "xar cells" / "model_index.json").read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(ArzooError, match="changed after it was written"):
        open_checkpoint(tmp_path)


@every_family
def test_a_sample_depends_on_its_own_seed_and_class_alone(models, name):
    """Bit for bit: all random numbers are functions of a sample's own seed, and a CPU rounds its rows alike."""
    model, labels = models[name], [0, 1, 2, 0]
    together = canvas(model, SEEDS, labels).values
    assert torch.equal(canvas(model, SEEDS, labels).values, together), "the same again"
    others = canvas(model, [9, 4, 8, 7], [2, 1, 1, 1]).values
    assert torch.equal(others[1], together[1]), "other neighbours"
    assert not torch.equal(others[0], together[0]), "another seed"
    alone = torch.cat([canvas(model, [s], [c]).values for s, c in zip(SEEDS, labels, strict=True)])
    assert torch.equal(alone, together)
    one, four = (model.generate(labels, seeds=SEEDS, batch=batch) for batch in (1, 4))
    assert torch.equal(one, four)


@every_family
def test_given_tokens_stay_and_the_rest_is_drawn(models, name):
    model, random = models[name], torch.Generator().manual_seed(0)
    values = torch.randn(2, 16, 3, generator=random)
    known = (torch.arange(16) < 8).expand(2, -1)
    drawn = of_tokenizer(model, canvas(model, [3, 4], [0, 1], given=Tokens.of(values, known)))
    assert torch.equal(drawn[known], values[known])
    assert not torch.equal(drawn[~known], values[~known])
    assert not torch.equal(drawn[0, 8:], drawn[1, 8:])
    changed = of_tokenizer(model, canvas(model, [3, 4], [0, 1], given=Tokens.of(values + 1, known)))
    assert not torch.equal(drawn[:, 8:], changed[:, 8:]), "what is drawn looks at what is given"
    remarks = fit.notes(model.backbone, model.plan())
    assert bool(remarks) == (not name.startswith("mar") and name != "xar whole")


@every_family
def test_encoding_and_decoding_go_back_and_forth(models, name):
    model = models[name]
    images = torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8)
    tokens = model.encode(images)
    assert tokens.values.shape == (2, model.plan().layout.size, 3)
    assert torch.equal(of_tokenizer(model, tokens), model.tokenizer.encode(to_model(images[:, None])).values)
    assert model.decode(tokens).stills.shape == images.shape


def created(backbone: str, tokenizer: object, plan: str, **options: object) -> Generator:
    """A generator of the tests' classes, small."""
    sizes = SMALL if backbone.split("_")[0] in ("mar", "raster", "nar") else MODULATED
    more = {"classes": CLASSES, "tokenizer_name": "tok", "tokenizer_hash": "", **sizes, **options}
    return Generator.create(backbone, tokenizer, plan, **more)


def test_known_tokens_of_coarse_levels():
    layout = Pyramid(tuple(Grid(1, side, side) for side in (1, 2, 4)))
    values = torch.randn(1, 16, 3)
    known = torch.tensor([1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1]).bool()[None]
    tokens = on_canvas(Tokens.of(values, known), layout)
    assert tokens.known[0, :5].tolist() == [False, True, False, False, False]
    assert torch.equal(tokens.known[:, 5:], known)
    assert torch.allclose(tokens.values[0, 1], values[0, [0, 1, 4, 5]].mean(0))
    assert torch.equal(finest(tokens, layout).values, values)
    assert on_canvas(tokens, layout) is tokens


@pytest.mark.parametrize("name", FAMILIES)
def test_the_last_streamed_pictures_are_those_that_are_generated(models, name):
    model = models[name]
    shown = [(step.k, step.preview()) for step in model.stream(classes=["animal/plain", 1], seed=3)]
    assert [k for k, _ in shown] == list(range(len(model.plan())))
    assert torch.equal(shown[-1][1], model.generate(classes=[0, 1], seed=3))
    assert len(shown) == 1 or not torch.equal(shown[0][1], shown[-1][1])


def test_watching_a_pyramid_grow(models):
    """Before the finest level is drawn, pictures show the coarser ones."""
    model = models["flowar"]
    first, second, last = (step.preview() for step in model.stream(classes=[0, 1], seed=3))
    assert torch.equal(last, model.generate([0, 1], seed=3))
    *_, run = (step.run for step in model.stream(Cond(2, label=torch.tensor([0, 1])), [3, 4]))
    layout, values = run.plan.layout, run.tokens.values
    known = (torch.arange(layout.size) < 5).expand(2, -1)
    shown = finest(preview(Tokens.of(values, known), layout), layout).values.view(2, 4, 4, 3)
    assert torch.equal(shown[:, ::2, ::2].flatten(1, 2), values[:, 1:5])
    assert torch.equal(shown[:, 1::2, 1::2].flatten(1, 2), values[:, 1:5])
    assert not torch.equal(first, second)


def test_steps_of_a_masked_plan(models):
    model = models["mar"]
    for steps in (1, 7, 16):
        assert len(model.with_plan(steps=steps).plan()) == steps
    assert len(model.plan()) == 5, "the model itself is as it was"
    for steps in (0, 17, -1):
        with pytest.raises(ArzooError, match=f"takes 1 to 16 steps, got {steps}"):
            model.with_plan(steps=steps)
    with pytest.raises(ArzooError, match="'steps of plan masked' must be int or null, got str '5'"):
        model.with_plan(steps="5")
    with pytest.raises(ArzooError, match=r"plan 'raster' has no options, got steps=4"):
        for_samples("raster", Grid(1, 2, 2), [0], steps=4)
    with pytest.raises(UnknownName, match=r"argument of plan 'masked' 'step'.*'steps'"):
        model.with_plan(step=5)
    with pytest.raises(ArzooError, match="which a checkpoint can store"):
        model.with_plan(steps=torch.tensor(5))


def test_heads_of_the_size_of_their_backbone(folder):
    tokenizer = open_checkpoint(folder / "tok").load("tokenizer")
    made = created("mar_tiny", tokenizer, "masked")
    assert (made.heads[0].config.hidden, made.heads[0].config.depth) == (256, 3)
    changed = created("mar_tiny", tokenizer, "masked", head_options={"depth": 2})
    assert changed.heads[0].config == made.heads[0].config.replace(depth=2)
    assert type(created("xar_tiny", tokenizer, "whole").heads[0]).__name__ == "BackboneFlow"
    assert type(created("flowar_tiny", tokenizer, "scales").heads[0]).__name__ == "FlowNet"


@pytest.mark.parametrize(
    ("backbone", "plan", "options", "words"),
    [
        ("xar_tiny", "raster", {}, r"readout 'shifted'.*backbone xar reads inplace"),
        (
            "xar_tiny",
            "scales",
            {},
            r"readout 'draft'.*backbone xar reads inplace.*scales with option readout=inplace",
        ),
        ("flowar_tiny", "cells", {"plan_options": {"regions": 2}}, r"backbone flowar reads draft"),
        ("mar_tiny", "next_neighbor", {}, r"backbone mar reads inplace"),
        ("raster_tiny", "masked", {}, r"backbone llamagen reads shifted"),
        ("nar_tiny", "raster", {"axes": 2}, r"reads 1 axis, backbone llamagen has 2"),
        ("mar_tiny", "masked", {"head": "categorical"}, "draws codes, the tokenizer's tokens are vectors"),
        ("xar_tiny", "whole", {"head": "categorical"}, "draws codes, the tokenizer's tokens are vectors"),
        (
            "xar_tiny",
            "whole",
            {"head": "diffusion_mlp_tiny"},
            "head diffusion_mlp works on features, backbone xar gives query",
        ),
        (
            "mar_tiny",
            "masked",
            {"head": "backbone_flow"},
            "backbone_flow works on query, backbone mar gives",
        ),
        ("flowar_tiny", "scales", {"levels": (2, 4)}, r"backbone flowar was made for Pyramid"),
        ("flowar_tiny", "scales", {"plan_options": {"levels": [1, 3]}}, r"levels \[1, 3\] must rise"),
        ("xar_tiny", "cells", {}, "plan 'cells' needs regions"),
        ("xar_tiny", "cells", {"plan_options": {"regions": 3}}, "does not divide"),
        ("xar_tiny", "cells", {"plan_options": {"region": 2}}, "'regions'"),
        ("xar_tiny", "subsamples", {"plan_options": {"stride": 2.0}}, "must be int, got float"),
        ("mar_tiny", "masked", {"head": "difusion_mlp"}, "'diffusion_mlp'"),
        ("mar_tiny", "masked", {"head_options": {"wide": 3}}, "'wide'"),
        ("mar_tiny", "masked", {"channels": 5}, "backbone mar was made for 5"),
    ],
)
def test_what_cannot_work_is_refused(folder, backbone, plan, options, words):
    tokenizer = open_checkpoint(folder / "tok").load("tokenizer")
    with pytest.raises(ArzooError, match=words):
        created(backbone, tokenizer, plan, **options)


@pytest.mark.parametrize(
    ("backbone", "plan", "words"),
    [
        ("xar_tiny", "whole", "tokens are codes, backbone xar reads vectors"),
        ("flowar_tiny", "scales", "tokens are codes, backbone flowar reads vectors"),
    ],
)
def test_backbones_for_vectors_refuse_codes(tmp_path, backbone, plan, words):
    tokenizer = open_checkpoint(tiny_tokenizer(tmp_path / "tok")).load("tokenizer")
    with pytest.raises(ArzooError, match=words):
        Generator.create(backbone, tokenizer, plan, classes=CLASSES, tokenizer_name="tok", tokenizer_hash="")


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("mar", {"head_steps": 1}, "at least 2 head steps"),
        ("mar", {"solver": "euler"}, "solver of a diffusion head 'euler'"),
        ("mar flow", {"solver": "ddim"}, "solver of flow heads 'ddim'"),
        ("xar cells", {"head_steps": 2}, "at least 3 head steps, got 2"),
        ("xar cells", {"head_steps": lambda p: 4 - p.step}, "at least 3 head steps, got 2"),
        ("flowar", {"head_steps": 1}, "at least 2 head steps, got 1"),
        ("flowar", {"solver": "huen"}, "'heun'"),
    ],
)
def test_head_steps_are_refused_before_the_first_step(models, name, changes, words):
    steps = models[name].stream(Cond(1, label=torch.tensor([0])), [3], Control(**changes))
    with pytest.raises(ArzooError, match=words):
        next(steps)


@pytest.mark.parametrize(
    ("name", "solver", "calls"),
    [
        ("xar cells", "euler", 5),
        ("xar cells", "heun", 9),
        ("xar cells", "euler-maruyama", 5),
        ("flowar", None, 4),
    ],
)
def test_network_calls_of_flow_heads_are_counted(models, name, solver, calls):
    model, seen = models[name], []
    head, control = model.heads[0], Control(head_steps=5, solver=solver)
    right = head.predict
    head.predict = lambda *arguments: (seen.append(1), right(*arguments))[1]
    try:
        next(model.stream(Cond(1, label=torch.tensor([0])), [3], control))
    finally:
        del head.predict
    assert len(seen) == head.evaluations(control.at(model.plan().progress(0))) == calls


@pytest.mark.parametrize("name", ["xar subsamples", "xar scales", "mar"])
def test_pictures_to_measure_are_the_same_for_any_batch(tmp_path, name):
    """Drawn as they come, the first two differ by a gray level between batches of 1 and 8."""
    model = made(name, tiny_kl_tokenizer(tmp_path / "tok"))
    pictures = DrawnPictures("tiny", model, *balanced(len(model.classes), 10), seed=1)

    def read(batch: int, rows: list[int]) -> torch.Tensor:
        drawn = torch.cat([pictures.read(rows[i : i + batch]) for i in range(0, 10, batch)])
        return drawn[torch.tensor(rows).argsort()]

    whole = read(8, list(range(10)))
    for batch in (1, 3, 10):
        assert torch.equal(read(batch, list(range(10))), whole), batch
    assert torch.equal(read(4, [0, 2, 4, 6, 8, 1, 3, 5, 7, 9]), whole), "shared by two processes"
