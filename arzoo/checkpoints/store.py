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
from arzoo.base.errors import ArzooError
from arzoo.base.files import atomic_folder, refuse_existing, refuse_full
from arzoo.base.lock import refuse_busy
from arzoo.base.paths import expanded
from arzoo.base.runtime import explain_cache, store_folder
from arzoo.base.walk import tree
from arzoo.checkpoints import names
from arzoo.checkpoints.index import INDEX, METRICS, data_of, read_index, read_metrics
from arzoo.checkpoints.names import ARCHIVE, HUB, folders, is_name, resolve

if TYPE_CHECKING:
    from arzoo.checkpoints.folder import Checkpoint

RUNS = Path("runs")
"""Where training writes by default, and `entries` looks by default."""
RECIPE = "recipe.yaml"


@dataclass(frozen=True)
class Entry:
    """One checkpoint, or a training run that has none yet.

    Attributes:
        name: What every command takes.
        source: "shipped", "named", "run", "folder" or "hub".
        folder: Where it is.
        index: Content of its index, empty when it cannot be read.
        problem: Why not.
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
        """Of all parts."""
        return sum(part["parameters"] for part in self.index.get("parts", {}).values())

    @property
    def bytes(self) -> int:
        """Size on disk."""
        return folder_bytes(self.folder)

    @property
    def metrics(self) -> dict[str, Any]:
        """Its figures, empty where there are none to read."""
        return {} if self.metrics_problem else read_metrics(self.folder)

    @property
    def metrics_problem(self) -> str:
        """Why its figures cannot be read or believed, empty if they can."""
        try:
            read_metrics(self.folder)
        except ArzooError as error:
            return str(error)
        return ""

    @property
    def data(self) -> str:
        """What it was trained on, as far as the index says, with the first digits of its hash."""
        name, digest = data_of(self.index)
        return f"{name} ({digest[:8]})" if name and digest else name


def folder_bytes(folder: Path) -> int:
    """Size of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def entries(roots: Sequence[str | Path] = ()) -> list[Entry]:
    """Everything there is.

    Args:
        roots: Folders to look through, at any depth, beside the shipped and the named ones; `RUNS` by default.
    """
    found = [_entry(path.name, "shipped", path) for path in folders(names.BUNDLED)]
    found += [_entry(path.name, "named", path) for path in folders(store_folder())]
    for root in map(Path, roots or [RUNS]):
        if roots and not root.is_dir():
            raise ArzooError(f"there is no folder {root} to look through")
        found += [_local(path) for path in folders(root)]
        found += [
            Entry(str(path.parent), "run", path.parent, {})
            for path in tree(root).files
            if path.name == RECIPE and not (path.parent / "checkpoint").exists()
        ]
    by_folder = {entry.folder.resolve(): entry for entry in reversed(found + _hub())}
    return list(reversed(by_folder.values()))


def find(name: str) -> Entry:
    """The entry of a name, path or hub model.

    Raises:
        ArzooError: There is none.
    """
    folder = resolve(name)
    if folder.parent == names.BUNDLED:
        return _entry(folder.name, "shipped", folder)
    if folder.parent == store_folder():
        return _entry(folder.name, "named", folder)
    return _entry(name, "hub", folder) if name.startswith(HUB) else _local(folder)


def lineage(entry: Entry, known: Iterable[Entry] = ()) -> list[str]:
    """What a checkpoint comes from, oldest first, itself last: data, tokenizer, generator.

    Args:
        entry: Which.
        known: Where to look for its tokenizer, by the hash of the weights.
    """
    if entry.kind != "generator":
        return [text for text in (entry.data, entry.name) if text]
    wanted = entry.index.get("tokenizer", {})
    made_by = next((other for other in known if _is_tokenizer(other, wanted.get("sha256"))), None)
    if made_by is not None:
        again = [f"codes of {entry.data}"] if entry.data not in ("", made_by.data) else []
        return [*lineage(made_by), *again, entry.name]
    missing = f"{wanted['name']} (not here)" if wanted.get("name") else "unknown tokenizer"
    return [text for text in (entry.data, missing, entry.name) if text]


