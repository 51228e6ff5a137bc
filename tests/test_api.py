"""The public functions, and the shipped models."""

import subprocess
import sys

import pytest
import torch

import arzoo
from arzoo.base.errors import ArzooError, UnknownName
from arzoo.base.runtime import sample_seed
from arzoo.checkpoints.folder import open_checkpoint
from arzoo.checkpoints.names import bundled
from arzoo.core.condition import Cond
from arzoo.core.contracts import Tokenizer
from arzoo.generation.generator import Generator
from arzoo.generation.prompts import takes_text
from arzoo.segmentation.segmenter import Segmenter


def test_importing_does_not_import_torch():
    code = "import sys, arzoo; arzoo.__version__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_generator_is_imported_when_it_is_used():
    assert arzoo.Generator is Generator
    with pytest.raises(AttributeError, match="no attribute 'Generatox'"):
        arzoo.Generatox  # noqa: B018


def test_trained_models_are_created_by_name():
    model = arzoo.create("nar_emoji64", pretrained=True)
    assert isinstance(model, Generator)
    assert isinstance(arzoo.create("vq_emoji64", pretrained=True), Tokenizer)
    segmenter = arzoo.create("segmamba_em", pretrained=True)
    assert isinstance(segmenter, Segmenter)
    assert segmenter.voxel_size == (35.0, 8.0, 8.0)
    for name, more, words in (
        ("nar_emoji64", {}, r"pretrained=True.*arzoo.load\('nar_emoji64'\)"),
        ("nar_tiny", {"pretrained": True}, "no trained weights are shipped.*nar_emoji64"),
        ("nar_emoji64", {"pretrained": True, "depth": 2}, "settings of their own: leave depth out"),
        ("nar_emoji", {"pretrained": True}, "nar_emoji64"),
    ):
        with pytest.raises(ArzooError, match=words):
            arzoo.create(name, **more)


