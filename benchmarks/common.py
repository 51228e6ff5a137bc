"""Helpers of the benchmarks: the lower bound from matrix products, and tables with one process per row.

The bound is the time of the matrix products of a run alone, with the fastest available kernel for each layer and number
of rows, and separate memory for the weights of every layer. No implementation in that precision can be faster here.
"""

from __future__ import annotations

import functools
import itertools
import json
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from arzoo.generation.kernels import Storage, bfloat_units
from arzoo.generation.packed import PackedLinear, pack

PRECISIONS: dict[str, Storage] = {"fp32": "fp32", "bf16": "bf16", "half": "fp16", "int8": "int8"}
"""Storage of weights in each precision; see arzoo.generation.kernels for `bf16` on CPUs without instructions for it."""


def seconds(function: Callable[[], Any]) -> float:
    """Wall seconds of one call."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


@contextmanager
def products(parts: Iterable[nn.Module]) -> Iterator[Counter[tuple[PackedLinear, int]]]:
    """Count all products by (packed layer, rows) inside the context."""
    counts: Counter[tuple[PackedLinear, int]] = Counter()

    def count(layer: PackedLinear, inputs: tuple[Tensor, ...]) -> None:
        counts[layer, inputs[0].numel() // layer.in_features] += 1

    layers = {m for part in parts for m in part.modules() if isinstance(m, PackedLinear)}
    hooks = [layer.register_forward_pre_hook(count) for layer in layers]
    yield counts
    for hook in hooks:
        hook.remove()


@torch.inference_mode()
def bound(counts: Counter[tuple[PackedLinear, int]], precision: str, repeat: int = 3) -> float:
    """Seconds of counted products."""
    total = 0.0
    for rows in {rows for _, rows in counts}:
        # With many rows arithmetic dominates, not reading weights: one layer of each shape is enough.
        kind = {m: (m.in_features, m.out_features) if rows > 64 else m for m, n in counts if n == rows}
        best = dict.fromkeys(kind.values(), float("inf"))
        layers = list({kind[layer]: layer for layer in kind}.values())
        for kernel in kernels(layers, rows, precision):
            for _ in range(repeat + 1):  # the first pass packs the weights
                for layer in layers:
                    spent = seconds(functools.partial(kernel, layer))
                    best[kind[layer]] = min(best[kind[layer]], spent)
        total += sum(counts[layer, rows] * best[kind[layer]] for layer in kind)
    return total


def kernels(layers: list[PackedLinear], rows: int, precision: str) -> Iterator[Callable[[PackedLinear], Any]]:
    """Functions that multiply by the weights of a packed layer."""
    x = {n: torch.randn(rows, n) for n in {layer.in_features for layer in layers}}
    yield lambda layer: layer(x[layer.in_features])
    if precision == "fp32" or (precision == "bf16" and bfloat_units()):
        dtype = torch.float32 if precision == "fp32" else torch.bfloat16
        weights = {m: torch.randn(m.out_features, m.in_features, dtype=dtype) for m in layers}
        inputs = {n: values.to(dtype) for n, values in x.items()}
        yield lambda layer: F.linear(inputs[layer.in_features], weights[layer])


def packed(parts: Iterable[nn.Module], precision: str, few: bool = False) -> list[nn.Module]:
    """Pack networks for sampling in a precision, of single tokens (`few`) or of many at once."""
    return [pack(part, PRECISIONS[precision], few) for part in parts]


class OtherCheckout:
    """Timed passes of another checkout, in a process that waits between them.

    Args:
        folder: The checkout.
        setup: Python code that defines `run()` and may import the other `benchmarks`.
    """

    def __init__(self, folder: Path, setup: str) -> None:
        code = (
            f"import sys, json; sys.path[:0] = [{str(folder)!r}, {str(folder / 'benchmarks')!r}]\n"
            f"import torch; torch.set_num_threads({torch.get_num_threads()})\n"
            f"from common import seconds\n{setup}\n"
            "print('ready', flush=True)\n"
            "for _ in sys.stdin: print(json.dumps(seconds(run)), flush=True)\n"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.process.stdout.readline()  # its preparations must not run beside what is timed here

    def __call__(self) -> float:
        """Seconds of one pass."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(json.loads(self.process.stdout.readline()))

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def table(
    doc: str | None,
    choices: dict[str, list[str]],
    measure: Callable[..., dict[str, Any]],
    options: Callable[[ArgumentParser], Any],
    free: Container[str] = (),
) -> None:
    """Run `measure(**choice, arguments=...)` for every combination of choices and of threads, and print the rows.

    Args:
        doc: Description of the benchmark.
        choices: Values of each argument; by default all are measured.
        measure: Function that returns one row.
        options: Function that adds further options to the parser.
        free: Arguments that also accept other values.
    """
    parser = ArgumentParser(description=doc, formatter_class=RawDescriptionHelpFormatter)
    for name, values in choices.items():
        allowed = None if name in free else values
        parser.add_argument(f"--{name.replace('_', '-')}", nargs="*", choices=allowed, default=values)
    parser.add_argument("--threads", nargs="*", type=int, default=[1, 2])
    options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args()
    combinations = itertools.product(arguments.threads, *(getattr(arguments, name) for name in choices))
    jobs = [(threads, dict(zip(choices, values, strict=True))) for threads, *values in combinations]
    if len(jobs) > 1:
        rows = [_apart(threads, choice, arguments) for threads, choice in jobs]
    else:
        torch.set_num_threads(jobs[0][0])
        rows = [{**jobs[0][1], "threads": jobs[0][0], **measure(**jobs[0][1], arguments=arguments)}]
        if not arguments.json:
            print("  ".join(f"{k} {v}" for k, v in rows[0].items()), flush=True)
    if arguments.json:
        print(json.dumps(rows, indent=2))


def _apart(threads: int, choice: dict[str, str], arguments: Namespace) -> dict[str, Any]:
    """Measure one row in a separate process, because packed weights depend on the number of threads."""
    command = [sys.executable, sys.argv[0], "--json", "--threads", str(threads)]
    for name, value in {**vars(arguments), **choice}.items():
        if name not in ("json", "threads") and value is not None:
            command += [f"--{name.replace('_', '-')}", str(value)]
    row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)[0]
    if not arguments.json:
        print("  ".join(f"{k} {v}" for k, v in row.items()), flush=True)
    return row