def with_weights(sha256: str, roots: Sequence[str | Path] = ()) -> Path | None:
    """Folder of the tokenizer with these weights among everything there is, None without one."""
    return next((entry.folder for entry in entries(roots) if _is_tokenizer(entry, sha256)), None)


def verify(name: str) -> Checkpoint:
    """Read every byte of a checkpoint and compare: files, settings, values, figures, and the generator's tokenizer.

    Raises:
        ArzooError: Something is missing, damaged or exchanged.
    """
    from arzoo.checkpoints.folder import open_checkpoint, tokenizer_of, weights_sha256

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


def copy(name: str, folder: str | Path, overwrite: bool = False, title: str = "") -> Path:
    """Write a verified checkpoint somewhere else, with the tokenizer it belongs to, so that it needs nothing beside it.

    Args:
        name: Which.
        folder: Where to.
        overwrite: Replace what is there.
        title: What its card calls it; the name of the folder by default.

    Raises:
        ArzooError: It is damaged, or the folder exists.
    """
    from arzoo.checkpoints.card import write_card

    folder, checkpoint = Path(expanded(folder)), verify(name)
    with atomic_folder(folder, overwrite) as partial:
        for file, source in _files(checkpoint).items():
            (partial / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, partial / file)
        write_card(partial, title or folder.name)
    return folder


def sizes(name: str, title: str) -> dict[str, int]:
    """The files that `copy` would write, with their bytes; arguments and errors as there."""
    from arzoo.checkpoints.card import card_of

    checkpoint = verify(name)
    found = {file: source.stat().st_size for file, source in _files(checkpoint).items()}
    return found | {"README.md": len(card_of(checkpoint.folder, title).encode())}


def tag(name: str, new: str, overwrite: bool = False) -> Path:
    """Keep a checkpoint under a name of one's own, as a copy that training does not touch.

    Args:
        name: Which.
        new: `name` or `name.tag`, such as `nar_tiny.best`.
        overwrite: Replace what has this name.

    Raises:
        ArzooError: The name is not one, or is taken; the checkpoint is damaged.
    """
    with explain_cache():
        return copy(name, tagged(new, overwrite), overwrite)


def tagged(new: str, overwrite: bool) -> Path:
    """Where `tag` would keep a checkpoint; arguments and errors as there."""
    if not is_name(new):
        raise ArzooError(
            f"{new!r} is no name of a checkpoint. Use letters, digits, '_' and '-', with a tag behind a dot, such as "
            "nar_tiny.best"
        )
    if (names.BUNDLED / new).exists():
        raise ArzooError(f"{new!r} is a shipped checkpoint. Give a tag behind it, such as {new}.mine")
    target = store_folder() / new
    if target.exists() and not overwrite:
        raise ArzooError(f"there is a checkpoint {new!r} already, in {target}. Replace it with --overwrite.")
    return target


