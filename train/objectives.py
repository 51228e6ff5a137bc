"""Objectives of recipes: models, data and losses, checked against each other before the first step."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import arzoo.data
from arzoo.base import registry
from arzoo.base.console import progress
from arzoo.base.errors import ArzooError, UsageError
from arzoo.base.paths import expanded
from arzoo.base.registry import called
from arzoo.base.runtime import cache_folder, explain_cache
from arzoo.checkpoints.folder import weights_sha256
from arzoo.core.contracts import Tokenizer
from arzoo.data import source
from arzoo.data.any_size import AnySizeSet
from arzoo.data.base import ImageSet, annotations_sha256
from arzoo.data.codes import FORMAT, Codes
from arzoo.data.encoding import code_key, encode_split, is_variable
from arzoo.data.views import Views
from arzoo.generation import rollouts
from arzoo.generation.generator import Generator
from arzoo.generation.values import Value
from arzoo.generation.verifiers.catalogue import open_verifier
from arzoo.samplers.verifiers.base import Subject
from arzoo.tokenizers.common.lengths import target_errors
from arzoo.tokenizers.common.resolution import sizes_of
from arzoo.tokenizers.karl.tokenizer import Karl
from arzoo.tokenizers.longcat.tokenizer import LongCatTokenizer
from arzoo.tokenizers.quantizers.base import EMPTY
from arzoo.train.any_size import AnySizeObjective
from arzoo.train.any_size_generator import AnySizeGeneratorObjective
from arzoo.train.clips import noun
from arzoo.train.conditions import conditions
from arzoo.train.devices import processes
from arzoo.train.directions import BothObjective, refuse_describing
from arzoo.train.generator import GeneratorObjective, refuse_settings
from arzoo.train.initial import new_tokenizer, start_blocks, start_generator, start_tokenizer
from arzoo.train.karl import KarlObjective
from arzoo.train.karl_pixels import KarlPixels
from arzoo.train.mixture_objective import MixtureObjective
from arzoo.train.objective import Objective
from arzoo.train.recipe import Recipe
from arzoo.train.run import report
from arzoo.train.segmentation import segmenter_objective
from arzoo.train.sizing import load_data, open_tokenizer, require_data
from arzoo.train.sketch import Sketch, codes_or_sketch
from arzoo.train.tokenizer import TokenizerObjective
from arzoo.train.value import ValueObjective


def objective_of(recipe: Recipe, encode: bool = True) -> Objective:
    """Build the objective of a recipe with its data.

    Args:
        recipe: The recipe.
        encode: Encode the data if its codes are not in the cache; if False, codes of a few pictures stand in for them.

    Raises:
        ArzooError: The settings do not fit each other or the data.
    """
    if recipe.task == "value":
        return _value_objective(recipe, encode)
    if recipe.task == "segmenter":
        return segmenter_objective(recipe)
    return (
        _tokenizer_objective(recipe) if recipe.task == "tokenizer" else _generator_objective(recipe, encode)
    )


def _data(recipe: Recipe, tokenizer: Tokenizer) -> ImageSet:
    """Load the pictures of a recipe, or the clips.

    Raises:
        ArzooError: There is no such data set, its pictures or clips are not those that the tokenizer is made for, or
            its training or validation split is empty.
    """
    require_data(recipe)
    sizes = sizes_of(tokenizer) if recipe.sizes == "keep" else None
    data = load_data(recipe, tokenizer.image_size[0], tokenizer.frames, sizes)
    if recipe.limit:
        data = data.select(torch.linspace(0, len(data) - 1, min(recipe.limit, len(data))).long())
    held_out, kind = int(data.held_out.sum()), noun(data.frames)
    training = len(data) - held_out
    if not (held_out and training):
        some = f" of the {recipe.limit} that limit allows" if recipe.limit else ""
        remedy = "Raise limit; 0 takes all." if recipe.limit else f"Add {kind}s, at least ten."
        raise ArzooError(
            f"{recipe.data!r} has {training} {kind}{'s' * (training != 1)} for training and {held_out} for "
            f"validation{some}; a training needs at least one of each. {remedy}"
        )
    return data


def _tokenizer_objective(recipe: Recipe) -> Objective:
    torch.manual_seed(recipe.run.seed)
    config = registry.lookup("tokenizer", recipe.model.name)().replace(**recipe.model.settings)
    tokenizer, lineage = new_tokenizer(config, recipe.base, recipe.init)
    data = _data(recipe, tokenizer)
    lineage |= {"data": {"name": recipe.data, "sha256": data.sha256}}
    copied = set[str]()
    if recipe.init:
        lineage["init"], copied = start_tokenizer(tokenizer, recipe.init, recipe.base)
    settings = (recipe.loss, recipe.augment, recipe.codebook, recipe.balance, recipe.run.seed)
    objective: TokenizerObjective
    if isinstance(tokenizer, Karl):
        kind = KarlPixels if recipe.karl.stage == "pixels" else KarlObjective
        objective = kind(tokenizer, data, *settings, recipe.karl)
    elif isinstance(data, AnySizeSet):
        assert isinstance(tokenizer, LongCatTokenizer)
        objective = AnySizeObjective(tokenizer, data, *settings)
    else:
        objective = TokenizerObjective(tokenizer, data, *settings)
    codebook = objective.codebook
    if codebook is not None and recipe.init:
        codebook.recent.fill_(EMPTY)  # the record is of other codes, or of the data of an earlier training
        if _name_of(codebook.stored_codes, tokenizer) in copied:
            objective.trained_codes = recipe.init
            lineage["init"]["codes"] = recipe.codebook.trained
    if recipe.codebook.trained == "freeze":
        _freeze_codes(tokenizer, objective.trained_codes)
    replaces = recipe.codebook.restart_until and (
        not objective.trained_codes or recipe.codebook.trained not in ("keep", "freeze")
    )
    if recipe.run.sharded and codebook is not None and replaces:
        raise ArzooError(
            "run.sharded=true splits the codebook over the processes, where unused codes cannot be replaced: set "
            "codebook.restart_until=0, or train without run.sharded"
        )
    objective.lineage, objective.data_facts = lineage, report.data_facts(data, recipe.augment)
    return objective


def _freeze_codes(tokenizer: Tokenizer, trained: str) -> None:
    """Freeze everything but what decodes.

    Raises:
        UsageError: There are no trained codes, or the tokenizer has no decoder of its own.
    """
    decoding = [
        module for name, module in tokenizer.named_children() if name.startswith(("decoder", "from_"))
    ]
    if not trained or not decoding:
        why = (
            "the codes are fresh"
            if decoding
            else f"{called(tokenizer)} has no decoder that can be trained alone"
        )
        raise UsageError(
            f"codebook.trained=freeze trains only a decoder of codes that init brings, and {why}. Set init to a "
            "checkpoint of the same settings, or codebook.trained=keep"
        )
    tokenizer.requires_grad_(False)
    for module in decoding:
        module.requires_grad_(True)


def _name_of(tensor: Tensor, module: nn.Module) -> str:
    """Name of a parameter or buffer in a module."""
    return next(name for name, other in module.state_dict(keep_vars=True).items() if other is tensor)


def _generator_objective(recipe: Recipe, encode: bool) -> Objective:
    """Check that all parts fit, then encode: the former takes seconds, the latter minutes."""
    refuse_describing(recipe)
    checkpoint = open_tokenizer(recipe)
    tokenizer = checkpoint.load("tokenizer").requires_grad_(False)
    assert isinstance(tokenizer, Tokenizer)
    digest = checkpoint.parts["tokenizer"]["weights"]
    if recipe.quality:
        target_errors(recipe.quality, tokenizer.qualities, 1)
    codes = _cached_codes(recipe) if recipe.codes else []
    data = None if codes else _data(recipe, tokenizer)
    classes = codes[0].classes if data is None else data.classes
    variable = codes[0].variable if codes else is_variable(tokenizer, recipe.quality or None)
    torch.manual_seed(recipe.run.seed)
    changes: dict[str, Any] = {"describes": True} if recipe.generator.describe else {}
    model = Generator.create(
        recipe.model.name, tokenizer, recipe.plan.name,
        classes=classes if not recipe.text or recipe.generator.class_words else (),
        tokenizer_name=Path(recipe.tokenizer).name, tokenizer_hash=digest, text=recipe.text,
        plan_options=dict(recipe.plan.settings),
        stage_heads=[(head.name, dict(head.settings)) for head in recipe.heads],
        ends=variable, **(changes | dict(recipe.model.settings)),
    )  # fmt: skip
    if data is not None and data.fps:
        model.fps = data.fps
    refuse_settings(model, recipe.generator)
    start = {}
    if recipe.init:
        start = {"init": start_generator(model, recipe.init, checkpoint.index.get("training"))}
    elif recipe.init_blocks:
        start = {"init_blocks": start_blocks(model, recipe.init_blocks)}
    known = [
        conditions(
            pictures.split(split), model.text, recipe.generator.style_words, recipe.generator.class_words
        )
        for pictures in ([] if data is None else [data])
        for split in ("train", "validation")
    ]
    if data is not None:
        codes = _own_codes(recipe, tokenizer, digest, data, encode)
    kind: Any = GeneratorObjective
    if codes[0].grids is not None:
        _refuse_unlike(recipe)
        kind = AnySizeGeneratorObjective
    elif recipe.generator.mixture.mixes:
        kind = partial(MixtureObjective, steps=recipe.run.steps)
    elif recipe.generator.describe:
        kind = BothObjective
    objective: GeneratorObjective = kind(
        model, codes[0], codes[1], recipe.generator, recipe.balance, recipe.run.seed, known
    )
    origin = {"name": codes[0].source, "codes": recipe.codes} if recipe.codes else {"name": recipe.data}
    captions = data.captions if recipe.text and data is not None else None
    hashes = {"sha256": codes[0].key["data"], "annotations_sha256": annotations_sha256(classes, captions)}
    objective.lineage = {
        "data": origin | hashes,
        "tokenizer": {"name": recipe.tokenizer, "weights": digest},
        "codes": {k: v for k, v in codes[0].key.items() if k not in ("tokenizer", "data")},
        **start,
    }
    objective.data_facts = _facts_of(codes[0]) if data is None else report.data_facts(data, recipe.augment)
    objective.ahead = sum(split.seconds for split in codes if isinstance(split, Sketch))
    return objective


def _refuse_unlike(recipe: Recipe) -> None:
    """Refuse settings of generators that need pictures of one size."""
    settings = recipe.generator
    given = {"describe": settings.describe > 0, "mixture": settings.mixture.mixes}
    if names := [f"generator.{name}" for name, used in given.items() if used]:
        raise UsageError(
            f"{' and '.join(names)} cannot be trained on pictures of unlike sizes: leave it out, or set sizes=square"
        )


def _value_objective(recipe: Recipe, encode: bool) -> Objective:
    settings, seed = recipe.value, recipe.run.seed
    count, name = settings.rollouts, Path(settings.generator).name
    model = Generator.load(settings.generator)
    weights = {part: weights_sha256(module) for part, module in model.parts.items()}
    config = registry.lookup("value", recipe.model.name)()
    spec, plan = model.spec, model.plan()
    canvas = {"vocab": spec.vocab, "codebooks": spec.codebooks, "channels": spec.channels}
    sizes = {"width": model.backbone.width, "steps": len(plan), **canvas}
    config = config.replace(**{**sizes, **recipe.model.settings})
    captions = None if model.classes else arzoo.data.load(recipe.data).split("train").captions
    subjects = rollouts.subjects_of(model, captions or ())
    judge, facts = _judge(recipe, model, config.target, subjects[0])
    key = rollouts.identity(model, weights, judge=facts, seed=seed, count=count)
    group, ahead = processes(), 0.0
    model.to(group.device)
    folder = rollouts.folder_of(cache_folder(), key, subjects)
    if encode:
        with group.main_process_first(), explain_cache(), progress("drawing rollouts", "pictures") as tell:
            drawn = rollouts.roll_out(model, subjects, judge, count, seed, folder, tell)
    else:
        drawn, ahead = rollouts.sketch(model, subjects, judge, count, folder)
    torch.manual_seed(seed)
    origin = {
        "generator": {"name": name, "weights": weights},
        "plan": key["plan"],
        "controls": key["controls"],
    }
    value = Value(config.build(), name="", judge=facts, **origin)
    committed = [plan.committed(k + 1) for k in range(len(plan))]
    objective = ValueObjective(value, drawn, committed, settings.held_out, seed)
    objective.lineage = {
        "generator": {"name": settings.generator, "weights": weights}, "tokenizer": {"weights": model.tokenizer_hash},
        "rollouts": {fact: key[fact] for fact in ("plan", "controls", "judge", "seed", "count")},
    }  # fmt: skip
    objective.data_facts = {
        "data": f"{count} pictures of {name} of {len(subjects)} classes or captions",
        "rollouts are in": str(folder),
    }
    objective.ahead = ahead
    return objective


def _judge(
    recipe: Recipe, model: Generator, target: str, subject: Subject
) -> tuple[rollouts.Judge, dict[str, Any]]:
    """What rollouts are worth, and all that it depends on.

    Raises:
        ArzooError: The recipe names no verifier for scores, or one for lengths; also as the judges.
    """
    named = bool(recipe.verifier.name)
    if named != (target == "score"):
        raise ArzooError(
            f"model {recipe.model.name!r} foresees {target}s, "
            + ("so the recipe names the verifier that gives them: verifier: class_probe" if not named else
               "which no verifier gives: leave verifier out; value.quality says how good is enough")
        )  # fmt: skip
    if not named:
        quality = recipe.value.quality
        return rollouts.tokens_needed(model, quality), {"quality": quality}
    name, options = recipe.verifier.name, dict(recipe.verifier.settings)
    networks = sorted(open_verifier(name, subject, **options).networks)
    return rollouts.final_score(name, options), {"verifier": name, "options": options, "networks": networks}


def _cached_codes(recipe: Recipe) -> list[Codes]:
    """Open the codes in a folder written by `arzoo tokenize`.

    Raises:
        ArzooError: The folder is not a complete cache, it was encoded to another quality, or the recipe needs captions,
            which a cache does not have.
    """
    if recipe.text:
        raise ArzooError(
            f"codes={recipe.codes!r} have no captions, which text={recipe.text!r} needs: leave codes out, and the data "
            "is encoded into the user's cache"
        )
    folder = Path(expanded(recipe.codes))
    codes = [Codes.load(folder / split) for split in ("train", "validation")]
    quality = codes[0].key.get("quality")
    if (quality or 0.0) != recipe.quality:
        raise ArzooError(
            f"the codes in {folder} were encoded to quality {quality or 0:g}, the recipe says quality "
            f"{recipe.quality:g} (0: as the tokenizer does by itself). Set quality: {quality or 0:g}, or encode the "
            "data again with: arzoo tokenize DATA --tokenizer NAME --quality Q"
        )
    return codes


def _facts_of(codes: Codes) -> dict[str, Any]:
    """Facts about the data of codes in a folder."""
    counts = f"{len(codes.labels)} pictures in {len(codes.classes)} classes"
    return {"data": f"codes in {codes.folder.parent}, {counts}"}


def _own_codes(
    recipe: Recipe, tokenizer: Tokenizer, digest: str, data: ImageSet, encode: bool
) -> list[Codes]:
    """Open the codes of a data set in the user's cache; the first process encodes them on first use."""
    codes, quality = list[Codes](), recipe.quality or None
    group, origin = processes(), source(recipe.data)
    tokenizer.to(group.device)
    for split in ("train", "validation"):
        views = Views("augment", recipe.variants if split == "train" else 0, recipe.augment)
        pictures = data.split(split)
        key = json.dumps([FORMAT, code_key(tokenizer, digest, pictures, views, quality)])
        digits = hashlib.sha256(key.encode()).hexdigest()[:16]
        folder = cache_folder() / "codes" / f"{data.name}-{split}-{digits}"
        if not encode:
            codes.append(codes_or_sketch(folder, tokenizer, digest, pictures, views, origin, quality))
            continue
        with group.main_process_first(), explain_cache(), progress(f"encoding {split}", "pictures") as tell:
            codes.append(
                encode_split(
                    folder,
                    tokenizer,
                    digest,
                    pictures,
                    views,
                    progress=tell,
                    source=origin,
                    thorough=False,
                    quality=quality,
                )
            )
    return codes
