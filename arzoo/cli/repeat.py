"""`--like` of verbs that draw: the command that drew a picture, from the settings in its file."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from arzoo.base.errors import ArzooError, UnknownName
from arzoo.cli.options import options
from arzoo.cli.sampling import Sampling

S = TypeVar("S", bound=Sampling)

SUBJECTS = {"class": "classes", "prompt": "prompts"}
"""Fields of options by the name in pictures of what they show."""
SOURCES = ("init", "mask", "reference")
"""Fields of options that are pictures which a picture depends on; its settings have their hashes."""


def repeat(command: S, arguments: Sequence[str] = ()) -> tuple[S, list[int]]:
    """Return the command that drew a picture, with the other typed options changed, and the seeds of the pictures.

    Args:
        command: The command with `--like`.
        arguments: The typed arguments: an option among them is a change even if its value is the default.

    Raises:
        ArzooError: The file was not written by this verb, is a grid, or its model or a picture it depends on has
            changed.
    """
    from arzoo.base import runtime

    assert command.like is not None
    stored = stored_settings(command.like, type(command))
    changed = {f.name for f in dataclasses.fields(command) if getattr(command, f.name) != f.default}
    changed |= typed(arguments, type(command))
    old = {name: stored[name] for name in (*command.RECORDED, *SOURCES) if name in stored}
    old |= {"num": 1}
    for what, option in SUBJECTS.items():
        old[option] = (stored[what],) if stored.get(what) else ()
    repeated = dataclasses.replace(
        command, **{name: value for name, value in old.items() if name not in changed}
    )
    if "model" not in changed:
        refuse_other_model(repeated, stored["weights"])
    for name in SOURCES:
        if old.get(name) is not None and name not in changed:
            refuse_other_picture(command.like, name, old[name], stored[f"{name}_sha256"])
    if "seed" in changed or "num" in changed:
        return repeated, [runtime.sample_seed(repeated.seed, i) for i in range(repeated.count)]
    return repeated, [int(stored["sample_seed"])]


def refuse_other_model(command: Sampling, weights: str) -> None:
    """Raise an ArzooError if the model of the picture `like` does not exist here or has other weights now."""
    from arzoo.checkpoints.folder import open_checkpoint

    picture, model = command.like, command.model
    advice = f"Name the checkpoint to use: arzoo {command.verb()} MODEL --like {picture}"

    try:
        present = open_checkpoint(model, "generator").parts["backbone"]["weights"]
    except UnknownName as error:
        raise ArzooError(f"{picture} says that {model!r} drew it, which is not here. {advice}") from error
    if present[:12] != weights:
        raise ArzooError(
            f"{picture} was drawn by {model} with weights {weights}, the present one has {present[:12]}. {advice}"
        )


def refuse_other_picture(picture: str, option: str, source: str, sha256: str) -> None:
    """Raise an ArzooError if a picture or clip that another one depends on does not exist or has changed."""
    from arzoo.data.clip_files import content_sha256

    if not Path(source).exists():
        raise ArzooError(
            f"{picture} was drawn with --{option} {source}, and there is no such file or folder now. Give its path "
            f"with --{option}"
        )
    if content_sha256(source) != sha256:
        raise ArzooError(f"{source} has changed since {picture} was drawn; give the picture with --{option}")


def typed(arguments: Sequence[str], verb: type) -> set[str]:
    """Return the fields of the options in a command line; values never begin with two dashes."""
    fields = {option.name: option.field for option in options(verb) if option.name}
    named = (text[2:].partition("=")[0].replace("_", "-") for text in arguments if text.startswith("--"))
    return {fields[name] for name in named if name in fields}


def stored_settings(path: str, verb: type[Sampling]) -> dict[str, Any]:
    """Read the settings in a picture and check their types, as the file may come from anyone.

    Args:
        path: The picture.
        verb: Class of the command.

    Raises:
        ArzooError: The file was not written by the verb, is a grid, or a setting has another type.
    """
    from arzoo.base.config import checked
    from arzoo.cli.pictures import read_settings

    stored = read_settings(path)
    if not SUBJECTS.keys() & stored.keys() or not {"sample_seed", "model", "weights"} <= stored.keys():
        raise ArzooError(
            f"{path} is not a single picture of `arzoo {verb.verb()}`. Give one of the numbered files."
        )
    drawn_by = stored.get("verb", "generate")
    if drawn_by not in verb.REPEATED:
        raise ArzooError(
            f"{path} was drawn by `arzoo {drawn_by}`: repeat it with arzoo {drawn_by} --like {path}"
        )
    more = {"sample_seed": int} | dict.fromkeys(
        (*SUBJECTS, "weights", *(f"{name}_sha256" for name in SOURCES)), str
    )
    try:
        settings = {
            name: checked(stored[name], hint, name)
            for name, hint in (get_type_hints(verb) | more).items()
            if name in stored
        }
    except ArzooError as error:
        raise ArzooError(f"the settings in {path} are damaged: {error}") from error
    unproven = any(settings.get(name) and f"{name}_sha256" not in settings for name in SOURCES)
    if not 0 <= settings["sample_seed"] < 1 << 63 or unproven:
        raise ArzooError(f"the settings in {path} are damaged: no picture has such a seed, or such an origin")
    return settings
