"""Quality and cost of a generator, as all claims measure them: distance over several seeds, calls, CPU seconds."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from arzoo import data as datasets
from arzoo import runtime
from arzoo.generator import Generator
from arzoo.metrics.cache import measure_once
from arzoo.metrics.drawn import DrawnPictures, drawn_like
from arzoo.metrics.evaluation import Options, evaluate_pictures
from arzoo.metrics.features import FeatureNet, feature_net
from arzoo.metrics.pictures import DataPictures
from arzoo.metrics.reference import Reference


class Calls:
    """Counts the calls of a function; stands in for it."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self.function, self.count = function, 0

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """The function's own answer."""
        self.count += 1
        return self.function(*args, **kwargs)


class Scorer:
    """Compares what models draw with the training pictures.

    Args:
        data: Name of the data set.
        num: Pictures a seed.
        seeds: Seeds; the error of a mean is the standard error over them.
    """

    def __init__(self, data: str, num: int, seeds: Sequence[int]) -> None:
        self.net: FeatureNet = feature_net()
        train = datasets.load(data).split("train")
        self.reference = Reference(f"{data} train", measure_once(DataPictures(train), self.net))
        self.asked, self.chosen = drawn_like(train.labels, num)
        self.seeds, self.protocol = list(seeds), {}

    def score(self, name: str, model: Generator) -> dict[str, Any]:
        """Distance, head calls a picture (both branches of guidance are one call), and CPU seconds a picture."""
        distances, seconds, calls = [], [], 0
        for seed in self.seeds:
            counted = [Calls(head.predict) for head in model.heads]
            for head, count in zip(model.heads, counted, strict=True):
                head.predict = count  # type: ignore[method-assign]
            pictures = DrawnPictures(name, model, self.asked, self.chosen, seed)
            drawing = _Timed(pictures)
            found = evaluate_pictures(pictures, self.reference, self.net, Options(("fd",), replicates=0))
            for head, count in zip(model.heads, counted, strict=True):
                head.predict = count.function  # type: ignore[method-assign]
            batches = drawing.batches
            calls = sum(count.count for count in counted) // batches
            seconds.append(drawing.seconds / len(pictures))
            distances.append(found.figures[f"fd_{self.net.name}"].value)
            self.protocol = found.protocol.to_dict()
        error = statistics.stdev(distances) / len(distances) ** 0.5 if len(distances) > 1 else None
        return {
            "fd": statistics.fmean(distances), "fd_error": error, "fd_of_seeds": distances,
            "head_calls": calls, "cpu_seconds": statistics.fmean(seconds),
        }  # fmt: skip


class _Timed:
    """Measures the CPU time of a set's `read`."""

    def __init__(self, pictures: DrawnPictures) -> None:
        self.seconds, self.batches, self._read = 0.0, 0, pictures.read
        pictures.read = self  # type: ignore[method-assign, assignment]

    def __call__(self, rows: Sequence[int]) -> Tensor:
        started = time.process_time()
        images = self._read(rows)
        self.seconds += time.process_time() - started
        self.batches += 1
        return images


def shown(row: dict[str, Any]) -> list[str]:
    """Cells of a table: distance, head calls, CPU seconds."""
    error = "" if row["fd_error"] is None else f" ± {row['fd_error']:.1f}"
    return [f"{row['fd']:.1f}{error}", str(row["head_calls"]), f"{row['cpu_seconds']:.3f}"]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write(out: Path, claim: str, command: str, scorer: Scorer, rows: dict[str, Any], text: str) -> None:
    """Keep everything as JSON beside the table."""
    out.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "claim": claim, "command": command, "n": len(scorer.asked), "seeds": scorer.seeds,
        "protocol": scorer.protocol, "versions": runtime.versions(), "hardware": runtime.hardware(), "rows": rows,
    }  # fmt: skip
    out.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n")
    out.with_suffix(".md").write_text(text + "\n")
