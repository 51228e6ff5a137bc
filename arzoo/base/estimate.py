"""`--dry-run`: what a command would do, what it needs and how long it takes, measured on one batch."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from arzoo.base.files import RECORD

PATIENCE = 3.0
"""Seconds after which a measurement stops and the rest is extrapolated."""


def document(
    config: Mapping[str, Any],
    folder: str,
    files: Sequence[str],
    *,
    device: str = "cpu",
    parameters: int = 0,
    memory: Mapping[str, int] | None = None,
    seconds: float | None = None,
    record: bool = True,
    sizes: Mapping[str, int] | None = None,
    **facts: Any,
) -> dict[str, Any]:
    """The document of a dry run.

    Args:
        config: What was asked for, defaults resolved.
        folder: Where files would go.
        files: Their names in it.
        device: Where would be computed.
        parameters: Of everything loaded; nothing is computed without any.
        memory: Bytes by what they are for.
        seconds: Expected duration, None where there is nothing to measure.
        record: Whether the verb would also write run.json.
        sizes: Bytes of the files, where they are known.
        **facts: What else there is to say.
    """
    memory = dict(memory or {})
    return {
        "dry_run": True,
        "config": dict(config),
        **({"device": device, "parameters": parameters} if parameters else {}),
        **({"memory": {**memory, "total": sum(memory.values())}} if memory else {}),
        **({} if seconds is None else {"seconds": float(f"{seconds:.3g}")}),
        **facts,
        "folder": folder,
        "files": [*files, *([RECORD] if record else [])],
        **({"sizes": dict(sizes), "bytes": sum(sizes.values())} if sizes else {}),
    }


def expected_seconds(work: Iterable[Any], total: int) -> float:
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
            # Of a tensor that is split over processes, this one's part counts.
            thing = thing.to_local() if hasattr(thing, "to_local") else thing
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
