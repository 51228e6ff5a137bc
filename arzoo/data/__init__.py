"""Data sets by name or folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arzoo.core.sizes import Sizes
    from arzoo.data.base import ImageSet


def source(name: str) -> str:
    """Return a name that is valid in any working folder: a registered name, or the full path of a folder."""
    from arzoo.base import registry
    from arzoo.base.paths import expanded

    return name if name in registry.names("dataset") else str(Path(expanded(name)).resolve())


def load(
    name: str,
    size: int | None = None,
    frames: int | None = None,
    fps: float | None = None,
    stride: int | None = None,
    sizes: Sizes | None = None,
) -> ImageSet:
    """Load a registered data set, or a folder of pictures or clips.

    Args:
        name: A registered name or the path of a folder.
        size: Required side of the pictures in pixels: a folder is read in this size (64 by default), clips of games are
            recorded in it, and drawings have a fixed one.
        frames: Required number of frames, 1 for pictures. By default what the data set has; a folder has clips of 17
            frames if `fps` or `stride` is given, or if there are videos and no still pictures.
        fps: For folders of clips, see `arzoo.data.clip_folder`.
        stride: For folders of clips.
        sizes: Allowed sizes of pictures that keep their shapes, instead of `size`: those of a folder are resized in
            about their own shape, and drawings lose their transparent margins.

    Raises:
        UnknownName: No data set and no folder has this name.
        ArzooError: The data set has pictures of another size or no clips, or the folder has none that can be read.
    """
    from arzoo.base import registry
    from arzoo.base.errors import ArzooError, UnknownName
    from arzoo.base.paths import expanded

    if sizes is not None:
        return _any_size(name, sizes, frames, fps, stride)
    if name in registry.names("dataset"):
        _refuse_times(name, fps, stride)
        required = {"size": size, "frames": frames}
        taken = registry.arguments("dataset", name)
        settings = {key: value for key, value in required.items() if key in taken and value is not None}
        data: ImageSet = registry.lookup("dataset", name)(**settings)
        if frames is not None and data.frames != frames:
            raise ArzooError(
                f"{name} has {_frames(data.frames)}, {_frames(frames)} are needed. Use a tokenizer for them, or a data "
                "set of clips, such as atari_clips."
            )
        if size is not None and data.size != (size, size):
            raise ArzooError(
                f"{name} has pictures of {data.size[0]} x {data.size[1]}, {size} x {size} are needed. Use a tokenizer "
                "for pictures of that size, or a folder of pictures, which is read in any size."
            )
        return data
    if (folder := Path(expanded(name))).is_dir():
        from arzoo.data.clip_folder import FRAMES, clip_folder, holds_clips

        if frames is None:
            timed = fps is not None or stride is not None
            frames = FRAMES if timed or holds_clips(folder) else 1
        if frames != 1:
            return clip_folder(folder, size or 64, frames, fps, stride)
        _refuse_times(name, fps, stride)
        if holds_clips(folder):
            raise ArzooError(
                f"{folder} holds videos, pictures are needed. Take a tokenizer of clips for them."
            )
        from arzoo.data.folder import image_folder

        return image_folder(folder, size or 64)
    raise UnknownName(
        "data set", name, registry.names("dataset"), "Or give the path of a folder of pictures or clips."
    )


def _any_size(name: str, sizes: Sizes, frames: int | None, fps: float | None, stride: int | None) -> ImageSet:
    """Load pictures that keep their shapes."""
    from arzoo.base.errors import ArzooError
    from arzoo.data.any_size import without_margins
    from arzoo.data.folder import image_folder
    from arzoo.data.folder_sizes import own_pictures

    if frames not in (None, 1) or fps is not None or stride is not None:
        raise ArzooError(
            "clips of a data set have one size: sizes=keep is for pictures, so leave it out, or frames, fps and stride"
        )
    if folder := own_pictures(name):
        return image_folder(folder, sizes)
    return without_margins(load(name), sizes)


def _frames(number: int) -> str:
    return "pictures" if number == 1 else f"clips of {number} frames"


def _refuse_times(name: str, fps: float | None, stride: int | None) -> None:
    from arzoo.base.errors import ArzooError

    if fps is not None or stride is not None:
        raise ArzooError(f"fps and stride are settings of folders of clips, {name} is none")
