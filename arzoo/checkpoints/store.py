"""The checkpoint registry: shipped, named, trained and downloaded checkpoints under one naming, with their lineage.

    nar_emoji64           shipped, in the package
    nar_tiny.best         named by this user, a copy in `arzoo.base.runtime.store_folder()`
    runs/mine             a training run, or any checkpoint folder
    hf-hub:org/name       on the hub; listed when it is in the hub's cache

Imports no torch until weights are read.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arzoo.base.console import human_bytes
from arzoo.base.errors import ArzooError, UsageError
from arzoo.base.files import atomic_folder, refuse_existing, refuse_full
from arzoo.base.lock import refuse_busy
from arzoo.base.paths import expanded
from arzoo.base.runtime import explain_cache, store_folder
from arzoo.base.walk import tree
from arzoo.checkpoints import names
from arzoo.checkpoints.index import INDEX, METRICS, PICTURE, data_of, read_index, read_metrics
from arzoo.checkpoints.names import ARCHIVE, HUB, folders, is_name, resolve
from arzoo.checkpoints.runs import CHECKPOINT, RECIPE, is_state, newest, progress_of, run_of

if TYPE_CHECKING:
    from arzoo.checkpoints.folder import Checkpoint

RUNS = Path("runs")
"""Folder where training writes by default, and where `entries` searches by default."""


@dataclass(frozen=True)
class Entry:
    """One checkpoint, or a training run that has none yet.

    Attributes:
        name: Name that every command accepts.
        source: "shipped", "named", "run", "folder" or "hub".
        folder: Its folder.
        index: Content of its index, empty when it cannot be read.
        problem: Why the index cannot be read, empty if it can.
    """

    name: str
    source: str
    folder: Path
    index: dict[str, Any]
    problem: str = ""

    @property
    def kind(self) -> str:
        """Either "tokenizer" or "generator"; "unfinished" without a checkpoint, "damaged" without a readable one."""
        if self.problem:
            return "damaged"
        return str(self.index.get("kind", "unfinished"))

    @property
    def parameters(self) -> int:
        """Number of parameters of all parts."""
        return sum(part["parameters"] for part in self.index.get("parts", {}).values())

    @property
    def bytes(self) -> int:
        """Size on disk."""
        return folder_bytes(self.folder)

    @property
    def metrics(self) -> dict[str, Any]:
        """Its figures, empty if they cannot be read."""
        try:
            return read_metrics(self.folder)
        except ArzooError:
            return {}

    @property
    def metrics_problem(self) -> str:
        """Why its figures cannot be read or trusted, empty if they can."""
        try:
            read_metrics(self.folder)
        except ArzooError as error:
            return str(error)
        return ""

    @property
    def progress(self) -> str:
        """How far a training had come whose newest checkpoint is that of a saved state; empty for all others."""
        return progress_of(self.index) if is_state(self.folder) else ""

    @property
    def data(self) -> str:
        """Training data recorded in the index, with the first digits of their hash."""
        name, digest = data_of(self.index)
        return f"{name} ({digest[:8]})" if name and digest else name


def folder_bytes(folder: Path) -> int:
    """Return the size of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def entries(roots: Sequence[str | Path] = ()) -> list[Entry]:
    """List all known checkpoints and training runs.

    Args:
        roots: Folders to search, at any depth, besides the shipped and named checkpoints; `RUNS` by default.
    """
    known = [_entry(path.name, "shipped", path) for path in folders(names.BUNDLED)]
    known += [_entry(path.name, "named", path) for path in folders(store_folder())]
    for root in map(Path, roots or [RUNS]):
        if roots and not root.is_dir():
            raise ArzooError(f"there is no folder {root} to look through")
        runs = [path.parent for path in tree(root).files if path.name == RECIPE]
        known += [
            _local(path) for path in folders(root) if path.parent not in runs or path.name != CHECKPOINT
        ]
        known += [_run(run) for run in runs]
    by_folder = {entry.folder.resolve(): entry for entry in reversed(known + _hub())}
    return list(reversed(by_folder.values()))


def find(name: str) -> Entry:
    """Return the entry of a name, path or hub model.

    Raises:
        ArzooError: There is no such checkpoint.
    """
    folder = resolve(name)
    if folder.parent == names.BUNDLED:
        return _entry(folder.name, "shipped", folder)
    if folder.parent == store_folder():
        return _entry(folder.name, "named", folder)
    return _entry(name, "hub", folder) if name.startswith(HUB) else _local(folder)


