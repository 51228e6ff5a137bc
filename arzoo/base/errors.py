"""Errors that a user can cause. Messages say what happened, the value, what is allowed and what to do."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Sequence
from types import ModuleType


class ArzooError(ValueError):
    """Base of all errors that are caused by a request rather than by a defect of the library.

    The command line prints its message without a traceback and exits with status 1, or 2 for a `UsageError`.
    """


class UsageError(ArzooError):
    """A command was used wrongly: an argument is missing, out of range, or excludes another one.

    The command line exits with status 2, as for an unknown option.
    """


class UnknownName(ArzooError):
    """A name is not registered, or is no data set or option."""

    def __init__(self, what: str, name: str, options: Iterable[str], hint: str = "") -> None:
        message = f"unknown {what} {name!r}.{nearest(name, options)}"
        super().__init__(f"{message} {hint}".rstrip())


class MissingPackage(ArzooError):
    """An optional package is not installed."""


class Interrupted(KeyboardInterrupt):
    """A run was asked to stop and has saved its state; the message says how to continue."""


def nearest(name: str, options: Iterable[str]) -> str:
    """Suggest the options closest to a mistyped name.

    Args:
        name: The mistyped name.
        options: The names that exist.

    Returns:
        `" Did you mean 'a' or 'b'?"`; if no option is close, the list of options when it is short, else nothing.
    """
    options = list(options)
    close = difflib.get_close_matches(name, options, n=3, cutoff=0.5)
    if close:
        return " Did you mean " + " or ".join(repr(option) for option in close) + "?"
    if 0 < len(options) <= 12:
        return " Choose from: " + ", ".join(sorted(options)) + "."
    return ""


def some(names: Sequence[str], most: int = 8) -> str:
    """Return the first names and the number of the others, such as "a, b and 3 more"."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def require(module: str, extra: str = "", remedy: str = "") -> ModuleType:
    """Import a dependency that is not imported with the package.

    Args:
        module: The module to import.
        extra: The extra of this package that installs it; empty for a dependency that is always installed.
        remedy: Sentences that say what to do without it; by default how to install that extra.

    Raises:
        MissingPackage: The module cannot be imported; the message ends with the remedy.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        requirement = f"'arzoo[{extra}]'" if extra else "arzoo"
        remedy = remedy or f"Install it with: pip install {requirement}"
        raise MissingPackage(f"the package {module!r} is not installed ({error}). {remedy}") from error
