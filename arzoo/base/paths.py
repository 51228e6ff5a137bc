"""Typed paths, expanded by one rule for every option, setting and function, and what the cache of the hub holds."""

from __future__ import annotations

import os
from pathlib import Path

from arzoo.base.errors import ArzooError


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


def cached_repository(name: str, absent: str) -> Path:
    """Return the folder of a repository in the local cache of the Hugging Face hub; nothing is downloaded.

    Args:
        name: "organisation/name".
        absent: Message if it is not there.

    Raises:
        ArzooError: It is not there.
    """
    import huggingface_hub

    try:
        return Path(huggingface_hub.snapshot_download(name, local_files_only=True))
    except Exception as error:  # the hub's errors share no base class
        raise ArzooError(absent) from error
