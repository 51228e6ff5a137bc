"""Every family trains with its blocks split over two processes and computed again, as it does in one process."""

import json

import pytest
import toy
from continuous_recipes import MODELS, recipe

from arzoo.train.build import run

PACE = {"steps": 2, "batch": 4, "threads": 1, "preview_every": 9, "save_every": 9, "log_every": 1}
CROSS = MODELS["flowar"] | {"heads": [{"name": "flow_net_tiny", "cross": True}]}
FAMILIES = {name: MODELS[name] for name in ("mar", "xar")} | {"flowar cross": CROSS}


@pytest.mark.parametrize("name", FAMILIES)
def test_shards_and_recomputing_change_roundings_only(two_colours, tmp_path, monkeypatch, name):
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path / "cache"))
    recipe(tmp_path, **FAMILIES[name])
    alone, shards = tmp_path / "alone", tmp_path / "shards"

    def train(out, changes):
        run(recipe(tmp_path, **FAMILIES[name], run=PACE | changes), out)

    train(alone, {})
    toy.together(2, train, shards, {"sharded": True, "checkpointing": True})
    first, second = ([json.loads(line) for line in (out / "log.jsonl").open()] for out in (alone, shards))
    for one, two in zip(first, second, strict=True):
        for key in ("loss", "model_gradient_norm"):
            assert two[key] == pytest.approx(one[key], rel=1e-3), key
