"""What a recipe leaves to the data: the side of the pictures, and the number of steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import arzoo.data
from arzoo.base.console import note
from arzoo.base.errors import UsageError
from arzoo.base.paths import expanded
from arzoo.data.codes import Codes
from arzoo.data.folder_sizes import fitting_side, folder_sizes, own_pictures
from arzoo.train.recipe import Recipe

LEAST = {"tokenizer": 100, "generator": 400}
"""Smallest number of steps of each task that is chosen."""
MOST = 20_000


def require_data(recipe: Recipe) -> None:
    """Refuse a recipe without data.

    Raises:
        UsageError: The recipe is for the user's own pictures, and their folder is not given.
    """
    if not recipe.data:
        raise UsageError(
            "this recipe trains on your own pictures, and none are given. Name their folder, with one sub-folder per "
            "class: --data FOLDER"
        )


def fitted(recipe: Recipe) -> Recipe:
    """Return a recipe with what it leaves to the data, and say what was chosen.

    `model.image_size` 0 follows the sizes and the number of the pictures, `run.steps` 0 their number and `run.visits`.

    Raises:
        UsageError: There are no data.
        ArzooError: There are no such data, or they cannot be read.
    """
    changes: dict[str, Any] = {}
    sized = recipe.model.settings.get("image_size") == 0
    if not sized and recipe.run.steps:
        return recipe
    count, sizes = _pictures(recipe)
    chosen = []
    if sized:
        side = fitting_side(count, sizes)
        changes["model"] = recipe.model.replace(image_size=side)
        chosen.append(f"model.image_size={side}")
    if not recipe.run.steps:
        visits = recipe.run.visits * count / recipe.run.batch
        steps = min(max(round(visits), LEAST.get(recipe.task, LEAST["generator"])), MOST)
        changes["run"] = {"steps": steps}
        chosen.append(f"run.steps={steps}")
    note(f"chosen for {count} pictures: {', '.join(chosen)}")
    return recipe.replace(**changes)


def _pictures(recipe: Recipe) -> tuple[int, list[tuple[int, int]]]:
    """Number of pictures, and the sizes (H, W) of some of them."""
    if recipe.codes:
        return len(Codes.load(Path(expanded(recipe.codes)) / "train").labels), []
    require_data(recipe)
    if folder := own_pictures(recipe.data):
        count, sizes = folder_sizes(folder)
    else:
        data = arzoo.data.load(recipe.data, frames=1)
        count, sizes = len(data), [data.size]
    return min(recipe.limit or count, count), sizes
