"""Data sets by name or folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arzoo.data.base import ImageSet


def load(name: str, size: int = 64) -> ImageSet:
    """A registered data set, or a folder of pictures.

    Args:
        name: A registered name or the path of a folder.
        size: Side of the pictures, for folders.

    Raises:
        UnknownName: Neither a data set nor a folder has this name.
    """
    from arzoo import registry
    from arzoo.errors import UnknownName

    if name in registry.names("dataset"):
        return registry.lookup("dataset", name)()
    if Path(name).is_dir():
        from arzoo.data.folder import image_folder

        return image_folder(Path(name), size)
    raise UnknownName(
        "data set", name, registry.names("dataset"), "Or give the path of a folder of pictures."
    )
