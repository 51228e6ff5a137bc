"""Generators of the family var: seeds, given tokens, inpainting, previews, mixtures, search, and what does not fit."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from command import CLASSES, command, picture, pixels, tiny_kl_tokenizer, tiny_tokenizer
from continuous import MODULATED
from next_scale import LEVELS, SMALL, created, multi_scale_tokenizer, next_scale_generator

from arzoo.base.errors import ArzooError
from arzoo.core.condition import Cond
from arzoo.core.control import Control, Progress
from arzoo.core.pyramid import shares
from arzoo.core.tokens import Tokens
from arzoo.generation.generator import Generator
from arzoo.generation.inputs import Unseen
from arzoo.generation.regions import LEAST_KEPT, kept_canvas, region_of
from arzoo.models.var.network import VARConfig
from arzoo.samplers.schedules import control_from_data, control_to_data
from arzoo.samplers.search.beam import Beam
from arzoo.samplers.search.best_of_n import BestOfN
from arzoo.samplers.search.lookahead import Lookahead
from arzoo.samplers.search.particles import Particles
from arzoo.samplers.search.pool import distinct
from arzoo.samplers.verifiers.likelihood import Likelihood

SEEDS, LABELS = [3, 4, 5, 6], [0, 1, 2, 0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    tokenizer = multi_scale_tokenizer(folder / "tok")
    next_scale_generator(folder / "var", tokenizer)
    next_scale_generator(folder / "shared", tokenizer, shared_modulation=True)
    return folder


@pytest.fixture(scope="module", params=["var", "shared"])
def model(folder, request) -> Generator:
    return Generator.load(folder / request.param)


def canvas(model, seeds=SEEDS, labels=LABELS, **options) -> Tokens:
    *_, last = model.stream(Cond(len(seeds), label=torch.tensor(labels)), seeds, **options)
    return last.run.tokens


def red(pictures):
    return pictures[..., 0].double().flatten(1).mean(1)


@pytest.mark.parametrize("knobs", [{}, {"more_smooth": True}, {"greedy": True, "more_smooth": True}])
def test_a_sample_depends_on_its_own_seed_and_class_alone(model, knobs):
    together = canvas(model, **knobs).values
    assert torch.equal(canvas(model, **knobs).values, together), "the same again"
    others = canvas(model, [9, 4, 8, 7], [2, 1, 1, 1], **knobs).values
    assert torch.equal(others[1], together[1]), "other neighbours"
    alone = torch.cat([canvas(model, [s], [c], **knobs).values for s, c in zip(SEEDS, LABELS, strict=True)])
    assert torch.equal(alone, together)
    one, four = (model.generate(LABELS, seeds=SEEDS, batch=batch, **knobs) for batch in (1, 4))
    assert torch.equal(one, four)
    assert one.float().std() > 5, "pictures that are all alike would prove nothing"


def test_it_is_saved_and_loaded(folder, model, tmp_path):
    model.save(tmp_path / "again")
    again = Generator.load(tmp_path / "again", tokenizer=folder / "tok")
    assert again.backbone.config == model.backbone.config
    assert again.backbone.config.code_channels == 4
    assert torch.equal(again.generate([0, 1], seeds=[3, 4]), model.generate([0, 1], seeds=[3, 4]))


def test_a_copy_of_the_network_shares_the_codebook(model):
    twin = copy.deepcopy(model.backbone)
    assert twin.canvas is model.backbone.canvas
    assert twin.canvas.quantizer is model.tokenizer.quantizer
    assert not any("quantizer" in name for name, _ in model.backbone.named_parameters())


def test_encoding_and_decoding_go_back_and_forth(model):
    images = torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8)
    tokens = model.encode(images)
    assert tokens.values.shape == (2, 21)
    assert model.decode(tokens).stills.shape == images.shape
    assert model.decode(tokens).token_counts.tolist() == [21, 21]


def test_given_levels_are_kept_and_continued(model):
    """With the first levels given, the rest is what would be drawn after them."""
    drawn = canvas(model)
    for count in (1, 5):
        given = Tokens.of(drawn.values, (torch.arange(21) < count).expand(4, -1))
        again = canvas(model, given=given)
        assert torch.equal(again.values, drawn.values), count
        changed = drawn.values.clone()
        changed[:, :count] = (changed[:, :count] + 1) % 16
        other = canvas(model, given=Tokens.of(changed, given.known))
        assert torch.equal(other.values[:, :count], changed[:, :count])
        assert not torch.equal(other.values[:, count:], drawn.values[:, count:]), (
            "finer levels look at coarser ones"
        )


def test_previews_of_every_level(model):
    """Each step shows the levels so far, from the first one on, and the last one is the picture."""
    shown, counts = [], []
    for step in model.stream(classes=[0, 1], seed=3):
        tokens, seen = step.run.tokens, step.preview()
        expected = model.decode(tokens.first(model.plan().committed(step.k + 1)))
        assert torch.equal(seen, expected)
        shown.append(seen)
        counts.append(seen.token_counts.tolist())
    assert counts == [[1, 1], [5, 5], [21, 21]]
    assert not torch.equal(shown[0], shown[1])
    assert torch.equal(shown[-1], model.generate([0, 1], seed=3))
    early = model.generate([0, 1], seed=3, tokens=5)
    assert torch.equal(early, shown[1]), "drawing may end early"
    assert early.token_counts.tolist() == [5, 5]


@pytest.mark.parametrize("region", ["left", "border", "center"])
def test_in_and_outpainting(model, region):
    """Kept are the cells of the region, at every level; the rest is drawn by the seed."""
    photo = torch.randint(0, 256, (16, 16, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    finest = region_of(model, region)
    assert finest.shape == (16,)
    kept = shares(finest, model.spec.layout) >= LEAST_KEPT
    assert torch.equal(kept[-16:], finest)
    given = kept_canvas(model, photo[None], finest).select(torch.zeros(2, dtype=torch.long))
    assert torch.equal(given.given, kept.expand(2, -1))
    drawn = canvas(model, [3, 4], [0, 1], given=given)
    assert torch.equal(drawn.values[:, kept], model.encode(photo[None]).values[:, kept].expand(2, -1))
    assert not torch.equal(drawn.values[0, ~kept], drawn.values[1, ~kept])
    free = canvas(model, [3, 4], [0, 1])
    if region != "center":  # which is less than half of every coarse token
        assert not torch.equal(drawn.values[:, ~kept], free.values[:, ~kept])


def test_a_picture_is_completed(model):
    photo = torch.randint(0, 256, (16, 16, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[:, 8:] = True
    with pytest.warns(Unseen, match="later in the order are kept but not seen"):
        one = model.generate([0, 1], init=photo, mask=mask, seed=1)
    with pytest.warns(Unseen):
        other = model.generate([0, 1], init=photo, mask=~mask, seed=1)
    assert not torch.equal(one, other)


def test_previews_of_a_completed_picture_show_what_is_kept(model):
    values = model.encode(torch.randint(0, 256, (1, 16, 16, 3), dtype=torch.uint8)).values
    kept = torch.arange(21)[None] >= 13
    steps = model.stream(classes=[0], seed=3, given=Tokens.of(values, kept))
    first = next(iter(steps)).preview()
    assert first.token_counts.tolist() == [9], "the first level and the kept tokens of the last one"


def test_mixtures_are_drawn_after_the_codes(model):
    """The codes of the first level stay; its mixture is another vector, so finer levels and the picture change."""
    plain, smooth = canvas(model), canvas(model, more_smooth=True)
    table = model.tokenizer.quantizer.table.detach()
    assert plain.mixed is None
    assert torch.equal(smooth.values[:, 0], plain.values[:, 0])
    vectors = smooth.vectors(table)
    assert not torch.allclose(vectors[:, 0], plain.vectors(table)[:, 0])
    inside = (vectors >= table.amin(0) - 1e-5) & (vectors <= table.amax(0) + 1e-5)
    assert bool(inside.all()), "a mean of codes lies between them"
    coarse, fine = (
        torch.cdist(vectors[:, part], table[None]).amin(2).mean() for part in (slice(0, 5), slice(5, 21))
    )
    assert fine < coarse, "mixtures sharpen towards the end"
    given = Tokens.of(plain.values, (torch.arange(21) < 5).expand(4, -1))
    again = canvas(model, more_smooth=True, given=given)
    assert torch.equal(again.vectors(table)[:, :5], plain.vectors(table)[:, :5]), "given codes are not mixed"


def test_more_smooth_is_a_knob_that_is_stored():
    control = Control(more_smooth=True)
    shares = [control.at(Progress(k, 3, k, k + 1, 3)).more_smooth for k in range(3)]
    assert shares == [0.0, 0.5, 1.0]
    assert control.at(Progress(0, 1, 0, 1, 1)).more_smooth == 0.0
    assert Control().at(Progress(0, 3, 0, 1, 3)).more_smooth is None
    assert control_from_data(control_to_data(control)) == control
    assert "more_smooth" not in control_to_data(Control()), "records of before have no such knob"
    with pytest.raises(ArzooError, match=r"more_smooth must be True or False, got 0\.5"):
        Control(more_smooth=0.5).at(Progress(0, 1, 0, 1, 1))


def test_more_smooth_is_refused_where_codes_cannot_be_mixed(tmp_path):
    model = created(tiny_tokenizer(tmp_path / "tok"), "raster_tiny", "raster", **SMALL)
    with pytest.raises(
        ArzooError, match=r"more_smooth mixes the vectors of codes, and backbone .* cannot be fed"
    ):
        model.generate([0], more_smooth=True)


def test_unknown_knobs_name_the_nearest(model):
    with pytest.raises(ArzooError, match="more_smooth"):
        model.generate([0], more_smoth=True)


def test_search(model):
    plain = model.generate([1], seed=3)
    for algorithm in (
        BestOfN(4, batch=3),
        Beam(2, 3),
        Lookahead(2, 2, ahead=-1),
        Particles(3, temperature=5.0),
    ):
        result = model.search(algorithm, red, classes=[1], seed=3)
        assert result.pictures.stills.shape == (1, 16, 16, 3)
        assert float(result.scores[0]) == float(red(result.pictures))
        assert bool(result.tokens.known.all())
        smooth = model.search(algorithm, red, classes=[1], seed=3, control=Control(more_smooth=True))
        assert float(smooth.scores[0]) == float(red(smooth.pictures))
    best = model.search(BestOfN(4), red, classes=[1], seed=3)
    assert float(best.history[0].scores[0]) == pytest.approx(float(red(plain)), abs=0.5)
    assert best.scores[0] >= best.history[0].scores[0]
    likely = model.search(BestOfN(3), Likelihood(), classes=[1], seed=3)
    assert likely.pictures.shape == (1, 1, 16, 16, 3)


def test_mixtures_of_equal_codes_are_different_canvases(model):
    tokens = model.spec.empty(3)
    tokens.values.zero_()
    tokens.mixed = torch.ones(*tokens.values.shape, 4)
    tokens.mixed[1, 0] = 2.0
    first, same = distinct(tokens)
    assert (first.tolist(), same.tolist()) == ([0, 1], [0, 1, 0])


def test_a_branching_first_level_mixes_its_code(model):
    """Alternatives of a list of codes would be no mixtures."""
    drawn = model.search(Beam(2, 2), red, classes=[1], seed=3, control=Control(more_smooth=True)).tokens
    assert drawn.mixed is not None
    assert not drawn.mixed[:, 0].isnan().any()


def test_first_levels_may_be_searched(model):
    result = model.search(Beam(2, 3, lengths=(1, 2)), red, classes=[0])
    assert result.pictures.token_counts.tolist() == [5]


def test_score_of_pictures(model):
    images = torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8)
    score = model.score(images, classes=[0, 1])
    assert score.dimensions.tolist() == [21, 21]
    tokens, cond = model.encode(images), Cond(2, label=torch.tensor([0, 1]))
    with torch.no_grad():
        losses = model.heads[0].loss(model.backbone.features(tokens, cond, model.plan()), tokens.values)
    torch.testing.assert_close(score.nats.float(), -losses.sum(1), atol=1e-3, rtol=1e-5)


MISFITS = [
    ("var_tiny", "raster", {}, r"var reads draft\. Use a plan with readout draft: scales"),
    ("var_tiny", "scales", {"levels": (1, 4)}, r"var was made for Pyramid"),
    (
        "var_tiny",
        "scales",
        {"code_channels": 8},
        r"vectors of 4 channels, backbone var was made for 8.*code_channels=4",
    ),
    ("var_tiny", "scales", {"vocab": 99}, r"has 16 codes, backbone var was made for 99"),
    ("var_tiny", "scales", {"plan_options": {"levels": [1, 4]}}, r"levels \[1, 4\] are not those of"),
    ("var_tiny", "scales", {"head": "depth"}, r"draws several codes per position"),
    ("raster_tiny", "scales", {}, r"reads shifted"),
    ("flowar_tiny", "scales", MODULATED, r"tokens are codes, backbone flowar reads vectors"),
]


@pytest.mark.parametrize(("backbone", "plan", "options", "message"), MISFITS)
def test_parts_that_do_not_fit_say_why(folder, backbone, plan, options, message):
    sizes = {} if backbone == "flowar_tiny" else SMALL
    with pytest.raises(ArzooError, match=message):
        created(folder / "tok", backbone, plan, **{**sizes, **options})


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [
        (
            tiny_tokenizer,
            r"no pyramid of codes whose vectors add up\. Use a multi-scale VQ tokenizer, such as msvq_8_small",
        ),
        (tiny_kl_tokenizer, r"tokens are vectors, backbone var reads codes"),
    ],
)
def test_tokenizers_that_do_not_fit_say_why(tmp_path, tokenizer, message):
    with pytest.raises(ArzooError, match=message):
        created(tokenizer(tmp_path / "tok"), **SMALL, plan_options={"levels": [1, 2, 4]})


def test_a_first_level_of_several_tokens_is_refused():
    with pytest.raises(
        ArzooError, match=r"first level of VAR is a single token, whose input is the class; got levels"
    ):
        VARConfig(levels=(2, 4))
    with pytest.raises(ArzooError, match="width 30 is not a multiple of 4 heads"):
        VARConfig(width=30, heads=4)
    with pytest.raises(ArzooError, match=r"rise from the first to the last, got \[1, 4, 2\]"):
        VARConfig(levels=(1, 4, 2))
    with pytest.raises(ArzooError, match="drop_path must be from 0 to below 1, got 1"):
        VARConfig(drop_path=1.0)


def test_a_backbone_without_a_tokenizer_says_so(model):
    backbone = model.backbone.config.build()
    with pytest.raises(ArzooError, match=r"use it in a Generator, or call backbone\.attach"):
        backbone.features(model.spec.empty(1), Cond(1), model.plan())


def test_command_line(capsys, folder, tmp_path):
    arguments = (
        "generate",
        str(folder / "var"),
        "--class",
        CLASSES[0],
        "--num",
        1,
        "--tokenizer",
        folder / "tok",
    )
    plain = command(capsys, *arguments, "--out", tmp_path / "plain", "--json")
    assert plain.status == 0, plain.err
    assert plain.json["passes"] == len(LEVELS)
    smooth = command(capsys, *arguments, "--more-smooth", "--out", tmp_path / "smooth", "--json")
    assert smooth.status == 0, smooth.err
    assert smooth.json["controls"]["more_smooth"] is True
    greedy = command(capsys, *arguments, "--more-smooth", "--greedy", "--out", tmp_path / "greedy")
    assert "--more-smooth has no effect with --greedy" in greedy.err
    photo = picture(tmp_path / "photo.png")
    kept = command(capsys, *arguments, "--init", photo, "--keep", "top", "--out", tmp_path / "kept")
    assert kept.status == 0, kept.err
    files = [sorted((tmp_path / name).glob("0000*.png"))[0] for name in ("plain", "smooth", "kept")]
    images = [pixels(file) for file in files]
    assert not np.array_equal(images[0], images[1])
    assert not np.array_equal(images[0], images[2])
    again = command(capsys, "generate", "--like", files[1], "--out", tmp_path / "again")
    assert again.status == 0, again.err
    (repeated,) = sorted((tmp_path / "again").glob("0000*.png"))
    assert np.array_equal(pixels(repeated), images[1]), "knobs are repeated"
