"""Every family trains with its blocks split over two processes and computed again, as it does in one process."""

import json

import pytest
import toy
from test_train_continuous import MODELS, recipe, two_colours  # noqa: F401 (a fixture)

from arzoo.base import registry
from arzoo.models.heads import flow_net
from arzoo.train.recipe import run

PACE = {"steps": 2, "batch": 4, "threads": 1, "preview_every": 9, "save_every": 9, "log_every": 1}
CROSS = MODELS["flowar"] | {"head": "flow_net_cross"}
FAMILIES = {name: MODELS[name] for name in ("mar", "xar")} | {"flowar cross": CROSS}


@pytest.mark.parametrize("name", FAMILIES)
def test_shards_and_recomputing_change_roundings_only(two_colours, tmp_path, monkeypatch, name):  # noqa: F811
    monkeypatch.setenv("ARZOO_CACHE", str(tmp_path / "cache"))
    recipe(tmp_path)
    alone, shards = tmp_path / "alone", tmp_path / "shards"
    cross = flow_net.flow_net_tiny().replace(cross=True)
    monkeypatch.setitem(registry._entries["head"], "flow_net_cross", lambda: cross)

    def train(out, changes):
        run(recipe(tmp_path, **FAMILIES[name], run=PACE | changes), out)

    train(alone, {})
    toy.together(2, train, shards, {"sharded": True, "checkpointing": True})
    first, second = ([json.loads(line) for line in (out / "log.jsonl").open()] for out in (alone, shards))
    for one, two in zip(first, second, strict=True):
        for key in ("loss", "model_gradient_norm"):
            assert two[key] == pytest.approx(one[key], rel=1e-3), key
