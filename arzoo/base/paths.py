"""Expansion of typed paths: one rule for every option, setting and function that takes a path."""

from __future__ import annotations

import os
from pathlib import Path


def expanded(path: str | Path) -> str:
    """Expand `~`, `~user` and `$VARIABLE` in a path, unless a file of the literal name exists.

    A shell does not expand them after an equals sign, in quotes or in a YAML file.

    Args:
        path: A path, or any other name: only a text that begins with `~` or holds a variable that is set changes.

    Example:
        >>> expanded("~/runs/mine").startswith("~")
        False
    """
    text = os.fspath(path)
    if "\0" in text or len(text) > _LONGEST or os.path.lexists(text):
        return text
    parent = os.path.dirname(text)
    if ("~" in parent or "$" in parent) and os.path.isdir(parent):
        return text  # a new name in an existing folder
    return os.path.expandvars(os.path.expanduser(text))


_LONGEST = 4096
"""Largest number of characters of a path; longer texts are not paths."""
