"""`arzoo checkpoints`: list, verify, name, share and remove checkpoints."""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from arzoo.base import estimate
from arzoo.base.console import human_bytes, is_wide, note, table
from arzoo.base.errors import ArzooError, UsageError
from arzoo.cli import dryrun

if TYPE_CHECKING:
    from arzoo.checkpoints.store import Entry

_NEEDS = {"show": "NAME", "rm": "NAME [NAME ...]", "tag": "NAME NEW", "export": "NAME TARGET"}
_DISTANCES = ("fd", "rfd", "fid", "rfid", "fvd", "rfvd")
_COUNTS = {"show": (1, 1), "tag": (2, 2), "export": (2, 2), "rm": (1, sys.maxsize)}


@dataclass(kw_only=True)
class Checkpoints:
    """List, inspect, verify, name, share and remove checkpoints.

    A checkpoint is shipped (nar_emoji64), named by you (nar_tiny.best), a path (runs/mine, model.tar) or on the hub
    (hf-hub:org/name); every command takes all of these. Named ones live in ARZOO_HOME, or in the cache folder.
    """

    action: tyro.conf.Positional[Literal["ls", "show", "verify", "rm", "tag", "export"]] = "ls"
    """`ls [PATTERNS]` lists checkpoints; `show NAME` prints all facts about one; `verify [NAMES]` checks every byte, of
    all shipped ones by default; `rm NAMES` removes; `tag NAME NEW` keeps a copy under a name; `export NAME TARGET`
    writes a folder, a .tar, or to hf-hub:org/name."""
    names: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="NAMES")] = ()
    """Names for the action."""
    root: Annotated[tuple[str, ...], tyro.conf.arg(metavar="[FOLDER ...]")] = ()
    """Folders to search for runs and checkpoints; runs/ by default."""
    yes: bool = False
    """Remove without asking."""
    private: bool = False
    """Make a new repository on the hub private."""
    overwrite: bool = False
    """Replace an existing checkpoint or file of this name."""
    dry_run: bool = False
    """Verify and show what tag, export or rm would write or remove, with sizes; change nothing."""

    examples: ClassVar = (
        "arzoo checkpoints tag runs/mine nar_tiny.best",
        "arzoo checkpoints export nar_tiny.best nar_tiny.tar",
    )

    def run(self, arguments: list[str]) -> dict[str, Any]:
        """Do the action."""
        low, high = _COUNTS.get(self.action, (0, sys.maxsize))
        if not low <= len(self.names) <= high:
            raise UsageError(f"usage: arzoo checkpoints {self.action} {_NEEDS.get(self.action, '[NAMES]')}")
        action: Callable[[], dict[str, Any]] = getattr(self, f"_{self.action}")
        return action()

    def show(self, document: dict[str, Any]) -> None:
        """Print a table, the facts, or one line."""
        if self.action == "ls":
            head = ("name", "kind", "where", "parameters", "size", "distance", "made of", "measured")
            shown = len(head) if is_wide() else head.index("distance") + 1
            rows = [_row(facts)[:shown] for facts in document["checkpoints"]]
            print(table(rows, head[:shown]) if rows else "nothing matches")
        elif self.action == "show":
            from arzoo.base.config import yaml_text

            print(yaml_text(document), end="")
        elif self.action == "verify":
            print(table((name, state) for name, state in document.items()))
        else:
            print(document["done"])

    def _ls(self) -> dict[str, Any]:
        from arzoo.checkpoints.store import entries

        everything = entries(self.root)
        patterns = self.names or ("*",)
        chosen = [
            entry
            for entry in everything
            if any(fnmatch.fnmatchcase(entry.name, pattern) for pattern in patterns)
        ]
        return {"checkpoints": [_facts(entry, everything) for entry in chosen]}

    def _show(self) -> dict[str, Any]:
        from arzoo.checkpoints.store import entries, find

        entry = find(self.names[0])
        if entry.problem:
            raise ArzooError(entry.problem)
        return {**_facts(entry, entries(self.root)), "index": entry.index}

    def _verify(self) -> dict[str, Any]:
        from arzoo.checkpoints.index import is_sealed
        from arzoo.checkpoints.names import BUNDLED, folders
        from arzoo.checkpoints.store import verify

        states, problems = {}, []
        for name in self.names or [path.name for path in folders(BUNDLED)]:
            try:
                checkpoint = verify(name)
                count = len(checkpoint.parts)
                figures = "figures as written" if is_sealed(checkpoint.folder) else "figures without a seal"
                parts = f"{count} part{'s' if count > 1 else ''}"
                states[name] = f"whole: {parts}, every value as the index says; {figures}"
            except ArzooError as error:
                problems.append(str(error))
        if problems:
            raise ArzooError(
                "\n".join(dict.fromkeys(problems))
            )  # a tokenizer is verified with its generator too
        return states

    def _rm(self) -> dict[str, Any]:
        from arzoo.checkpoints.store import folder_bytes, removable, remove

        targets = [removable(name, self.root) for name in dict.fromkeys(self.names)]
        if self.dry_run:
            return dryrun.removal(
                self._config(), {str(folder): folder_bytes(folder) for folder, _ in targets}
            )
        for _, sentence in targets:
            note(f"to be removed: {sentence}")
        if not self.yes and not _is_confirmed():
            raise ArzooError("nothing was removed; give --yes to remove it")
        for folder, _ in targets:
            remove(folder)
        return {"done": f"removed {', '.join(map(str, (folder for folder, _ in targets)))}"}

    def _tag(self) -> dict[str, Any]:
        from arzoo.checkpoints.store import sizes, tag, tagged

        name, new = self.names
        if self.dry_run:
            return self._estimate(str(tagged(new, self.overwrite)), sizes(name, new))
        folder = tag(name, new, self.overwrite)
        return {"done": f"{new} is {name} as of now, in {folder}", "name": new, "folder": str(folder)}

    def _export(self) -> dict[str, Any]:
        from arzoo.checkpoints.archive import packed_bytes
        from arzoo.checkpoints.names import ARCHIVE, HUB
        from arzoo.checkpoints.store import export, exported, sizes

        name, target = self.names
        if target.startswith(HUB):
            return self._upload(name, target.removeprefix(HUB))
        if not self.dry_run:
            path = export(name, target, self.overwrite)
            return {"done": f"{name} is in {path}; load it from there by its path", "path": str(path)}
        path = exported(target, self.overwrite)
        if path.suffix != ARCHIVE:
            return self._estimate(target, sizes(name, path.name))
        return self._estimate(str(path.parent), {path.name: packed_bytes(sizes(name, path.stem).values())})

    def _upload(self, name: str, repository: str) -> dict[str, Any]:
        from arzoo.checkpoints.names import HUB, check_repository
        from arzoo.checkpoints.store import sizes

        full, _ = check_repository(repository)
        title = full.rpartition("/")[2]
        if self.dry_run:
            unchecked = "whether the hub lets you write there: it was not contacted"
            return self._estimate(f"{HUB}{repository}", sizes(name, title), not_checked=unchecked)
        address = _push(name, repository, title, self.private)
        return {"done": f"{name} is at {address}", "address": address}

    def _estimate(self, folder: str, sizes: dict[str, int], **facts: Any) -> dict[str, Any]:
        return estimate.document(self._config(), folder, list(sizes), record=False, sizes=sizes, **facts)

    def _config(self) -> dict[str, Any]:
        return {"action": self.action, "names": list(self.names), "overwrite": self.overwrite}


