"""Verifiers by name: opening one for a subject, and what is known of each without reading weights."""

from __future__ import annotations

import warnings
from typing import Any

from arzoo.base import registry
from arzoo.base.errors import ArzooError
from arzoo.samplers.verifiers.base import Subject, Verifier, named

_MEANING = {
    "prompt": "a prompt, which models of classes do not have",
    "class": "a class, which models of prompts do not have",
    "reference": "a reference picture",
}


def verifier_class(name: str) -> type[Verifier]:
    """Return a registered class, for its attributes.

    Raises:
        UnknownName: There is no verifier of that name.
        ArzooError: A plug-in registered something else.
    """
    entry = registry.lookup("verifier", name)
    if not (isinstance(entry, type) and issubclass(entry, Verifier)):
        raise ArzooError(
            f"verifier {name!r} is {entry!r}, but a subclass of arzoo.samplers.verifiers.base.Verifier must be "
            "registered, whose constructor takes the Subject first. Mend the package that registers it."
        )
    return entry


def verifier_classes() -> dict[str, type[Verifier]]:
    """Return all registered classes by name; plug-ins that are none are left out with a warning."""
    classes = {}
    for name in registry.names("verifier"):
        try:
            classes[name] = verifier_class(name)
        except ArzooError as error:
            warnings.warn(f"{error}", stacklevel=2)
    return classes


def open_verifier(name: str, subject: Subject, **options: Any) -> Verifier:
    """Open a verifier for what is to be drawn.

    Args:
        name: A registered name, see `arzoo verifiers ls`.
        subject: What is to be drawn.
        **options: Arguments of its constructor.

    Raises:
        UnknownName: There is no such verifier, or it has no such option.
        ArzooError: The subject lacks what it needs, its weights or packages are not on this machine, or its constructor
            raises something else.
    """
    kind = verifier_class(name)
    if lacking := kind.lacks(subject):
        others = [other for other, its in verifier_classes().items() if not its.lacks(subject)]
        raise ArzooError(
            f"verifier {name!r} needs {' and '.join(_MEANING.get(need, need) for need in lacking)}. Give it, or use a "
            f"verifier that does without: {', '.join(others)}."
        )
    with named(name):
        verifier: Verifier = registry.create("verifier", name, subject=subject, **options)
    return verifier
