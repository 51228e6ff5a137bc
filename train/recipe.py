"""Recipes: everything a training run needs, as YAML that names data, model, loss and schedule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

import arzoo.data
from arzoo import registry
from arzoo.checkpoint import open_checkpoint
from arzoo.config import Config, load_yaml
from arzoo.data.base import ImageSet
from arzoo.data.transforms import Augment
from arzoo.errors import ArzooError, UnknownName
from arzoo.generator import Generator
from arzoo.runtime import cache_folder
from arzoo.tokenizers.base import Tokenizer
from arzoo.tokenizers.losses import TokenizerLossConfig
from arzoo.train.codes import Codes, encode_split
from arzoo.train.conditions import conditions
from arzoo.train.engine import Engine
from arzoo.train.generator import GeneratorLoss, GeneratorObjective
from arzoo.train.objective import Metrics, Objective
from arzoo.train.settings import OptimConfig, RunConfig
from arzoo.train.tokenizer import CodebookCare, TokenizerObjective

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True, kw_only=True)
class Recipe(Config):
    """A training run.

    Attributes:
        task: "tokenizer" or "generator".
        data: Name of a data set, or a folder of pictures.
        limit: Use this many pictures only (0: all).
        model: Name of the tokenizer or backbone to train.
        width: Channels of a backbone, 0 for the preset's.
        depth: Blocks of a backbone, 0 for the preset's.
        dropout: Dropout of a backbone, negative for the preset's.
        tokenizer: For generators: a checkpoint name or folder.
        plan: For generators: the order.
        init: For generators: a checkpoint to start from, a name or a folder; weights that do not fit start fresh.
        text: For generators: the text encoder whose features of captions are the condition; empty for classes.
        variants: For generators: augmented copies of every picture in the code cache.
        balance: Classes are drawn with frequency to the power 1 - balance.
        augment: Augmentation.
        loss: Loss of a tokenizer.
        codebook: Upkeep of a tokenizer's codebook.
        generator: Loss of a generator.
        optim: Optimizer.
        run: Length and pace.
    """

    task: str
    data: str = "emoji64"
    limit: int = 0
    model: str = "vq_8_small"
    width: int = 0
    depth: int = 0
    dropout: float = -1.0
    tokenizer: str = ""
    plan: str = "raster"
    init: str = ""
    text: str = ""
    variants: int = 7
    balance: float = 0.0
    augment: Augment = field(default_factory=Augment)
    loss: TokenizerLossConfig = field(default_factory=TokenizerLossConfig)
    codebook: CodebookCare = field(default_factory=CodebookCare)
    generator: GeneratorLoss = field(default_factory=GeneratorLoss)
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        if self.task not in ("tokenizer", "generator"):
            raise UnknownName("task", self.task, ["tokenizer", "generator"])
        if self.task == "generator" and not self.tokenizer:
            raise ArzooError("a generator recipe names the tokenizer whose codes it models: set tokenizer")

    def build(self) -> Objective:
        """The objective, data included."""
        return _OBJECTIVES[self.task](self)


def recipes() -> dict[str, Path]:
    """Names and files of the recipes that ship with the library."""
    return {path.stem: path for path in sorted(RECIPES.glob("*.yaml"))}


def load_recipe(name: str, changes: dict[str, Any] | None = None) -> Recipe:
    """Read a recipe.

    Args:
        name: A shipped recipe or a YAML file.
        changes: Settings to change, nested dictionaries.

    Raises:
        UnknownName: There is no such recipe.
        ArzooError: The file is not valid, or a setting is unknown or of the wrong type.
    """
    shipped = recipes()
    path = shipped.get(name, Path(name))
    if name not in shipped and not path.is_file():
        raise UnknownName("recipe", name, shipped, "Or give the path of a YAML file.")
    data = load_yaml(path)
    if not isinstance(data, dict):
        raise ArzooError(f"{path} is not a recipe: it must hold settings by name, see `arzoo train --help`")
    return Recipe.from_dict(data).replace(**(changes or {}))


def run(
    recipe: Recipe, out: Path, max_steps: int | None = None, console: Console | None = None
) -> dict[str, Any]:
    """Train, or continue the run that is in the folder.

    Args:
        recipe: What to do.
        out: Folder of the run.
        max_steps: Stop after this step of the schedule.
        console: Where messages go; standard error by default.

    Returns:
        Steps done, hours, figures and the checkpoint's folder.
    """
    console = console or Console(stderr=True)
    objective = recipe.build()
    record = {"recipe": recipe.to_dict(), "seed": recipe.run.seed}
    out.mkdir(parents=True, exist_ok=True)
    engine = Engine(objective, recipe.run, recipe.optim, out, record, console)
    if engine.resume():
        console.print(f"continuing {out} behind step {engine.step}")
    else:
        recipe.to_yaml(out / "recipe.yaml")
        for key, value in objective.summary().items():
            console.print(f"{key}: {value}", highlight=False)
    metrics: Metrics = engine.fit(max_steps)
    hours = round(engine.seconds / 3600, 4)
    return {"steps": engine.step, "hours": hours, "metrics": metrics, "checkpoint": str(out / "checkpoint")}


def _data(recipe: Recipe, tokenizer: Tokenizer) -> ImageSet:
    data = arzoo.data.load(recipe.data, tokenizer.image_size[0])
    if recipe.limit:
        data = data.select(torch.linspace(0, len(data) - 1, min(recipe.limit, len(data))).long())
    return data


def _tokenizer_objective(recipe: Recipe) -> Objective:
    torch.manual_seed(recipe.run.seed)
    tokenizer = registry.create("tokenizer", recipe.model)
    return TokenizerObjective(
        tokenizer,
        _data(recipe, tokenizer),
        recipe.loss,
        recipe.augment,
        recipe.codebook,
        recipe.balance,
        recipe.run.seed,
    )


def _generator_objective(recipe: Recipe) -> Objective:
    checkpoint = open_checkpoint(recipe.tokenizer, "tokenizer")
    tokenizer = checkpoint.load("tokenizer")
    assert isinstance(tokenizer, Tokenizer)
    digest = checkpoint.parts["tokenizer"]["weights"]
    data = _data(recipe, tokenizer)
    codes = [_codes(recipe, tokenizer, digest, data, split) for split in ("train", "validation")]
    changes = {k: v for k, v in (("width", recipe.width), ("depth", recipe.depth)) if v}
    if recipe.dropout >= 0:
        changes |= {"dropout": recipe.dropout, "token_dropout": recipe.dropout}
    torch.manual_seed(recipe.run.seed)
    model = Generator.create(
        recipe.model, tokenizer, recipe.plan, classes=() if recipe.text else data.classes,
        tokenizer_name=Path(recipe.tokenizer).name, tokenizer_hash=digest, text=recipe.text, **changes,
    )  # fmt: skip
    if recipe.init:
        _start_from(model, recipe.init)
    told = [
        conditions(data.split(split), model.text, recipe.generator.style_words)
        for split in ("train", "validation")
    ]
    return GeneratorObjective(
        model, codes[0], codes[1], recipe.generator, recipe.balance, recipe.run.seed, told
    )


def _start_from(model: Generator, name: str) -> None:
    """Take over the weights of a checkpoint that have the same name and shape."""
    other = Generator.load(name)
    for mine, theirs in zip([model.backbone, *model.heads], [other.backbone, *other.heads], strict=True):
        own, found = mine.state_dict(), theirs.state_dict()
        fitting = {k: v for k, v in found.items() if k in own and v.shape == own[k].shape}
        mine.load_state_dict(own | fitting)


def _codes(recipe: Recipe, tokenizer: Tokenizer, digest: str, data: ImageSet, split: str) -> Codes:
    """The cached codes of a split, made on first use."""
    variants = recipe.variants if split == "train" else 0
    made_by = f"{digest[:12]}-{tokenizer.config.hash()}"
    name = f"{made_by}-{data.sha256[:12]}-{recipe.augment.hash()}-{variants}-{split}"
    folder = cache_folder() / "codes" / name
    if folder.exists():
        return Codes.load(folder)
    codes = encode_split(tokenizer, digest, data.split(split), variants, recipe.augment)
    codes.save(folder)
    return codes


_OBJECTIVES: dict[str, Callable[[Recipe], Objective]] = {
    "tokenizer": _tokenizer_objective,
    "generator": _generator_objective,
}
