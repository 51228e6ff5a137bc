"""Clips longer than those of a model: window after window, each beginning with the last frames of the one before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from arzoo.base.config import whole_number
from arzoo.base.errors import ArzooError
from arzoo.base.runtime import sample_seed
from arzoo.core.condition import Cond
from arzoo.core.tokens import Tokens
from arzoo.generation.drawings import Drawings
from arzoo.generation.generator import Generator
from arzoo.generation.regions import clip_shape, frames_of_tokens, kept_canvas
from arzoo.generation.request import Classes, seeds_of
from arzoo.generation.subjects import requested


def overlaps(model: Generator) -> list[int]:
    """Numbers of frames by which windows of a model may overlap: those that have tokens of their own.

    Raises:
        UsageError: Its tokens have no place in the clip.
    """
    grid, (frames, _, _) = clip_shape(model)
    times = frames_of_tokens(frames, grid.t, model.tokenizer.spec.first_alone)
    return [each[-1] + 1 for each in times[:-1]]


def overlap_of(model: Generator, overlap: int | None = None) -> int:
    """Check an overlap; None is the largest one of at most half a window.

    Raises:
        ArzooError: The windows of the model cannot overlap by so many frames.
    """
    _, (frames, _, _) = clip_shape(model)
    allowed = overlaps(model)
    if overlap is None:
        halves = [count for count in allowed if 2 * count <= frames] or allowed[:1]
        overlap = halves[-1] if halves else 0
    if whole_number(overlap, "overlap") not in allowed:
        some = f"{', '.join(map(str, allowed)) or 'no'} frame{'s' * (allowed != [1])}"
        raise ArzooError(
            f"windows of {frames} frames can overlap by {some}, which have tokens of their own; got {overlap}"
        )
    return overlap


def windows_of(frames: int, window: int, overlap: int) -> int:
    """Number of windows that a clip of so many frames takes."""
    return 1 + max(0, -(-(frames - window) // (window - overlap)))


def continued_tokens(model: Generator, overlap: int) -> Tensor:
    """Return the tokens that a window is given, (N,) bool: those of its first frames."""
    grid, (_, height, width) = clip_shape(model)
    return torch.arange(grid.size) < model.tokenizer.spec.layout_of((overlap, height, width)).size


def extended(
    model: Generator,
    frames: int,
    overlap: int | None = None,
    *,
    classes: Classes | None = None,
    prompts: Sequence[str] | None = None,
    cond: Cond | None = None,
    seed: int = 0,
    seeds: Sequence[int] | None = None,
    given: Tokens | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Drawings:
    """Draw clips of any number of frames.

    The first window is what `Generator.generate` draws. Each further one is given the last frames of the one before,
    decoded and encoded anew, and has seeds of its own. A model remembers no more than the overlap.

    Example:
        >>> clips = extended(arzoo.load("nar_atari"), 64, classes=[3])  # doctest: +SKIP

    Args:
        model: The generator.
        frames: Frames of the clips.
        overlap: Frames that a window is given, see `overlap_of`.
        classes: As in `Generator.generate`, like all that follow.
        prompts: As there.
        cond: As there.
        seed: As there.
        seeds: As there.
        given: As there, for the first window.
        progress: Called with (steps done, steps to do) of all windows.
        options: Further arguments of `Generator.generate`, for every window.

    Returns:
        (n, frames, H, W, 3) uint8.

    Raises:
        ArzooError: As `overlap_of` and `Generator.generate`, or `frames` is not a positive number.
    """
    whole_number(frames, "number of frames", least=1)
    _, (window, _, _) = clip_shape(model)
    cond, names = requested(model, classes=classes, prompts=prompts, cond=cond)
    seeds = seeds_of(cond, seed, seeds)
    overlap = overlap_of(model, overlap)
    count = windows_of(frames, window, overlap)
    region = continued_tokens(model, overlap)
    clips, tokens = list[Tensor](), list[Tensor]()
    for number in range(count):

        def tell(done: int, steps: int, number: int = number) -> None:
            if progress:
                progress(number * steps + done, count * steps)

        if number:
            given = kept_canvas(model, torch.cat(clips, 1)[:, -overlap:], region)
        own = seeds if not number else [sample_seed(each, number) for each in seeds]
        drawn = model.generate(cond=cond, seeds=own, given=given, progress=tell, **options)
        clips.append(drawn.tensor[:, overlap if number else 0 :])
        tokens.append(drawn.token_counts)
    return Drawings.of(torch.cat(clips, 1)[:, :frames], torch.stack(tokens).sum(0), seeds, names, model.fps)
