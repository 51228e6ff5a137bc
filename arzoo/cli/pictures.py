"""Picture files of commands: their pixels, and the settings they were drawn with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arzoo.base.errors import ArzooError, MissingPackage

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor


def read_settings(path: str) -> dict[str, Any]:
    """Read the settings in the file of a picture or clip.

    Raises:
        ArzooError: The file is neither, or was not written by this library; or the package that reads it is missing.
    """
    from arzoo.viz.settings import KEY, settings_in, stored_text

    with _explained(path, "picture or clip"):
        text = stored_text(Path(path))
    if text is None:
        raise ArzooError(
            f"{path} has no record of how it was made: it lacks the text {KEY!r}. Was it edited or converted?"
        )
    try:
        return settings_in(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise ArzooError(f"the settings in {path} cannot be read ({error})") from error


def read_picture(path: str, height: int, width: int) -> Tensor:
    """Read a picture like those of data sets: on a white background, resized and center cropped.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ArzooError: The file does not exist, is a video or no picture, is damaged or too large.
    """
    import torch

    from arzoo.data.clip_files import VIDEOS
    from arzoo.data.reading import read_sized

    if Path(path).suffix.lower() in VIDEOS:
        raise ArzooError(f"{path} is a video, and a still picture is needed. Take a model of clips for it")
    with _explained(path):
        return torch.from_numpy(read_sized(Path(path), height, width).copy())


def read_whole(path: str) -> Image.Image:
    """Read a picture in its own size.

    Raises:
        ArzooError: As for `read_picture`.
    """
    from arzoo.data.reading import read_rgb

    with _explained(path):
        return read_rgb(Path(path))


@contextmanager
def _explained(path: str, what: str = "picture") -> Iterator[None]:
    """Explain every error of reading a picture, or what else the file is expected to be."""
    from arzoo.data.reading import NoBrightness

    try:
        yield
    except FileNotFoundError as error:
        raise ArzooError(f"there is no file {path}") from error
    except IsADirectoryError as error:
        raise ArzooError(f"{path} is a folder, the file of a {what} is needed") from error
    except NoBrightness as error:
        raise ArzooError(f"{path} {error}") from error
    except (MemoryError, MissingPackage):
        raise
    except Exception as error:  # decoders raise errors of any kind for damaged files
        raise ArzooError(f"{path} is not a whole {what} ({error})") from error


def expand(paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """List the picture files of files and folders in order, with remarks on files that are left out.

    Raises:
        ArzooError: A folder has no picture.
    """
    from arzoo.data.picture_files import list_pictures
    from arzoo.data.reading import SUFFIXES

    files: list[str] = []
    remarks: list[str] = []
    for path in paths:
        if not Path(path).is_dir():
            files.append(path)
            continue
        listing = list_pictures(Path(path))
        if not listing.files:
            more = "".join(f" Besides, {remark}." for remark in listing.remarks)
            raise ArzooError(f"{path} holds no picture ({', '.join(sorted(SUFFIXES))}).{more}")
        files += map(str, listing.files)
        remarks += listing.remarks
    return files, remarks


def remarks_on(paths: Sequence[str], name: str) -> list[str]:
    """Return remarks on conversions that happen when picture files are read, each with the number of files.

    Args:
        paths: The files.
        name: A common name for the files.
    """
    from arzoo.data.picture_files import head, remarks_on

    return remarks_on(name, [head(Path(path)) for path in paths])
