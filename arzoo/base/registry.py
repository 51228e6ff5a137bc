"""Registry: names for tokenizers, backbones, plans, heads, data sets, recipes and the other kinds in `HOMES`.

A name stands for a function. For configured kinds (`tokenizer`, `backbone`, ...) the function takes no argument and
returns a `Config`; for `CALLED` kinds it returns the plan, search, data set, network, verifier, segments or figures. A
name is registered when its module is imported; `HOMES` lists those modules, and a look-up imports those of its kind.
`registry.json` has the names with a line about each, so that listing them imports none of these modules;
`scripts/dev/listings.py` writes it, and a test compares it with the modules.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import importlib
import inspect
import json
import re
import sys
import typing
import warnings
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from arzoo.base.config import Config
from arzoo.base.errors import ArzooError, UnknownName

F = TypeVar("F")

HOMES: dict[str, tuple[str, ...]] = {
    "tokenizer": ("arzoo.tokenizers.*.presets",),
    "backbone": ("arzoo.models.*.presets",),
    "plan": ("arzoo.samplers.plans.*",),
    "head": ("arzoo.models.heads.*",),
    "value": ("arzoo.models.value.*",),
    "segmenter": ("arzoo.models.*.presets",),
    "text_encoder": ("arzoo.models.text.*",),
    "search_method": ("arzoo.samplers.search.*",),
    "speculation": ("arzoo.samplers.speculative.*",),
    "verifier": ("arzoo.samplers.verifiers.*", "arzoo.generation.verifiers.*"),
    "agglomeration": ("arzoo.segmentation.agglomeration.*",),
    "metric": ("arzoo.metrics.scores.*",),
    "feature_net": ("arzoo.models.vision.*",),
    "dataset": ("arzoo.data.sets.*",),
    "recipe": (),
}
"""Modules that register names of each kind, with * for any folder or file. They are imported on first use, so a new
file in one of these places needs no entry anywhere."""

CALLED = frozenset(
    {"plan", "search_method", "speculation", "agglomeration", "metric", "feature_net", "dataset", "verifier"}
)
"""Kinds whose registered function returns the component itself rather than a `Config`."""

LISTING = Path(__file__).with_name("registry.json")
"""By kind: its `modules`, and the `names` that they register, each with its description."""

_entries: dict[str, dict[str, Any]] = {kind: {} for kind in HOMES}


def register(kind: str, name: str | None = None) -> Callable[[F], F]:
    """Return a decorator that registers a function under a name.

    Args:
        kind: A key of `HOMES`.
        name: The name; the function's own name if None.

    Raises:
        UnknownName: There is no such kind.
        ArzooError: Another function has the name.

    Example:
        >>> @register("backbone")
        ... def nar_b() -> TransformerConfig:
        ...     return TransformerConfig(width=768, depth=12)
    """
    entries = _kind(kind)

    def decorate(function: F) -> F:
        key = name or getattr(function, "__name__", "")
        if not key:
            raise ArzooError(f"a {kind} that is not a function needs a name: register({kind!r}, 'name')")
        taken = entries.get(key)
        if taken is not None and _origin(taken) != _origin(function):
            raise ArzooError(f"{kind} {key!r} is already registered by {_origin(taken)}; choose another name")
        entries[key] = function
        return function

    return decorate


def names(kind: str, pattern: str = "*") -> list[str]:
    """Return the registered names in natural order (`s2` before `s16`).

    Args:
        kind: A key of `HOMES`.
        pattern: Shell pattern, for example `"xar*"`.
    """
    entries = _loaded(kind)
    return sorted((key for key in entries if fnmatch.fnmatchcase(key, pattern)), key=natural_key)


def lookup(kind: str, name: str) -> Any:
    """Return the registered function (or object).

    Raises:
        UnknownName: The name is not registered; the message suggests the nearest ones.
    """
    entries = _loaded(kind)
    if name not in entries:
        raise UnknownName(kind, name, entries)
    return entries[name]


def arguments(kind: str, name: str) -> dict[str, Any]:
    """Return the types of the arguments of a registered function or class by name; text where none is said.

    Raises:
        UnknownName: The name is not registered.
    """
    entry = lookup(kind, name)
    of_class = isinstance(entry, type) and not dataclasses.is_dataclass(entry)
    hints = typing.get_type_hints(entry.__init__ if of_class else entry)
    return {argument: hints.get(argument, str) for argument in inspect.signature(entry).parameters}


def called(part: object) -> str:
    """Return what messages call a component, or the settings of one.

    It is the name of its family (`llamagen`, `vq`), of a head the first registered name (`diffusion_mlp`), and of a
    method of speculation that of its file. Names of classes are nothing that users type or see.
    """
    kind = part if isinstance(part, type) else type(part)
    *folders, file = kind.__module__.split(".")
    if folders[-1:] == ["heads"]:
        settings: Any = kind if issubclass(kind, Config) else type(getattr(part, "config", None))
        return _head(settings) or file
    return folders[-1] if folders and folders[-1] != "speculative" else file


@functools.cache
def _head(config: type) -> str:
    """Return the first registered name of heads with this class of settings; empty if there is none."""
    return next((name for name in names("head") if type(lookup("head", name)()) is config), "")


def create(kind: str, name: str, **changes: Any) -> Any:
    """Create a component by name.

    Args:
        kind: A key of `HOMES`.
        name: A registered name.
        **changes: Settings that differ from the registered ones; for `CALLED` kinds, the function's arguments.

    Raises:
        UnknownName: The name is not registered.
        ArzooError: A change names an unknown setting or has the wrong type.
    """
    function = lookup(kind, name)
    if kind in CALLED:
        _fitting(kind, name, function, changes)
        return function(**changes)
    component = function()
    return component.replace(**changes).build() if isinstance(component, Config) else component


def _fitting(kind: str, name: str, function: Callable[..., Any], arguments: dict[str, Any]) -> None:
    """Refuse unknown arguments of a function and the lack of required ones."""
    parameters = inspect.signature(function).parameters
    for argument in arguments:
        if argument not in parameters:
            raise UnknownName(f"argument of {kind} {name!r}", argument, parameters)
    missing = [p.name for p in parameters.values() if p.default is p.empty and p.name not in arguments]
    if missing:
        raise ArzooError(
            f"{kind} {name!r} needs {', '.join(missing)}. Its arguments are: {', '.join(parameters)}."
        )


def describe(kind: str, name: str) -> str:
    """Return the first line of the registered function's docstring; without one, its family."""
    return _description(kind, lookup(kind, name))