def lineage(entry: Entry, known: Iterable[Entry] = ()) -> list[str]:
    """Return the origins of a checkpoint, oldest first, itself last: data, tokenizer, generator.

    Args:
        entry: The checkpoint.
        known: Entries among which its tokenizer is searched, by the hash of the weights.
    """
    if entry.kind != "generator":
        base = str(entry.index.get("base", {}).get("name", ""))
        return [text for text in (entry.data, base, entry.name) if text]
    recorded = entry.index.get("tokenizer", {})
    tokenizer = next((other for other in known if _is_tokenizer(other, recorded.get("sha256"))), None)
    if tokenizer is not None:
        codes = [f"codes of {entry.data}"] if entry.data not in ("", tokenizer.data) else []
        return [*lineage(tokenizer), *codes, entry.name]
    missing = f"{recorded['name']} (not here)" if recorded.get("name") else "unknown tokenizer"
    return [text for text in (entry.data, missing, entry.name) if text]


def with_weights(sha256: str, roots: Sequence[str | Path] = ()) -> Path | None:
    """Return the folder of a known tokenizer with these weights, None if there is none."""
    return next((entry.folder for entry in entries(roots) if _is_tokenizer(entry, sha256)), None)


def verify(name: str) -> Checkpoint:
    """Read every byte of a checkpoint and compare: files, settings, values, figures, and the generator's tokenizer.

    Raises:
        ArzooError: A file is missing, damaged or exchanged.
    """
    from arzoo.checkpoints.folder import open_checkpoint, weights_sha256
    from arzoo.checkpoints.lookup import tokenizer_of

    checkpoint = open_checkpoint(name)
    for part, facts in checkpoint.parts.items():
        if weights_sha256(checkpoint.load(part)) != facts["weights"]:
            raise ArzooError(
                f"the values of part {part!r} of {checkpoint.folder} are not those its index names."
            )
    checkpoint.metrics  # noqa: B018  readable, and as they were written
    if checkpoint.index.get("tokenizer"):
        tokenizer_of(checkpoint).load("tokenizer")
    return checkpoint


def copy(name: str, folder: str | Path, overwrite: bool = False) -> Path:
    """Copy a verified checkpoint with its tokenizer to a self-contained folder.

    Args:
        name: Name of the checkpoint.
        folder: Target folder.
        overwrite: Replace an existing folder.

    Raises:
        ArzooError: The checkpoint is damaged, or the folder exists.
    """
    from arzoo.checkpoints.card import write_card

    folder, checkpoint = Path(expanded(folder)), verify(name)
    with atomic_folder(folder, overwrite) as partial:
        for file, source in _files(checkpoint).items():
            (partial / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, partial / file)
        write_card(partial, folder.name)
    return folder


def sizes(name: str, title: str) -> dict[str, int]:
    """Return the sizes in bytes of the files that `copy` would write to a folder named `title`; errors as there."""
    from arzoo.checkpoints.card import card_of

    checkpoint = verify(name)
    by_file = {file: source.stat().st_size for file, source in _files(checkpoint).items()}
    return by_file | {"README.md": len(card_of(checkpoint.folder, title).encode())}


def tag(name: str, new: str, overwrite: bool = False) -> Path:
    """Copy a checkpoint under a new name, which training does not change.

    Args:
        name: Name of the checkpoint.
        new: `name` or `name.tag`, such as `nar_tiny.best`.
        overwrite: Replace a checkpoint of this name.

    Raises:
        ArzooError: The name is invalid or taken, or the checkpoint is damaged.
    """
    with explain_cache():
        return copy(name, tagged(new, overwrite), overwrite)


def tagged(new: str, overwrite: bool) -> Path:
    """Return the folder that `tag` would write; arguments and errors as there."""
    if not is_name(new):
        raise UsageError(
            f"{new!r} is no name of a checkpoint. Use letters, digits, '_' and '-', with a tag after a dot, such as "
            "nar_tiny.best"
        )
    if (names.BUNDLED / new).exists():
        raise ArzooError(f"{new!r} is a shipped checkpoint. Add a tag, such as {new}.mine")
    target = store_folder() / new
    if target.exists() and not overwrite:
        raise ArzooError(f"there is a checkpoint {new!r} already, in {target}. Replace it with --overwrite.")
    return target


