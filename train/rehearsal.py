"""A rehearsal of a run: what it would do, what it would refuse, and what it needs, measured on a few of its steps.

Everything is checked as the run checks it, and its own steps are taken, in memory: nothing is written. Steps are spread
over those that are left, since parts may come in late (the discriminator of a tokenizer). Their learning rate is next
to nothing, as steps out of order at full rate could spoil the weights and with them the measurement.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from rich.console import Console

from arzoo.base import lock
from arzoo.base.console import human_bytes
from arzoo.base.estimate import PATIENCE, count, tensor_bytes
from arzoo.train.build import prepared
from arzoo.train.engine import Engine
from arzoo.train.peak import Peak
from arzoo.train.recipe import Recipe
from arzoo.train.run import state
from arzoo.train.run.log import FILE, chosen_trackers
from arzoo.train.settings import RunConfig

_LATE, _SHARES = 0.9, (0.5, 0.1, 0.9, 0.3, 0.7)
"""Where in the schedule the untimed steps are taken, and the timed ones until patience ends."""
_NO_RATE = 1e-30


@dataclass(frozen=True)
class Rehearsal:
    """What a run would do.

    Attributes:
        device: Where.
        parameters: Of everything that is trained.
        memory: Bytes of a process by what they are for.
        seconds: Expected time of the steps that are left, and of preparing what is not there yet.
        files: What would be written; folders end with a slash.
        facts: What else there is to say.
    """

    device: str
    parameters: int
    memory: dict[str, int]
    seconds: float
    files: list[str]
    facts: dict[str, Any]


def rehearse(
    recipe: Recipe, out: Path, max_steps: int | None = None, resume: Path | None = None
) -> Rehearsal:
    """Find out what `arzoo.train.build.run` would do with these arguments.

    Raises:
        ArzooError: What that would raise before its first step.
    """
    lock.refuse_busy(out, "trains in")
    start = state.find(resume) if resume else None
    engine = prepared(recipe, out, Console(stderr=True), start, encode=False)
    folder = engine.resume(start)
    trackers = chosen_trackers(recipe.run.trackers)
    done, end = engine.step, engine.end(max_steps)
    objective = engine.objective
    beside = tensor_bytes(objective)  # before steps leave something there
    seconds, timed, loss = _timed(engine, done, end)
    memory = _memory(engine, _place(_LATE, done, end), beside)
    facts = objective.found | objective.summary()
    if not recipe.run.sharded:  # else a process knows its part only
        saved = memory["weights"] + memory["moments"] + memory["average"]
        facts["saved_states"] = f"about {human_bytes(saved)} each, the last {recipe.run.keep} stay"
    if objective.ahead:
        facts["codes"] = "are not made yet, those of a few pictures stand in"
        facts["seconds_to_make_codes"] = float(f"{objective.ahead:.3g}")
    facts |= {
        "continues": str(folder) if folder else "nothing, it starts with the first step",
        "steps_done": done,
        "steps_left": max(end - done, 0),
        "seconds_a_step": float(f"{seconds:.3g}"),
        "measured": f"{timed} step{'s' if timed > 1 else ''} spread over the schedule, behind an untimed one",
        "loss_of_one_batch": round(loss, 4),
        "not_counted": "time of previews, validation and saved states",
    }
    return Rehearsal(
        device=str(engine.accelerator.device),
        parameters=count(*engine.raw.values()),
        memory=memory,
        seconds=seconds * max(end - done, 0) + objective.ahead,
        files=_files(recipe.run, done, end, [f"{out.name}/"] if "tensorboard" in trackers else []),
        facts=facts,
    )


def _place(share: float, done: int, end: int) -> int:
    """A step in the stretch that is left."""
    return done + int(share * max(end - done, 0))


def _timed(engine: Engine, done: int, end: int) -> tuple[float, int, float]:
    """Seconds of a step, mean of some; how many those were; and the loss of the last one."""
    engine.optim = replace(engine.optim, lr=_NO_RATE)
    steps = [_place(share, done, end) for share in (_LATE, *_SHARES)]
    batches = engine.batches(steps)
    timed = count = 0
    spent = 0.0
    for count, engine.step in enumerate(steps):
        started = time.perf_counter()
        line = engine.train_step(batches, engine.compiled)
        if not count:
            continue
        spent += time.perf_counter() - started
        timed = count
        if _agreed(engine, spent) > PATIENCE:
            break
    return spent / timed, timed, float(line["loss"])


def _agreed(engine: Engine, seconds: float) -> float:
    """What the first process measured: all must take the same steps."""
    told = [seconds]
    if engine.accelerator.num_processes > 1:
        broadcast_object_list(told)
    return told[0]


def _memory(engine: Engine, step: int, beside: int) -> dict[str, int]:
    """Bytes by what they are for, after the first steps; one more is taken to see how high it reaches."""
    trained = [parameter for parameters in engine.trained.values() for parameter in parameters]
    for parameter in trained:
        parameter.grad = None
    engine.step = step
    batches = engine.batches([step])
    with Peak() as peak:
        engine.train_step(batches, engine.wrapped)
    weights = tensor_bytes(*engine.raw.values())
    gradients = tensor_bytes([parameter.grad for parameter in trained])
    return {
        "weights": weights,
        "gradients": gradients,
        "moments": tensor_bytes([list(optimizer.state.values()) for optimizer in engine.optimizers.values()]),
        "average": tensor_bytes(list(engine.average.held())),
        "data and frozen networks": max(beside - weights, 0),
        "activations (measured peak of a step)": max(peak.most - gradients, 0),
    }


def _files(run: RunConfig, done: int, end: int, trackers: list[str]) -> list[str]:
    """What would be in the folder behind the last step."""
    saves = [step for step in range(done + 1, end + 1) if step % run.save_every == 0 or step == end]
    states = [f"state/step_{step:07d}/" for step in saves[-run.keep :]]
    return [
        "recipe.yaml",
        FILE,
        "previews/",
        *states,
        *(["latest"] if states else []),
        "checkpoint/",
        *trackers,
    ]
