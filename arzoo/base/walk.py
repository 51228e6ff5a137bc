"""Walking through a folder: every file once, links to folders followed, whatever they lead to. Imports no torch."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Tree:
    """What lies below a folder.

    Attributes:
        files: Files that are not hidden, in the order of their paths.
        folders: Folders that are not hidden, likewise.
        hidden: Hidden files and folders; the latter are not entered.
        broken: Links that lead nowhere.
        twice: Links to folders that are read by another name, or that lead back to where they are.
        closed: Folders that may not be read.
    """

    files: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    hidden: list[Path] = field(default_factory=list)
    broken: list[Path] = field(default_factory=list)
    twice: list[Path] = field(default_factory=list)
    closed: list[Path] = field(default_factory=list)


def tree(root: str | Path) -> Tree:
    """Everything below a folder. A folder is entered once: by its own name rather than by that of a link."""
    found, seen = Tree(), set[tuple[int, int]]()
    todo, links = deque([Path(root)]), deque[Path]()
    while todo or links:
        by_link = not todo
        folder = links.popleft() if by_link else todo.popleft()
        try:
            facts = os.stat(folder)
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            found.closed.append(folder)
            continue
        if (facts.st_dev, facts.st_ino) in seen:
            found.twice.append(folder)
            continue
        seen.add((facts.st_dev, facts.st_ino))
        if folder != Path(root):
            found.folders.append(folder)
        for entry in entries:
            path = folder / entry.name
            if entry.name.startswith("."):
                found.hidden.append(path)
            elif (leads := _leads(entry)) == "folder":
                (links if entry.is_symlink() else todo).append(path)
            elif leads == "file":
                found.files.append(path)
            elif entry.is_symlink():
                found.broken.append(path)
    for paths in (found.files, found.folders, found.hidden, found.broken, found.twice, found.closed):
        paths.sort()
    return found


def _leads(entry: os.DirEntry[str]) -> str:
    """What a name leads to, links followed: "folder", "file", or nothing that can be read."""
    try:
        return "folder" if entry.is_dir() else "file" if entry.is_file() else ""
    except OSError:  # a link to itself
        return ""
