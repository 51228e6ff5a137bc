"""`arzoo search` with tiny models and verifiers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command import CLASSES, command, failing, files_of, picture, pixels, tiny_generator, tiny_tokenizer
from ordered import tiny_ordered_generator, tiny_prefixes
from painting import clip_painter
from PIL import Image

from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.base.runtime import sample_seed
from arzoo.cli.judges import Choice, Roles, Usual
from arzoo.cli.methods import lengths_of
from arzoo.cli.pictures import read_settings
from arzoo.generation.generator import Generator
from arzoo.samplers.verifiers.base import PictureVerifier, Subject


class Red(PictureVerifier):
    """How red pictures are."""

    name, networks = "red", frozenset({"eye"})

    def __init__(self, subject: Subject, weight: float = 1.0, channel: int = 0) -> None:
        self.weight, self.channel = weight, channel

    def score_images(self, images):
        return self.weight * images[..., self.channel].float().mean((1, 2))


class Blue(Red):
    """How blue pictures are."""

    name, networks = "blue", frozenset({"other eye"})

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject, channel=2)


class Worded(Red):
    """Reads a prompt."""

    needs = frozenset({"prompt"})


@pytest.fixture(autouse=True)
def verifiers(monkeypatch):
    registry.names("verifier")
    for name, kind in {"red": Red, "blue": Blue, "worded": Worded}.items():
        monkeypatch.setitem(registry._entries["verifier"], name, kind)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_generator(folder / "gen", tiny_tokenizer(folder / "tok"))
    tiny_ordered_generator(folder / "ordered", tiny_prefixes(folder / "first"), CLASSES)
    return folder


WHO = ("--verifier", "red", "--judge", "blue")


def searching(capsys, models, out, *options, model="gen"):
    return command(capsys, "search", models / model, *WHO, "--out", out, "--json", *options)


def test_pictures_record_and_what_search_adds(capsys, models, tmp_path):
    """The files, their settings, the record of every comparison, and the scores beside those of plain drawing."""
    out = tmp_path / "out"
    result = searching(capsys, models, out, "--class", CLASSES[0], CLASSES[2], "--samples", 5, "--tree")
    assert result.status == 0, result.err
    names = ["0000_animal-plain_seed0.png", "0001_food-plain_seed0.png"]
    places = ("pictures", "plain", "trees")
    assert files_of(out).keys() == {
        *("grid.png", "run.json", "search.json"), *(f"{place}/{name}" for place in places for name in names)
    }  # fmt: skip
    record = json.loads((out / "search.json").read_text())
    assert record["settings"]["method"] == "best_of_n", "the first tokens of a grid are no picture"
    for i, entry in enumerate(record["pictures"]):
        (best,), (comparison,) = entry["results"], entry["history"]
        assert comparison["candidates"] == len(comparison["scores"]) == len(comparison["parents"]) == 5
        top = comparison["kept"][0]
        assert best["verifier"]["red"] == pytest.approx(max(comparison["scores"]), abs=0.5)
        assert comparison["scores"][top] == max(comparison["scores"])
        assert entry["plain"]["verifier"]["red"] == pytest.approx(comparison["scores"][0], abs=0.5)
        assert entry["plain"]["judge"] == pytest.approx(pixels(out / entry["plain"]["file"])[..., 2].mean())
        assert best["judge"] == pytest.approx(pixels(out / best["file"])[..., 2].mean())
        assert {name: entry["spent"][name] for name in ("network_calls", "decodes", "verifications")} == {
            "network_calls": 35, "decodes": 5, "verifications": 5,
        }  # fmt: skip
        assert sum(entry["seconds"].values()) == pytest.approx(entry["spent"]["seconds"])
        settings = read_settings(str(out / best["file"]))
        assert (settings["verb"], settings["class"], settings["index"]) == ("search", CLASSES[2 * i], i)
    gains = [each["results"][0]["judge"] - each["plain"]["judge"] for each in record["pictures"]]
    assert result.json["gain"]["judge"] == pytest.approx(np.mean(gains))
    assert result.json["gain"]["error"] == pytest.approx(np.std(gains, ddof=1) / 2**0.5)
    run = json.loads((out / "run.json").read_text())
    assert run["files"].keys() == files_of(out).keys() - {"run.json"}
    text = command(capsys, "search", models / "gen", *WHO, "--samples", 2, "--out", tmp_path / "one")
    assert "search adds" in text.out


def test_the_plain_picture_is_that_of_generate(capsys, models, tmp_path):
    options = ["--class", CLASSES[1], "--num", 2, "--seed", 3]
    command(capsys, "generate", models / "gen", *options, "--out", tmp_path / "a")
    assert searching(capsys, models, tmp_path / "b", *options, "--samples", 2).status == 0
    name = "0001_animal-round_seed3.png"
    plain = tmp_path / "b" / "plain" / name
    assert np.abs(pixels(tmp_path / "a" / name).astype(int) - pixels(plain)).max() <= 1
    again = command(capsys, "generate", "--like", plain, "--out", tmp_path / "c")
    assert again.status == 0, again.err
    chosen = tmp_path / "b" / "pictures" / name
    failing(command(capsys, "generate", "--like", chosen, "--out", tmp_path / "d"), "drawn by `arzoo search`")
    same = command(capsys, "search", "--like", chosen, "--out", tmp_path / "e", "--json")
    assert same.status == 0, same.err
    assert (same.json["config"]["samples"], same.json["config"]["judge"]) == (2, "blue")
    assert (pixels(same.json["files"][0]) == pixels(chosen)).all()


def test_beam_over_ordered_tokens_inside_a_budget(capsys, models, tmp_path):
    options = ["--class", CLASSES[0], "--method", "beam", "--width", 2, "--candidates", 4, "--results", 2]
    whole = searching(capsys, models, tmp_path / "a", *options, model="ordered")
    assert whole.status == 0, whole.err
    assert whole.json["config"]["method"] == "beam"
    assert len(whole.json["pictures"][0]["results"]) == 2
    short = searching(capsys, models, tmp_path / "b", *options, "--budget", "decodes=14", model="ordered")
    (entry,) = short.json["pictures"]
    assert (entry["stopped"], entry["spent"]["decodes"], entry["history"]) == ("decodes", 12, 2)
    lengths = searching(capsys, models, tmp_path / "c", *options, "--lengths", "linear:4", model="ordered")
    record = json.loads((tmp_path / "c" / "search.json").read_text())
    assert lengths.status == 0
    assert [each["steps"] for each in record["pictures"][0]["history"]] == [4, 8]
    assert record["pictures"][0]["history"][1]["parents"] == [
        each for kept in record["pictures"][0]["history"][0]["kept"] for each in [kept] * 4
    ]


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("particles", ("particles=3", "temperature=9")),
        ("rejection", ("threshold=300", "most=3")),
        ("rejection", ("threshold=[0, 300]", "most=3", "lengths=4")),
        ("cautious", ("trials=2", "share=1")),
    ],
)
def test_other_methods_and_their_settings(capsys, models, tmp_path, method, settings):
    options = ["--class", CLASSES[0], "--method", method, "--set", *settings, "--tree"]
    result = searching(capsys, models, tmp_path / "a", *options, model="ordered")
    assert result.status == 0, result.err
    (entry,) = json.loads((tmp_path / "a" / "search.json").read_text())["pictures"]
    assert entry["history"][-1]["steps"] == 8
    assert ("weights" in entry["history"][-1]) == (method == "particles")
    assert entry.get("reached") is ({"rejection": False}.get(method))
    planned = searching(capsys, models, tmp_path / "b", *options, "--dry-run", model="ordered")
    assert planned.status == 0, planned.err


def test_profile_prints_where_the_time_went(capsys, models, tmp_path):
    """Seconds of every part over all pictures, those of an earlier run included, and the share that search adds."""
    who = ("search", models / "gen", *WHO, "--class", 0, 1, "--samples", 2, "--out", tmp_path / "out")
    plain = command(capsys, *who)
    assert "the search itself adds" not in plain.out
    printed = command(capsys, *who, "--profile")
    assert printed.status == 0, printed.err
    entries = json.loads((tmp_path / "out" / "search.json").read_text())["pictures"]
    parts = {part: sum(each["seconds"][part] for each in entries) for part in entries[0]["seconds"]}
    assert parts.keys() == {"generator", "decoder", "verifier", "search"}
    total = sum(parts.values())
    for part, seconds in parts.items():
        (line,) = (
            line for line in printed.out.splitlines() if line.startswith(f"{part} ") and line[-1] == "%"
        )
        assert line.split()[-1] == f"{seconds / total:.1%}"
    added = parts["search"] / (total - parts["search"])
    assert f"the search itself adds {added:.1%} to the seconds of the other parts" in printed.out


def test_a_threshold_is_asked_for(capsys, models, tmp_path):
    result = searching(capsys, models, tmp_path / "a", "--method", "rejection", model="ordered")
    failing(result, "'rejection' needs threshold", status=2)


def test_dry_run_predicts_what_is_spent(capsys, models, tmp_path):
    for model, options in (
        ("ordered", ["--method", "beam", "--width", 2, "--candidates", 4]),
        ("gen", ["--samples", 6]),
    ):
        options += ["--class", 0, 1]
        dry = searching(capsys, models, tmp_path / "out", *options, "--dry-run", model=model).json
        assert not (tmp_path / "out").exists()
        done = searching(capsys, models, tmp_path / f"{model} out", *options, model=model).json
        for name in ("network_calls", "head_calls", "decodes", "verifications"):
            assert dry[name] == sum(entry["spent"][name] for entry in done["pictures"])
    small = searching(capsys, models, tmp_path / "out", "--budget", "decodes=3", "--dry-run").json
    assert small["budget_ends_it"] == "decodes"
    assert "would be written" in command(capsys, "search", models / "gen", *WHO, "--dry-run").out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--width", 3], ["--width is not for method best_of_n", "beam, lookahead"]),
        (["--method", "beam", "--samples", 3], ["--samples is not for method beam", "best_of_n"]),
        (["--method", "beem"], ["'beem'", "'beam'"]),
        (["--method", "beam", "--width", 9, "--candidates", 4], ["wider than its 4 candidates"]),
        (["--samples", 0], ["at least 1"]),
        (["--num", 0], ["--num must be at least 1"]),
        (["--set", "sampels=2"], ["no 'sampels'", "samples"]),
        (["--set", "samples"], ["KEY=VALUE"]),
        (["--set", "samples=two"], ["samples"]),
        (["--samples", 2, "--set", "samples=3"], ["give it once"]),
        (["--method", "beam", "--lengths", "4,2"], ["lengths must rise"]),
        (["--method", "beam", "--lengths", "often"], ["--lengths 'often'", "geometric"]),
        (["--budget", "decode=3"], ["'decode'", "'decodes'"]),
        (["--budget", "decodes=0"], ["above 0"]),
        (["--budget", "decodes=x"], ["decodes"]),
        (["--budget", "decodes=" + "9" * 5000], ["decodes"]),
        (["--judge", "red"], ["--judge red is the verifier that steers", "verifiers ls`)"]),
        (["--judge", "red:weight=1"], ["is the verifier that steers"]),
        (["--judge", "likelihood"], ["looks at no pictures"]),
        (["--method", "particles", "--verifier", "red", "red:weight=2"], ["--verifier red red:weight=2", "mean rank"]),
        (["--judge", "ensemble"], ["ranks candidates among each other"]),
        (["--judge", "reed"], ["'reed'", "'red'"]),
        (["--judge", "red:wait=2"], ["'wait'", "'weight'"]),
        (["--judge", "red:weight=much"], ["weight"]),
        (["--prompt", "dog"], ["reads no text"]),
        (["--class", "1", "--prompt", "dog"], ["give --class or --prompt"]),
    ],
)  # fmt: skip
def test_misuse_is_refused_before_anything_is_written(capsys, models, tmp_path, options, words):
    named = {option for option in options if str(option).startswith("--")}
    who = [
        text for pair in (("--verifier", "red"), ("--judge", "blue")) if pair[0] not in named for text in pair
    ]
    result = command(capsys, "search", models / "gen", *who, *options, "--out", tmp_path / "out")
    failing(result, *words, status=2)
    assert not (tmp_path / "out").exists()


def test_what_fails_with_the_model(capsys, models, tmp_path):
    options = ["--verifier", "worded", "--judge", "blue", "--out", tmp_path / "out"]
    failing(
        command(capsys, "search", models / "gen", *options), "'worded' needs a prompt", "use a verifier that"
    )
    assert not (tmp_path / "out").exists()
    small = searching(capsys, models, tmp_path / "small", "--method", "beam", "--budget", "decodes=2")
    failing(small, "decodes=2 is too small for one result")
    assert searching(capsys, models, tmp_path / "small", "--samples", 2).status == 0, "nothing was kept"


def test_networks_that_steering_and_judging_share(capsys, models, tmp_path):
    options = ["--samples", 2, "--num", 1]
    shared = command(
        capsys, "search", models / "gen", *options, "--verifier", "blue", "red", "--judge", "red:weight=-1", "--out",
        tmp_path / "a", "--json",
    )  # fmt: skip
    assert shared.status == 0, shared.err
    assert "look with the same network (eye)" in shared.err
    assert shared.json["pictures"][0]["plain"]["verifier"].keys() == {"blue", "red"}
    assert "same network" not in searching(capsys, models, tmp_path / "b", *options).err


def test_default_judges_know_what_is_drawn(monkeypatch):
    def chosen(steering, judge, subject):
        return roles(steering, judge, subject).judge.text

    usual = Usual(("red", "picky:more=true"), ("picky", "red:weight=2"))

    def roles(steering, judge, subject):
        return Roles.of(steering, judge, usual, [subject])

    class Picky(Red):
        def __init__(self, subject: Subject, more: bool = False) -> None:
            if subject.prompt != "red heart":
                raise registry.UnknownName("caption", subject.prompt or "", ["red heart"])

    monkeypatch.setitem(registry._entries["verifier"], "picky", Picky)
    assert chosen((), None, Subject(prompt="red heart")) == "picky"
    assert chosen((), None, Subject(prompt="a dog")) == "red:weight=2"
    assert chosen(("red:weight=2",), None, Subject(prompt="a dog")) == "red"
    for prompt, steering in (("red heart", ["red", "picky:more=true"]), ("a dog", ["red"])):
        assert [each.text for each in roles((), None, Subject(prompt=prompt)).steering] == steering
    assert chosen((), "blue", Subject(prompt="a dog")) == "blue"
    alone = Roles.of((), None, usual, [Subject(prompt="red heart")], absolute=True)
    assert ([each.text for each in alone.steering], alone.judge.text) == (["red"], "picky")
    assert Choice.read("red:weight=2,channel=1", "--judge").settings == {"weight": 2.0, "channel": 1}


def test_lengths():
    assert lengths_of("geometric", 9) == (1, 2, 4, 8, 9)
    assert lengths_of("geometric:3", 9) == (1, 3, 9)
    assert lengths_of("linear:4", 9) == (4, 8, 9)
    assert lengths_of("fixed", 3) == (1, 2, 3)
    assert lengths_of("2,3", 9) == (2, 3)
    with pytest.raises(ArzooError, match="at most 9"):
        lengths_of("2,30", 9)
    for text in ("9" * 5000, "linear:" + "9" * 5000, "geometric:" + "9" * 5000):
        with pytest.raises(ArzooError, match=r"rising numbers|finite base"):
            lengths_of(text, 9)


def test_a_reference_that_has_changed(capsys, models, tmp_path):
    source = picture(tmp_path / "photo.png")
    who = ["--verifier", "reconstruction", "--judge", "red", "--samples", 3, "--num", 1, "--seed", 2]
    done = command(
        capsys, "search", models / "gen", *who, "--reference", source, "--out", tmp_path / "a", "--json"
    )
    assert done.status == 0, done.err
    assert read_settings(done.json["files"][0])["sample_seed"] == sample_seed(2, 0)
    picture(source, seed=1)
    again = command(capsys, "search", "--like", done.json["files"][0], "--out", tmp_path / "b")
    failing(again, "has changed", "--reference")
    missing = command(capsys, "search", models / "gen", *who, "--reference", tmp_path / "no.png")
    failing(missing, "there is no file")


def test_clips_are_written_whole(capsys, tmp_path):
    """A search with a model of clips writes all frames, not the first one."""
    model, out = clip_painter(tmp_path), tmp_path / "out"
    options = ["--class", 0, 1, "--samples", 2, "--tree"]
    planned = searching(capsys, tmp_path, out, *options, "--dry-run").json["files"]
    result = searching(capsys, tmp_path, out, *options)
    assert result.status == 0, result.err
    assert files_of(out).keys() == set(planned) | {"run.json"}
    seeds = [sample_seed(0, i) for i in range(2)]
    expected = Generator.load(model).generate(classes=[0, 1], seeds=seeds).numpy()
    for path, clip in zip(sorted((out / "plain").glob("*.webp")), expected, strict=True):
        with Image.open(path) as image:
            frames = [np.asarray((image.seek(t), image.convert("RGB"))[1]) for t in range(image.n_frames)]
        assert np.array_equal(frames, clip)
    first = sorted((out / "pictures").glob("*.webp"))[0]
    again = command(capsys, "search", "--like", first, "--out", tmp_path / "again", "--json")
    assert again.status == 0, again.err
    assert (tmp_path / "again" / "pictures" / first.name).read_bytes() == first.read_bytes()
