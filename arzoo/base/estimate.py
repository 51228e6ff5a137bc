"""Estimates of `--dry-run`: what a command would do, and the memory and time it needs, measured on one batch."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from arzoo.base.files import RECORD

PATIENCE = 3.0
"""Seconds after which a measurement stops; the rest is extrapolated."""


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
    """Return the estimate of a dry run as plain data.

    Args:
        config: Settings of the command, defaults resolved.
        folder: Folder to which files would be written.
        files: Names of the files in it.
        device: Device that would compute.
        parameters: Number of parameters of all networks; with 0, device and parameters are left out.
        memory: Bytes by purpose.
        seconds: Expected duration; None where nothing is measured.
        record: Whether the command would also write run.json.
        sizes: Sizes of the files in bytes, where they are known.
        **facts: Further entries.
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
    """Measure pieces of work for at most `PATIENCE` seconds and return the expected seconds of `total` pieces.

    Args:
        work: Does one piece each time it is advanced.
        total: Number of pieces; the remaining ones are assumed to cost as much as the measured ones.
    """
    started, count = time.perf_counter(), 0
    for count, _ in enumerate(work, 1):
        if count >= total or time.perf_counter() - started > PATIENCE:
            break
    return (time.perf_counter() - started) / max(count, 1) * total


def tensor_bytes(*objects: Any) -> int:
    """Return the bytes of all tensors that are reachable from some objects; shared memory counts once."""
    from torch import Tensor, nn

    seen: set[int] = set()
    todo, total = list(objects), 0
    while todo:
        value = todo.pop()
        if id(value) in seen or value is None:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            # Of a tensor that is split over processes, only this process's part counts.
            value = value.to_local() if hasattr(value, "to_local") else value
            storage = value.untyped_storage()
            total += 0 if storage.data_ptr() in seen else storage.nbytes()
            seen.add(storage.data_ptr())
        elif isinstance(value, nn.Module):
            todo += [*value.parameters(), *value.buffers()]
        elif isinstance(value, Mapping):
            todo += value.values()
        elif isinstance(value, (list, tuple)):
            todo += value
        elif hasattr(value, "__dict__") and not isinstance(value, type) and not callable(value):
            todo += vars(value).values()
    return total


def count(*modules: Any) -> int:
    """Count the parameters of modules."""
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def parameters_in_words(*modules: Any) -> str:
    """Return the number of parameters of modules as a text, such as "5.7M parameters"."""
    number = count(*modules)
    return f"{number / 1e6:.1f}M parameters" if number >= 1e5 else f"{number} parameters"
