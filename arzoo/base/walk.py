"""A walk through a folder: every file once, with links to folders followed. Imports no torch."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Tree:
    """Files and folders below a folder.

    Attributes:
        files: Files that are not hidden, in the order of their paths.
        folders: Folders that are not hidden, in the order of their paths.
        hidden: Hidden files and folders; the folders are not entered.
        broken: Links without a target.
        repeated: Links to folders that are read under another name, or that contain the link itself.
        unreadable: Folders that may not be read.
    """

    files: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    hidden: list[Path] = field(default_factory=list)
    broken: list[Path] = field(default_factory=list)
    repeated: list[Path] = field(default_factory=list)
    unreadable: list[Path] = field(default_factory=list)


def tree(root: str | Path) -> Tree:
    """List everything below a folder. Each folder is entered once, under its own name rather than that of a link."""
    result, seen = Tree(), set[tuple[int, int]]()
    todo, links = deque([Path(root)]), deque[Path]()
    while todo or links:
        by_link = not todo
        folder = links.popleft() if by_link else todo.popleft()
        try:
            facts = os.stat(folder)
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            result.unreadable.append(folder)
            continue
        if (facts.st_dev, facts.st_ino) in seen:
            result.repeated.append(folder)
            continue
        seen.add((facts.st_dev, facts.st_ino))
        if folder != Path(root):
            result.folders.append(folder)
        for entry in entries:
            path = folder / entry.name
            if entry.name.startswith("."):
                result.hidden.append(path)
            elif (kind := _kind(entry)) == "folder":
                (links if entry.is_symlink() else todo).append(path)
            elif kind == "file":
                result.files.append(path)
            elif entry.is_symlink():
                result.broken.append(path)
    for paths in vars(result).values():
        paths.sort()
    return result


def _kind(entry: os.DirEntry[str]) -> str:
    """Kind of a directory entry, links followed: "folder", "file", or "" if it cannot be read."""
    try:
        return "folder" if entry.is_dir() else "file" if entry.is_file() else ""
    except OSError:  # a link to itself
        return ""
