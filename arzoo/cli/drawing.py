"""Drawing of `arzoo generate` after its options are checked: load, draw and write, or estimate the cost."""

from __future__ import annotations

import contextlib
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from arzoo.base import estimate, runtime
from arzoo.base.console import note, progress
from arzoo.base.errors import UsageError
from arzoo.cli.animation import animated, write_animation
from arzoo.cli.clips import PAGE, clip_names, read_frames, with_format, write_clips
from arzoo.cli.facts import about, file_name, settings_of
from arzoo.cli.knobs import misuse
from arzoo.cli.loading import Loaded, load
from arzoo.cli.output import Output, output_folder
from arzoo.cli.pictures import remarks_on
from arzoo.cli.subjects import request
from arzoo.core.tokens import Tokens
from arzoo.data.clip_files import SUFFIXES as CLIPS
from arzoo.data.picture_files import GRID, shows_steps
from arzoo.generation import fit
from arzoo.generation.animation import Animation
from arzoo.generation.continuation import continued_tokens, extended, overlap_of, windows_of
from arzoo.generation.drawings import Drawings, DrawingStep
from arzoo.generation.effort import expected_cost, head_calls, open_steps, weights
from arzoo.generation.generator import Generator
from arzoo.generation.regions import frames_to, kept_canvas, region_of
from arzoo.generation.request import condition
from arzoo.generation.speculation import speculation
from arzoo.samplers.loop import must_be_given
from arzoo.samplers.schedules import control_to_data
from arzoo.samplers.speculative.base import Speculation
from arzoo.samplers.stopping import require_count
from arzoo.viz.clips import clip_sheet
from arzoo.viz.grid import by_title, contact_sheet
from arzoo.viz.settings import write_png

if TYPE_CHECKING:
    from arzoo.cli.generate import Generate

GRID_LIMIT, SHEET_LIMIT = 100, 25
"""Most pictures, and clips, on a grid."""


def draw(command: Generate, arguments: list[str], seeds: list[int] | None) -> dict[str, Any]:
    """Load the model, draw, and write all files.

    Args:
        command: Options of the command.
        arguments: The command line after `arzoo`, for the record.
        seeds: Seeds of the pictures; by default they follow from the seed of the command.

    Returns:
        The document with paths and facts, or the estimate of a dry run.
    """
    loaded = load(command)
    model, knobs, folder = loaded.model, loaded.knobs, command.folder
    command = with_format(command, model)
    conditions, titles = request(command, model)
    seeds = seeds or [runtime.sample_seed(command.seed, i) for i in range(command.num)]
    given = kept(command, model)
    order = model.plan(seeds[:1], None if given is None else given.given[:1].cpu())
    if missing := must_be_given(order, None if given is None else given.given[:1]):
        raise UsageError(missing)
    todo = open_steps(order, given)
    if command.tokens is not None:
        with misuse():
            require_count(command.tokens, model.spec, order)
        todo = [k for k in todo if order.committed(k) < command.tokens]
    more = 0 if command.frames is None else steps_of_windows(model, command, seeds)
    method = method_of(command, model)
    # What does not fit is refused before anything is written; it was typed, unless it is the checkpoint's own.
    with misuse() if knobs != model.control else contextlib.nullcontext():
        calls = head_calls(model, order, knobs, todo)
    if command.animate and len(todo) < 2:
        raise UsageError(
            f"--animate shows how pictures look after every step, and plan {order.name!r} draws them in a single step "
            "here; leave it out"
        )
    if command.dry_run:
        with loaded.ready():
            return estimate_of(command, loaded, conditions, titles, seeds, given, len(todo) + more, method)
    with output_folder(folder, command.overwrite, arguments) as output:
        settings = settings_of(command, model)

        def animate(i: int, frames: torch.Tensor) -> None:
            path = output.path(animation_of(command, titles, i))
            write_animation(path, frames, about(command, titles, seeds, settings, i))

        animation, spent = Animation(animate, todo), dict[tuple[int, ...], tuple[int, int]]()

        def watch(index: torch.Tensor, step: DrawingStep) -> None:
            spent[tuple(step.run.draws.seeds)] = step.run.passes, step.run.draft_passes
            if command.animate:
                animation.watch(index, step)

        started = time.perf_counter()
        with progress("drawing", "steps") as tell, loaded.ready():
            draw = loaded.drawing.generate
            if command.frames is not None:
                draw = partial(extended, loaded.drawing, command.frames, command.overlap)
            drawings = draw(
                **conditions, seeds=seeds, batch=command.batch, control=knobs, given=given, progress=tell,
                tokens=command.tokens, watch=watch, speculate=method,
            )  # fmt: skip
            animation.finish()
        seconds = time.perf_counter() - started
        write(command, output, drawings, titles, seeds, settings)
        output.facts |= {
            "config": settings,
            "seconds_per_picture": round(seconds / command.num, 3),
            "plan_options": model.plan_options,
            "controls": control_to_data(knobs),
            **number_of_tokens(drawings, model),
            "passes": sum(passes for passes, _ in spent.values()),
        }
        if method and method.drafter:
            output.facts["draft_passes"] = sum(passes for _, passes in spent.values())
        if method is None and knobs.head_window == 1:  # speculation makes any number
            output.facts["head_calls_per_picture"] = calls  # at most, where the model itself ends a picture
        if command.init is not None:
            output.facts["remarks"] = remarks_of(command)
    files = [str(folder / name) for name in output.files]
    animations = [name for name in files if shows_steps(Path(name))]
    document = {"folder": str(folder), "num": command.num, "grid": str(folder / GRID), "files": files}
    document |= {"page": str(folder / PAGE)} if command.format else {}
    return {**document, "animations": animations, **output.facts}


