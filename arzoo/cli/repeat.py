"""`arzoo generate --like`: the command that drew a picture, from the settings in its file."""

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
"""Fields of options by their name in pictures and on the command line, where the two differ."""


def repeat(command: Generate, arguments: Sequence[str] = ()) -> tuple[Generate, list[int]]:
    """Return the command that drew a picture, with the other typed options changed, and the seeds of the pictures.

    Args:
        command: The command with `--like`.
        arguments: The typed arguments: an option among them is a change even if its value is the default.

    Raises:
        ArzooError: The file was not written by `generate`, is a grid, or its model or initial picture has changed.
    """
    from arzoo.base import runtime

    assert command.like is not None
    stored = stored_settings(command.like, get_type_hints(type(command)))
    changed = {f.name for f in dataclasses.fields(command) if getattr(command, f.name) != f.default}
    changed |= typed(arguments)
    old = {name: stored[name] for name in (*command.RECORDED, "init") if name in stored}
    old |= {"num": 1}
    for what, option in WORDS.items():
        old[option] = (stored[what],) if stored.get(what) else ()
    repeated = dataclasses.replace(
        command, **{name: value for name, value in old.items() if name not in changed}
    )
    if "model" not in changed:
        refuse_other_model(command.like, repeated.model, stored["weights"])
    if repeated.init is not None and "init" not in changed:
        refuse_other_picture(command.like, repeated.init, stored["init_sha256"])
    if "seed" in changed or "num" in changed:
        return repeated, [runtime.sample_seed(repeated.seed, i) for i in range(repeated.num)]
    return repeated, [int(stored["sample_seed"])]


def refuse_other_model(picture: str, model: str, weights: str) -> None:
    """Raise an ArzooError if the model of a picture does not exist here or has other weights now."""
    from arzoo.checkpoints.folder import open_checkpoint

    try:
        present = open_checkpoint(model, "generator").parts["backbone"]["weights"]
    except UnknownName as error:
        raise ArzooError(
            f"{picture} says that {model!r} drew it, which is not here. Name the checkpoint to use: arzoo generate "
            f"MODEL --like {picture}"
        ) from error
    if present[:12] != weights:
        raise ArzooError(
            f"{picture} was drawn by {model} with weights {weights}, the present one has {present[:12]}. Name the "
            f"checkpoint to use: arzoo generate MODEL --like {picture}"
        )


def refuse_other_picture(picture: str, init: str, sha256: str) -> None:
    """Raise an ArzooError if the initial picture of a picture does not exist or has changed."""
    if not Path(init).is_file():
        raise ArzooError(
            f"a part of {init} was kept in {picture}, and there is no such file now. Give its path with --init"
        )
    if file_sha256(init) != sha256:
        raise ArzooError(f"{init} has changed since {picture} was drawn; give the picture with --init")


def typed(arguments: Sequence[str]) -> set[str]:
    """Return the fields of the options in a command line; values never begin with two dashes."""
    words = {**WORDS, "plan": "order"}
    named = (text[2:].partition("=")[0].replace("-", "_") for text in arguments if text.startswith("--"))
    return {words.get(name, name) for name in named}


def stored_settings(path: str, options: dict[str, Any]) -> dict[str, Any]:
    """Read the settings in a picture and check their types, as the file may come from anyone.

    Args:
        path: The picture.
        options: Type of every option of the command.

    Raises:
        ArzooError: The file was not written by `generate`, is a grid, or a setting has another type.
    """
    from arzoo.base.config import checked
    from arzoo.cli.pictures import read_settings

    stored = read_settings(path)
    subjects = {"class", "prompt"} & stored.keys()
    if not subjects or not {"sample_seed", "model", "weights"} <= stored.keys():
        raise ArzooError(
            f"{path} is not a single picture of `arzoo generate`. Give one of the numbered files."
        )
    more = {"sample_seed": int, "class": str, "prompt": str, "weights": str, "init_sha256": str}
    try:
        settings = {
            name: checked(stored[name], hint, name)
            for name, hint in (options | more).items()
            if name in stored
        }
    except ArzooError as error:
        raise ArzooError(f"the settings in {path} are damaged: {error}") from error
    if not 0 <= settings["sample_seed"] < 1 << 63 or (settings.get("init") and "init_sha256" not in settings):
        raise ArzooError(f"the settings in {path} are damaged: no picture has such a seed, or such an origin")
    return settings
