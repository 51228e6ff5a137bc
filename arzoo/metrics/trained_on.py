"""The data that a checkpoint was trained on, which it is compared with unless another reference is named."""

from __future__ import annotations

from pathlib import Path

from arzoo.base import registry
from arzoo.base.errors import ArzooError, UsageError
from arzoo.base.paths import expanded
from arzoo.checkpoints import index
from arzoo.checkpoints.folder import Checkpoint


def has_parts(name: str, checkpoint: Checkpoint | None = None) -> bool:
    """Return whether a reference has train and validation parts: a data set, or the folder a checkpoint was trained on.

    Any other folder is compared with as a whole.
    """
    if name in registry.names("dataset"):
        return True
    trained_on = Path(expanded(index.data_of(checkpoint.index)[0])) if checkpoint else Path()
    path = Path(expanded(name))
    return trained_on != Path() and path.is_dir() and path.resolve() == trained_on.resolve()


def data_of(checkpoint: Checkpoint) -> str:
    """Return the data a checkpoint was trained on: the name of a data set, or a path that exists.

    Raises:
        UsageError: The checkpoint does not record it, so the reference must be named.
        ArzooError: The data are missing.
    """
    name = index.data_of(checkpoint.index)[0] or checkpoint.index.get("data")
    if not name:
        raise UsageError(
            f"{checkpoint.folder} does not say what it was trained on. Name what to compare with: --reference DATA"
        )
    if name not in registry.names("dataset") and not Path(expanded(name)).exists():
        raise ArzooError(
            f"{checkpoint.folder} was trained on {str(name)!r}, which is not here. Name what to compare with: "
            "--reference DATA"
        )
    return str(name)
