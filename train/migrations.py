"""Migration of recipes of version 0.1, in which settings of model, plan and head stood beside their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MOVED = {
    "width": "model.width",
    "depth": "model.depth",
    "dropout": "model.dropout, and model.token_dropout where the model has it",
    "plan_options": "plan.OPTION",
    "head": "heads.0.name",
}
"""Settings of version 0.1 and their present names."""


def migrated(data: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a recipe to the present format.

    Args:
        data: A recipe of any version as plain data. One in the present format is returned unchanged, and mistakes in
            it are left for `Recipe.from_dict` to refuse.
    """
    new = dict(data)
    if "heads" in new or any(isinstance(new.get(part), Mapping) for part in ("model", "plan")):
        return new
    sizes: dict[str, Any] = {name: new.pop(name) for name in ("width", "depth") if name in new}
    options = new.pop("plan_options") if isinstance(new.get("plan_options"), Mapping) else {}
    dropout = new.pop("dropout") if isinstance(new.get("dropout"), (int, float)) else -1
    settings: dict[str, Any] = {}
    if new.get("task") == "generator" and isinstance(new.get("model"), str):
        settings = {name: value for name, value in sizes.items() if value}
        if dropout >= 0:
            settings |= {name: dropout for name in ("dropout", "token_dropout") if _has(new["model"], name)}
    if "model" in new:
        new["model"] = {"name": new["model"], **settings}
    if "plan" in new or options:
        chosen = {name: value for name, value in options.items() if value}
        new["plan"] = {"name": new.get("plan", "raster"), **chosen}
    if head := new.pop("head", ""):
        new["heads"] = [{"name": head}]
    optim = new.get("optim")
    if isinstance(optim, Mapping) and optim.get("name") != "muon" and optim.get("matrices") == ["*blocks.*"]:
        new["optim"] = {name: value for name, value in optim.items() if name != "matrices"}
    return new


def _has(backbone: str, setting: str) -> bool:
    from arzoo.base import registry

    return hasattr(registry.lookup("backbone", backbone)(), setting)
