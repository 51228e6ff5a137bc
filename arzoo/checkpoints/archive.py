"""A checkpoint as one .tar file, and the safe way back.

The archive is not compressed, so it cannot hold more than it weighs. Only plain files with the names a checkpoint has
are taken out of it: no links, no devices, no absolute paths, nothing that climbs out of the folder.
"""

from __future__ import annotations

import platform
import re
import tarfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from arzoo.base.errors import ArzooError
from arzoo.base.files import atomic_file, atomic_folder, file_sha256
from arzoo.base.runtime import cache_folder, explain_cache
from arzoo.checkpoints.index import INDEX

MAX_MEMBERS = 1000
_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_SUFFIXES = frozenset({".json", ".safetensors", ".md"})
_DEPTH = 4


def pack(folder: Path, target: Path, overwrite: bool = True) -> Path:
    """Write the files of a folder as a .tar, the same bytes for the same files; the file appears when complete.

    Args:
        folder: A checkpoint, tokenizer included.
        target: The file.
        overwrite: Replace a file that exists.
    """
    with (
        atomic_file(target, overwrite) as partial,
        tarfile.open(partial, "w:", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            member = tarfile.TarInfo(path.relative_to(folder).as_posix())
            member.size, member.mode = path.stat().st_size, 0o644
            with path.open("rb") as content:
                archive.addfile(member, content)
    return target


def packed_bytes(sizes: Iterable[int]) -> int:
    """Size of the file that `pack` makes of files of these sizes."""
    block = tarfile.BLOCKSIZE
    blocks = sum(1 + -(-size // block) for size in sizes) + 2
    return -(-blocks * block // tarfile.RECORDSIZE) * tarfile.RECORDSIZE


def unpack(archive: str | Path) -> Path:
    """The checkpoint folder of a .tar, taken out into the cache once.

    Raises:
        ArzooError: The file is no such archive, or holds something else than the files of a checkpoint; or this Python
            is too old to take one out safely.
    """
    if not hasattr(tarfile, "data_filter"):
        raise ArzooError(
            f"this Python {platform.python_version()} takes archives out without protection from what is in them. Use "
            f"3.10.12, 3.11.4 or newer, or take {archive} out by hand and name the folder."
        )
    archive = Path(archive)
    target = cache_folder() / "unpacked" / file_sha256(archive)[:32]
    if (target / INDEX).exists():
        return target
    try:
        with (
            explain_cache(),
            tarfile.open(archive, "r:") as opened,
            atomic_folder(target, overwrite=True) as partial,
        ):
            _take_out(opened, archive, partial)
            if not (partial / INDEX).exists():
                raise ArzooError(f"{archive} is not a checkpoint: it has no {INDEX}.")
    except (tarfile.TarError, EOFError, OverflowError, UnicodeError) as error:
        raise ArzooError(f"{archive} is not a whole .tar ({error}). Copy or download it again.") from error
    return target


def _take_out(opened: tarfile.TarFile, archive: Path, folder: Path) -> None:
    left, names = archive.stat().st_size, set[str]()
    for count, member in enumerate(opened, 1):
        if member.isdir():
            continue
        name, left = _checked(member, archive), left - member.size
        if name in names or left < 0 or count > MAX_MEMBERS:
            raise ArzooError(
                f"{archive} was refused: it names {name!r} twice, more bytes than it has, or more than {MAX_MEMBERS} "
                "files."
            )
        names.add(name)
        opened.extract(member, folder, filter="data")


def _checked(member: tarfile.TarInfo, archive: Path) -> str:
    """The name of a member that may be taken out."""
    path = PurePosixPath(member.name)
    plain = member.isreg() and not member.issparse()
    named = all(_SEGMENT.fullmatch(part) for part in path.parts) and path.suffix in _SUFFIXES
    if not (plain and named and 0 < len(path.parts) <= _DEPTH and member.size >= 0):
        what = f"member {member.name!r}" if plain else f"member {member.name!r}, which is no plain file,"
        raise ArzooError(
            f"{archive} was refused: {what} is not part of a checkpoint. Nothing was taken out of it."
        )
    return path.as_posix()