def test_a_segmenter_is_no_generator():
    with pytest.raises(ArzooError, match="segmamba_em is a segmenter, not a generator"):
        Generator.from_pretrained("segmamba_em")
    code = (
        "import sys, arzoo; arzoo.load('vq_emoji64'); sys.exit('arzoo.segmentation.segmenter' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0, "tokenizers need nothing of volumes"


def test_models_are_listed_made_and_corrected():
    assert {"nar_b", "vq_16"} <= set(arzoo.list_models())
    assert arzoo.list_models("par*") == [name for name in arzoo.list_models() if name.startswith("par")]
    network = arzoo.create("nar_tiny", vocab=32, classes=3)
    assert network.axes == 2
    with pytest.raises(UnknownName, match="nar_tiny"):
        arzoo.create("nar_tinny")
    with pytest.raises(ArzooError, match="depth"):
        arzoo.create("nar_tiny", dept=3)


@pytest.mark.parametrize("name", bundled())
def test_shipped_models_load_and_say_how_they_were_made(name):
    checkpoint = open_checkpoint(name)
    assert {"command", "data_sha256", "seed", "steps", "hours"} <= checkpoint.index["training"].keys()
    assert checkpoint.metrics
    assert sum(path.stat().st_size for path in checkpoint.folder.rglob("*")) < 12 * 2**20
    if checkpoint.kind == "segmenter":
        assert arzoo.load(name).window == (8, 80, 80)
        return
    loaded = arzoo.load(name)
    if isinstance(loaded, Tokenizer):
        x = torch.zeros(1, 3, 1, *loaded.image_size)
        assert loaded.decode(loaded.encode(x)).shape == x.shape
        return
    assert isinstance(loaded, Generator)
    if takes_text(loaded.backbone):
        pytest.importorskip("transformers")
        request: dict = {"prompts": ["red heart", "dog"]}
    else:
        request = {"classes": [0, 1]}
    one, two = (loaded.generate(**request, seed=5, batch=batch) for batch in (1, 2))
    # Rounding in the solvers of vectors follows the batch.
    assert (one.int() - two.int()).abs().max() <= (0 if loaded.tokenizer.spec.discrete else 1)
    tokens = {"ar_karl_emoji64": 64, "ar_ordered_emoji64": 32}.get(name, 0)
    calls = {"next_neighbor": 15, "raster": 64, "cells": 4, "masked": 16, "ordered": tokens, "scales": 6}
    of_clips = {"nar_atari": 19, "nbp_atari": 47}
    assert loaded.fps == (15 if name in of_clips else 8)
    assert len(loaded.plan()) == (of_clips[name] if name in of_clips else calls[loaded.plan_name])


def test_there_are_shipped_models():
    shipped = {
        "vq_emoji64",
        "kl_emoji64",
        "nar_emoji64",
        "raster_emoji64",
        "nar_emoji64_text",
        "xar_emoji64",
        "mar_emoji64",
    }
    assert shipped <= set(bundled())


def five_lines() -> list[str]:
    """The example of the package's docstring."""
    lines = (arzoo.__doc__ or "").split("import arzoo\n\n")[1].split("\n\n")[0].splitlines()
    return [line.removeprefix("    ") for line in lines]


def streamed(model: Generator, **request) -> list[torch.Tensor]:
    """The pictures after every step."""
    return [step.preview() for step in model.stream(**request)]


def test_streams_show_the_canvas_and_end_with_the_picture():
    model = Generator.load("nar_emoji64")
    classes = ["food-fruit/twemoji", 7]
    known, shown = [], []
    for step in model.stream(classes=classes, seed=2):
        known.append(int(step.run.tokens.known.sum()) // 2)
        shown.append(step.preview())
    assert known == [sum(min(k + 1, 15 - k) for k in range(n + 1)) for n in range(15)]
    assert torch.equal(shown[-1], model.generate(classes, seed=2))
    assert torch.equal(streamed(model, classes=[7], seeds=[sample_seed(2, 1)])[-1][0], shown[-1][1])
    cond = Cond(2, label=torch.tensor([0, 7]))
    with pytest.raises(ArzooError, match="give cond, or classes or prompts instead"):
        next(model.stream(cond, classes=[0, 7]))
    with pytest.raises(ArzooError, match="and no prompts"):
        next(model.stream())
    with pytest.raises(ArzooError, match="2 classes or prompts but 1 seeds"):
        next(model.stream(cond, [1]))
    with pytest.raises(UnknownName, match="food-fruit/twemoji"):
        next(model.stream(classes=["food-fruit/twemoj"]))


def test_the_five_lines_of_the_docstring(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(five_lines()) == 5
    names = {"arzoo": arzoo}
    exec("\n".join(five_lines()), names)
    drawings = names["drawings"]
    assert (drawings.shape, drawings.dtype) == ((4, 1, 64, 64, 3), torch.uint8)
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == [f"000{i}.png" for i in range(4)]
    assert [path.name for path in names["files"]] == [f"000{i}.png" for i in range(4)]
    assert (len(names["images"]), names["images"][0].size) == (4, (64, 64))
    assert names["codes"].values.shape == (4, 64)
    assert names["back"].shape == drawings.shape
    model = names["model"]
    assert torch.equal(names["preview"], model.generate([3, 7], seed=1))
    assert drawings.subjects == ("cat-face/openmoji", "cat-face/twemoji") * 2
    by_number = model.generate([model.classes.index(name) for name in drawings.subjects], temperature=0.8)
    assert torch.equal(drawings, by_number)
    with pytest.raises(ArzooError, match="exists"):
        arzoo.save(drawings, "out")
    with pytest.raises(ArzooError, match="uint8"):
        arzoo.save(drawings.float(), "new")


def test_classes_and_pictures_that_do_not_fit():
    model = Generator.load("nar_emoji64")
    with pytest.raises(UnknownName, match="food-fruit/twemoji"):
        model.generate(classes=["food-fruit/twemoj"])
    for wrong in ([], "food-fruit/twemoji", [198], [-1]):
        with pytest.raises(ArzooError, match=r"class of every picture|out of range"):
            model.generate(classes=wrong)
    with pytest.raises(ArzooError, match=r"\(B, 64, 64, 3\) uint8, or clips"):
        model.encode(torch.zeros(1, 32, 32, 3, dtype=torch.uint8))
