"""Arrays in npz files, read without pickle and without trust in their headers.

The layout is that of the ADM evaluator ("Diffusion Models Beat GANs on Image Synthesis", 2021): `arr_0` (n, H, W, 3)
uint8 pictures, `arr_1` (n,) labels; or statistics `mu` (D,), `sigma` (D, D) and, for sFID, `mu_s`, `sigma_s`. Pictures
are streamed, so a file may be larger than the memory; an array whose size disagrees with the file's directory is not
unpacked.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from arzoo.base.errors import ArzooError
from arzoo.base.files import atomic_file, refuse_existing
from arzoo.data.reading import MAX_PIXELS

_WIDEST = 8192
"""Largest number of features; statistics of more are refused, as no network has so many."""
_DENSEST = 1032
"""Largest compression ratio of deflate (258 bytes in two bits); pictures of one colour come close to it."""
_READ_ERRORS = (
    OSError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
    RuntimeError,
    NotImplementedError,
    EOFError,
)


@dataclass(frozen=True)
class Header:
    """Header of an array in a file.

    Attributes:
        shape: Shape of the array.
        dtype: Type of its values.
        start: Bytes before the values.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    start: int


class NpzFile:
    """An npz file whose directory and headers have been checked.

    Raises:
        ArzooError: The file does not exist or is damaged, or an array needs pickle, is too large or contradicts its
            header.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise ArzooError(f"there is no file {path}")
        self.headers: dict[str, Header] = {}
        try:
            with zipfile.ZipFile(path) as archive:
                for member in archive.infolist():
                    if member.filename.endswith(".npy"):
                        self.headers[member.filename[:-4]] = self._header(archive, member)
        except ArzooError:
            raise
        except _READ_ERRORS as error:
            raise ArzooError(f"{path} is not an npz file that can be read ({error}).") from error

    def __contains__(self, name: str) -> bool:
        return name in self.headers

    def array(self, name: str, dimensions: int, most: int = _WIDEST) -> np.ndarray:
        """Read an array of finite numbers or of text.

        Args:
            name: Name of the array.
            dimensions: Required number of dimensions.
            most: Largest size of a dimension.

        Raises:
            ArzooError: The array is missing, has another number of dimensions, is too large or damaged.
        """
        if name not in self.headers:
            raise ArzooError(
                f"{self.path} has no array {name!r}. It has: {', '.join(self.headers) or 'nothing'}."
            )
        header = self.headers[name]
        if len(header.shape) != dimensions or max(header.shape, default=0) > most:
            raise ArzooError(
                f"{name!r} of {self.path} has shape {header.shape}, not {dimensions} dimensions of at most {most}"
            )
        size = math.prod(header.shape) * header.dtype.itemsize
        with self.open(name) as stream:
            values = np.frombuffer(self.read(stream, size), header.dtype).reshape(header.shape)
        if header.dtype.kind in "fiu" and not np.isfinite(values).all():
            raise ArzooError(f"{name!r} of {self.path} holds numbers that are not finite")
        return values

    def pictures(self) -> Header:
        """Return the header of the pictures, `arr_0`.

        Raises:
            ArzooError: There are no pictures, or they are not (n, H, W, 3) uint8.
        """
        header = self.headers.get("arr_0")
        if header is None:
            raise ArzooError(
                f"{self.path} has neither pictures (arr_0) nor statistics (mu, sigma); it has: "
                f"{', '.join(self.headers) or 'nothing'}"
            )
        shape, dtype = header.shape, header.dtype
        if dtype != np.uint8:
            raise ArzooError(
                f"'arr_0' of {self.path} is {dtype}, pictures must be uint8: scale them to 0..255 and round"
            )
        if len(shape) != 4 or shape[3] != 3 or min(shape) < 1:
            raise ArzooError(
                f"'arr_0' of {self.path} has shape {shape}; pictures must be (n, height, width, 3)"
            )
        if shape[1] * shape[2] > MAX_PIXELS:
            raise ArzooError(
                f"pictures of {shape[1]} x {shape[2]} in {self.path} are more than {MAX_PIXELS} pixels"
            )
        return header

    def open(self, name: str) -> IO[bytes]:
        """Open a stream of an array's values."""
        try:
            stream = zipfile.ZipFile(self.path).open(f"{name}.npy")
            stream.read(self.headers[name].start)
        except _READ_ERRORS as error:
            raise ArzooError(f"{name!r} of {self.path} is damaged ({error})") from error
        return stream

    def read(self, stream: IO[bytes], count: int) -> bytes:
        """Read exactly `count` bytes.

        Raises:
            ArzooError: The file is damaged or ends early.
        """
        try:
            content = stream.read(count)
        except _READ_ERRORS as error:
            raise ArzooError(f"{self.path} is damaged ({error}). Copy or write it again.") from error
        if len(content) != count:
            raise ArzooError(f"{self.path} ends early. Copy or write it again.")
        return content

    def _header(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Header:
        if member.file_size > _DENSEST * member.compress_size + 4096:
            raise ArzooError(
                f"{member.filename!r} of {self.path} would unpack to {member.file_size:,} bytes from "
                f"{member.compress_size:,}, more than such a file can hold; write it with numpy.savez, uncompressed"
            )
        with archive.open(member) as stream:
            major, _ = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(stream)
            start = stream.tell()
        if dtype.hasobject:
            raise ArzooError(
                f"{member.filename!r} of {self.path} holds Python objects; only numbers are read"
            )
        if fortran and len(shape) > 1:
            raise ArzooError(
                f"{member.filename!r} of {self.path} is stored column by column; write it in C order"
            )
        if math.prod(shape) * dtype.itemsize + start != member.file_size:
            raise ArzooError(
                f"{member.filename!r} of {self.path} does not have the size that its header says"
            )
        return Header(tuple(shape), dtype, start)


def write_npz(path: Path, arrays: Mapping[str, np.ndarray], overwrite: bool = False) -> None:
    """Write an npz file completely or not at all.

    Raises:
        ArzooError: The name does not end with .npz, or the file exists and `overwrite` is False.
    """
    refuse_name(path, overwrite)
    with atomic_file(path, overwrite) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def refuse_name(path: Path, overwrite: bool) -> None:
    """Raise an ArzooError if a file exists and may not be replaced, or if its name does not end with .npz."""
    if path.suffix != ".npz":
        raise ArzooError(f"{path} must end with .npz")
    refuse_existing(path, overwrite)


def text(value: str) -> np.ndarray:
    """Return a text as an array that needs no pickle."""
    return np.array(value, dtype=np.str_)