def steps_of_windows(model: Generator, command: Generate, seeds: list[int]) -> int:
    """Number of steps of all windows of a clip but the first one.

    Raises:
        UsageError: The windows of the model cannot overlap by so many frames.
    """
    assert command.frames is not None
    with misuse():
        overlap = overlap_of(model, command.overlap)
    given = continued_tokens(model, overlap)[None]
    canvas = Tokens.of(model.spec.empty(1).values, given)
    more = windows_of(command.frames, model.tokenizer.frames, overlap) - 1
    return more * len(open_steps(model.plan(seeds[:1], given), canvas)) if more else 0


def remarks_of(command: Generate) -> list[str]:
    """Return remarks on how the picture to complete was read."""
    assert command.init is not None
    return remarks_on([command.init], command.init) if Path(command.init).suffix.lower() not in CLIPS else []


def method_of(command: Generate, model: Generator) -> Speculation | None:
    """Return how several steps are drawn with one call of the network; None if they are not.

    Raises:
        UsageError: The model cannot be drawn that way, or the pictures of a batch would depend on each other.
    """
    if command.speculate is None:
        return None
    with misuse():
        method = speculation(model, command.speculate, command.allow_inexact)
    if method.lockstep and min(command.batch, command.num) > 1:
        raise UsageError(
            f"--speculate {command.speculate}: the pictures of a batch would wait for each other, and so depend on "
            "each other. Add --batch 1, which is also where speculation saves most."
        )
    if command.allow_inexact and method.exact:
        note(f"--allow-inexact has no effect: {command.speculate.partition(':')[0]} is exact")
    return method


def number_of_tokens(drawings: Drawings, model: Generator) -> dict[str, Any]:
    """Return the number of tokens of every picture where it may be less than all."""
    return {"tokens_per_picture": drawings.token_counts.tolist()} if model.spec.prefix_ok else {}


