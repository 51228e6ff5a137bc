"""Recipes: everything a training run needs, as YAML that names data, model, loss and schedule."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

import arzoo.data
from arzoo.base import files, registry
from arzoo.base.config import Config, load_yaml, refuse_outside
from arzoo.base.console import progress
from arzoo.base.errors import ArzooError, UnknownName, UsageError
from arzoo.base.lock import alone
from arzoo.base.runtime import cache_folder, explain_cache
from arzoo.checkpoints.folder import open_checkpoint
from arzoo.core.contracts import Tokenizer
from arzoo.data import source
from arzoo.data.base import ImageSet, annotations_sha256
from arzoo.data.codes import FORMAT, Codes, code_key, encode_split
from arzoo.data.transforms import Augment
from arzoo.data.views import Views
from arzoo.generation.generator import Generator
from arzoo.tokenizers.common.losses import TokenizerLossConfig
from arzoo.train.conditions import conditions
from arzoo.train.devices import processes
from arzoo.train.engine import Engine
from arzoo.train.generator import GeneratorLoss, GeneratorObjective
from arzoo.train.initial import start_generator, start_tokenizer
from arzoo.train.objective import Metrics, Objective
from arzoo.train.run import report, state
from arzoo.train.run.log import chosen_trackers
from arzoo.train.settings import OptimConfig, RunConfig
from arzoo.train.sketch import Sketch, codes_or_sketch
from arzoo.train.tokenizer import CodebookCare, TokenizerObjective

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True, kw_only=True)
class PlanOptions(Config):
    """Arguments of a plan; 0 leaves the plan its own.

    Attributes:
        steps: Steps of a masked plan.
        regions: Cells or regions a side.
        stride: Stride of subsamples.
        size: Tokens of a block.
        group: Tokens of a group of an ordered plan.
    """

    steps: int = 0
    regions: int = 0
    stride: int = 0
    size: int = 0
    group: int = 0

    def chosen(self) -> dict[str, int]:
        """Those that are set."""
        return {name: value for name, value in self.to_dict().items() if value}


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
        init: A checkpoint of the same kind to start from; weights that do not fit by name and shape start fresh.
        tokenizer: For generators: a checkpoint name or folder.
        codes: For generators: a folder made by `arzoo tokenize`; without, the data is encoded into the user's cache.
        plan: For generators: the order.
        plan_options: What the order leaves open.
        head: For generators: a registered head; by default the one that the tokens ask for.
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
    init: str = ""
    tokenizer: str = ""
    codes: str = ""
    plan: str = "raster"
    plan_options: PlanOptions = field(default_factory=PlanOptions)
    head: str = ""
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
        refuse_outside(self, "", dict.fromkeys(("limit", "width", "depth", "variants"), (0, math.inf)))
        refuse_outside(self, "", {"balance": (0, 1), "dropout": (-math.inf, 1)})

    def build(self, encode: bool = True) -> Objective:
        """The objective, data included.

        Args:
            encode: Make the codes that are not in the cache; without, those of a few pictures stand in.
        """
        return _tokenizer_objective(self) if self.task == "tokenizer" else _generator_objective(self, encode)


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
        UsageError: A change names an unknown setting, or its value is of the wrong type or out of range.
        ArzooError: The file is not valid, or a setting in it is unknown, of the wrong type or out of range.
    """
    shipped = recipes()
    path = shipped.get(name, Path(name))
    if name not in shipped and not path.is_file():
        raise UnknownName("recipe", name, shipped, "Or give the path of a YAML file.")
    data = load_yaml(path)
    if not isinstance(data, dict):
        raise ArzooError(f"{path} is not a recipe: it must hold settings by name, see `arzoo train --help`")
    recipe = Recipe.from_dict(data)
    try:
        return recipe.replace(**(changes or {}))
    except ArzooError as error:
        raise UsageError(str(error)) from error


