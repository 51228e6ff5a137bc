"""The scripts that measure claims of ordered and adaptive tokens, from options to figures, with tiny networks."""

import json
import sys
from dataclasses import replace

import pytest
import torch
from command import ten_pictures
from ordered import FLEXTOK, KARL, build
from scripted import scripts
from tiny_net import TinyNet

from arzoo import data as datasets
from arzoo.base.errors import UsageError
from arzoo.checkpoints.folder import open_checkpoint, save_parts
from arzoo.core.layout import Grid
from arzoo.generation.generator import Generator
from arzoo.metrics.bank import measure
from arzoo.tokenizers.vq.presets import vq_4_micro


@pytest.fixture
def script():
    with scripts("scripts/dev/reproduce") as load:
        yield load


@pytest.fixture
def checkpoint(tmp_path):
    """A function that saves a tokenizer of 32 x 32 pictures with random weights."""

    def save(config):
        tokenizer = build(config.replace(image_size=32))
        folder = tmp_path / type(tokenizer).__name__
        save_parts(folder, "tokenizer", {"tokenizer": tokenizer}, spec=tokenizer.spec.to_dict())
        return str(folder)

    return save


@pytest.fixture
def run(script, tmp_path, monkeypatch):
    """A function that runs a script on `emoji32` and returns the figures that it wrote."""

    def run_script(name, *options):
        monkeypatch.setattr(script("claim"), "CLAIMS", tmp_path / "claims")
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *options, "--data", "emoji32"])
        script(name).main()
        (path,) = (tmp_path / "claims").glob("*.json")
        claim = json.loads(path.read_text())
        assert {len(line) for line in claim["cells"]} == {len(claim["head"])}
        return claim

    return run_script


def test_prefixes_are_compared_with_cuts_of_a_grid(script, run, checkpoint, monkeypatch):
    prefixes = script("prefixes")
    monkeypatch.setattr(prefixes, "codes_of", lambda *_: torch.arange(128).reshape(2, 64))
    monkeypatch.setattr(prefixes, "feature_net", TinyNet)
    tokenizers = ("--ordered", checkpoint(FLEXTOK), "--grid", checkpoint(vq_4_micro()))
    claim = run("prefixes", *tokenizers, "--tokens", "8", "--num", "3")
    assert claim["n"] == 3
    assert claim["rows"].keys() == {
        "ordered", "grid, first rows", "grid, surest last", "grid, spread, copied", "grid, complete"
    }  # fmt: skip
    for name, of_lengths in claim["rows"].items():
        assert of_lengths.keys() == ({"64"} if name == "grid, complete" else {"8"})
        for figures in of_lengths.values():
            assert len(figures) == 3
            assert all(figure["error"] is not None for figure in figures.values())


