"""Tiny recipes of every kind of generator of continuous tokens, over the pictures of the fixture `two_colours`."""

from __future__ import annotations

from command import tiny_kl_tokenizer

from arzoo.train.recipe import Recipe

TINY = {"width": 32, "depth": 1}
DRAWN = {"guidance": 1.0, "head_steps": 4}
"""Few solver steps: every run draws previews."""
MASKED = {
    "model": {"name": "mar_tiny", **TINY}, "plan": {"name": "masked", "steps": 4}, "heads": ["diffusion_mlp_tiny"]
}  # fmt: skip
CELLS = {
    "model": {"name": "xar_tiny", "width": 48},
    "plan": {"name": "cells", "regions": 2},
    "heads": ["backbone_flow"],
}
PIVOTS = {
    "model": {"name": "himar_tiny", "heads": 2, **TINY}, "plan": {"name": "pivots", "steps": [2, 3]},
    "heads": ["diffusion_mlp_tiny", "dit_tiny"],
}  # fmt: skip
MODELS = {
    "mar": MASKED,
    "mar with a flow": MASKED | {"heads": ["flow_mlp_tiny"]},
    "mar with a dit": MASKED | {"heads": ["dit_tiny"]},
    "himar": PIVOTS,
    "raster with diffusion": MASKED | {"model": {"name": "raster_tiny", **TINY}, "plan": "raster"},
    "flowar": {"model": {"name": "flowar_tiny", "width": 48}, "plan": "scales", "heads": ["flow_net_tiny"]},
    "xar": CELLS,
    "xar, true context": CELLS | {"generator": {"context": "true", **DRAWN}},
}


def recipe(tmp_path, **changes):
    tokenizer = tmp_path / "tokenizer"
    if not tokenizer.exists():
        tiny_kl_tokenizer(tokenizer)
    pace = {"steps": 24, "batch": 8, "threads": 0, "preview_every": 100, "save_every": 20, "log_every": 1}
    whole = {
        "task": "generator", "data": "two", "tokenizer": str(tokenizer), "variants": 1,
        "generator": DRAWN,
        "optim": {"lr": 3e-3, "warmup": 3, "ema": 0.9}, "run": pace,
    }  # fmt: skip
    return Recipe.from_dict(whole | changes)