def run(
    recipe: Recipe,
    out: Path,
    max_steps: int | None = None,
    console: Console | None = None,
    resume: Path | None = None,
    command: str = "",
) -> dict[str, Any]:
    """Train, or continue the run that is in the folder.

    Args:
        recipe: What to do.
        out: Folder of the run.
        max_steps: Stop after this step of the schedule.
        console: Where messages go; standard error by default.
        resume: A run or one of its states to begin with, unless the folder has a state of its own.
        command: What was typed, for the record.

    Returns:
        Steps done, hours, figures, the checkpoint's folder, and remarks on the data.

    Raises:
        ArzooError: Another process trains in the folder, it holds another run, or the training fails.
    """
    start = state.find(resume) if resume else None
    engine = prepared(recipe, out, console or Console(stderr=True), start, command)
    objective = engine.objective
    with contextlib.ExitStack() as stack:
        if engine.accelerator.is_main_process:
            stack.enter_context(alone(out))
        engine.accelerator.wait_for_everyone()
        folder = engine.resume(start)
        if engine.accelerator.is_main_process:
            with files.explain_full_disk("recipe.yaml", out, "Make room; then the same command continues."):
                files.write_text(out / "recipe.yaml", recipe.to_yaml())
        if folder is not None:
            engine.console.print(f"continuing {folder} behind step {engine.step}", markup=False)
        facts = report.plan_of_run(
            objective.parts, recipe.run, recipe.optim, engine.accelerator.num_processes, out
        )
        summary = objective.summary()
        for key, value in (objective.found | summary | facts).items():
            text = f"{len(value)} (see above)" if isinstance(value, list) else value
            engine.console.print(f"{key}: {text}", highlight=False, soft_wrap=True, markup=False)
        metrics: Metrics = engine.fit(max_steps)
    engine.accelerator.end_training()
    hours = round(engine.seconds / 3600, 4)
    result = {"steps": engine.step, "hours": hours, "metrics": metrics, "checkpoint": str(out / "checkpoint")}
    remarks = [
        *objective.found.get("remarks", []),
        *([summary["captions"]] if summary.get("captions") else []),
    ]
    return result | {"remarks": remarks}


def prepared(
    recipe: Recipe, out: Path, console: Console, start: Path | None, command: str = "", encode: bool = True
) -> Engine:
    """The engine of a run before its first step; nothing is written in its folder.

    Args:
        recipe: What to do.
        out: Folder of the run.
        console: Where messages go.
        start: The state of another run that this one begins with.
        command: What was typed, for the record.
        encode: As in `Recipe.build`.

    Raises:
        ArzooError: The settings do not fit each other, the data or this machine.
    """
    chosen_trackers(recipe.run.trackers)  # better refused now than when files have been written
    objective = recipe.build(encode)
    lineage = objective.lineage | ({"continues": str(start)} if start else {})
    record = {"recipe": recipe.to_dict(), "seed": recipe.run.seed, "lineage": lineage}
    if command:
        record = {"command": command, **record}
    return Engine(objective, recipe.run, recipe.optim, out, record, console)


def _data(recipe: Recipe, tokenizer: Tokenizer) -> ImageSet:
    """The pictures of a recipe.

    Raises:
        ArzooError: There is no such data set, or nothing in it to train on or to validate on.
    """
    data = arzoo.data.load(recipe.data, tokenizer.image_size[0])
    if recipe.limit:
        data = data.select(torch.linspace(0, len(data) - 1, min(recipe.limit, len(data))).long())
    held_out = int(data.held_out.sum())
    if not 0 < held_out < len(data):
        some = f" of the {recipe.limit} that limit allows" if recipe.limit else ""
        remedy = "Raise limit; 0 takes all." if recipe.limit else "Add pictures, ten at least."
        raise ArzooError(
            f"{recipe.data!r} has {len(data) - held_out} pictures for training and {held_out} for validation{some}; a "
            f"training needs at least one of each. {remedy}"
        )
    return data


def _tokenizer_objective(recipe: Recipe) -> Objective:
    torch.manual_seed(recipe.run.seed)
    tokenizer = registry.create("tokenizer", recipe.model)
    data = _data(recipe, tokenizer)
    lineage: dict[str, Any] = {"data": {"name": recipe.data, "sha256": data.sha256}}
    if recipe.init:
        lineage["init"] = start_tokenizer(tokenizer, recipe.init)
    objective = TokenizerObjective(
        tokenizer,
        data,
        recipe.loss,
        recipe.augment,
        recipe.codebook,
        recipe.balance,
        recipe.run.seed,
    )
    objective.lineage, objective.found = lineage, report.data_facts(data)
    return objective


