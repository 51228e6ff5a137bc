"""Drawing of `arzoo generate` after its options are checked: load, draw and write, or estimate the cost."""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from arzoo.base import estimate
from arzoo.base.console import note, progress
from arzoo.base.errors import UsageError
from arzoo.cli.batches import DRAWN, Batches
from arzoo.cli.clips import PAGE, read_frames, with_format, write_page
from arzoo.cli.earlier import Earlier
from arzoo.cli.facts import read_request
from arzoo.cli.knobs import misuse
from arzoo.cli.loading import load
from arzoo.cli.output import Output, output_folder
from arzoo.cli.pictures import read_whole, remarks_on
from arzoo.core.pyramid import on_canvas
from arzoo.core.tokens import Tokens
from arzoo.data.clip_files import is_clip
from arzoo.data.picture_files import GRID, shows_steps
from arzoo.generation import fit
from arzoo.generation.continuation import continued_tokens, overlap_of, windows_of
from arzoo.generation.effort import expected_cost, head_calls, open_steps, weights
from arzoo.generation.generator import Generator
from arzoo.generation.inputs import Unseen, completion
from arzoo.generation.regions import frames_to, kept_canvas, meaning_of_last, region_of
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
    asked = read_request(command, loaded, seeds)
    given = kept(command, model)
    order = model.plan(asked.seeds[:1], None if given is None else given.given[:1].cpu())
    if missing := must_be_given(order, None if given is None else given.given[:1]):
        raise UsageError(missing)
    if given is not None:
        for remark in fit.notes(model.backbone, order, on_canvas(given, order.layout).given[:1].cpu()):
            note(remark)
    todo = open_steps(order, given)
    if command.tokens is not None:
        with misuse():
            require_count(command.tokens, model.spec, order)
        todo = [k for k in todo if order.committed(k) < command.tokens]
    more = 0 if command.frames is None else steps_of_windows(model, command, asked.seeds)
    method = method_of(command, model)
    # What does not fit is refused before anything is written; it was typed, unless it is the checkpoint's own.
    with misuse() if knobs != model.control else contextlib.nullcontext():
        calls = head_calls(model, order, knobs, todo)
    if command.animate and len(todo) < 2:
        raise UsageError(
            f"--animate shows how pictures look after every step, and plan {order.name!r} draws them in a single step "
            "here; leave it out"
        )
    batches = Batches(command, loaded, asked.conditions, asked.titles, asked.seeds, given, todo, method)
    identity = identity_of(batches)
    earlier = Earlier(folder, identity) if command.overwrite else Earlier.of(folder, identity)
    if command.dry_run:
        with loaded.ready():
            return estimate_of(batches, len(todo) + more)
    if earlier.finished and earlier.has(names_of(batches)):
        note(f"{folder} holds these pictures already: nothing is drawn anew; --overwrite draws them again")
        return document_of(batches, earlier.facts)
    with output_folder(folder, command.overwrite, arguments, earlier=earlier) as output:
        if batches.finished(output.earlier):
            note(f"{folder} holds some of these pictures already: those that are missing are drawn")
        output.facts |= {"config": batches.settings, "plan_options": model.plan_options}
        output.facts["controls"] = control_to_data(knobs)
        with progress("drawing", "steps") as tell, loaded.ready():
            shown = batches.draw(output, tell, SHEET_LIMIT if command.format else GRID_LIMIT)
        write_sheet(batches, output, shown)
        if method is None and knobs.head_window == 1:  # speculation makes any number
            output.facts["head_calls_per_picture"] = calls  # at most, where the model itself ends a picture
        if command.init is not None:
            output.facts["remarks"] = remarks_of(command)
        output.files = {name: output.files[name] for name in names_of(batches)}
    return document_of(batches, output.facts)


def identity_of(batches: Batches) -> dict[str, Any]:
    """Return what decides the files of a command, as plain data; with `--like` the seeds are those of another file."""
    command, typed = batches.command, batches.command.classes or batches.command.prompts
    subjects = {"prompts" if command.prompts else "classes": batches.titles[: len(typed)]}
    own = {"sample_seeds": batches.seeds} if command.like is not None else {}
    return {
        "verb": command.verb(), **batches.settings, **subjects, **own, "num": command.num,
        "animate": command.animate and command.animation,
    }  # fmt: skip


