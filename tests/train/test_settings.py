"""Settings of a recipe that no training can use are refused before it starts, with what is allowed."""

import re

import pytest
import torch
from command import ten_pictures

import arzoo.data
from arzoo.base.errors import ArzooError
from arzoo.train.recipe import load_recipe

BAD = {
    "optim.betas=[1.5,0.9]": "optim.betas and optim.momentum must be in [0, 1), got betas=[1.5, 0.9]",
    "optim.betas=[0.9,nan]": "must be in [0, 1)",
    "optim.momentum=1": "must be in [0, 1)",
    "optim.lr=nan": "optim.lr must be finite and at least 0, got nan",
    "optim.lr=inf": "optim.lr must be finite",
    "optim.lr=0": "optim.lr and optim.clip must be positive",
    "optim.matrix_lr=nan": "optim.matrix_lr must be finite",
    "optim.weight_decay=-1": "optim.weight_decay must be finite and at least 0, got -1.0",
    "optim.warmup=-5": "optim.warmup must be finite and at least 0, got -5",
    "optim.clip=nan": "optim.clip must be finite",
    "optim.clip=0": "a clip of 1e9 clips nothing",
    "limit=-3": "limit must be finite and at least 0, got -3",
    "model.image_size=-8": "model.image_size must be finite and at least 0, got -8",
    "variants=-1": "variants must be",
    "balance=-99": "balance must be from 0 to 1, got -99.0",
    "loss.l1=-5": "loss.l1 must be finite and at least 0, got -5.0",
    "loss.perceptual=inf": "loss.perceptual must be",
    "loss.adversarial_start=-1": "loss.adversarial_start must be",
    "loss.discriminator_layers=0": "loss.discriminator_layers must be finite and at least 1",
    "augment.mirror=5": "augment.mirror must be from 0 to 1, got 5.0",
    "augment.shift=9": "augment.shift must be from 0 to 1, got 9.0",
    "augment.scale=[0,1]": "augment.scale must be from 0.01 to 100, got (0.0, 1.0)",
    "augment.scale=[1.1,0.9]": "the smallest and the largest size, got [1.1, 0.9]",
    "codebook.restart_every=0": "codebook.restart_every must be",
}


@pytest.mark.parametrize("setting", BAD)
def test_a_setting_nothing_can_be_trained_with_is_refused(setting):
    with pytest.raises(ArzooError, match=re.escape(BAD[setting])):
        load_recipe("smoke", typed=[setting])


@pytest.mark.parametrize(
    ("group", "name"), [("optim", "warmup"), ("optim", "weight_decay"), ("augment", "shift")]
)
def test_limits_themselves_are_allowed(group, name):
    recipe = load_recipe("smoke", typed=[f"{group}.{name}=0"])
    assert getattr(getattr(recipe, group), name) == 0


@pytest.mark.parametrize(
    ("limit", "told"), [(1, "1 picture for training and 0 for"), (0, "0 pictures for training")]
)
def test_pictures_that_leave_a_split_empty_are_refused(monkeypatch, limit, told):
    data = ten_pictures() if limit else ten_pictures().select(torch.tensor([8, 9]))
    monkeypatch.setattr(arzoo.data, "load", lambda *_: data)
    with pytest.raises(ArzooError, match=told):
        load_recipe("smoke", {"limit": limit}).build()


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        ({"perceptual": 1.0}, "the perceptual network squeezenet, which takes sides of at least 17 pixels"),
        (
            {"adversarial": 0.5, "discriminator_layers": 3},
            "the discriminator, which takes sides of at least 24 pixels",
        ),
    ],
)
def test_pictures_too_small_for_a_network_of_the_loss_are_refused(monkeypatch, loss, told):
    monkeypatch.setattr(arzoo.data, "load", lambda *_: ten_pictures(16))
    model = {"image_size": 16}
    with pytest.raises(ArzooError, match=f"pictures of 16 x 16 pixels are too small for {told}") as refusal:
        load_recipe("smoke", {"model": model, "loss": {"perceptual": 0.0} | loss}).build()
    assert f"loss.{next(iter(loss))}=0" in str(refusal.value)
    objective = load_recipe("smoke", {"model": model, "loss": {"perceptual": 0.0}}).build()
    assert "validation_perceptual" not in objective.validate(objective.parts["model"])