def test_a_grid_that_keeps_every_code_is_the_grid(script):
    prefixes = script("prefixes")
    grid = build(vq_4_micro())
    x = torch.rand(2, 3, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    whole = grid.encode(x).values
    filler = torch.zeros(64, dtype=torch.int64)
    few = prefixes.FewPlaces(grid, prefixes.only(torch.tensor([3, 5]), 64), filler).encode(x).values
    assert torch.equal(few[:, [3, 5]], whole[:, [3, 5]])
    assert int(few.sum()) == int(whole[:, [3, 5]].sum())
    every = prefixes.FewPlaces(grid, prefixes.only(torch.arange(64), 64), filler)
    assert torch.equal(every.encode(x).values, whole)


def test_places_are_spread_evenly(script):
    prefixes = script("prefixes")
    grid = Grid(1, 4, 4)
    order = prefixes.evenly_spread(grid)
    assert order.sort().values.tolist() == list(range(16))
    assert sorted(order[:4].tolist()) == [0, 3, 12, 15]
    copied = prefixes.nearest_kept(grid, order[:4])
    assert copied.reshape(4, 4).tolist() == [[0, 0, 3, 3], [0, 0, 3, 3], [12, 12, 15, 15], [12, 12, 15, 15]]


def test_entropies_of_places(script):
    codes = torch.tensor([[0, 0, 0], [0, 0, 1], [0, 1, 2], [0, 1, 3]])
    assert script("prefixes").entropies(codes, 4).tolist() == pytest.approx([0, 1, 2])


def test_complexity(run, script, checkpoint, monkeypatch):
    monkeypatch.setattr(script("complexity"), "REPLICATES", 3)
    claim = run("complexity", "--tokenizer", checkpoint(KARL.replace(table_side=16)), "--num", "4")
    rows = claim["rows"]
    assert [name for name, row in rows.items() if row["change"]] == [
        *(f"held-out, noise {sd}" for sd in (8, 16, 32, 64)), *(f"held-out, blur {sd:g}" for sd in (0.5, 1, 2, 4))
    ]  # fmt: skip
    assert {row["n"] for row in rows.values()} == {4}
    sizes = [
        rows[f"held-out, {change}"]["bytes"][0] for change in ("noise 64", "noise 8", "blur 1", "blur 4")
    ]
    assert sizes == sorted(sizes, reverse=True)


def test_rank_correlation(script):
    scipy_stats = pytest.importorskip("scipy.stats")
    complexity = script("complexity")
    a, b = torch.tensor([1.0, 2, 2, 5, 3]), torch.tensor([10.0, 30, 20, 40, 40])
    assert complexity.rank_correlation(a, b) == pytest.approx(scipy_stats.spearmanr(a, b).statistic)
    same = complexity.Encoded(torch.ones(5, dtype=torch.int64), a, b)
    assert complexity.correlation(same)[0] is None


def test_one_pass_and_searches(run, checkpoint):
    tokenizer = checkpoint(KARL.replace(table_side=16))
    options = ("--ordered", checkpoint(FLEXTOK), "--qualities", "0.05", "0.38", "--every", "5", "--num", "3")
    claim = run("one_pass", "--tokenizer", tokenizer, *options)
    assert claim["protocol"]["lengths"] == [5, 10]
    for means in claim["rows"].values():
        assert means["one pass"]["encoder_passes"][0] == 1
        assert means["one pass"]["decoder_passes"][0] == 0
        searches = [mean for name, mean in means.items() if name != "one pass"]
        assert len(searches) == 6
        for mean in searches:
            assert mean["seconds"][0] > 0
        by_length = [mean for name, mean in means.items() if name.startswith("lengths ")]
        assert [1 <= mean["encoder_passes"][0] == mean["decoder_passes"][0] <= 2 for mean in by_length] == [
            True
        ] * 4
        by_prefix = [mean for name, mean in means.items() if name.startswith("prefixes ")]
        assert [mean["encoder_passes"][0] for mean in by_prefix] == [1, 1]


def test_searches(script):
    one_pass = script("one_pass")
    errors = [0.5, 0.3, 0.2, 0.1, 0.05]
    assert one_pass.ascending(errors, 0.2) == ([0, 1, 2], 2)
    assert one_pass.ascending(errors, 0.01) == ([0, 1, 2, 3, 4], 4)
    assert one_pass.bisection(errors, 0.2) == ([2, 1], 2)
    assert one_pass.bisection(errors, 0.05) == ([2, 3, 4], 4)
    assert one_pass.bisection(errors, 0.6) == ([2, 1, 0], 0)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("complexity", ["--tokenizer", "vq_emoji64"], "target error"),
        ("one_pass", ["--tokenizer", "vq_emoji64"], "must be a KARL"),
        ("one_pass", ["--tokenizer", "ADAPTIVE", "--ordered", "vq_emoji64"], "prefix"),
        ("prefixes", ["--ordered", "vq_emoji64", "--grid", "kl_emoji64"], "prefix"),
        ("prefixes", ["--ordered", "ORDERED", "--grid", "kl_emoji64"], "grid of codes"),
    ],
)
def test_unfit_tokenizers_are_refused(run, checkpoint, name, options, message):
    tiny = {"ORDERED": FLEXTOK, "ADAPTIVE": KARL.replace(table_side=16)}
    folders = [checkpoint(tiny[option]) if option in tiny else option for option in options]
    with pytest.raises(UsageError, match=message):
        run(name, *folders, "--num", "3")


@pytest.fixture
def drawn_lengths(script, monkeypatch):
    """The script, with a small feature network whose features are not kept."""
    scorer, drawn_lengths = script("scorer"), script("drawn_lengths")
    monkeypatch.setattr(scorer, "feature_net", TinyNet)
    for module in (scorer, drawn_lengths):
        monkeypatch.setattr(module, "measure_once", measure)
    return drawn_lengths


def test_lengths_are_drawn(drawn_lengths, run, checkpoint, tmp_path):
    folder = checkpoint(FLEXTOK)
    tokenizer = open_checkpoint(folder)
    model = Generator.create(
        "raster_tiny", tokenizer.load("tokenizer"), "ordered", classes=datasets.load("emoji32").classes,
        tokenizer_name=tokenizer.folder.name, tokenizer_hash=tokenizer.parts["tokenizer"]["weights"],
        width=32, depth=1, heads=2,
    )  # fmt: skip
    model.save(tmp_path / "model")
    options = ("--tokens", "1", "3", "--num", "4", "--seeds", "0", "1")
    claim = run("drawn_lengths", str(tmp_path / "model"), *options)
    rows = claim["rows"]
    assert rows.keys() == {"held-out drawings", "class, 1", "class, 3"}
    assert [rows[f"class, {count}"]["network_calls"] for count in (1, 3)] == [1, 3]
    assert rows["class, 3"]["fd_error"] > 0
    assert all(0 <= rows[f"class, {count}"]["category"] <= 1 for count in (1, 3))
    assert rows["class, 1"]["fd"] != rows["class, 3"]["fd"]


def test_a_model_of_a_grid_is_refused(drawn_lengths, run):
    with pytest.raises(UsageError, match="a picture needs all"):
        run("drawn_lengths", "raster_emoji64", "--num", "4")


def test_a_probe_sees_what_it_was_shown(drawn_lengths):
    rng = torch.Generator().manual_seed(0)
    centres = torch.randn(3, 6, generator=rng)
    labels = torch.arange(60) % 3
    features = centres[labels] + 0.1 * torch.randn(60, 6, generator=rng)
    probe = drawn_lengths.Probe(features[:30], labels[:30])
    assert torch.equal(probe(features[30:]), labels[30:])


def test_subjects_are_classes_without_styles(drawn_lengths):
    data = ten_pictures().split("train")
    renamed = replace(
        data, classes=("cat/a", "dog/a", "cat/b"), labels=torch.tensor([0, 1, 2, 0] * 3)[: len(data)]
    )
    assert drawn_lengths.subjects(renamed)[:4].tolist() == [0, 1, 0, 0]
