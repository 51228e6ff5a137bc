"""Names of checkpoints: bundled ones, folders and the Hugging Face hub. Imports no torch, so listing is fast."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from arzoo.base.errors import ArzooError, UnknownName, UsageError
from arzoo.base.paths import expanded
from arzoo.base.registry import natural_key
from arzoo.base.runtime import addresses, store_folder
from arzoo.base.walk import tree
from arzoo.checkpoints.index import INDEX, PICTURE, read_index
from arzoo.checkpoints.runs import RECIPE, checkpoint_in, is_state

BUNDLED = Path(__file__).resolve().parents[1] / "pretrained"
HUB = "hf-hub:"
ARCHIVE = ".tar"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w-]*(\.[\w-]+)*/[\w-]+(\.[\w-]+)*", re.ASCII)
_REVISION = re.compile(r"[\w-]+([./][\w-]+)*", re.ASCII)
_FILES = ("*.json", "*.safetensors", "README.md", PICTURE)
FOREIGN = {".pt", ".pth", ".bin", ".ckpt", ".pkl", ".tar", ".safetensors", ".npz", ".msgpack"}


def resolve(name: str | Path) -> Path:
    """Return the folder of a checkpoint.

    Args:
        name: A bundled name or one of this user's (`arzoo checkpoints ls`), a checkpoint folder, the folder of a
            training run (its newest saved state if it is not finished), a .tar that `arzoo checkpoints export` wrote,
            or `hf-hub:org/name`, optionally with `@revision`. A folder in the working directory with the name of a
            checkpoint is reached as `./name`.

    Raises:
        UnknownName: There is no such checkpoint.
        ArzooError: The path is not a checkpoint, or the hub cannot be reached.
    """
    text = str(name)
    if text.startswith(HUB):
        return _download(text.removeprefix(HUB))
    if isinstance(name, str) and is_name(text):
        for root in (BUNDLED, store_folder()):
            if (root / text / INDEX).exists():
                return root / text
    path = _expanded(name)
    if path.suffix == ARCHIVE and path.is_file():
        from arzoo.checkpoints.archive import unpack

        return unpack(path)
    folder = checkpoint_in(path)
    if folder is not None:
        return folder
    if (path / RECIPE).exists():
        raise ArzooError(
            f"{text} is a training run without a saved state that can be used. The next one that it saves can: every "
            "run.save_every steps, and where it is stopped"
        )
    if path.is_dir():
        raise ArzooError(
            f"{text} is not a checkpoint: it has no {INDEX}. Bring a published model in with: arzoo convert"
        )
    if path.is_file() or path.suffix in FOREIGN:
        state = "is a file" if path.exists() else "does not exist, and would be a file"
        raise ArzooError(
            f"{text} {state}; a checkpoint is a folder. Bring a published model in with: arzoo convert SRC DST"
        )
    from arzoo.checkpoints.published import PUBLISHED, instructions

    if text in PUBLISHED:
        raise ArzooError(f"{text} is not on this machine. {instructions(PUBLISHED[text])}")
    raise UnknownName(
        "checkpoint",
        text,
        [*bundled(), *listing(store_folder())],
        "`arzoo models` lists the shipped ones, `arzoo checkpoints ls` all; a path or hf-hub:org/name works too.",
    )


def is_name(text: str) -> bool:
    """Return whether a text can name a checkpoint: `name` or `name.tag`, never a path."""
    return bool(_NAME.fullmatch(text)) and len(text) <= 128


def is_repository(text: str) -> bool:
    """Return whether a text has the form `org/name` of a hub repository."""
    return bool(_REPOSITORY.fullmatch(text)) and len(text) <= 160


def check_repository(text: str) -> tuple[str, str | None]:
    """Split repository and revision of `org/name` or `org/name@revision`.

    Raises:
        UsageError: The text has neither form.
    """
    name, separator, revision = text.partition("@")
    if not is_repository(name) or (separator and not _REVISION.fullmatch(revision)):
        raise UsageError(
            f"{text!r} is no model of the hub. Write org/name or org/name@revision: letters, digits, '-', '_' and "
            "single dots between them."
        )
    return name, revision or None


def address(repository: str) -> str:
    """Return the address of a model on the hub, for the record."""
    return f"{os.environ.get('HF_ENDPOINT', 'https://huggingface.co').rstrip('/')}/{repository}"


def bundled(kind: str | None = None) -> list[str]:
    """Return the names of the checkpoints that come with the package, of one kind if given."""
    return sorted(
        (name for name, index in listing(BUNDLED).items() if kind in (None, index.get("kind"))),
        key=natural_key,
    )


def listing(folder: str | Path) -> dict[str, dict[str, Any]]:
    """Return the indexes of all checkpoints below a folder, by their path in it, except damaged ones."""
    indexes = {}
    for path in folders(folder):
        try:
            indexes[path.relative_to(folder).as_posix()] = read_index(path)
        except ArzooError:
            continue
    return indexes


def folders(root: str | Path) -> Iterator[Path]:
    """Yield the checkpoint folders below a folder, damaged ones too, but not nested or hidden ones or saved states."""
    last: Path | None = None
    for folder in sorted(path.parent for path in tree(root).files if path.name == INDEX):
        if not is_state(folder) and (last is None or last not in folder.parents):
            last = folder
            yield folder


def _expanded(name: str | Path) -> Path:
    try:
        path = Path(expanded(name))
        path.exists()  # raises where a name is too long for the file system
        return path
    except (ValueError, OSError) as error:
        raise ArzooError(f"{str(name)!r} cannot be found: {error}") from error


def _download(repository: str) -> Path:
    """Fetch a checkpoint from the hub, or take the copy in its cache."""
    from arzoo.checkpoints.published import refuse_foreign

    name, revision = check_repository(repository)
    refuse_foreign(name)
    import huggingface_hub

    addresses.append(address(name))
    try:
        folder = Path(huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=list(_FILES)))
    except Exception as error:  # the hub's errors share no base class: names, access, network, disk
        raise ArzooError(
            f"cannot get {HUB}{repository}: {str(error).rstrip('. ')}. Check the name and the connection, or give a "
            "local path."
        ) from error
    if not (folder / INDEX).exists():
        raise ArzooError(
            f"{HUB}{repository} is not an arzoo checkpoint: it has no {INDEX}. Convert it with: arzoo convert"
        )
    return folder
