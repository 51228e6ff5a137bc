"""`arzoo generate --like`: the command that made a picture, from the settings in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from arzoo.base.errors import ArzooError, UnknownName
from arzoo.base.files import file_sha256

if TYPE_CHECKING:
    from arzoo.cli.generate import Generate


WORDS = {"class": "classes", "prompt": "prompts"}
"""Options by their name in pictures and on the command line, where the field has another one."""


def repeat(given: Generate, arguments: Sequence[str] = ()) -> tuple[Generate, list[int]]:
    """The command that made a picture, with the options given beside `--like` changed, and the picture's own seed.

    Args:
        given: The command.
        arguments: What was typed: an option in it is a change even when its value is the default one.

    Raises:
        ArzooError: The file was not made by `generate`, is a grid, or its model or initial picture is another now.
    """
    from arzoo.base import runtime

    assert given.like is not None
    stored = stored_settings(given.like, get_type_hints(type(given)))
    changed = {f.name for f in dataclasses.fields(given) if getattr(given, f.name) != f.default}
    changed |= typed(arguments)
    old = {
        name: stored[name]
        for name in ("model", "seed", "precision", *given.knobs(), "steps", "keep", "init")
        if name in stored
    }
    old |= {"num": 1}
    for what, option in WORDS.items():
        old[option] = (stored[what],) if stored.get(what) else ()
    wanted = dataclasses.replace(given, **{name: value for name, value in old.items() if name not in changed})
    if "model" not in changed:
        refuse_other_model(given.like, wanted.model, stored["weights"])
    if wanted.init is not None and "init" not in changed:
        refuse_other_picture(given.like, wanted.init, stored["init_sha256"])
    if "seed" in changed or "num" in changed:
        return wanted, [runtime.sample_seed(wanted.seed, i) for i in range(wanted.num)]
    return wanted, [int(stored["sample_seed"])]


def refuse_other_model(picture: str, model: str, weights: str) -> None:
    """Raise an ArzooError where the model of a picture is not here, or has other weights by now."""
    from arzoo.checkpoints.folder import open_checkpoint

    try:
        there = open_checkpoint(model, "generator").parts["backbone"]["weights"]
    except UnknownName as error:
        raise ArzooError(
            f"{picture} says that {model!r} drew it, which is not here. Name the checkpoint to use: arzoo generate "
            f"MODEL --like {picture}"
        ) from error
    if there[:12] != weights:
        raise ArzooError(
            f"{picture} was drawn by {model} with weights {weights}, the one there now has {there[:12]}. Name the "
            f"checkpoint to use: arzoo generate MODEL --like {picture}"
        )


def refuse_other_picture(picture: str, init: str, sha256: str) -> None:
    """Raise an ArzooError where the picture of which a part stayed is not here, or another one by now."""
    if not Path(init).is_file():
        raise ArzooError(
            f"a part of {init} stayed in {picture}, and there is no such file now. Say where it is with --init"
        )
    if file_sha256(init) != sha256:
        raise ArzooError(f"{init} has changed since {picture} was drawn; give the picture with --init")


def typed(arguments: Sequence[str]) -> set[str]:
    """Fields of the options in a command line; values never begin with two dashes."""
    named = (text[2:].partition("=")[0].replace("-", "_") for text in arguments if text.startswith("--"))
    return {WORDS.get(name, name) for name in named}


def stored_settings(path: str, options: dict[str, Any]) -> dict[str, Any]:
    """The settings in a picture, each of the type of its option: the picture may come from anybody.

    Args:
        path: The picture.
        options: Type of every option of the command.

    Raises:
        ArzooError: The file was not made by `generate`, is a grid, or a setting is of another type.
    """
    from arzoo.base.config import checked
    from arzoo.cli.pictures import read_settings

    stored = read_settings(path)
    asked = {"class", "prompt"} & stored.keys()
    if not asked or not {"sample_seed", "model", "weights"} <= stored.keys():
        raise ArzooError(
            f"{path} is not a single picture of `arzoo generate`. Give one of the numbered files."
        )
    more = {"sample_seed": int, "class": str, "prompt": str, "weights": str, "init_sha256": str}
    try:
        found = {
            name: checked(stored[name], hint, name)
            for name, hint in (options | more).items()
            if name in stored
        }
    except ArzooError as error:
        raise ArzooError(f"the settings in {path} are damaged: {error}") from error
    if not 0 <= found["sample_seed"] < 1 << 63 or (found.get("init") and "init_sha256" not in found):
        raise ArzooError(f"the settings in {path} are damaged: no picture has such a seed, or such an origin")
    return found
