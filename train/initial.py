"""Weights from a checkpoint instead of fresh ones: initial ones, and those of a frozen base."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn

from arzoo.base.config import Config, hints_of
from arzoo.base.errors import ArzooError
from arzoo.base.registry import called
from arzoo.checkpoints.folder import open_checkpoint
from arzoo.checkpoints.lookup import codes_kept, refuse_other_tokenizer
from arzoo.core.contracts import Tokenizer
from arzoo.generation.generator import Generator
from arzoo.generation.prompts import takes_text

SHOWN = 5
"""Number of modules that a message names."""


def new_tokenizer(config: Config, base: str, init: str) -> tuple[Tokenizer, dict[str, Any]]:
    """Build a tokenizer to train; only a base has trained weights yet.

    Args:
        config: Settings of the tokenizer.
        base: Checkpoint of its base, if it works over the latents of another one.
        init: Checkpoint whose weights it will start from; without `base` its base is that of this checkpoint.

    Returns:
        The tokenizer, and the origin of the base for the lineage.

    Raises:
        ArzooError: As `over_base`; or the tokenizer needs a base and gets none.
    """
    if base:
        return over_base(config, base)
    if getattr(config, "base", None) is None:
        return config.build(), {}
    if not init:
        raise ArzooError(
            f"{called(config)} works on the latents of another autoencoder, which stays frozen, and none is given: set "
            "base to the checkpoint of a trained one, such as base=kl_emoji64"
        )
    given: Any = open_checkpoint(init, "tokenizer").load("tokenizer")
    settings: Any = given.config
    if type(given.config) is not type(config):
        raise ArzooError(
            f"init={init!r} is a {called(given)}, the model a {called(config)}, whose base is still missing. Set "
            "base, or another model or init"
        )
    tokenizer: Any = config.replace(base=settings.base).build()
    tokenizer.base.requires_grad_(False)
    tokenizer.borrowed = given.borrowed
    return tokenizer, {}


def start_tokenizer(tokenizer: Tokenizer, name: str, base: str = "") -> tuple[dict[str, Any], set[str]]:
    """Copy the weights of a tokenizer checkpoint, except those of its base if the tokenizer has its own, `base`.

    Returns:
        Name and hashes of the checkpoint, for the lineage; and the names of the tensors that were copied.

    Raises:
        ArzooError: There is no such checkpoint, or its weights do not fit.
    """
    checkpoint = open_checkpoint(name, "tokenizer")
    copied = _copy(checkpoint.load("tokenizer"), tokenizer, name, own_base=bool(base))
    return {"name": name, "weights": {"tokenizer": checkpoint.parts["tokenizer"]["weights"]}}, copied


def over_base(config: Config, name: str) -> tuple[Tokenizer, dict[str, Any]]:
    """Build a tokenizer over the latents of another one, whose weights it copies and keeps frozen.

    Args:
        config: Settings of the tokenizer; those of its base are replaced.
        name: Checkpoint of the base.

    Returns:
        The tokenizer, and name and hash of the checkpoint for the lineage.

    Raises:
        ArzooError: There is no such checkpoint, or the tokenizer has no base or one of another kind or size.
    """
    checkpoint = open_checkpoint(name, "tokenizer", "its latents will mean something else later")
    base = checkpoint.load("tokenizer")
    assert isinstance(base, Tokenizer)
    accepted = get_args(hints_of(type(config)).get("base")) if hasattr(config, "base") else ()
    if not isinstance(base.config, accepted):
        known = ", ".join(called(kind) for kind in accepted if kind is not type(None))
        remedy = f"Name a checkpoint of {known}" if accepted else "Leave base out"
        raise ArzooError(
            f"base={name!r} is a {called(base)}, which {called(config)} cannot work on. {remedy}."
        )
    side = getattr(config, "image_size", None)
    if base.image_size != (side, side):
        raise ArzooError(
            f"base={name!r} is for pictures of {base.image_size[0]} pixels, the tokenizer for {side}; set "
            f"model.image_size={base.image_size[0]}"
        )
    tokenizer: Any = config.replace(base=base.config).build()
    tokenizer.base.load_state_dict(base.state_dict())
    tokenizer.base.requires_grad_(False)
    weights = checkpoint.parts["tokenizer"]["weights"]
    tokenizer.borrowed = {"name": Path(name).name, "sha256": weights}
    return tokenizer, {"base": {"name": name, "weights": weights}}


def start_segmenter(network: nn.Module, name: str) -> dict[str, Any]:
    """Copy the weights of a segmenter checkpoint, pre-trained or not; those of other outputs stay fresh.

    Returns:
        Name and hashes of the checkpoint, for the lineage.

    Raises:
        ArzooError: There is no such checkpoint, or its weights do not fit.
    """
    checkpoint = open_checkpoint(name, "segmenter")
    _copy(checkpoint.load("segmenter"), network, name)
    return {"name": name, "weights": {"segmenter": checkpoint.parts["segmenter"]["weights"]}}


def start_generator(model: Generator, name: str, trained: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Copy the weights of a generator checkpoint; if the classes differ, the embedding of classes stays fresh.

    Args:
        model: Generator to fill.
        name: The checkpoint.
        trained: How the tokenizer of `model` was trained, as its checkpoint records it: a tokenizer that was fine-tuned
            from that of the checkpoint, and kept its codes, is accepted in its place.

    Returns:
        Name and hashes of the checkpoint, for the lineage.

    Raises:
        ArzooError: There is no such checkpoint, it was trained on another tokenizer, or its weights do not fit.
    """
    checkpoint = open_checkpoint(name, "generator")
    tokenizer = checkpoint.index.get("tokenizer") or {}
    if not codes_kept(trained or {}, str(tokenizer.get("sha256"))):
        try:
            refuse_other_tokenizer(
                name, tokenizer, model.tokenizer_hash, model.tokenizer_name, model.tokenizer.config
            )
        except ArzooError as error:
            raise ArzooError(f'{error} Or start this one from fresh weights, with --init ""') from error
    others = tuple(checkpoint.index.get("classes", ())) != model.classes
    fresh = "condition." if others and not takes_text(model.backbone) else ""
    for part, module in model.parts.items():
        if part in checkpoint.parts:
            _copy(checkpoint.load(part), module, name, fresh=fresh if part == "backbone" else "")
    return {"name": name, "weights": {part: facts["weights"] for part, facts in checkpoint.parts.items()}}