def kept(command: Generate, model: Generator) -> Tokens | None:
    """Return the canvas with the kept part of `init`, the same for every picture; None without one."""
    if command.init is None or command.keep is None:
        return None
    region = region_of(model, command.keep)  # refuses a mistyped region before the picture is read
    clip = read_frames(command, model, frames_to(model, region))
    canvas = kept_canvas(model, clip[None], region).select(torch.zeros(command.num, dtype=torch.long))
    for remark in (*remarks_of(command), *fit.notes(model.backbone, model.plan())):
        note(remark)
    return canvas


def estimate_of(
    command: Generate,
    loaded: Loaded,
    conditions: dict[str, Any],
    titles: list[str],
    seeds: list[int],
    given: Tokens | None,
    calls: int,
    method: Speculation | None,
) -> dict[str, Any]:
    """Return the estimate of a dry run, measured on the first of the `calls` steps of the first batch."""
    model = loaded.drawing
    rows = torch.arange(min(command.batch, command.num))
    cond = condition(model, **{name: of[: len(rows)] for name, of in conditions.items()}).to(model.device)
    tokens = None if given is None else given.select(rows)
    seconds, memory = expected_cost(model, cond, seeds[: len(rows)], loaded.knobs, tokens, calls, command.num)
    names = names_of(command, model, titles)
    beside = ["time of the frames of animations"] * command.animate
    beside += ["passes that --speculate saves"] * (method is not None)
    beside += ["the model that drafts, its passes and its memory"] * bool(method and method.drafter)
    beside += ["head calls that --head-window saves"] * (loaded.knobs.head_window > 1)
    not_counted: dict[str, Any] = {"not_counted": ", ".join(beside)} if beside else {}
    return estimate.document(
        settings_of(command, loaded.model), str(command.folder), names, device=str(model.device),
        parameters=estimate.count(*weights(model)), memory=memory, seconds=seconds, pictures=command.num,
        batch=command.batch, passes=calls * -(-command.num // command.batch),
        **not_counted,
    )  # fmt: skip


def names_of(command: Generate, model: Generator, titles: list[str]) -> list[str]:
    """Return the names of all files that a run would write."""
    animations = [animation_of(command, titles, i) for i in range(len(titles) * command.animate)]
    if command.format:
        frames = command.frames or model.tokenizer.frames
        clips = [name for i, title in enumerate(titles) for name in clip_names(command, i, title, frames)]
        return [*clips, *animations, PAGE, GRID]
    names = [file_name(i, title, command.seed) for i, title in enumerate(titles)]
    return [*names, *animations, GRID]


def animation_of(command: Generate, titles: list[str], i: int) -> str:
    """Return the name of the animation of picture or clip i."""
    return animated(file_name(i, titles[i], command.seed, ""), command.animation)


def write(
    command: Generate,
    output: Output,
    drawings: Drawings,
    titles: list[str],
    seeds: list[int],
    settings: dict[str, Any],
) -> None:
    """Write the pictures or clips and their grid."""
    if command.format:
        write_clips(command, output, drawings, titles, seeds, settings)
        sheet = clip_sheet(drawings[:SHEET_LIMIT], captions=captions(titles[:SHEET_LIMIT]))
    else:
        for i, (picture, title) in enumerate(zip(drawings.images.numpy(), titles, strict=True)):
            path = output.path(file_name(i, title, command.seed))
            write_png(path, picture, about(command, titles, seeds, settings, i))
        columns, cells = by_title(titles[:GRID_LIMIT])
        sheet = contact_sheet(
            drawings.images[:GRID_LIMIT], columns=columns, captions=captions(titles[:GRID_LIMIT]), cells=cells
        )
    facts = {**settings, "prompts" if command.prompts else "classes": titles[:GRID_LIMIT], "num": command.num}
    write_png(output.path(GRID), sheet, facts)


def captions(titles: list[str]) -> list[str] | None:
    """Return the texts below the pictures of a grid; None where the model takes neither classes nor prompts."""
    return titles if any(titles) else None
