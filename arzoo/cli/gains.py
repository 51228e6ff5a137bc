"""The work of `arzoo search`: every picture that is not finished, then what search added to plain drawing."""

from __future__ import annotations

import dataclasses
import math
import statistics
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from arzoo.base import estimate
from arzoo.base.console import note, progress
from arzoo.base.errors import ArzooError
from arzoo.cli.earlier import stopped
from arzoo.cli.outcome import PICTURES, PLAIN, outcome
from arzoo.cli.output import Output, is_untouched, output_folder, refuse_occupied, remove
from arzoo.cli.pictures import read_picture
from arzoo.cli.record import SEARCH, Record
from arzoo.cli.searches import Searches
from arzoo.generation.effort import weights
from arzoo.generation.search import search_cost
from arzoo.samplers.search.budget import Counts
from arzoo.viz.grid import contact_sheet, legible_zoom
from arzoo.viz.settings import write_png

if TYPE_CHECKING:
    from arzoo.cli.search import Search

GRID = "grid.png"
MOST = 32
"""Most searches on the sheet that compares them with plain drawing."""
ROW = 8
"""Pictures in a row of it."""
LETTERS = 17
"""Letters that fit below a picture."""


def search(command: Search, arguments: list[str], seeds: list[int] | None) -> dict[str, Any]:
    """Search for every picture that is not finished, and write all files.

    Args:
        command: Options of the command.
        arguments: The command line after `arzoo`, for the record.
        seeds: Seeds of the pictures; by default they follow from the seed of the command.

    Returns:
        The document with scores and costs, or the prediction of a dry run.
    """
    task, folder, doing = Searches.of(command, seeds), command.folder, "searches into"
    record = Record(folder, task.settings)
    if not command.overwrite:
        if not (folder.is_dir() and ((folder / SEARCH).exists() or is_untouched(folder))):
            refuse_occupied(folder, False)
        record.read()
    with task.loaded.ready():
        way, verifier, members = task.verifiers.way(task.algorithm, task.subjects[0])
        judge = task.verifiers.judge.open(task.subjects[0])  # refused before anything is written
        if remark := task.verifiers.remark(members, judge):
            note(remark)
        cost = search_cost(task.loaded.drawing, way, verifier, task.cond(0), control=task.loaded.knobs)
        if command.dry_run:
            return prediction(task, cost)
        with output_folder(folder, command.overwrite, arguments, not command.overwrite, doing) as output:
            if command.overwrite:
                remove_search(record)
            entries = outcomes(task, record, output, cost)
            output.path(SEARCH)
            write_sheet(task, entries, output)
            output.facts |= {"config": task.settings, "gain": gain(entries)}
    results = [each | {"history": len(each["history"])} for each in entries]
    return {
        "folder": str(folder),
        "grid": str(folder / GRID),
        "files": [str(folder / name) for name in output.files],
        "pictures": results,
        **output.facts,
    }


def outcomes(task: Searches, record: Record, output: Output, cost: Counts) -> list[dict[str, Any]]:
    """Search for the pictures that are not finished, and return what is recorded of all.

    Raises:
        ArzooError: A search failed; those before it are kept.
        Interrupted: Ctrl-C was pressed; the same.
    """
    count, entries = task.command.count, list[dict[str, Any]]()
    calls = min(cost.network_calls, task.budget.network_calls or cost.network_calls)
    with progress("searching", "network calls") as tell:
        for i in range(count):
            entry = record.finished(task.identity(i))
            if entry is None:

                def watch(spent: Counts, before: int = i * calls) -> None:
                    tell(before + spent.network_calls, count * calls)

                try:
                    entry = outcome(task, i, output.folder, watch)
                except KeyboardInterrupt as stop:
                    raise stopped(i, count, output.folder) from stop
                except ArzooError as error:
                    raise ArzooError(
                        f"{error} {i} of {count} pictures are finished and kept in {output.folder}; the same command "
                        "goes on with the others."
                    ) from error
                record.add(entry)
            entries.append(entry)
            output.files |= dict.fromkeys(entry["files"])
    return entries


def remove_search(record: Record) -> None:
    """Remove the files of the search that a folder holds, which a killed command does not name in run.json."""
    try:
        _, pictures = record.stored()
    except ArzooError:
        return  # a damaged file names nothing; it is replaced
    remove(record.folder, [SEARCH, *(name for entry in pictures for name in entry["files"])])


def gain(entries: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Return the mean difference between the judge's scores of result and plain drawing, and its standard error."""
    pairs = [(each["results"][0]["judge"], each["plain"]["judge"]) for each in entries]
    differences = [best - plain for best, plain in pairs if best is not None and plain is not None]
    error = None
    if len(differences) > 1:
        error = statistics.stdev(differences) / math.sqrt(len(differences))
    return {"judge": statistics.fmean(differences) if differences else None, "error": error}


def write_sheet(task: Searches, entries: Sequence[dict[str, Any]], output: Output) -> None:
    """Write every picture that was drawn without search beside the one that search chose; first frames of clips."""
    size, tiles, captions = task.loaded.model.image_size, [], []
    for i, entry in enumerate(entries[:MOST]):
        title = textwrap.shorten(task.titles[i], LETTERS, placeholder="…")
        for what, one in (("plain", entry["plain"]), ("search", entry["results"][0])):
            tiles.append(read_picture(str(output.folder / one["file"]), *size))
            score = "" if one["judge"] is None else f" {one['judge']:.3f}"
            captions.append(f"{title if what == 'plain' else ''}\n{what}{score}")
    sheet = contact_sheet(torch.stack(tiles), columns=ROW, zoom=legible_zoom(size[1]), captions=captions)
    write_png(output.path(GRID), sheet, {**task.settings, "titles": task.titles[:MOST]})


def prediction(task: Searches, cost: Counts) -> dict[str, Any]:
    """Return what a dry run shows: settings, files, and the most that all searches spend without a budget."""
    count = task.command.count
    counts = {name: value * count for name, value in dataclasses.asdict(cost).items() if name != "seconds"}
    limit = task.budget.exceeded(cost)
    files = [f"{place}/{task.name(i)}" for i in range(count) for place in (PICTURES, PLAIN)]
    files += [task.tree(i) for i in range(count) if task.command.tree]
    return estimate.document(
        task.settings, str(task.command.folder), [*files, SEARCH, GRID], device=str(task.loaded.model.device),
        parameters=estimate.count(*weights(task.loaded.drawing)), pictures=count, **counts,
        budget_ends_it=limit or "no", not_counted="seconds, the pictures without search, the judge",
    )  # fmt: skip
