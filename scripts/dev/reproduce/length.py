"""Claim: Mamba costs the same per token however long a picture is, and attention more and more.

    nice python scripts/dev/reproduce/length.py
    python scripts/dev/reproduce/length.py --length 256 4096 --rounds 5 --width 256 --depth 8

Runs `benchmarks/length.py` for a transformer and stacks of Mamba-1 and Mamba-2 with about as many parameters, on one
thread, each length of each network in a process of its own. A round measures all of them in turn, so that other work on
the machine meets all alike; errors are over rounds. Time is CPU time.
"""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

import claim
from scorer import over_seeds

from arzoo.base import runtime
from arzoo.viz.plots import Band, plot_bands

BENCHMARK = Path(__file__).resolve().parents[3] / "benchmarks" / "length.py"
MODELS = ("attention", "mamba1", "mamba2")
FIGURES = {
    "training, CPU ms / token": 3, "training, KiB / token": 1, "drawing, CPU ms / token": 2, "state, MiB": 2,
}  # fmt: skip
"""Figures and their digits."""


def measured(model: str, length: int, arguments: Namespace) -> dict[str, Any]:
    """Return a row of the benchmark."""
    settings = {
        "model": model, "length": length, "threads": 1, "width": arguments.width, "depth": arguments.depth,
        "repeat": arguments.repeat, "tokens": arguments.tokens,
    }  # fmt: skip
    given = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), *given, "--json"], check=True, stdout=subprocess.PIPE, text=True
    )
    (row,) = json.loads(done.stdout)
    return dict(row)


def figures(row: dict[str, Any], length: int) -> dict[str, float]:
    """Return the figures of a row, those of training per token."""
    values = (
        1e3 * row["training_cpu_seconds"] / length, 2**10 * row["training_peak_mib"] / length, row["token_cpu_ms"],
        row["state_mib"],
    )  # fmt: skip
    return dict(zip(FIGURES, values, strict=True))


def options() -> ArgumentParser:
    """Options of the claim."""
    known = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    lengths = [256, 1024, 4096, 16384]
    known.add_argument(
        "--length", type=int, nargs="+", default=lengths, help="tokens (default: 256 to 16384)"
    )
    known.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    known.add_argument("--repeat", type=int, default=1, help="timed passes per round (default: %(default)s)")
    known.add_argument("--tokens", type=int, default=33, help="drawn tokens (default: %(default)s)")
    known.add_argument("--width", type=int, default=128, help="of all networks (default: %(default)s)")
    known.add_argument("--depth", type=int, default=4, help="of the transformer (default: %(default)s)")
    return known


def main() -> None:
    """Measure, write and plot."""
    arguments = options().parse_args()
    runtime.set_threads(1)  # which the record of the hardware says
    rounds: dict[tuple[int, str], list[dict[str, float]]] = {}
    parameters = {}
    for _ in range(arguments.rounds):
        for length in arguments.length:
            for model in MODELS:
                row = measured(model, length, arguments)
                parameters[model] = row["parameters"]
                rounds.setdefault((length, model), []).append(figures(row, length))
                print(f"{length} tokens, {model}: {rounds[length, model][-1]}", flush=True)
    rows = {
        (length, model): {name: over_seeds([each[name] for each in some]) for name in FIGURES}
        for (length, model), some in rounds.items()
    }
    cells = [
        [str(length), model, *(claim.with_error(*row[name], digits) for name, digits in FIGURES.items())]
        for (length, model), row in rows.items()
    ]
    claim.write(
        "length", "Cost over length, Mamba against attention", ["tokens", "network", *FIGURES], cells,
        {f"{model}, {length}": row for (length, model), row in rows.items()}, pictures=arguments.rounds, seeds=[],
        protocol={"parameters": parameters, "batch": 1, "precision": "fp32", "threads": 1, "drawn": arguments.tokens,
                  "width": arguments.width, "depth": arguments.depth},
        noun="rounds",
    )  # fmt: skip
    bands = {
        name: {
            model: Band(
                arguments.length, *zip(*(rows[n, model][name] for n in arguments.length), strict=True)
            )
            for model in MODELS
        }
        for name in FIGURES
    }
    plot_bands(bands, claim.CLAIMS / "length.png", "tokens")


if __name__ == "__main__":
    main()