def export(name: str, target: str, overwrite: bool = False) -> Path:
    """Write a checkpoint as a folder, or as one file where `target` ends in .tar; both load on any machine with arzoo.

    Raises:
        ArzooError: The checkpoint is damaged, or the target exists.
    """
    from arzoo.checkpoints.archive import pack

    path = exported(target, overwrite)
    if path.suffix != ARCHIVE:
        return copy(name, path, overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as temporary:
        return pack(copy(name, Path(temporary) / path.stem), path, overwrite)


def exported(target: str, overwrite: bool) -> Path:
    """Return the path that `export` would write; arguments and errors as there."""
    path = Path(expanded(target))
    if path.suffix != ARCHIVE:
        refuse_busy(path)
        refuse_full(path, overwrite)
    else:
        refuse_existing(path, overwrite)
    return path


def removable(name: str, roots: Sequence[str | Path] = ()) -> tuple[Path, str]:
    """Return what `remove` would delete: the folder of a checkpoint, or of the training run that wrote it.

    Returns:
        The folder and a sentence about it.

    Raises:
        ArzooError: It is shipped, on the hub, the tokenizer of another checkpoint, or in use by another process.
    """
    entry = find(name) if not (Path(name) / RECIPE).exists() else Entry(name, "run", Path(name), {})
    if entry.source == "shipped":
        raise ArzooError(f"{name} is shipped with arzoo and stays. `pip uninstall arzoo` removes it.")
    if entry.source == "hub" or name.endswith(ARCHIVE):
        raise ArzooError(
            f"{name} is a downloaded or unpacked copy. Remove the original file, or see: hf cache --help"
        )
    run = run_of(entry.folder)
    folder = run if entry.folder.name == CHECKPOINT and (run / RECIPE).exists() else entry.folder
    refuse_busy(folder)
    if folder.is_symlink():
        raise ArzooError(f"{folder} is a link; remove the link itself, or name what it points to")
    known = entries(roots)
    inside = [
        other
        for other in known
        if folder.resolve() in (other.folder.resolve(), *other.folder.resolve().parents)
    ]
    for tokenizer in (other for other in inside if other.kind == "tokenizer"):
        _refuse_needed(tokenizer, [other for other in known if other not in inside])
    what = "a training run: checkpoint, states and logs" if (folder / RECIPE).exists() else f"a {entry.kind}"
    return folder, f"{folder} ({what}; {human_bytes(folder_bytes(folder))})"


def remove(folder: Path) -> None:
    """Delete a folder that `removable` returned; its name disappears at once."""
    trash = folder.with_name(f".{folder.name}.removed")
    shutil.rmtree(trash, ignore_errors=True)
    os.replace(folder, trash)
    shutil.rmtree(trash)


def _refuse_needed(tokenizer: Entry, others: list[Entry]) -> None:
    weights = tokenizer.index["parts"]["tokenizer"]["weights"]
    if any(_is_tokenizer(other, weights) for other in others):
        return
    needing = [
        e.name
        for e in others
        for part in ("tokenizer", "base")
        if e.index.get(part, {}).get("sha256") == weights and not (e.folder / part / INDEX).exists()
    ]
    if needing:
        raise ArzooError(
            f"{tokenizer.name} is the tokenizer of {', '.join(needing)}, or its base, and the only copy. Remove those "
            "first, or keep them with it: arzoo checkpoints tag NAME NEW"
        )


def _files(checkpoint: Checkpoint) -> dict[str, Path]:
    """Return the files of a checkpoint, its tokenizer and base, without other files in their folders."""
    from arzoo.checkpoints.lookup import base_of, tokenizer_of

    names = [INDEX, METRICS, "README.md", PICTURE]
    names += [f"{part}/{file}" for part in checkpoint.parts for file in ("config.json", "model.safetensors")]
    paths = {name: checkpoint.folder / name for name in names if (checkpoint.folder / name).exists()}
    if checkpoint.index.get("tokenizer"):
        inner = _files(tokenizer_of(checkpoint))
        paths |= {f"tokenizer/{name}": path for name, path in inner.items()}
    if checkpoint.index.get("base"):
        paths |= {f"base/{name}": path for name, path in _files(base_of(checkpoint)).items()}
    return paths


def _is_tokenizer(entry: Entry, weights: str | None) -> bool:
    part = entry.index.get("parts", {}).get("tokenizer", {}) if entry.kind == "tokenizer" else {}
    return bool(weights) and part.get("weights") == weights


def _local(folder: Path) -> Entry:
    """Return the entry of a folder: a run has the name of its own folder, any other checkpoint its path."""
    run = run_of(folder)
    if folder.name == CHECKPOINT and (run / RECIPE).exists():
        return _entry(str(run), "run", folder)
    return _entry(str(folder), "folder", folder)


def _run(run: Path) -> Entry:
    """Return the entry of a training run with its newest checkpoint, if it has one."""
    folder = newest(run)
    return Entry(str(run), "run", run, {}) if folder is None else _entry(str(run), "run", folder)


def _entry(name: str, source: str, folder: Path) -> Entry:
    try:
        return Entry(name, source, folder, read_index(folder))
    except ArzooError as error:
        return Entry(name, source, folder, {}, str(error))


def _hub() -> list[Entry]:
    """List the checkpoints of arzoo in the hub's cache, the newest copy of each."""
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        repositories = scan_cache_dir().repos
    except (CacheNotFound, RuntimeError):  # the latter where the user has no home, and so no cache
        return []
    cached = []
    for repository in sorted(repositories, key=lambda repository: repository.repo_id):
        copies = [c for c in repository.revisions if (c.snapshot_path / INDEX).exists()]
        if copies:
            newest = max(copies, key=lambda copy: copy.last_modified)
            cached.append(_entry(f"{HUB}{repository.repo_id}", "hub", newest.snapshot_path))
    return cached
