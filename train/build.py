"""Trainings from recipes: the whole run, and its engine before the first step."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from rich.console import Console

from arzoo.base import files
from arzoo.base.lock import alone
from arzoo.checkpoints.runs import CHECKPOINT, RECIPE
from arzoo.train.engine import Engine
from arzoo.train.objective import Metrics
from arzoo.train.objectives import objective_of
from arzoo.train.recipe import Recipe
from arzoo.train.run import report, state
from arzoo.train.run.log import chosen_trackers
from arzoo.train.sizing import fitted


def run(
    recipe: Recipe,
    out: Path,
    max_steps: int | None = None,
    console: Console | None = None,
    resume: Path | None = None,
    command: str = "",
) -> dict[str, Any]:
    """Train, or continue the run in the folder.

    Args:
        recipe: The recipe.
        out: Folder of the run.
        max_steps: Stop after this step of the schedule.
        console: Console for messages; standard error by default.
        resume: A run or one of its states to begin with, unless the folder has a state of its own.
        command: The typed command, for the record.

    Returns:
        Completed steps, hours, figures, the checkpoint's folder, and remarks on the data.

    Raises:
        ArzooError: Another process trains in the folder, it holds another run, or the training fails.
    """
    recipe = fitted(recipe)
    start = state.find(resume) if resume else None
    engine = prepared(recipe, out, console or Console(stderr=True), start, command)
    objective = engine.objective
    with contextlib.ExitStack() as stack:
        if engine.accelerator.is_main_process:
            stack.enter_context(alone(out))
        engine.accelerator.wait_for_everyone()
        folder = engine.resume(start)
        if engine.accelerator.is_main_process:
            with files.explain_full_disk(RECIPE, out, "Make room; then the same command continues."):
                files.write_text(out / RECIPE, recipe.to_yaml())
        if folder is not None:
            engine.console.print(f"continuing {folder} after step {engine.step}", markup=False)
        facts = report.run_facts(
            objective.parts, recipe.run, recipe.optim, engine.accelerator.num_processes, out
        )
        summary = objective.summary()
        for key, value in (objective.data_facts | summary | facts).items():
            text = f"{len(value)} (see above)" if isinstance(value, list) else value
            engine.console.print(f"{key}: {text}", highlight=False, soft_wrap=True, markup=False)
        metrics: Metrics = engine.fit(max_steps)
    engine.accelerator.end_training()
    hours = round(engine.seconds / 3600, 4)
    result = {"steps": engine.step, "hours": hours, "metrics": metrics, "checkpoint": str(out / CHECKPOINT)}
    remarks = [
        *objective.data_facts.get("remarks", []),
        *([summary["captions"]] if summary.get("captions") else []),
    ]
    return result | {"remarks": remarks}


def prepared(
    recipe: Recipe, out: Path, console: Console, start: Path | None, command: str = "", encode: bool = True
) -> Engine:
    """Return the engine of a run before its first step; nothing is written in its folder.

    Args:
        recipe: The recipe.
        out: Folder of the run.
        console: Console for messages.
        start: State of another run to begin with.
        command: The typed command, for the record.
        encode: As in `objective_of`.

    Raises:
        ArzooError: The settings do not fit each other, the data or this machine.
    """
    chosen_trackers(recipe.run.trackers)  # refuses before any file is written
    objective = objective_of(recipe, encode)
    lineage = objective.lineage | ({"continues": str(start)} if start else {})
    record = {"recipe": recipe.to_dict(), "seed": recipe.run.seed, "lineage": lineage}
    if command:
        record = {"command": command, **record}
    return Engine(objective, recipe.run, recipe.optim, out, record, console)
