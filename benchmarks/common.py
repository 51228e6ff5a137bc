"""What the benchmarks of sampling share: the bound of a run's matrix products, and one process a row of the table.

The bound is the time of all matrix products of a run alone, with the fastest of the available kernels for each layer
and number of rows, and every layer's weights in its own memory: what no implementation in that precision can beat here.
"""

from __future__ import annotations

import functools
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
"""How each precision keeps its weights; see arzoo.generation.kernels for what `bf16` does without units for it."""


def seconds(function: Callable[[], Any]) -> float:
    """Wall seconds of one call."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


@contextmanager
def products(parts: Iterable[nn.Module]) -> Iterator[Counter[tuple[PackedLinear, int]]]:
    """Counts (packed layer, rows) of all products while it is open."""
    found: Counter[tuple[PackedLinear, int]] = Counter()

    def count(layer: PackedLinear, inputs: tuple[Tensor, ...]) -> None:
        found[layer, inputs[0].numel() // layer.in_features] += 1

    layers = {m for part in parts for m in part.modules() if isinstance(m, PackedLinear)}
    hooks = [layer.register_forward_pre_hook(count) for layer in layers]
    yield found
    for hook in hooks:
        hook.remove()


@torch.inference_mode()
def bound(found: Counter[tuple[PackedLinear, int]], precision: str, repeat: int = 3) -> float:
    """Seconds of counted products."""
    total = 0.0
    for rows in {rows for _, rows in found}:
        # Many rows wait for arithmetic, not for weights: one layer of each shape says it all.
        kind = {m: (m.in_features, m.out_features) if rows > 64 else m for m, many in found if many == rows}
        best = dict.fromkeys(kind.values(), float("inf"))
        layers = list({kind[layer]: layer for layer in kind}.values())
        for kernel in kernels(layers, rows, precision):
            for _ in range(repeat + 1):  # the first time lays weights out
                for layer in layers:
                    spent = seconds(functools.partial(kernel, layer))
                    best[kind[layer]] = min(best[kind[layer]], spent)
        total += sum(found[layer, rows] * best[kind[layer]] for layer in kind)
    return total


def kernels(layers: list[PackedLinear], rows: int, precision: str) -> Iterator[Callable[[PackedLinear], Any]]:
    """Ways to multiply by the weights of packed layers, each by weights of its own."""
    x = {n: torch.randn(rows, n) for n in {layer.in_features for layer in layers}}
    yield lambda layer: layer(x[layer.in_features])
    if precision == "fp32" or (precision == "bf16" and bfloat_units()):
        kind = torch.float32 if precision == "fp32" else torch.bfloat16
        plain = {m: torch.randn(m.out_features, m.in_features, dtype=kind) for m in layers}
        low = {n: values.to(kind) for n, values in x.items()}
        yield lambda layer: F.linear(low[layer.in_features], plain[layer])


def packed(parts: Iterable[nn.Module], precision: str, few: bool = False) -> list[nn.Module]:
    """Networks prepared for sampling in a precision, of tokens one by one (`few`) or of many at once."""
    return [pack(part, PRECISIONS[precision], few) for part in parts]


class Other:
    """Passes of another checkout, in a process that waits for its turn.

    Args:
        folder: The checkout.
        setup: Python lines that define `run()`; its `benchmarks` can be imported.
    """

    def __init__(self, folder: Path, setup: str) -> None:
        code = (
            f"import sys, json; sys.path[:0] = [{str(folder)!r}, {str(folder / 'benchmarks')!r}]\n"
            f"import torch; torch.set_num_threads({torch.get_num_threads()})\n"
            f"from common import seconds\n{setup}\n"
            "for _ in sys.stdin: print(json.dumps(seconds(run)), flush=True)\n"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self) -> float:
        """Seconds of one pass."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(json.loads(self.process.stdout.readline()))

    def close(self) -> None:
        """Let the process end."""
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
        doc: The description.
        choices: Values of each argument; all by default.
        measure: Makes one row.
        options: Adds further arguments, which are handed on.
        free: Arguments that also take other values than those named.
    """
    parser = ArgumentParser(description=doc, formatter_class=RawDescriptionHelpFormatter)
    for name, values in choices.items():
        allowed = None if name in free else values
        parser.add_argument(f"--{name.replace('_', '-')}", nargs="*", choices=allowed, default=values)
    parser.add_argument("--threads", nargs="*", type=int, default=[1, 2])
    options(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    arguments = parser.parse_args()
    combinations: list[dict[str, str]] = [{}]
    for name in reversed(choices):
        combinations = [{name: v, **rest} for v in getattr(arguments, name) for rest in combinations]
    jobs = [(threads, choice) for threads in arguments.threads for choice in combinations]
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
    """One row from a process of its own, in which nothing else has been laid out for other threads."""
    command = [sys.executable, sys.argv[0], "--json", "--threads", str(threads)]
    for name, value in {**vars(arguments), **choice}.items():
        if name not in ("json", "threads") and value is not None:
            command += [f"--{name.replace('_', '-')}", str(value)]
    row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)[0]
    if not arguments.json:
        print("  ".join(f"{k} {v}" for k, v in row.items()), flush=True)
    return row
