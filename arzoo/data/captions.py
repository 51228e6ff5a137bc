"""Captions of picture files, from a text file beside each picture or from a table for the folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from arzoo.base.errors import ArzooError

TABLES = ("captions.json", "captions.jsonl")


def captions_of(
    folder: Path, files: Sequence[Path], what: str = "picture"
) -> tuple[tuple[str, ...] | None, list[str]]:
    """Read the captions of pictures.

    A caption is the text file beside a picture with the same stem, or its entry in `captions.json` ({file: caption}) or
    `captions.jsonl` (one {"file_name": ..., "text": ...} per line), where a file is named by its path from the folder
    or by its name alone.

    Args:
        folder: Folder of the tables.
        files: Files of the pictures or clips; several clips of one file have its caption.
        what: What a file is, for the remarks.

    Returns:
        The captions, empty for pictures without one, or None if no picture has one; and remarks on pictures without
        a caption and captions without a picture.

    Raises:
        ArzooError: A table cannot be read.
    """
    table = _table(folder)
    texts = tuple(_caption(path, folder, table) for path in files)
    names = {name for path in files for name in (path.relative_to(folder).as_posix(), path.name)}
    unused = [name for name in table if name not in names]
    remarks = (
        [f"{len(unused)} captions name no {what} that was read, the first: {unused[0]}"] if unused else []
    )
    if not any(texts):
        return None, remarks
    without = [path for path, text in zip(files, texts, strict=True) if not text]
    if without:
        first = without[0].relative_to(folder)
        remarks.append(f"{len(without)} of {len(files)} {what}s have no caption, the first: {first}")
    return texts, remarks


def _table(folder: Path) -> dict[str, str]:
    """Read the tables: captions by file."""
    table: dict[str, str] = {}
    for path in (folder / name for name in TABLES):
        if not path.exists():
            continue
        try:
            text = path.read_text(encoding="utf-8-sig")
            if path.suffix == ".json":
                table.update((str(name), str(caption).strip()) for name, caption in json.loads(text).items())
            else:
                lines = [json.loads(line) for line in text.splitlines() if line.strip()]
                table.update((str(line["file_name"]), str(line["text"]).strip()) for line in lines)
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            raise ArzooError(
                f"{path} is not a table of captions ({error}). captions.json must look like "
                '{"picture.png": "a caption"}, captions.jsonl has {"file_name": "picture.png", "text": "a caption"} '
                "on every line."
            ) from error
    return table


def _caption(path: Path, folder: Path, table: dict[str, str]) -> str:
    """Return the caption of one picture; empty if it has none."""
    named = table.get(path.relative_to(folder).as_posix()) or table.get(path.name)
    if named:
        return named
    text = path.with_suffix(".txt")
    return text.read_text(encoding="utf-8-sig", errors="replace").strip() if text.exists() else ""
