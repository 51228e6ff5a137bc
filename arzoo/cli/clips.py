"""Clips of `arzoo generate`: their format, their files, and the page that plays them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arzoo.base.console import note
from arzoo.base.errors import MissingPackage, UsageError
from arzoo.base.files import write_text
from arzoo.cli.facts import file_name
from arzoo.cli.knobs import misuse
from arzoo.cli.pictures import read_picture
from arzoo.data.clip_files import counted, is_clip
from arzoo.viz.clips import FORMATS, clip_files, mp4_obstacle, require_format, write_clip
from arzoo.viz.page import Figure, page

if TYPE_CHECKING:
    from torch import Tensor

    from arzoo.cli.generate import Generate
    from arzoo.cli.output import Output
    from arzoo.generation.generator import Generator

PAGE = "index.html"


def with_format(command: Generate, model: Generator) -> Generate:
    """Return the command with the format and the speed of its clips; that of a model of pictures as it is.

    Raises:
        UsageError: An option is not for such a model, or the format does not hold so many frames per second.
        MissingPackage: The package that writes the format is not installed.
    """
    if model.tokenizer.frames == 1:
        if (command.format, command.fps, command.frames) != (None, None, None):
            raise UsageError(
                "--format, --fps and --frames are for models of clips; "
                f"{command.model} draws still pictures, written as PNG"
            )
        return command
    if command.animate and command.frames is not None:
        raise UsageError(
            "--animate shows how a clip looks after every step, and with --frames it is drawn window after window; "
            "leave one of them out"
        )
    name = command.format
    obstacle = mp4_obstacle() if name in (None, "mp4", "mp4-444") else ""
    if name is None:
        name = "webp" if obstacle else "mp4"
        if obstacle:
            note(f"clips are written as webp, as mp4 needs {obstacle}")
    elif obstacle:  # said before anything is drawn
        raise MissingPackage(
            f"--format {name} needs {obstacle}. --format webp needs nothing and loses nothing"
        )
    fps = model.fps if command.fps is None else command.fps
    with misuse():
        require_format(name, fps)
    return dataclasses.replace(command, format=name, fps=fps)


def read_frames(command: Generate, model: Generator, count: int) -> Tensor:
    """Read the first frames of what is to be completed, at the speed of the clips to draw; a picture is one frame.

    Returns:
        (T, H, W, 3) uint8, T being `count` for files of clips.

    Raises:
        ArzooError: The file cannot be read, or has fewer frames.
    """
    import torch

    from arzoo.data.clip_files import read_clip

    assert command.init
    size = model.image_size
    if model.tokenizer.frames == 1 or not is_clip(Path(command.init)):
        return read_picture(command.init, *size)[None]
    return torch.from_numpy(read_clip(command.init, count, size, command.fps))


def clip_names(command: Generate, i: int, title: str, frames: int) -> list[str]:
    """Return the names of the files of clip i."""
    assert command.format
    return clip_files(file_name(i, title, command.seed, ""), command.format, frames)


def write_one(command: Generate, paths: list[Path], clip: Tensor, facts: dict[str, Any]) -> None:
    """Write a clip (T, H, W, 3) uint8 with its settings to the paths of `clip_names`."""
    assert command.format
    assert command.fps
    path = paths[0] if FORMATS[command.format].suffix else paths[0].parent
    write_clip(path, clip, command.fps, facts, command.format)


def write_page(command: Generate, output: Output, titles: list[str], frames: int) -> None:
    """Write the page that plays all clips."""
    figures = [
        Figure(
            clip_names(command, i, title, frames), title or f"clip {i}", f"number {i} of seed {command.seed}"
        )
        for i, title in enumerate(titles)
    ]
    speed = f"{counted(frames)}, {command.fps:g} a second"
    write_text(output.path(PAGE), page(f"{command.model}: {len(titles)} clips of {speed}", figures))
