"""Output of `--dry-run`: an estimate as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from arzoo.base.config import yaml_text
from arzoo.base.console import human_bytes, human_seconds, table

_SHOWN = 8


def removal(config: Mapping[str, Any], sizes: Mapping[str, int]) -> dict[str, Any]:
    """Return the estimate of a command that would remove folders, with the bytes of each."""
    facts = {"removed": list(sizes), "sizes": dict(sizes), "bytes": sum(sizes.values())}
    return {"dry_run": True, "config": dict(config), **facts}


def show(document: Mapping[str, Any]) -> None:
    """Print an estimate of `arzoo.base.estimate.document` as text."""
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
    """Print the first names, with sizes where they are known."""
    sizes = document.get("sizes", {})
    end = ":" if names else ""
    print(f"\n{len(names) or 'no'} {what}{'s' if len(names) != 1 else ''} would be {done}{end}")
    for name in names[:_SHOWN]:
        print(f"  {name}" + (f" ({human_bytes(sizes[name])})" if name in sizes else ""))
    if len(names) > _SHOWN:
        print(f"  ... and {len(names) - _SHOWN} more")
