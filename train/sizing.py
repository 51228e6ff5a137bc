"""What a recipe leaves to the data: the side of the pictures or clips, and the number of steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import arzoo.data
from arzoo.base import registry
from arzoo.base.console import note
from arzoo.base.errors import UnknownName, UsageError
from arzoo.base.paths import expanded
from arzoo.checkpoints.folder import Checkpoint, open_checkpoint
from arzoo.core.contracts import Tokenizer
from arzoo.core.sizes import Sizes
from arzoo.data.base import ImageSet
from arzoo.data.codes import Codes
from arzoo.data.folder_sizes import fitting_side, folder_sizes, own_pictures
from arzoo.tokenizers.common.resolution import sizes_of
from arzoo.train.clips import noun
from arzoo.train.recipe import Recipe, recipes

LEAST = {"tokenizer": 45, "generator": 180}
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


def open_tokenizer(recipe: Recipe) -> Checkpoint:
    """Open the tokenizer of a generator's recipe.

    Raises:
        UsageError: There is none.
        ArzooError: Its training is not finished.
    """
    why = "its tokens will mean something else than what a generator learns now"
    try:
        return open_checkpoint(recipe.tokenizer, "tokenizer", why)
    except UnknownName:
        name = Path(recipe.tokenizer).name
        if recipe.tokenizer != f"runs/{name}" or name not in recipes():
            raise
        raise UsageError(
            f"there is no tokenizer {recipe.tokenizer!r} yet. Train it first: arzoo train {name} --out runs/{name}"
        ) from None


def load_data(recipe: Recipe, size: int | None, frames: int | None, sizes: Sizes | None = None) -> ImageSet:
    """Load the data of a recipe as pictures or clips of a side and a number of frames, or as pictures of allowed sizes.

    Errors as of `arzoo.data.load`.
    """
    return arzoo.data.load(recipe.data, size, frames, recipe.fps or None, recipe.stride or None, sizes)


def allowed_sizes(recipe: Recipe) -> Sizes:
    """Return the sizes of pictures that the tokenizer of a recipe takes.

    Raises:
        UsageError: The recipe has no tokenizer of any size.
    """
    if recipe.task == "generator":
        tokenizer = open_tokenizer(recipe).load("tokenizer")
    elif recipe.task == "tokenizer":
        with torch.device("meta"):
            tokenizer = (
                registry.lookup("tokenizer", recipe.model.name)().replace(**recipe.model.settings).build()
            )
    else:
        raise UsageError(
            f"sizes=keep is for pictures, and the recipe trains a {recipe.task}: name one of a tokenizer"
        )
    assert isinstance(tokenizer, Tokenizer)
    return sizes_of(tokenizer)


def fitted(recipe: Recipe) -> Recipe:
    """Return a recipe with what it leaves to the data, and say what was chosen.

    `model.image_size` 0 follows the sizes and the number of the pictures, `run.steps` 0 their number and `run.visits`.

    Raises:
        UsageError: There are no data.
        ArzooError: There are no such data, or they cannot be read, or there is no such tokenizer.
    """
    changes: dict[str, Any] = {}
    sized = recipe.model.settings.get("image_size") == 0
    if not sized and recipe.run.steps:
        return recipe
    count, sizes, called = _examples(recipe)
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
    note(f"chosen for {count} {called}{'s' * (count != 1)}: {', '.join(chosen)}")
    return recipe.replace(**changes)


def _examples(recipe: Recipe) -> tuple[int, list[tuple[int, int]], str]:
    """Number of pictures or clips, the sizes (H, W) of some of them, and what they are called."""
    if recipe.codes:
        return len(Codes.load(Path(expanded(recipe.codes)) / "train").labels), [], noun(1)
    require_data(recipe)
    size, frames = _shape(recipe)
    if frames in (None, 1) and (folder := own_pictures(recipe.data)):
        count, sizes = folder_sizes(folder)
    else:
        data = load_data(recipe, size, frames)
        count, sizes, frames = len(data), [data.size], data.frames
    return min(recipe.limit or count, count), sizes, noun(frames or 1)


def _shape(recipe: Recipe) -> tuple[int | None, int | None]:
    """Side and number of frames that the data is read in; None where it says them itself."""
    if recipe.task == "value":
        return None, None
    if recipe.task == "generator":
        tokenizer = open_tokenizer(recipe).load("tokenizer")
        assert isinstance(tokenizer, Tokenizer)
        return tokenizer.image_size[0], tokenizer.frames
    given = {
        name: value for name, value in recipe.model.settings.items() if (name, value) != ("image_size", 0)
    }
    config = registry.lookup("tokenizer", recipe.model.name)().replace(**given).to_dict()
    return config["image_size"] if len(given) == len(recipe.model.settings) else None, config.get("frames", 1)
