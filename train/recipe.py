"""Recipes: everything a training run needs, as YAML that names data, parts, losses and schedule.

Nothing here imports torch, so that the command line can show the settings at once.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from arzoo.base import parser
from arzoo.base.config import (
    CLASS_KEY,
    Config,
    Named,
    checked,
    hints_of,
    is_config,
    load_yaml,
    members_of,
    refuse_number,
    refuse_outside,
)
from arzoo.base.errors import ArzooError, UnknownName, UsageError, nearest
from arzoo.data.augmentation import Augment
from arzoo.tokenizers.common.loss_settings import TokenizerLossConfig
from arzoo.train.migrations import MOVED, migrated
from arzoo.train.segmenter_settings import SegmenterTraining
from arzoo.train.settings import (
    CodebookCare,
    GeneratorLoss,
    KarlTraining,
    OptimConfig,
    RunConfig,
    ValueTraining,
)

if TYPE_CHECKING:
    from arzoo.train.objective import Objective

RECIPES = Path(__file__).parent / "recipes"
PARTS = ("model", "plan", "heads", "verifier")
"""Settings that name registered parts, with settings of their own."""


@dataclass(frozen=True, kw_only=True)
class Recipe(Config):
    """A training run.

    Attributes:
        task: Kind of model to train.
        data: Name of a data set, or a folder of pictures or clips; empty in recipes for own pictures, which need one.
            For segmenters `em_synthetic`, a volume, or a folder of volumes.
        fps: For folders of clips: frames per second to which files are resampled; 0 takes every frame.
        stride: For folders of clips: frames from clip to clip of one file; 0 lets clips follow each other.
        sizes: `square` crops pictures to squares of one size; `keep` lets them keep their shapes, for tokenizers of any
            size: those of a folder are resized to the nearest size that the tokenizer takes, drawings lose their
            transparent margins.
        limit: Number of pictures or clips to use; 0 uses all.
        model: The tokenizer, backbone or other network to train, and its settings such as its width.
        init: A checkpoint of the same kind to start from; weights that do not fit by name and shape start fresh.
        init_blocks: For generators: a checkpoint of which the blocks and the embeddings of the classes are copied and
            all else starts fresh, such as one that draws the tokens of another tokenizer.
        base: For tokenizers over the latents of another one: the checkpoint of that one, which stays frozen; by default
            the one inside `init`.
        tokenizer: For generators: a checkpoint name or folder.
        codes: For generators: a folder written by `arzoo tokenize`; if empty, data is encoded into the user's cache.
        plan: For generators: the order, and its options.
        heads: For generators: one head per stage of the plan; if empty, the usual head for the backbone and tokens.
        text: For generators: the text encoder whose features of captions are the condition; empty for classes.
        quality: For generators: acceptable mean absolute error of pixels in [0, 1], which the number of tokens of a
            picture then follows, and the generator learns where a picture ends; 0 leaves it to the tokenizer.
        variants: For generators: number of augmented copies of every picture in the code cache.
        balance: Classes are drawn with frequency to the power 1 - balance.
        augment: Augmentation.
        loss: Loss of a tokenizer.
        codebook: Upkeep of a tokenizer's codebook.
        karl: Training of a KARL tokenizer.
        generator: Loss of a generator.
        value: For value models: the generator and its rollouts.
        segmenter: For segmenters: what a network of volumes learns.
        verifier: For value models of scores: the verifier whose final score they foresee, and its options.
        optim: Optimizer.
        run: Length and pace.
    """

    task: Literal["tokenizer", "generator", "value", "segmenter"]
    data: str = "emoji64"
    fps: float = 0.0
    stride: int = 0
    sizes: Literal["square", "keep"] = "square"
    limit: int = 0
    model: Named = field(default_factory=lambda: Named(name="vq_8_small"))
    init: str = ""
    init_blocks: str = ""
    base: str = ""
    tokenizer: str = ""
    codes: str = ""
    plan: Named = field(default_factory=lambda: Named(name="raster"))
    heads: tuple[Named, ...] = ()
    text: str = ""
    quality: float = 0.0
    variants: int = 7
    balance: float = 0.0
    augment: Augment = field(default_factory=Augment)
    loss: TokenizerLossConfig = field(default_factory=TokenizerLossConfig)
    codebook: CodebookCare = field(default_factory=CodebookCare)
    karl: KarlTraining = field(default_factory=KarlTraining)
    generator: GeneratorLoss = field(default_factory=GeneratorLoss)
    value: ValueTraining = field(default_factory=ValueTraining)
    segmenter: SegmenterTraining = field(default_factory=SegmenterTraining)
    verifier: Named = field(default_factory=Named)
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        if self.task == "generator" and not self.tokenizer:
            raise ArzooError("a generator recipe names the tokenizer whose codes it models: set tokenizer")
        if self.task == "generator" and self.base:
            raise ArzooError(
                f"base={self.base!r} acts on tokenizers only, and this recipe trains a generator. Leave it out"
            )
        if self.init_blocks and (self.task != "generator" or self.init):
            other = (
                f"init={self.init!r} copies blocks, too" if self.init else f"this recipe trains a {self.task}"
            )
            raise ArzooError(
                f"init_blocks={self.init_blocks!r} is a start of generators whose tokens are new, and {other}. "
                "Give one of init and init_blocks, to a generator"
            )
        if self.task == "value" and not self.value.generator:
            raise ArzooError(
                "a value recipe names the generator whose pictures it foresees: set value.generator"
            )
        if self.task == "segmenter" and not self.run.steps:
            raise ArzooError("the number of steps does not follow from volumes: set run.steps")
        if self.sizes == "keep" and self.task not in ("tokenizer", "generator"):
            raise ArzooError(
                f"sizes=keep is for pictures of tokenizers and generators, and this recipe trains a {self.task}: leave "
                "it out"
            )
        refuse_outside(self, "", dict.fromkeys(("limit", "variants", "stride"), (0, math.inf)))
        refuse_outside(self, "", {"balance": (0, 1), "quality": (0, 1), "fps": (0, 1000)})
        kinds = {"model": _kind_of(self.task), "plan": "plan"}
        if self.verifier.name:
            kinds["verifier"] = "verifier"
        for name, kind in kinds.items():
            object.__setattr__(self, name, _checked(kind, getattr(self, name), name))
        heads = tuple(_checked("head", head, f"heads.{i}") for i, head in enumerate(self.heads))
        object.__setattr__(self, "heads", heads)
        if len(heads) > 1 and not _has_stages(self.plan.name):
            raise ArzooError(
                f"heads are {', '.join(head.name for head in heads)}: a plan has one head per stage, and plan "
                f"{self.plan.name!r} has one stage. Give one"
            )

    def build(self) -> Objective:
        """Build the objective with its data."""
        from arzoo.train.objectives import objective_of

        return objective_of(self)


def recipes() -> dict[str, Path]:
    """Return the names and files of the shipped recipes."""
    return {path.stem: path for path in sorted(RECIPES.glob("*.yaml"))}


def summaries(*patterns: str) -> dict[str, str]:
    """Return the first comments of the shipped recipes whose names match any shell pattern, of all without one."""
    lines = {
        name: path.read_text(encoding="utf-8").partition("\n")[0]
        for name, path in recipes().items()
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns or ("*",))
    }
    return {name: line.removeprefix("#").strip() if line[:1] == "#" else "" for name, line in lines.items()}


def load_recipe(name: str, changes: Mapping[str, Any] | None = None, typed: Sequence[str] = ()) -> Recipe:
    """Read a recipe; those of version 0.1 are migrated.

    Args:
        name: A shipped recipe or a YAML file.
        changes: Settings to change, as nested dictionaries.
        typed: Settings to change, as typed texts such as "run.steps=200".

    Raises:
        UnknownName: There is no such recipe.
        UsageError: A change names an unknown setting, or its value is of the wrong type or out of range.
        ArzooError: The file is not valid, or a setting in it is unknown, of the wrong type or out of range.
    """
    shipped = recipes()
    path = shipped.get(name, Path(name))
    if name not in shipped and not path.is_file():
        raise UnknownName(
            "recipe", name, shipped, "`arzoo recipes ls` lists them; the path of a YAML file works too."
        )
    data = load_yaml(path)
    if not isinstance(data, dict):
        raise ArzooError(f"{path} is not a recipe: it must hold settings by name, see `arzoo train --help`")
    recipe = Recipe.from_dict(migrated(data))
    try:
        return _with_typed(recipe.replace(**(changes or {})), typed)
    except ArzooError as error:
        raise UsageError(str(error)) from error


def settings_of(kind: str, name: str) -> dict[str, Any]:
    """Return the types of the settings of a registered part by name.

    Raises:
        UnknownName: There is no such part.
    """
    if kind == "plan":
        from arzoo.samplers.plans.about import about

        return {option.name: option.type for option in about(name).options if option.name != "orders"}
    from arzoo.base import registry

    if kind == "verifier":  # the options of its constructor, after the subject
        return {
            option: hint for option, hint in registry.arguments(kind, name).items() if option != "subject"
        }
    return hints_of(type(registry.lookup(kind, name)()))


def _has_stages(plan: str) -> bool:
    from arzoo.samplers.plans.about import about

    return about(plan).orders == "levels"


def _kind_of(task: str) -> str:
    """Kind under which the model of a task is registered."""
    return {"generator": "backbone"}.get(task, task)


def _checked(kind: str, part: Named, where: str) -> Named:
    """Return the part with its settings converted to their types.

    Raises:
        ArzooError: The part has no such setting, or a value has another type.
    """
    known = settings_of(kind, part.name)
    values = {}
    for key, value in part.settings.items():
        _refuse_unknown(kind, part.name, key, known)
        values[key] = checked(_whole(kind, part.name, key, value), known[key], f"{where}.{key}")
        if isinstance(values[key], (int, float)):
            highest = 1 if "dropout" in key else math.inf
            refuse_number(values[key], f"{where}.{key}", (0, highest))
    return Named(name=part.name, settings=values)


def _whole(kind: str, name: str, key: str, value: Any) -> Any:
    """Return a setting that is a group of settings with those of the preset where the recipe says nothing."""
    if not isinstance(value, Mapping) or kind in ("plan", "verifier") or CLASS_KEY in value:
        return value
    from arzoo.base import registry

    preset = getattr(registry.lookup(kind, name)(), key)
    return preset.replace(**value) if isinstance(preset, Config) else value


def _refuse_unknown(kind: str, name: str, key: str, known: Mapping[str, Any]) -> None:
    if key not in known:
        raise ArzooError(f"{kind} {name!r} has no setting {key!r}.{nearest(key, known) if known else ''}")


def _with_typed(recipe: Recipe, texts: Sequence[str]) -> Recipe:
    """Return the recipe with typed settings changed."""
    pairs = parser.assignments(texts, "the setting")
    for key in pairs:
        moved = MOVED.get(key.partition(".")[0])
        if moved:
            raise ArzooError(f"the setting {key!r} of version 0.1 has another name now: {moved}")
    of_parts = [key for key in pairs if key.partition(".")[0] in PARTS]
    changes = parser.changes([f"{key}={text}" for key, text in pairs.items() if key not in of_parts], Recipe)
    single = ("model", "plan", "verifier")
    parts = {"heads": recipe.heads} | {name: (getattr(recipe, name),) for name in single}
    kinds = {"model": _kind_of(changes.get("task", recipe.task)), "heads": "head"}
    for key in sorted(of_parts, key=_is_setting):  # names before what depends on them
        part, *path = key.split(".")
        parts[part] = _changed(kinds.get(part, part), parts[part], path, pairs[key], key)
    changes |= {"heads": parts["heads"]} | {name: parts[name][0] for name in single}
    return recipe.replace(**changes)


def _is_setting(key: str) -> bool:
    """Return whether a key is a setting of a part rather than its name."""
    _, *path = key.split(".")
    return bool(path) and path[-1] != "name" and not path[-1].isdecimal()


def _changed(
    kind: str, parts: tuple[Named, ...], path: Sequence[str], text: str, key: str
) -> tuple[Named, ...]:
    """Return the parts after a change of a name (path [] or ["0", "name"]) or of a setting."""
    if not path and text[:1] in ("[", "{"):
        data = load_yaml(text)
        return tuple(Named.read(part, key) for part in (data if isinstance(data, list) else [data]))
    place, path = (int(path[0]), path[1:]) if path and path[0].isdecimal() else (0, path)
    if place > len(parts) or len(path) > 1:
        raise ArzooError(f"{key} is not a setting: there are {len(parts)} parts, the first is number 0")
    if not path or path == ["name"]:
        if not text:
            return parts[:place]
        part = parts[place].replace(name=text) if place < len(parts) else Named(name=text)
    elif place == len(parts):
        raise ArzooError(
            f"{key} is a setting of a part without a name: set {key.rpartition('.')[0]}.name as well"
        )
    else:
        known, setting = settings_of(kind, parts[place].name), path[0]
        _refuse_unknown(kind, parts[place].name, setting, known)
        grouped = any(map(is_config, members_of(known[setting])))
        value = (
            parser.plain(text, known[setting], key) if grouped else parser.typed(text, known[setting], key)
        )
        part = parts[place].replace(**{setting: value})
    return (*parts[:place], part, *parts[place + 1 :])
