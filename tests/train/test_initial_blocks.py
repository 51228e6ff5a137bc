"""A generator that starts from the blocks of one over other tokens."""

import pytest
import torch
from command import tiny_tokenizer

from arzoo.base.errors import ArzooError
from arzoo.checkpoints.folder import open_checkpoint
from arzoo.train.build import run
from arzoo.train.recipe import load_recipe

SIZES = {"width": 32, "depth": 1, "heads": 2}


def recipe(tokenizer, **changes):
    pace = {"steps": 2, "batch": 4, "threads": 0, "preview_every": 9, "save_every": 9, "log_every": 1}
    small = {"tokenizer": str(tokenizer), "variants": 1, "model": SIZES, "run": pace, "optim": {"warmup": 1}}
    return load_recipe("nar_emoji64", small | changes)


@pytest.fixture
def trained(two_colours, tmp_path, monkeypatch):
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path / "cache"))
    run(recipe(tiny_tokenizer(tmp_path / "tok")), tmp_path / "run")
    return tmp_path / "run" / "checkpoint"


def test_blocks_and_classes_are_copied_and_nothing_else(trained, tmp_path):
    other = tiny_tokenizer(tmp_path / "other", seed=1)
    with pytest.raises(ArzooError, match="tokenizer"):
        recipe(other, init=str(trained)).build()
    objective = recipe(other, init_blocks=str(trained)).build()
    assert objective.lineage["init_blocks"]["name"] == str(trained)
    fresh = recipe(other).build().model
    given = open_checkpoint(str(trained), "generator").load("backbone").state_dict()
    plain = fresh.backbone.state_dict()
    for key, value in objective.model.backbone.state_dict().items():
        copied = key.startswith(("condition.", "blocks."))
        assert torch.equal(value, (given if copied else plain)[key]), key
    assert not torch.equal(given["token.weight"], plain["token.weight"])
    heads = zip(
        objective.model.heads[0].state_dict().values(), fresh.heads[0].state_dict().values(), strict=True
    )
    assert all(torch.equal(a, b) for a, b in heads)


def test_starts_that_cannot_be(trained, tmp_path):
    other = tiny_tokenizer(tmp_path / "other", seed=1)
    with pytest.raises(ArzooError, match="nothing of init_blocks"):
        recipe(other, init_blocks=str(trained), model=SIZES | {"width": 64}).build()
    with pytest.warns(UserWarning, match=r"init_blocks=.* tensors fresh: those of blocks.2"):
        recipe(other, init_blocks=str(trained), model=SIZES | {"depth": 2}).build()
    with pytest.raises(ArzooError, match="init='a' copies blocks, too"):
        recipe(other, init="a", init_blocks="b")
    with pytest.raises(ArzooError, match="this recipe trains a tokenizer"):
        load_recipe("vq_emoji64", {"init_blocks": "nar_emoji64"})
