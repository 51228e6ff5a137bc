"""What `arzoo generate` does once its options are valid: load, draw, write, or say what that would take."""

from __future__ import annotations

import contextlib
import re
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from arzoo.base import estimate, runtime
from arzoo.base.console import note, progress
from arzoo.base.errors import UsageError
from arzoo.base.files import file_sha256
from arzoo.checkpoints.folder import weights_sha256
from arzoo.cli.knobs import control, idle, misuse
from arzoo.cli.output import Output, output_folder
from arzoo.cli.pictures import read_picture, remarks_on, write_png
from arzoo.cli.subjects import request
from arzoo.core.control import Control
from arzoo.core.tokens import Tokens
from arzoo.generation import fit
from arzoo.generation.effort import expected_cost, head_calls, open_steps, weights, with_steps
from arzoo.generation.generator import Generator
from arzoo.generation.prompts import PromptRemark
from arzoo.generation.regions import kept_canvas, region_of
from arzoo.generation.request import condition
from arzoo.samplers.schedules import control_to_data
from arzoo.viz.grid import contact_sheet

if TYPE_CHECKING:
    from arzoo.cli.generate import Generate

GRID_LIMIT = 100
LONGEST_TITLE = 48


def draw(wanted: Generate, folder: Path, arguments: list[str], seeds: list[int] | None) -> dict[str, Any]:
    """Load the model, draw, write everything; the document."""
    runtime.set_threads(wanted.threads)
    device = place(wanted)
    model = Generator.load(wanted.model, wanted.tokenizer, wanted.text_encoder).to(device)
    if wanted.steps is not None:
        with misuse():
            model = with_steps(model, wanted.steps)
    knobs = control(model.control, wanted.knobs(), model.tokenizer.spec.discrete)
    for remark in idle(model, wanted.knobs(), knobs):
        note(remark)
    asked, titles = request(wanted, model)
    seeds = seeds or [runtime.sample_seed(wanted.seed, i) for i in range(wanted.num)]
    given = kept(wanted, model)
    order = model.plan(seeds[:1], None if given is None else given.given[:1].cpu())
    todo = open_steps(order, given)
    # What does not fit is refused before anything is written; it was typed, unless it is the checkpoint's own.
    with misuse() if knobs != model.control else contextlib.nullcontext():
        calls = head_calls(model, order, knobs, todo)
    low, drawing = contextlib.nullcontext(), model
    if device.type == "cpu" and wanted.precision != "fp32":
        drawing = model.packed("fp16" if wanted.precision == "half" else wanted.precision)
    elif wanted.precision == "bf16":
        low = torch.autocast(device.type, runtime.choose_dtype(wanted.precision))  # type: ignore[assignment]
    if wanted.dry_run:
        with low, without_remarks():
            return plan(wanted, folder, drawing, asked, titles, seeds, knobs, given, len(todo))
    with output_folder(folder, wanted.overwrite, arguments) as output:
        started = time.perf_counter()
        with progress("drawing", "network calls") as tell, low, without_remarks():
            images = drawing.generate(
                **asked, seeds=seeds, batch=wanted.batch, control=knobs, given=given, progress=tell
            ).images
        seconds = time.perf_counter() - started
        settings = settings_of(wanted, model)
        write(wanted, output, images, titles, seeds, settings)
        output.facts |= {
            "config": settings,
            "seconds_per_picture": round(seconds / wanted.num, 3),
            "plan_options": model.plan_options,
            "controls": control_to_data(knobs),
            "network_calls": len(todo) * -(-wanted.num // wanted.batch),
            "head_calls_per_picture": calls,
            **({} if wanted.init is None else {"remarks": remarks_on([wanted.init], wanted.init)}),
        }
    files = [str(folder / name) for name in output.files]
    return {"folder": str(folder), "grid": str(folder / "grid.png"), "files": files, **output.facts}


def place(wanted: Generate) -> torch.device:
    """Where to compute.

    Raises:
        UsageError: The precision is not for the device.
        ArzooError: This machine has no such device.
    """
    packs = wanted.precision in ("half", "int8")
    device = runtime.choose_device("cpu" if packs and wanted.device == "auto" else wanted.device)
    if packs and device.type != "cpu":
        raise UsageError(
            f"--precision {wanted.precision} packs weights for CPUs; with --device {wanted.device} use fp32 or bf16"
        )
    return device


def kept(wanted: Generate, model: Generator) -> Tokens | None:
    """The canvas with the kept part of `init`, the same for every picture."""
    if wanted.init is None or wanted.keep is None:
        return None
    region = region_of(model, wanted.keep)  # a mistyped one is refused before the picture is read
    canvas = kept_canvas(model, read_picture(wanted.init, *model.tokenizer.image_size), region, wanted.num)
    for remark in (*remarks_on([wanted.init], wanted.init), *fit.notes(model.backbone, model.plan())):
        note(remark)
    return canvas


def plan(
    wanted: Generate,
    folder: Path,
    model: Generator,
    asked: dict[str, Any],
    titles: list[str],
    seeds: list[int],
    knobs: Control,
    given: Tokens | None,
    calls: int,
) -> dict[str, Any]:
    """What would be drawn, from the first of the `calls` steps of the first batch."""
    rows = torch.arange(min(wanted.batch, wanted.num))
    cond = condition(model, **{name: of[: len(rows)] for name, of in asked.items()}).to(model.device)
    tokens = None if given is None else given.select(rows)
    seconds, memory = expected_cost(model, cond, seeds[: len(rows)], knobs, tokens, calls, wanted.num)
    names = [file_name(i, title, wanted.seed) for i, title in enumerate(titles)]
    return estimate.document(
        settings_of(wanted, model), str(folder), [*names, "grid.png"], device=str(model.device),
        parameters=estimate.count(*weights(model)), memory=memory, seconds=seconds, pictures=wanted.num,
        batch=wanted.batch, network_calls=calls * -(-wanted.num // wanted.batch),
    )  # fmt: skip


def file_name(i: int, title: str, seed: int) -> str:
    """Name of picture i; its class or prompt in letters, digits and dashes, short enough for any file system."""
    words = re.sub(r"[^\w.-]+", "-", title)[:LONGEST_TITLE].strip("-.")
    return "_".join(filter(None, [f"{i:04d}", words, f"seed{seed}.png"]))


def settings_of(wanted: Generate, model: Generator) -> dict[str, Any]:
    """What the pictures have in common, as plain data."""
    names = ("model", "seed", "precision", *wanted.knobs(), "steps", "keep")
    facts: dict[str, Any] = {name: getattr(wanted, name) for name in names}
    facts |= {"plan": model.plan_name, "tokenizer": model.tokenizer_hash[:12]}
    if model.text is not None:
        facts["text_encoder"] = f"{model.text.name} {model.text.sha256[:12]}"
    facts["device"] = model.device.type
    facts["weights"] = weights_sha256(model.backbone)[:12]
    if wanted.init is not None:
        facts |= {"init": str(Path(wanted.init).resolve()), "init_sha256": file_sha256(wanted.init)}
    return facts


def write(
    wanted: Generate,
    output: Output,
    images: torch.Tensor,
    titles: list[str],
    seeds: list[int],
    settings: dict[str, Any],
) -> None:
    """PNGs and the grid."""
    what, all_of_them = ("prompt", "prompts") if wanted.prompts else ("class", "classes")
    for i, (picture, title, seed) in enumerate(zip(images.numpy(), titles, seeds, strict=True)):
        path = output.path(file_name(i, title, wanted.seed))
        write_png(path, picture, {**settings, what: title, "index": i, "sample_seed": seed})
    facts = {**settings, all_of_them: titles[:GRID_LIMIT], "num": wanted.num}
    write_png(output.path("grid.png"), contact_sheet(images[:GRID_LIMIT]), facts)


@contextlib.contextmanager
def without_remarks() -> Iterator[None]:
    """Without warnings about prompts, which were noted before."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PromptRemark)
        yield
