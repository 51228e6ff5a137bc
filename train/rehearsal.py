"""Dry run of a training: what it would do or refuse, and the memory and time it needs, measured on three of its steps.

Everything is checked as in the run, and three of its last steps are computed without writing anything. The last steps
are used because some parts are trained only later (the discriminator of a tokenizer).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rich.console import Console

from arzoo.base import estimate, lock
from arzoo.base.console import human_bytes
from arzoo.base.estimate import count, tensor_bytes
from arzoo.checkpoints.runs import CHECKPOINT, RECIPE, STATES, STEP
from arzoo.train.batches import AHEAD
from arzoo.train.build import prepared
from arzoo.train.engine import Engine
from arzoo.train.peak import Peak
from arzoo.train.recipe import Recipe
from arzoo.train.run import state
from arzoo.train.run.log import FILE, chosen_trackers
from arzoo.train.run.page import CURVES, PREVIEWS
from arzoo.train.run.page import FILE as PAGE
from arzoo.train.settings import RunConfig
from arzoo.train.sizing import fitted
from arzoo.viz.plots import can_plot


def rehearse(
    recipe: Recipe, out: Path, max_steps: int | None = None, resume: Path | None = None
) -> dict[str, Any]:
    """Estimate what `arzoo.train.build.run` would do with the same arguments.

    Returns:
        The estimate, see `arzoo.base.estimate.document`; folders among the files end with a slash.

    Raises:
        ArzooError: As `run` would raise before its first step.
    """
    lock.refuse_busy(out, "trains in")
    recipe = fitted(recipe)
    start = state.find(resume) if resume else None
    engine = prepared(recipe, out, Console(stderr=True), start, encode=False)
    folder = engine.resume(start)
    trackers = [f"{out.name}/"] if "tensorboard" in chosen_trackers(recipe.run.trackers) else []
    done, end, objective = engine.step, engine.end(max_steps), engine.objective
    objective_bytes = tensor_bytes(objective)  # before steps add tensors to it
    engine.step = max(done, end - 1)
    seconds, memory = _step_seconds(engine), _memory(engine, objective_bytes)
    facts = objective.data_facts | objective.summary()
    if not recipe.run.sharded:  # a process of a sharded run knows only its own part
        saved = memory["weights"] + memory["moments"] + memory["average"]
        facts["saved_states"] = f"about {human_bytes(saved)} each, the last {recipe.run.keep} stay"
    if objective.ahead:
        facts[objective.prepares] = "are not made yet; those of a few pictures stand in"
        facts[f"seconds_to_make_{objective.prepares}"] = float(f"{objective.ahead:.3g}")
    facts |= {
        "continues": str(folder) if folder else "nothing, it starts with the first step",
        "steps_done": done,
        "steps_left": max(end - done, 0),
        "seconds_a_step": float(f"{seconds:.3g}"),
        "not_counted": "time of previews, validation and saved states",
    }
    return estimate.document(
        recipe.to_dict(), str(out), _files(recipe.run, done, end, trackers), device=str(engine.accelerator.device),
        parameters=count(*engine.raw.values()), memory=memory,
        seconds=seconds * max(end - done, 0) + objective.ahead, **facts,
    )  # fmt: skip


def _step_seconds(engine: Engine) -> float:
    """Seconds of a second step; the first one is slower."""
    batches = engine.batches([engine.step] * 2)
    engine.train_step(batches, engine.compiled)
    started = time.perf_counter()
    engine.train_step(batches, engine.compiled)
    return time.perf_counter() - started


def _memory(engine: Engine, objective_bytes: int) -> dict[str, int]:
    """Bytes by purpose, including the peak of a step."""
    trained = [parameter for parameters in engine.trained.values() for parameter in parameters]
    for parameter in trained:
        parameter.grad = None
    batches = list(engine.batches([engine.step]))  # before the peak, which counts what this thread makes
    with Peak() as peak:
        engine.train_step(iter(batches), engine.wrapped)
    weights = tensor_bytes(*engine.raw.values())
    gradients = tensor_bytes([parameter.grad for parameter in trained])
    return {
        "weights": weights,
        "gradients": gradients,
        "moments": tensor_bytes([list(optimizer.state.values()) for optimizer in engine.optimizers.values()]),
        "average": tensor_bytes(list(engine.average.held())),
        "data and frozen networks": max(objective_bytes - weights, 0),
        "batches": (AHEAD + 1) * tensor_bytes(batches[0]),
        "activations (measured peak of a step)": max(peak.most - gradients, 0),
    }


def _files(run: RunConfig, done: int, end: int, trackers: list[str]) -> list[str]:
    """What would be in the folder after the last step."""
    saves = [step for step in range(done + 1, end + 1) if step % run.save_every == 0 or step == end]
    states = [f"{STATES}/{STEP}{step:07d}/" for step in saves[-run.keep :]]
    return [
        RECIPE,
        FILE,
        PAGE,
        *([CURVES] if can_plot() else []),
        f"{PREVIEWS}/",
        *states,
        *(["latest"] if states else []),
        f"{CHECKPOINT}/",
        *trackers,
    ]