def summaries(kind: str, pattern: str = "*") -> dict[str, str]:
    """Return the registered names in natural order, each with its description, without importing their modules.

    Modules of other distributions are imported, and all modules of the kind where there are others than in `LISTING`.

    Args:
        kind: A key of `HOMES`.
        pattern: Shell pattern of the names.
    """
    listing = _listing().get(kind, {"modules": [], "names": {}})
    entries, known = _kind(kind), listing["names"]
    _load_entry_points(kind)
    if listing["modules"] != modules(kind):
        entries, known = _loaded(kind), {}
    texts = known | {name: _description(kind, entry) for name, entry in entries.items() if name not in known}
    chosen = (name for name in texts if fnmatch.fnmatchcase(name, pattern))
    return {name: texts[name] for name in sorted(chosen, key=natural_key)}


def modules(kind: str) -> list[str]:
    """Return the names of the modules of arzoo that register names of a kind."""
    return [module for home in HOMES[kind] for module in _modules(home)]


@functools.cache
def _listing() -> dict[str, Any]:
    listing: dict[str, Any] = json.loads(LISTING.read_text(encoding="utf-8"))
    return listing


def _description(kind: str, entry: Any) -> str:
    text = (inspect.getdoc(entry if callable(entry) else type(entry)) or "").partition("\n")[0]
    return text or ("" if kind in CALLED or not callable(entry) else called(entry()))


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Return a sort key that compares runs of digits as numbers."""
    parts = re.split(r"(\d+)", text)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]


def _kind(kind: str) -> dict[str, Any]:
    if kind not in _entries:
        raise UnknownName("kind of component", kind, _entries)
    return _entries[kind]


def _loaded(kind: str) -> dict[str, Any]:
    """Entries of a kind, after the import of all modules that register them."""
    entries = _kind(kind)
    for module in modules(kind):
        if module not in sys.modules:  # names are looked up often, and asking the import system is slow
            importlib.import_module(module)
    _load_entry_points(kind)
    return entries


@functools.cache
def _modules(home: str) -> tuple[str, ...]:
    """Names of the modules of a home, listed from its folders without importing them."""
    if "*" not in home:
        return (home,)
    package, *parts = home.split(".")
    modules = [(package, Path(__file__).resolve().parents[1])]
    for part in parts:
        modules = [
            (f"{name}.{path.stem}", path)
            for name, folder in modules
            for path in sorted(folder.glob(part if part == "*" else f"{part}*"))
            if part in ("*", path.stem)
            and (path.is_dir() or path.suffix == ".py")
            and not path.stem.startswith("_")
        ]
    return tuple(name for name, path in modules if path.suffix == ".py")


@functools.cache
def _load_entry_points(kind: str) -> None:
    """Register the entry points `arzoo.<kind>s` of other distributions; a broken one is left out with a warning."""
    for point in metadata.entry_points(group=f"arzoo.{kind}s"):
        try:
            plugin = point.load()
            if not isinstance(plugin, ModuleType):  # a module registers its names itself when imported
                register(kind, point.name)(plugin)
        except Exception as error:
            warnings.warn(f"plug-in {point.name!r} ({point.value}) was left out: {error}", stacklevel=4)


def _origin(function: Any) -> str:
    where = getattr(function, "__module__", type(function).__module__)
    return f"{where}.{getattr(function, '__qualname__', type(function).__qualname__)}"
