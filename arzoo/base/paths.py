"""Paths as people type them: one rule for every option, setting and function that takes one."""

from __future__ import annotations

import os
from pathlib import Path


def expanded(path: str | Path) -> str:
    """A path with `~`, `~user` and `$VARIABLE` filled in; what exists under the name as it stands stays as it is.

    A shell fills these in where it sees them, which is not behind an equals sign, in quotes or in a YAML file.

    Args:
        path: A path, or any other name: only what begins with `~` or holds a variable that is set changes.

    Example:
        >>> expanded("~/runs/mine").startswith("~")
        False
    """
    text = os.fspath(path)
    if "\0" in text or len(text) > _LONGEST or os.path.lexists(text):
        return text
    parent = os.path.dirname(text)
    if ("~" in parent or "$" in parent) and os.path.isdir(parent):
        return text  # a new name in a folder that is there
    return os.path.expandvars(os.path.expanduser(text))


_LONGEST = 4096
"""Characters of a path at most; longer texts are no paths."""
