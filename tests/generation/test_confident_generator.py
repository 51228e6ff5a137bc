"""A masked generator of codes that commits its most confident tokens: creating, saving, drawing, completing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from command import CLASSES, command, failing, picture, tiny_tokenizer
from PIL import Image

from arzoo.base.errors import ArzooError
from arzoo.checkpoints.folder import open_checkpoint
from arzoo.core.control import Control
from arzoo.generation.generator import Generator
from arzoo.samplers.schedules import falling, power_cosine

SIZES = {"width": 32, "heads": 2, "depth": 1, "decoder_depth": 1, "buffer": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("models")
    tokenizer = open_checkpoint(tiny_tokenizer(out / "tok"))
    control = Control(guidance=power_cosine(3.0, 2.0), temperature=falling(6.0))
    torch.manual_seed(0)
    model = Generator.create(
        "mar_tiny", tokenizer.load("tokenizer"), "confident", plan_options={"steps": 5}, classes=CLASSES,
        tokenizer_name="tok", tokenizer_hash=tokenizer.parts["tokenizer"]["weights"], control=control, **SIZES,
    )  # fmt: skip
    torch.nn.init.normal_(model.heads[0].output.weight, std=0.3)
    model.save(out / "gen")
    return out / "gen"


@pytest.fixture(scope="module")
def model(folder) -> Generator:
    return Generator.load(folder)


def test_a_picture_depends_on_its_own_seed(model):
    together = model.generate([0, 1, 2], seeds=[7, 8, 9])
    assert torch.equal(model.generate([1], seeds=[8]), together[1:2])
    assert torch.equal(model.generate([0, 1, 2], seeds=[7, 8, 9], batch=2), together)
    assert not torch.equal(model.generate([1], seeds=[7]), together[1:2])


def test_every_step_shows_what_is_known(model):
    shown = []
    for step in model.stream(classes=[0, 1], seeds=[3, 4]):
        known = step.run.tokens.known
        assert bool(known.gather(1, step.group).all())
        shown.append(step.preview())
    assert len(shown) == 5
    assert torch.equal(shown[-1], model.generate([0, 1], seeds=[3, 4]))
    assert not torch.equal(shown[0], shown[-1])


def test_steps_are_an_option_and_the_order_an_own_one(model):
    assert len(model.with_plan(steps=16).plan()) == 16
    with pytest.raises(ArzooError, match="1 to 16 steps, got 17"):
        model.with_plan(steps=17)
    with pytest.raises(ArzooError, match="backbone llamagen reads shifted"):
        Generator.create(
            "nar_tiny", model.tokenizer, "confident", classes=CLASSES, tokenizer_name="tok", tokenizer_hash=""
        )


def test_the_command_line_draws_and_completes(capsys, folder, tmp_path):
    result = command(capsys, "generate", folder, "--num", 2, "--steps", 4, "--out", tmp_path / "a", "--json")
    assert result.status == 0, result.err
    assert result.json["passes"] == 4
    source = picture(tmp_path / "photo.png")
    result = command(
        capsys, "generate", folder, "--init", source, "--keep", "left", "--out", tmp_path / "b", "--json"
    )
    assert result.status == 0, result.err
    assert "not seen" not in result.err
    (path, *_) = sorted((tmp_path / "b").glob("000*.png"))
    assert np.asarray(Image.open(path)).shape == (16, 16, 3)
    failing(
        command(capsys, "generate", folder, "--steps", 40, "--out", tmp_path / "c"),
        "1 to 16 steps, got 40",
        status=2,
    )
