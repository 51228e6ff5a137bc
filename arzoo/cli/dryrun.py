"""`--dry-run`: what a command would do, what it needs and how long it takes, measured on one batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from arzoo.cli.output import RECORD, table

PATIENCE = 3.0
"""Seconds after which a measurement stops and the rest is extrapolated."""
_SHOWN = 8


def plan(
    config: Mapping[str, Any],
    folder: str,
    files: Sequence[str],
    *,
    device: str = "cpu",
    parameters: int = 0,
    memory: Mapping[str, int] | None = None,
    seconds: float | None = None,
    record: bool = True,
    **facts: Any,
) -> dict[str, Any]:
    """The document of a dry run.

    Args:
        config: What was asked for, defaults resolved.
        folder: Where files would go.
        files: Their names in it.
        device: Where would be computed.
        parameters: Of everything loaded.
        memory: Bytes by what they are for.
        seconds: Expected duration, None where there is nothing to measure.
        record: Whether the verb would also write run.json.
        **facts: What else there is to say.
    """
    memory = dict(memory or {})
    return {
        "dry_run": True,
        "config": dict(config),
        "device": device,
        "parameters": parameters,
        **({"memory": {**memory, "total": sum(memory.values())}} if memory else {}),
        **({} if seconds is None else {"seconds": float(f"{seconds:.3g}")}),
        **facts,
        "folder": folder,
        "files": [*files, *([RECORD] if record else [])],
    }


def show(document: Mapping[str, Any]) -> None:
    """Print a document of `plan` for people."""
    from arzoo.config import yaml_text

    print(yaml_text({"config": document["config"]}))
    rows = [(key, value) for key, value in document.items() if not isinstance(value, (dict, list, tuple))]
    rows = [(key, value) for key, value in rows if key not in ("dry_run", "folder", "seconds")]
    rows += [(f"memory: {key}", human_bytes(value)) for key, value in document.get("memory", {}).items()]
    if "seconds" in document:
        rows.append(("expected time", human_seconds(document["seconds"])))
    print(table(rows))
    files, folder = document["files"], document["folder"]
    where = f" to {folder}:" if files else ""
    print(f"\n{len(files) or 'no'} file{'s' if len(files) != 1 else ''} would be written{where}")
    for name in files[:_SHOWN]:
        print(f"  {name}")
    if len(files) > _SHOWN:
        print(f"  ... and {len(files) - _SHOWN} more")
    print("nothing was written")


def measured(work: Iterable[Any], total: int) -> float:
    """Expected seconds of `total` pieces of work, of which as many are done as `PATIENCE` allows.

    Args:
        work: Does one piece each time it is advanced.
        total: Pieces in all; those that follow cost what the measured ones cost.
    """
    started, count = time.perf_counter(), 0
    for count, _ in enumerate(work, 1):
        if count >= total or time.perf_counter() - started > PATIENCE:
            break
    return (time.perf_counter() - started) / max(count, 1) * total


def in_batches(work: Callable[[Any], Any], items: Any, batch: int) -> tuple[Iterator[Any], int]:
    """`work` on each batch of a tensor or data set, for `measured`, and the number of batches."""
    count = -(-len(items) // batch)
    return (work(items[i * batch : (i + 1) * batch]) for i in range(count)), count


def tensor_bytes(*things: Any) -> int:
    """Bytes of memory behind all tensors reachable from some objects, counted once."""
    from torch import Tensor, nn

    seen: set[int] = set()
    todo, total = list(things), 0
    while todo:
        thing = todo.pop()
        if id(thing) in seen or thing is None:
            continue
        seen.add(id(thing))
        if isinstance(thing, Tensor):
            storage = thing.untyped_storage()
            total += 0 if storage.data_ptr() in seen else storage.nbytes()
            seen.add(storage.data_ptr())
        elif isinstance(thing, nn.Module):
            todo += [*thing.parameters(), *thing.buffers()]
        elif isinstance(thing, Mapping):
            todo += thing.values()
        elif isinstance(thing, (list, tuple)):
            todo += thing
        elif hasattr(thing, "__dict__") and not isinstance(thing, type) and not callable(thing):
            todo += vars(thing).values()
    return total


def count(*modules: Any) -> int:
    """Parameters of modules."""
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def human_bytes(number: float) -> str:
    """Bytes in the unit a person would choose."""
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"


def human_seconds(seconds: float) -> str:
    """A duration in the units a person would choose."""
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, hours = seconds / 60, seconds / 3600
    return f"{minutes:.0f} min" if minutes < 100 else f"{hours:.1f} h"
