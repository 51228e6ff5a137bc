"""`arzoo generate` with a model of clips: formats, page, record, repetition, and what is refused."""

from __future__ import annotations

import json
import sys
import typing
from pathlib import Path

import numpy as np
import pytest
import torch
from command import CLASSES, command, failing, files_of, pixels, tiny_models
from painting import clip_painter
from PIL import Image

from arzoo.base.errors import ArzooError
from arzoo.base.runtime import sample_seed
from arzoo.cli.generate import Generate
from arzoo.cli.pictures import read_settings
from arzoo.data import load
from arzoo.generation.generator import Generator
from arzoo.viz.clips import FORMATS, clip_sheet


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return clip_painter(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="module")
def expected(model) -> np.ndarray:
    """Clips of seed 0."""
    return (
        Generator.load(model).generate(classes=[0, 1, 2], seeds=[sample_seed(0, i) for i in range(3)]).numpy()
    )


def frames(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.stack([np.asarray((image.seek(t), image.convert("RGB"))[1]) for t in range(image.n_frames)])


def drawn(capsys, *options) -> dict:
    result = command(capsys, "generate", *options, "--json")
    assert result.status == 0, result.err
    return result.json


def test_the_options_are_the_formats():
    hint = typing.get_type_hints(Generate)["format"]
    assert typing.get_args(typing.get_args(hint)[0]) == tuple(FORMATS)


@pytest.mark.parametrize("name", [None, *FORMATS])
def test_files_are_those_of_the_estimate_and_of_the_record(capsys, model, tmp_path, name):
    if name in (None, "mp4", "mp4-444"):
        pytest.importorskip("av")
    options = [
        model,
        "--num",
        3,
        "--batch",
        2,
        "--out",
        tmp_path / "a",
        *(["--format", name] if name else []),
    ]
    planned = drawn(capsys, *options, "--dry-run")["files"]
    document = drawn(capsys, *options)
    out = tmp_path / "a"
    written = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert (
        written
        == set(planned)
        == {str(Path(file).relative_to(out)) for file in document["files"]} | {"run.json"}
    )
    record = json.loads((out / "run.json").read_text())
    assert record["files"].keys() == written - {"run.json"}
    assert (record["config"]["format"], record["config"]["fps"]) == (name or "mp4", 8)
    stems = [f"000{i}_{name.replace('/', '-')}_seed0" for i, name in enumerate(CLASSES)]
    suffix = FORMATS[name or "mp4"].suffix
    assert all(any(file.startswith(stem + (suffix or "/00003.png")) for file in written) for stem in stems)
    first = out / (stems[1] + suffix if suffix else f"{stems[1]}/00000.png")
    assert read_settings(str(first)) == record["config"] | {
        "class": CLASSES[1], "index": 1, "sample_seed": sample_seed(0, 1),
    }  # fmt: skip


def test_clips_are_those_of_the_library_whatever_the_batch(capsys, model, expected, tmp_path):
    drawn(capsys, model, "--num", 3, "--batch", 2, "--format", "webp", "--fps", 20, "--out", tmp_path / "a")
    drawn(capsys, model, "--num", 3, "--format", "frames", "--out", tmp_path / "b")
    for path, clip in zip(sorted((tmp_path / "a").glob("*.webp")), expected, strict=True):
        assert np.array_equal(frames(path), clip)
    for path, clip in zip(sorted((tmp_path / "b").glob("0*")), expected, strict=True):
        assert np.array_equal([pixels(file) for file in sorted(path.iterdir())], clip)
    for folder in ("a", "b"):
        sheet = clip_sheet(expected, captions=CLASSES)
        assert np.array_equal(pixels(tmp_path / folder / "grid.png"), np.asarray(sheet))


def test_a_clip_is_repeated_from_any_format(capsys, model, expected, tmp_path):
    for name in FORMATS:
        if name.startswith("mp4"):
            pytest.importorskip("av")
        options = ["--num", 2, "--format", name, "--fps", 12.5, "--class", *CLASSES[1:], "--seed", 3]
        document = drawn(capsys, model, *options, "--out", tmp_path / name)
        first = Path(document["files"][0])
        again = drawn(capsys, "--like", first, "--out", tmp_path / f"{name} again")
        assert (
            tmp_path / f"{name} again" / first.relative_to(tmp_path / name)
        ).read_bytes() == first.read_bytes()
        assert (again["config"]["format"], again["config"]["fps"]) == (name, 12.5)
        other = drawn(capsys, "--like", first, "--format", "webp", "--out", tmp_path / f"{name} as webp")
        assert other["files"][0].endswith(".webp")
    failing(command(capsys, "generate", "--like", tmp_path / "gif" / "grid.png"), "single picture")


@pytest.mark.parametrize("name", FORMATS)
def test_results_are_a_data_set_of_clips(capsys, model, expected, tmp_path, monkeypatch, name, recwarn):
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path / "cache"))
    if name.startswith("mp4"):
        pytest.importorskip("av")
    drawn(capsys, model, "--num", 3, "--format", name, "--fps", 10, "--out", tmp_path / "a")
    data = load(str(tmp_path / "a"), size=16, frames=4, fps=10)
    clips = data.pixels(torch.tensor([data.files.index(file) for file in sorted(data.files)])).numpy()
    assert clips.shape == expected.shape
    if name.startswith("mp4"):
        assert np.abs(clips.astype(int) - expected).max() < 12
    else:
        assert np.array_equal(clips, expected)
    assert [str(warning.message) for warning in recwarn] == []
    with pytest.raises(
        ArzooError, match="4 frames, too few for a clip of 17"
    ):  # not their first frames as pictures
        load(str(tmp_path / "a"))