def _generator_objective(recipe: Recipe, encode: bool) -> Objective:
    checkpoint = open_checkpoint(recipe.tokenizer, "tokenizer")
    tokenizer = checkpoint.load("tokenizer").requires_grad_(False)
    assert isinstance(tokenizer, Tokenizer)
    digest = checkpoint.parts["tokenizer"]["weights"]
    if recipe.codes:
        found, codes, data = _cached_codes(recipe)
    else:
        found, codes, data = _own_codes(recipe, tokenizer, digest, encode)
    changes: dict[str, Any] = {k: v for k, v in (("width", recipe.width), ("depth", recipe.depth)) if v}
    if recipe.dropout >= 0:
        config = registry.lookup("backbone", recipe.model)()
        changes |= {k: recipe.dropout for k in ("dropout", "token_dropout") if hasattr(config, k)}
    torch.manual_seed(recipe.run.seed)
    model = Generator.create(
        recipe.model, tokenizer, recipe.plan, classes=() if recipe.text else codes[0].classes,
        tokenizer_name=Path(recipe.tokenizer).name, tokenizer_hash=digest, text=recipe.text,
        plan_options=recipe.plan_options.chosen(), head=recipe.head, **changes,
    )  # fmt: skip
    made_of = {"name": codes[0].source, "codes": recipe.codes} if recipe.codes else {"name": recipe.data}
    lineage: dict[str, Any] = {"data": made_of | {"sha256": codes[0].key["data"]}}
    captions = data.captions if recipe.text and data is not None else None
    lineage["data"]["annotations_sha256"] = annotations_sha256(codes[0].classes, captions)
    lineage["tokenizer"] = {"name": recipe.tokenizer, "weights": digest}
    if recipe.init:
        lineage["init"] = start_generator(model, recipe.init)
    told = [
        conditions(pictures.split(split), model.text, recipe.generator.style_words)
        for pictures in ([] if data is None else [data])
        for split in ("train", "validation")
    ]
    objective = GeneratorObjective(
        model, codes[0], codes[1], recipe.generator, recipe.balance, recipe.run.seed, told
    )
    objective.lineage, objective.found = lineage, found
    objective.ahead = sum(split.seconds for split in codes if isinstance(split, Sketch))
    return objective


def _cached_codes(recipe: Recipe) -> tuple[dict[str, Any], list[Codes], None]:
    """What a folder made by `arzoo tokenize` holds.

    Raises:
        ArzooError: It is no whole cache, or captions are wanted, which it does not have.
    """
    if recipe.text:
        raise ArzooError(
            f"codes={recipe.codes!r} have no captions, which text={recipe.text!r} needs: leave codes out, and the data "
            "is encoded into the user's cache"
        )
    folder = Path(recipe.codes)
    codes = [Codes.load(folder / split) for split in ("train", "validation")]
    found = f"codes in {folder}, {len(codes[0].labels)} pictures in {len(codes[0].classes)} classes"
    return {"data": found}, codes, None


def _own_codes(
    recipe: Recipe, tokenizer: Tokenizer, digest: str, encode: bool
) -> tuple[dict[str, Any], list[Codes], ImageSet]:
    """The codes of a data set in the user's cache, made on first use by the first process."""
    data, codes = _data(recipe, tokenizer), list[Codes]()
    group, origin = processes(), source(recipe.data)
    tokenizer.to(group.device)
    for split in ("train", "validation"):
        views = Views("augment", recipe.variants if split == "train" else 0, recipe.augment)
        pictures = data.split(split)
        key = json.dumps([FORMAT, code_key(tokenizer, digest, pictures, views)])
        digits = hashlib.sha256(key.encode()).hexdigest()[:16]
        folder = cache_folder() / "codes" / f"{data.name}-{split}-{digits}"
        if not encode:
            codes.append(codes_or_sketch(folder, tokenizer, digest, pictures, views, origin))
            continue
        with group.main_process_first(), explain_cache(), progress(f"encoding {split}", "pictures") as tell:
            codes.append(
                encode_split(folder, tokenizer, digest, pictures, views, progress=tell, source=origin)
            )
    return report.data_facts(data), codes, data