def export(name: str, target: str, overwrite: bool = False) -> Path:
    """Write a checkpoint as a folder, or as one file where `target` ends in .tar; both load wherever arzoo is.

    Raises:
        ArzooError: It is damaged, or the target exists.
    """
    from arzoo.checkpoints.archive import pack

    path = exported(target, overwrite)
    if path.suffix != ARCHIVE:
        return copy(name, path, overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as temporary:
        return pack(copy(name, Path(temporary) / path.stem), path, overwrite)


def exported(target: str, overwrite: bool) -> Path:
    """Where `export` would write; arguments and errors as there."""
    path = Path(expanded(target))
    if path.suffix != ARCHIVE:
        refuse_busy(path)
        refuse_full(path, overwrite)
    else:
        refuse_existing(path, overwrite)
    return path


def removable(name: str, roots: Sequence[str | Path] = ()) -> tuple[Path, str]:
    """What `remove` would delete: the folder of a checkpoint, or the whole training run it is the result of.

    Returns:
        The folder and a sentence about it.

    Raises:
        ArzooError: It is shipped, on the hub, or the tokenizer of another one, or another process works there.
    """
    entry = find(name) if not (Path(name) / RECIPE).exists() else Entry(name, "run", Path(name), {})
    if entry.source == "shipped":
        raise ArzooError(f"{name} is shipped with arzoo and stays. `pip uninstall arzoo` removes it.")
    if entry.source == "hub" or name.endswith(ARCHIVE):
        raise ArzooError(
            f"{name} is a downloaded or unpacked copy. Remove the original file, or see: hf cache --help"
        )
    run = entry.folder.parent
    folder = run if entry.folder.name == "checkpoint" and (run / RECIPE).exists() else entry.folder
    refuse_busy(folder)
    if folder.is_symlink():
        raise ArzooError(f"{folder} is a link; remove the link itself, or name what it points to")
    known = entries(roots)
    inside = [
        other
        for other in known
        if folder.resolve() in (other.folder.resolve(), *other.folder.resolve().parents)
    ]
    for lost in (other for other in inside if other.kind == "tokenizer"):
        _refuse_needed(lost, [other for other in known if other not in inside])
    what = "a training run: checkpoint, states and logs" if (folder / RECIPE).exists() else f"a {entry.kind}"
    return folder, f"{folder} ({what}; {human_bytes(folder_bytes(folder))})"


def remove(folder: Path) -> None:
    """Delete a folder that `removable` named; its name is gone at once."""
    gone = folder.with_name(f".{folder.name}.removed")
    shutil.rmtree(gone, ignore_errors=True)
    os.replace(folder, gone)
    shutil.rmtree(gone)


def _refuse_needed(lost: Entry, others: list[Entry]) -> None:
    weights = lost.index["parts"]["tokenizer"]["weights"]
    if any(_is_tokenizer(other, weights) for other in others):
        return
    needing = [
        e.name
        for e in others
        if e.index.get("tokenizer", {}).get("sha256") == weights
        and not (e.folder / "tokenizer" / INDEX).exists()
    ]
    if needing:
        raise ArzooError(
            f"{lost.name} is the tokenizer of {', '.join(needing)}, and the only copy. Remove those first, or keep "
            "them with their tokenizer: arzoo checkpoints tag NAME NEW"
        )


def _files(checkpoint: Checkpoint) -> dict[str, Path]:
    """The files that make up a checkpoint and its tokenizer, nothing else that lies in their folders."""
    from arzoo.checkpoints.folder import tokenizer_of

    names = [INDEX, METRICS, "README.md"]
    names += [f"{part}/{file}" for part in checkpoint.parts for file in ("config.json", "model.safetensors")]
    found = {name: checkpoint.folder / name for name in names if (checkpoint.folder / name).exists()}
    if checkpoint.index.get("tokenizer"):
        inner = _files(tokenizer_of(checkpoint))
        found |= {f"tokenizer/{name}": path for name, path in inner.items()}
    return found


def _is_tokenizer(entry: Entry, weights: str | None) -> bool:
    part = entry.index.get("parts", {}).get("tokenizer", {}) if entry.kind == "tokenizer" else {}
    return bool(weights) and part.get("weights") == weights


def _local(folder: Path) -> Entry:
    """A run is known by its own folder, a checkpoint elsewhere by its path."""
    run = folder.parent
    if folder.name == "checkpoint" and (run / RECIPE).exists():
        return _entry(str(run), "run", folder)
    return _entry(str(folder), "folder", folder)


def _entry(name: str, source: str, folder: Path) -> Entry:
    try:
        return Entry(name, source, folder, read_index(folder))
    except ArzooError as error:
        return Entry(name, source, folder, {}, str(error))


def _hub() -> list[Entry]:
    """Models of ours in the hub's cache, the newest copy of each."""
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        repositories = scan_cache_dir().repos
    except (CacheNotFound, RuntimeError):  # the latter where the user has no home, and so no cache
        return []
    found = []
    for repository in sorted(repositories, key=lambda repository: repository.repo_id):
        copies = [c for c in repository.revisions if (c.snapshot_path / INDEX).exists()]
        if copies:
            newest = max(copies, key=lambda copy: copy.last_modified)
            found.append(_entry(f"{HUB}{repository.repo_id}", "hub", newest.snapshot_path))
    return found
