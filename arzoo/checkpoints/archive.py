"""A checkpoint as one .tar file, and its safe extraction.

The archive is not compressed, so its content is no larger than the file. Only plain files with names of a checkpoint
are extracted: no links, no devices, no absolute paths, nothing outside the folder.
"""

from __future__ import annotations

import re
import shutil
import tarfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from arzoo.base.errors import ArzooError
from arzoo.base.files import atomic_file, atomic_folder, file_sha256
from arzoo.base.runtime import cache_folder, explain_cache
from arzoo.checkpoints.index import INDEX

MAX_MEMBERS = 1000
_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_SUFFIXES = frozenset({".json", ".safetensors", ".md", ".png"})
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
    """Return the size of the file that `pack` writes for files of these sizes."""
    block = tarfile.BLOCKSIZE
    blocks = sum(1 + -(-size // block) for size in sizes) + 2
    return -(-blocks * block // tarfile.RECORDSIZE) * tarfile.RECORDSIZE


def unpack(archive: str | Path) -> Path:
    """Extract a .tar into the cache, once, and return the checkpoint folder.

    Raises:
        ArzooError: The file is not such an archive, or holds anything but the files of a checkpoint.
    """
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
            _extract(opened, archive, partial)
            if not (partial / INDEX).exists():
                raise ArzooError(f"{archive} is not a checkpoint: it has no {INDEX}.")
    except (tarfile.TarError, EOFError, OverflowError, UnicodeError) as error:
        raise ArzooError(f"{archive} is not a complete .tar ({error}). Copy or download it again.") from error
    return target


def _extract(opened: tarfile.TarFile, archive: Path, folder: Path) -> None:
    bytes_left, names = archive.stat().st_size, set[str]()
    for count, member in enumerate(opened, 1):
        if member.isdir():
            continue
        name, bytes_left = _checked(member, archive), bytes_left - member.size
        if name in names or bytes_left < 0 or count > MAX_MEMBERS:
            raise ArzooError(
                f"{archive} was refused: it names {name!r} twice, more bytes than it has, or more than {MAX_MEMBERS} "
                "files."
            )
        names.add(name)
        content, path = opened.extractfile(member), folder / name
        assert content is not None
        # Only bytes are taken, into new files: `extract` is safe with a filter alone, which Python 3.11.2 of Debian 12
        # does not have.
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                shutil.copyfileobj(content, file)
        except (FileExistsError, NotADirectoryError) as error:
            raise ArzooError(f"{archive} was refused: two of its files have the place {name!r}.") from error


def _checked(member: tarfile.TarInfo, archive: Path) -> str:
    """Return the name of a member, refusing one that is not part of a checkpoint."""
    path = PurePosixPath(member.name)
    plain = member.isreg() and not member.issparse()
    named = all(_SEGMENT.fullmatch(part) for part in path.parts) and path.suffix in _SUFFIXES
    if not (plain and named and 0 < len(path.parts) <= _DEPTH and member.size >= 0):
        what = f"member {member.name!r}" if plain else f"member {member.name!r}, which is no plain file,"
        raise ArzooError(f"{archive} was refused: {what} is not part of a checkpoint. Nothing was extracted.")
    return path.as_posix()