def _is_confirmed() -> bool:
    """Ask the user on the terminal; False without one."""
    if not sys.stdin.isatty():
        return False
    note("remove? [y/N]")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _push(name: str, repository: str, title: str, private: bool) -> str:
    import tempfile
    from pathlib import Path

    from arzoo.checkpoints.hub import push_folder
    from arzoo.checkpoints.store import copy

    with tempfile.TemporaryDirectory() as temporary:
        return push_folder(copy(name, Path(temporary) / title), repository, private=private)


def _facts(entry: Entry, everything: list[Entry]) -> dict[str, Any]:
    from arzoo.checkpoints.provenance import stale
    from arzoo.checkpoints.store import lineage

    metrics = entry.metrics
    doubts = {name: reason for name, figure in metrics.items() if (reason := stale(figure, entry.index))}
    return {
        "name": entry.name,
        "kind": entry.kind,
        "where": entry.source,
        "folder": str(entry.folder),
        "parameters": entry.parameters,
        "bytes": entry.bytes,
        "lineage": lineage(entry, everything),
        "metrics": metrics,
        **({"stale": doubts} if doubts else {}),
        **({"metrics_problem": entry.metrics_problem} if not entry.problem and entry.metrics_problem else {}),
        **({"problem": entry.problem} if entry.problem else {}),
        **({"unfinished": entry.progress} if entry.progress else {}),
    }


def _row(facts: dict[str, Any]) -> tuple[str, ...]:
    count = f"{facts['parameters'] / 1e6:.1f} M" if facts["parameters"] else ""
    size = human_bytes(facts["bytes"])
    ancestors = " -> ".join(facts["lineage"][:-1])
    valid = {name: value for name, value in facts["metrics"].items() if name not in facts.get("stale", {})}
    damaged = "damaged figures" if "metrics_problem" in facts else ""
    distance, figures = damaged or _distance(valid), damaged or _figures(valid)
    where = ", ".join(filter(None, [facts["where"], facts.get("unfinished")]))
    return facts["name"], facts["kind"], where, count, size, distance, ancestors, figures


def _distance(metrics: dict[str, Any]) -> str:
    """The first distance to real data, with its standard error; that of the default network has the shortest name."""
    for name, figure in metrics.items():
        kind = name.partition("@")[0]
        value = figure.get("value") if isinstance(figure, dict) else None
        if kind.partition("_")[0] in _DISTANCES and isinstance(value, (int, float)):
            error = f" ± {figure['error']:.2g}" if isinstance(figure.get("error"), float) else ""
            return f"{kind.removesuffix('_effnet_lite0')} {value:.4g}{error}"
    return ""


def _figures(metrics: dict[str, Any]) -> str:
    """The first two figures, in short."""
    values = {name: v.get("value") if isinstance(v, dict) else v for name, v in metrics.items()}
    texts = [f"{name} {value:.4g}" for name, value in values.items() if isinstance(value, (int, float))]
    return ", ".join(texts[:2]) + (" ..." if len(texts) > 2 else "")
