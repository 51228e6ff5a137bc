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


def removal(config: Mapping[str, Any], sizes: Mapping[str, int]) -> dict[str, Any]:
    """The document of a dry run that would remove folders: what was asked for, and the bytes of each."""
    facts = {"removed": list(sizes), "sizes": dict(sizes), "bytes": sum(sizes.values())}
    return {"dry_run": True, "config": dict(config), **facts}


def show(document: Mapping[str, Any]) -> None:
    """Print a document of `plan` for people."""
    from arzoo.base.config import yaml_text

    print(yaml_text({"config": document["config"]}))
    rows = [(key, value) for key, value in document.items() if not isinstance(value, (dict, list, tuple))]
    rows = [(key, value) for key, value in rows if key not in ("dry_run", "folder", "seconds", "bytes")]
    rows += [(f"memory: {key}", human_bytes(value)) for key, value in document.get("memory", {}).items()]
    if "seconds" in document:
        rows.append(("expected time", human_seconds(document["seconds"])))
    if "bytes" in document:
        rows.append(("on disk", human_bytes(document["bytes"])))
    print(table(rows))
    if "removed" in document:
        _list(document["removed"], "folder", "removed", document)
        print("nothing was removed")
    else:
        where = f" to {document['folder']}" if document["files"] else ""
        _list(document["files"], "file", f"written{where}", document)
        print("nothing was written")


def _list(names: Sequence[str], what: str, done: str, document: Mapping[str, Any]) -> None:
    """The first of some names, with sizes where they are known."""
    sizes = document.get("sizes", {})
    end = ":" if names else ""
    print(f"\n{len(names) or 'no'} {what}{'s' if len(names) != 1 else ''} would be {done}{end}")
    for name in names[:_SHOWN]:
        print(f"  {name}" + (f" ({human_bytes(sizes[name])})" if name in sizes else ""))
    if len(names) > _SHOWN:
        print(f"  ... and {len(names) - _SHOWN} more")


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
