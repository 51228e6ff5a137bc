"""Finding checkpoints: bundled ones, folders and the Hugging Face hub. Imports no torch, so listing them is fast."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from arzoo.errors import ArzooError, UnknownName
from arzoo.registry import natural_key
from arzoo.runtime import network_calls

INDEX = "model_index.json"
BUNDLED = Path(__file__).parent / "pretrained"
HUB = "hf-hub:"
_FOREIGN = {".pt", ".pth", ".bin", ".ckpt", ".pkl", ".tar", ".safetensors", ".npz", ".msgpack"}


def resolve(name: str | Path) -> Path:
    """Folder of a checkpoint.

    Args:
        name: A bundled name (`arzoo models`), a checkpoint folder, the folder of a training run, or `hf-hub:org/name`,
            with `@revision` if wanted. A folder in the working directory with the name of a bundled checkpoint is
            reached as `./name`.

    Raises:
        UnknownName: There is no such checkpoint.
        ArzooError: The path is not a checkpoint, or the hub cannot be reached.
    """
    text = str(name)
    if text.startswith(HUB):
        return _download(text.removeprefix(HUB))
    if isinstance(name, str) and (BUNDLED / text / INDEX).exists() and not text.startswith("."):
        return BUNDLED / text
    path = Path(name).expanduser()
    for folder in (path, path / "checkpoint"):
        if (folder / INDEX).exists():
            return folder
    if path.is_dir():
        raise ArzooError(
            f"{text} is not a checkpoint: it has no {INDEX}. Bring a published model in with: arzoo convert"
        )
    if path.is_file() or path.suffix in _FOREIGN:
        state = "is a file" if path.exists() else "does not exist, and would be a file"
        raise ArzooError(
            f"{text} {state}; a checkpoint is a folder. Bring a published model in with: arzoo convert SRC DST"
        )
    raise UnknownName(
        "checkpoint", text, bundled(), "`arzoo models` lists them; a path or hf-hub:org/name works too."
    )


def bundled(kind: str | None = None) -> list[str]:
    """Names of the checkpoints that come with the package, of one kind if given."""
    return sorted(
        (name for name, index in listing(BUNDLED).items() if kind in (None, index.get("kind"))),
        key=natural_key,
    )


def listing(folder: str | Path) -> dict[str, dict[str, Any]]:
    """Indexes of all checkpoints below a folder, by their path in it; damaged ones are left out."""
    folder, found = Path(folder), {}
    for path in sorted(folder.rglob(INDEX)):
        try:
            index = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(index, dict) and "parts" in index:
            found[path.parent.relative_to(folder).as_posix()] = index
    return found


def _download(repository: str) -> Path:
    """Fetch a checkpoint from the hub, or take the copy in its cache."""
    import huggingface_hub

    name, _, revision = repository.partition("@")
    network_calls.append(f"https://huggingface.co/{name}")
    try:
        folder = Path(huggingface_hub.snapshot_download(name, revision=revision or None))
    except Exception as error:  # the hub's errors share no base class: names, access, network, disk
        raise ArzooError(
            f"cannot get {HUB}{repository}: {error}. Check the name and the connection, or give a local path."
        ) from error
    if not (folder / INDEX).exists():
        raise ArzooError(
            f"{HUB}{repository} is not an arzoo checkpoint: it has no {INDEX}. Convert it with: arzoo convert"
        )
    return folder