def start_blocks(model: Generator, name: str) -> dict[str, Any]:
    """Copy blocks, and embeddings of equal classes, of a generator checkpoint, whatever its tokens are.

    What a network knows of shapes helps with other tokens of the same pictures: see docs/training.md.

    Returns:
        Name and hash of the checkpoint, for the lineage.

    Raises:
        ArzooError: There is no such checkpoint, or its blocks are others.
    """
    checkpoint = open_checkpoint(name, "generator")
    source, target = checkpoint.load("backbone"), model.backbone
    blocks = set(target.repeated_blocks())
    names = tuple(f"{key}." for key, module in target.named_modules() if module in blocks)
    _copy(source, target, name, "init_blocks", only=names)
    if tuple(checkpoint.index.get("classes", ())) == model.classes and not takes_text(target):
        _copy(source, target, name, "init_blocks", only=("condition.",))
    return {"name": name, "weights": {"backbone": checkpoint.parts["backbone"]["weights"]}}


@torch.no_grad()
def _copy(
    source: nn.Module,
    target: nn.Module,
    name: str,
    setting: str = "init",
    *,
    fresh: str = "",
    only: tuple[str, ...] = (),
    own_base: bool = False,
) -> set[str]:
    """Copy tensors of equal name and shape, warn of those that stay fresh, and return the names of those copied.

    Args:
        source: Module with the weights.
        target: Module to fill.
        name: Name of the checkpoint, for messages.
        setting: The setting that names it, for messages.
        fresh: Beginning of the names of tensors that are not copied; empty means none.
        only: Beginnings of the names of the tensors that it is about; empty means all.
        own_base: Leave the base of the target as it is.
    """
    given, own = source.state_dict(), target.state_dict()
    if own_base:
        own = {key: value for key, value in own.items() if not key.startswith("base.")}
    if only:
        own = {key: value for key, value in own.items() if key.startswith(only)}
    fitting = {
        key
        for key, value in given.items()
        if key in own and own[key].shape == value.shape and not (fresh and key.startswith(fresh))
    }
    if not fitting:
        raise ArzooError(
            f"nothing of {setting}={name!r} fits this model: no tensor of {called(source)} has the name and shape of "
            f"one of {called(target)}. Give the recipe the model and sizes of the checkpoint."
        )
    left = sorted(own.keys() - fitting)
    if left:
        modules = dict.fromkeys(key.rpartition(".")[0] for key in left)
        shown = ", ".join([*list(modules)[:SHOWN], *(["..."] if len(modules) > SHOWN else [])])
        warnings.warn(
            f"{setting}={name!r} leaves {len(left)} of {len(own)} tensors fresh: those of {shown}",
            stacklevel=4,
        )
    for key in fitting:
        own[key].copy_(given[key])
    return fitting