def test_frames_per_second_are_those_of_the_training(capsys, tmp_path):
    model = clip_painter(tmp_path, fps=15)
    assert Generator.load(model).fps == 15
    assert drawn(capsys, model, "--num", 1, "--format", "gif", "--out", tmp_path / "a")["config"]["fps"] == 15


def test_other_runs_leave_nothing_of_former_ones(capsys, model, tmp_path):
    options = [model, "--num", 2, "--out", tmp_path / "a"]
    drawn(capsys, *options, "--format", "frames")
    (tmp_path / "a" / "0001_animal-round_seed0" / "notes.txt").write_text("mine")
    failing(command(capsys, "generate", *options, "--format", "webp"), "not empty", "--overwrite")
    drawn(capsys, *options, "--format", "webp", "--overwrite")
    names = {path.name for path in (tmp_path / "a").iterdir() if not path.name.startswith(".")}
    assert names == {
        "0000_animal-plain_seed0.webp", "0001_animal-round_seed0.webp", "0001_animal-round_seed0", "grid.png",
        "index.html", "run.json",
    }  # fmt: skip
    assert [path.name for path in (tmp_path / "a" / "0001_animal-round_seed0").iterdir()] == ["notes.txt"]


def test_without_the_package_clips_are_webp(capsys, model, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "av", None)
    result = command(capsys, "generate", model, "--num", 1, "--out", tmp_path / "a")
    assert result.status == 0, result.err
    assert "written as webp" in result.err
    assert "pip install 'arzoo[video]'" in result.err
    assert len(list((tmp_path / "a").glob("*.webp"))) == 1
    result = command(capsys, "generate", model, "--num", 1, "--format", "mp4", "--out", tmp_path / "b")
    failing(result, "pip install 'arzoo[video]'")
    assert not (tmp_path / "b").exists()
    (tmp_path / "x.mp4").write_bytes(b"")
    failing(command(capsys, "generate", "--like", tmp_path / "x.mp4"), "pip install 'arzoo[video]'")


def test_a_build_without_h264_is_noticed_before_drawing(capsys, model, monkeypatch, tmp_path):
    av = pytest.importorskip("av")
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    failing(
        command(capsys, "generate", model, "--format", "mp4-444", "--out", tmp_path / "a"), "libx264", "webp"
    )
    result = command(capsys, "generate", model, "--num", 1, "--out", tmp_path / "a")
    assert result.status == 0, result.err
    assert "written as webp, as mp4 needs PyAV with the encoder libx264" in result.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--fps", "0"], ["0 frames per second", "0.1 to 240"]),
        (["--fps", "nan"], ["nan frames per second"]),
        (["--fps", "60", "--format", "gif"], ["60 frames per second", "gif", "0.1 to 50"]),
        (["--format", "avi"], ["avi"]),
        (["--animate", "--frames", "9"], ["--animate", "--frames", "window"]),
    ],
)
def test_misuse(capsys, model, tmp_path, options, words):
    arguments = ["generate", model, "--num", 1, *options, "--out", tmp_path / "a"]
    failing(command(capsys, *arguments), *words, status=2)
    assert not (tmp_path / "a").exists()


def test_models_of_pictures_take_no_options_of_clips(capsys, tmp_path):
    models = tiny_models(tmp_path)
    for options in (["--format", "webp"], ["--fps", "8"]):
        result = command(capsys, "generate", models / "gen", *options, "--out", tmp_path / "a")
        failing(result, "--format, --fps and --frames", "draws still pictures", status=2)
    assert not (tmp_path / "a").exists()


def test_damaged_clips_have_no_settings(capsys, tmp_path):
    pytest.importorskip("av")
    (tmp_path / "x.mp4").write_bytes(b"nothing")
    failing(command(capsys, "generate", "--like", tmp_path / "x.mp4"), "it is no video, or damaged")
    failing(command(capsys, "generate", "--like", tmp_path / "none.mp4"), "there is no file")


@pytest.mark.parametrize("format", ["frames", "webp"])
def test_the_same_command_draws_the_clips_that_are_missing(capsys, model, tmp_path, format):
    options = [model, "--num", 3, "--batch", 1, "--out", tmp_path / "a", "--format", format]
    drawn(capsys, *options)
    before = files_of(tmp_path / "a")
    first = next(
        path for path in sorted((tmp_path / "a").rglob("0000*")) if path.is_file() or format == "frames"
    )
    (next(first.iterdir()) if first.is_dir() else first).unlink()
    drawn(capsys, *options)
    after = files_of(tmp_path / "a")
    assert {name: data for name, data in after.items() if name != "run.json"} == {
        name: data for name, data in before.items() if name != "run.json"
    }