def document_of(batches: Batches, facts: dict[str, Any]) -> dict[str, Any]:
    """Return the document of a command that recorded these facts."""
    folder, command = batches.command.folder, batches.command
    files = [str(folder / name) for name in names_of(batches)]
    animations = [name for name in files if shows_steps(Path(name))]
    document = {"folder": str(folder), "num": command.num, "grid": str(folder / GRID), "files": files}
    document |= {"page": str(folder / PAGE)} if command.format else {}
    document |= {name: fact for name, fact in facts.items() if name != DRAWN}
    return {**document, "animations": animations}


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
    return remarks_on([command.init], command.init) if not is_clip(Path(command.init)) else []


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


def kept(command: Generate, model: Generator) -> Tokens | None:
    """Return the canvas with the kept part of `init`, the same for every picture; None without one."""
    if command.init is None:
        return None
    if command.mask is not None:
        return masked(command, model)
    assert command.keep is not None
    region = region_of(model, command.keep)  # refuses a mistyped region before the picture is read
    clip = read_frames(command, model, frames_to(model, region))
    canvas = kept_canvas(model, clip[None], region).select(torch.zeros(command.num, dtype=torch.long))
    for remark in filter(None, (*remarks_of(command), meaning_of_last(model, command.keep))):
        note(remark)
    return canvas


def masked(command: Generate, model: Generator) -> Tokens:
    """Return the canvas of `init` with what the mask leaves, the same for every picture."""
    assert command.init is not None
    assert command.mask is not None
    if model.tokenizer.frames > 1:
        raise UsageError(f"--mask is for still pictures, and {command.model} draws clips: give --keep")
    for remark in remarks_of(command):
        note(remark)
    picture, mask = read_whole(command.init), read_whole(command.mask)
    with misuse(), warnings.catch_warnings():
        warnings.simplefilter("ignore", Unseen)  # which is said where the order is known
        return completion(model, picture, mask, command.num)


def estimate_of(batches: Batches, calls: int) -> dict[str, Any]:
    """Return the estimate of a dry run, measured on the first of the `calls` steps of the first batch."""
    command, loaded, method = batches.command, batches.loaded, batches.method
    model = loaded.drawing
    rows = torch.arange(min(command.batch, command.num))
    cond = condition(model, **batches.rows(rows.tolist())).to(model.device)
    tokens = None if batches.given is None else batches.given.select(rows)
    seeds = batches.seeds[: len(rows)]
    seconds, memory = expected_cost(model, cond, seeds, loaded.knobs, tokens, calls, command.num)
    beside = ["time of the frames of animations"] * command.animate
    beside += ["passes that --speculate saves"] * (method is not None)
    beside += ["the model that drafts, its passes and its memory"] * bool(method and method.drafter)
    beside += ["head calls that --head-window saves"] * (loaded.knobs.head_window > 1)
    not_counted: dict[str, Any] = {"not_counted": ", ".join(beside)} if beside else {}
    return estimate.document(
        batches.settings, str(command.folder), names_of(batches), device=str(model.device),
        parameters=estimate.count(*weights(model)), memory=memory, seconds=seconds, pictures=command.num,
        batch=command.batch, passes=calls * -(-command.num // command.batch),
        **not_counted,
    )  # fmt: skip


def names_of(batches: Batches) -> list[str]:
    """Return the names of all files that a run writes."""
    names = [name for i in range(batches.command.num) for name in batches.files(i)]
    return [*names, PAGE, GRID] if batches.command.format else [*names, GRID]


def write_sheet(batches: Batches, output: Output, shown: list[torch.Tensor]) -> None:
    """Write the grid of the first pictures or clips, each (T, H, W, 3) uint8, and the page of clips."""
    command, titles, pictures = batches.command, batches.titles, torch.stack(shown)
    titles = titles[: len(pictures)]
    captions = titles if any(titles) else None  # some models take neither classes nor prompts
    if command.format:
        write_page(command, output, batches.titles, batches.frames)
        sheet = clip_sheet(pictures, captions=captions)
    else:
        columns, cells = by_title(titles)
        sheet = contact_sheet(pictures[:, 0], columns=columns, captions=captions, cells=cells)
    subjects = {"prompts" if command.prompts else "classes": batches.titles[:GRID_LIMIT]}
    write_png(output.path(GRID), sheet, {**batches.settings, **subjects, "num": command.num})
