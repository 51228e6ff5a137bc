"""One search of `arzoo search`: search, draw without search, score both, and write the files of the picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from arzoo.cli.trees import tree
from arzoo.samplers.search.best_of_n import BestOfN
from arzoo.samplers.verifiers.base import Candidates, scores_of
from arzoo.viz.clips import write_clip
from arzoo.viz.settings import write_png

if TYPE_CHECKING:
    from arzoo.cli.searches import Searches
    from arzoo.samplers.search.budget import Counts
    from arzoo.samplers.search.result import Comparison, Result
    from arzoo.samplers.verifiers.base import Verifier

PICTURES, PLAIN = "pictures", "plain"
"""Folders of results, and of pictures drawn without search."""


def outcome(task: Searches, i: int, folder: Path, tell: Callable[[Counts], None]) -> dict[str, Any]:
    """Search for picture i, write its files, and return what is recorded of it.

    Args:
        task: All searches.
        i: Number of the picture.
        folder: The output folder.
        tell: Called with what was spent so far.

    Raises:
        ArzooError: As `Generator.search`.
    """
    way, verifier, members = task.verifiers.way(task.algorithm, task.subjects[i])
    judge = task.verifiers.judge.open(task.subjects[i])
    model, knobs = task.loaded.drawing, task.loaded.knobs
    cond, seeds = task.cond(i), task.seeds[i : i + 1]
    result = model.search(
        way, verifier, cond=cond, control=knobs, budget=task.budget, seeds=seeds, progress=tell
    )
    plain = model.search(BestOfN(1), verifier, cond=cond, control=knobs, seeds=seeds)
    name, facts = Path(task.name(i)), task.about(i)
    files = [
        f"{PICTURES}/{name.stem}{f'_{rank}' if rank > 1 else ''}{name.suffix}"
        for rank in range(1, len(result.scores) + 1)
    ]
    for row, file in enumerate(files):
        write(folder / file, result, row, facts, model.fps)
    write(folder / PLAIN / name, plain, 0, task.command.without_search(facts), model.fps)
    trees = [task.tree(i)] if task.command.tree else []
    for file in trees:
        title = f"{task.titles[i]}: {task.settings['method']} by {', '.join(task.settings['verifier'])}"
        (folder / file).parent.mkdir(exist_ok=True)
        write_png(folder / file, tree(task.loaded.model, result.history, title), facts)
    scores = [scored(each, members, judge) for each in (result, plain)]
    return {
        **task.identity(i),
        "files": [*files, f"{PLAIN}/{name}", *trees],
        "results": [{"file": file, **of} for file, of in zip(files, scores[0], strict=True)],
        "plain": {"file": f"{PLAIN}/{name}", **scores[1][0]},
        "spent": asdict(result.spent),
        "seconds": {**result.parts, "search": result.spent.seconds - sum(result.parts.values())},
        "stopped": result.stopped,
        **({} if result.reached is None else {"reached": result.reached}),
        "history": history(result.history),
    }


def write(path: Path, drawn: Result, row: int, facts: dict[str, Any], fps: float) -> None:
    """Write a picture or clip of a search."""
    assert drawn.pictures is not None
    path.parent.mkdir(exist_ok=True)
    clip = drawn.pictures[row].cpu().numpy()
    if len(clip) > 1:
        write_clip(path, clip, fps, facts)
    else:
        write_png(path, clip[0], facts)


def scored(drawn: Result, members: Mapping[str, Verifier], judge: Verifier) -> list[dict[str, Any]]:
    """Return the scores of every result: of each verifier that steers, and of the judge.

    A verifier that looks at no pictures has no score in an ensemble, as it knows the search's own candidates only.
    """
    known = int(drawn.tokens.known[0].sum())
    new = int((drawn.tokens.known & ~drawn.tokens.given)[0].sum())
    seen = Candidates(drawn.tokens, drawn.pictures, None, None, known, new)
    columns = {}
    for name, member in members.items():
        if member.pictures:
            columns[name] = numbers(scores_of(member, seen))
        elif len(members) == 1:
            columns[name] = numbers(drawn.scores)
    return [
        {"verifier": {name: column[row] for name, column in columns.items()}, "judge": score}
        for row, score in enumerate(numbers(scores_of(judge, seen)))
    ]


def history(comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Return the comparisons of a search as plain data."""
    return [
        {
            "steps": each.steps,
            "candidates": len(each.scores),
            "parents": each.parents.tolist(),
            "scores": numbers(each.scores),
            "log_probs": None if each.log_probs is None else numbers(each.log_probs),
            "kept": each.kept.tolist(),
            **({} if each.weights is None else {"weights": numbers(each.weights)}),
        }
        for each in comparisons
    ]


def numbers(values: torch.Tensor) -> list[float | None]:
    """Return numbers, with None for infinite ones, which JSON does not have."""
    return [value if math.isfinite(value) else None for value in values.tolist()]
