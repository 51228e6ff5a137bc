"""Errors a user can cause, each saying what happened, the value, what is allowed and what to do."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType


class ArzooError(ValueError):
    """Base of every error caused by a request rather than by a defect of the library.

    The command line prints its message without a traceback and exits with status 1, or 2 for a `UsageError`.
    """


class UsageError(ArzooError):
    """A command was asked for what it never does: an argument is missing, out of range, or excludes another one.

    The command line exits with status 2, as for an unknown option.
    """


class UnknownName(ArzooError):
    """A name that no registry, data set or option knows."""

    def __init__(self, what: str, name: str, options: Iterable[str], hint: str = "") -> None:
        message = f"unknown {what} {name!r}.{nearest(name, options)}"
        super().__init__(f"{message} {hint}".rstrip())


class MissingPackage(ArzooError):
    """An optional package is not installed."""


class Interrupted(KeyboardInterrupt):
    """A run was asked to stop and has saved what it had; the message says how to go on."""


def nearest(name: str, options: Iterable[str], count: int = 3) -> str:
    """A sentence naming the options closest to a mistyped name.

    Args:
        name: What was asked for.
        options: What exists.
        count: How many suggestions at most.

    Returns:
        `" Did you mean 'a' or 'b'?"`, or the list of options when none is close and the list is short.
    """
    options = list(options)
    close = difflib.get_close_matches(name, options, n=count, cutoff=0.5)
    if close:
        return " Did you mean " + " or ".join(repr(option) for option in close) + "?"
    if 0 < len(options) <= 12:
        return " Choose from: " + ", ".join(sorted(options)) + "."
    return ""


def require(module: str, extra: str = "") -> ModuleType:
    """Import a dependency that is not imported with the package.

    Args:
        module: The module to import.
        extra: The extra of this package that installs it; none for what always comes with it.

    Raises:
        MissingPackage: When the module cannot be imported; the message has the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        wanted = f"'arzoo[{extra}]'" if extra else "arzoo"
        raise MissingPackage(
            f"the package {module!r} is not installed ({error}). Install it with: pip install {wanted}"
        ) from error
