"""Config: the settings of a component as a frozen dataclass that survives YAML, JSON and typing mistakes."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import operator
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from arzoo.base.errors import ArzooError, nearest

C = TypeVar("C", bound="Config")
CLASS_KEY = "class"  # a Python keyword, so no field can have this name


@dataclass(frozen=True, kw_only=True)
class Config:
    """Base of all configs. A subclass is a frozen, keyword-only dataclass and defines `build()`.

    Fields hold plain values only: int, float, bool, str, None, `Literal`, tuples of these, and other configs. A field
    declared as a base class or a union of configs may hold any of them; its class is then stored beside its fields.

    Example:
        >>> @dataclass(frozen=True, kw_only=True)
        ... class MlpConfig(Config):
        ...     width: int = 64
        ...     act: str = "gelu"
        >>> MlpConfig.from_dict({"width": 32}).replace(act="silu").to_dict()
        {'width': 32, 'act': 'silu'}
    """

    def build(self) -> Any:
        """Build the component that these settings describe."""
        raise NotImplementedError(f"{type(self).__name__} does not define build()")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain data: nested dictionaries, with lists for tuples.

        Raises:
            ArzooError: A field holds a value that its type does not allow.
        """
        hints = hints_of(type(self))
        return {name: _dump(getattr(self, name), hint, name) for name, hint in hints.items()}

    @classmethod
    def from_dict(cls: type[C], data: Mapping[str, Any]) -> C:
        """Create a config from plain data; the inverse of `to_dict`.

        Args:
            data: Field names and values. Missing fields take their defaults; lists become tuples.

        Raises:
            ArzooError: A key is unknown, a value has another type than its field, or a required field is missing.
        """
        return _load_config(data, (cls,), "")  # type: ignore[return-value]

    def to_yaml(self) -> str:
        """Return the settings as YAML text."""
        return yaml_text(self.to_dict())

    def hash(self) -> str:
        """Return the first 12 hex digits of the sha256 of the canonical JSON; equal settings have equal hashes."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def replace(self: C, **changes: Any) -> C:
        """Return a copy with some fields changed. A dictionary for a nested config changes that config's fields.

        Raises:
            ArzooError: A name is not a field, or a value has the wrong type.
        """
        hints = hints_of(type(self))
        _refuse_unknown(changes, hints, type(self), "")
        values = {}
        for name, value in changes.items():
            current = getattr(self, name)
            if isinstance(current, Config) and isinstance(value, Mapping) and CLASS_KEY not in value:
                values[name] = current.replace(**value)
            else:
                values[name] = _load(value, hints[name], name)
        return dataclasses.replace(self, **values)


@dataclass(frozen=True, kw_only=True)
class Named(Config):
    """A registered part and the settings chosen for it; as plain data, a mapping with `name` or the name alone.

    Which settings exist depends on the name; they are checked by code that knows the registry.

    Attributes:
        name: Registered name; empty means none.
        settings: Values by name.
    """

    name: str = ""
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def read(cls, data: Any, where: str) -> Named:
        """Create a part from plain data.

        Args:
            data: A name, or a mapping with `name` and settings.
            where: Name of the setting, for the message.

        Raises:
            ArzooError: The data has no name.
        """
        settings = {"name": data} if isinstance(data, str) else dict(data)
        name = settings.pop("name", None)
        if not isinstance(name, str):
            raise ArzooError(
                f"{where} must be a name or a mapping {{name: NAME, SETTING: VALUE}}, got {data!r}"
            )
        return cls(name=name, settings=settings)

    def to_dict(self) -> dict[str, Any]:
        """Return the name and the settings as one dictionary."""
        return {"name": self.name, **_plain(dict(self.settings))}

    def replace(self, **changes: Any) -> Named:
        """Return a copy with some settings changed; a new name drops the settings of the old one."""
        other = changes.pop("name", self.name)
        return Named(name=other, settings={**(self.settings if other == self.name else {}), **changes})


def _plain(value: Any) -> Any:
    """Replace tuples by lists, and configs by mappings with their class."""
    if isinstance(value, Config):
        return {CLASS_KEY: type(value).__name__, **value.to_dict()}
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (tuple, list)) else value


def checked(value: Any, hint: Any, name: str) -> Any:
    """Return a plain value converted to the type of a setting: tuples for lists, floats for whole numbers.

    Args:
        value: The value.
        hint: Type of the setting.
        name: Name of the setting, for the message.

    Raises:
        ArzooError: The value does not have that type.
    """
    return _load(value, hint, name)


def whole_number(value: Any, what: str, least: float = -math.inf) -> int:
    """Return an integer of any type, such as numpy's, as a Python integer; booleans are refused.

    Args:
        value: The value.
        what: What the number stands for, for the message.
        least: Smallest value allowed.

    Raises:
        ArzooError: The value is not an integer, or is too small.
    """
    number = None
    if not isinstance(value, bool):
        with contextlib.suppress(TypeError):
            number = operator.index(value)
    if number is None or number < least:
        allowed = "a whole number" + ("" if least == -math.inf else f" of at least {least:g}")
        raise ArzooError(f"{what} must be {allowed}, got {value!r}")
    return number


def refuse_outside(config: Config, prefix: str, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Check that fields of a config, or every number of a tuple, are finite and in their inclusive range.

    Args:
        config: The config whose fields are checked.
        prefix: Prefix of the field names in messages, such as "optim.".
        ranges: Smallest and largest value by field; infinity means no upper limit.

    Raises:
        ArzooError: A number is outside its range.
    """
    for name, (low, high) in ranges.items():
        value = getattr(config, name)
        refuse_number(value, prefix + name, (low, high))


def refuse_number(value: float | tuple[float, ...], name: str, allowed: tuple[float, float]) -> None:
    """Check that a number, or every number of a tuple, is finite and in an inclusive range.

    Raises:
        ArzooError: A number is outside the range.
    """
    low, high = allowed
    for number in value if isinstance(value, tuple) else (value,):
        if not (math.isfinite(number) and low <= number <= high):
            limits = f"from {low:g} to {high:g}" if math.isfinite(high) else f"finite and at least {low:g}"
            raise ArzooError(f"{name} must be {limits}, got {value}")


def load_yaml(source: str | Path) -> Any:
    """Parse YAML safely and read `1e-4` as a number, which plain PyYAML reads as text.

    Args:
        source: A `Path`, a string that ends in .yaml or .yml (both files), or YAML text.

    Raises:
        ArzooError: The file does not exist, or the text is not valid YAML.
    """
    is_file = isinstance(source, Path) or (source.endswith((".yaml", ".yml")) and "\n" not in source)
    try:
        text = Path(source).read_text(encoding="utf-8") if is_file else str(source)
    except OSError as error:
        raise ArzooError(f"cannot read {str(source)!r}: {error.strerror}. Check the path.") from error
    except UnicodeDecodeError as error:
        raise ArzooError(f"{source} is not text in UTF-8 ({error}). Save it as UTF-8.") from error
    try:
        return yaml.load(text, Loader=_Loader)  # a subclass of SafeLoader
    # For impossible dates and numbers and for very deep nesting, the parser raises other errors than YAMLError.
    except (yaml.YAMLError, ValueError, AttributeError, TypeError, RecursionError) as error:
        where = f"{source} is" if is_file else "this is"
        raise ArzooError(f"{where} not valid YAML: {error}") from error


def yaml_text(data: Any) -> str:
    """Format plain data as YAML; keys keep their order."""
    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True))


class _Loader(yaml.SafeLoader):
    """SafeLoader with the number syntax of YAML 1.2."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def hints_of(cls: type) -> dict[str, Any]:
    """Return the types of the settings of a config by name."""
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls) if f.init}


def in_words(cls: type) -> str:
    """Return what messages call settings: "generator loss" for the class GeneratorLoss, "run" for RunConfig."""
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z]+|[0-9]+", cls.__name__.removesuffix("Config"))
    return " ".join(parts).lower()


def _refuse_unknown(data: Mapping[str, Any], hints: dict[str, Any], cls: type[Config], where: str) -> None:
    for key in data:
        if key not in hints:
            raise ArzooError(
                f"{in_words(cls)} has no setting {where + str(key)!r}.{nearest(str(key), hints)}"
            )


def members_of(hint: Any) -> tuple[Any, ...]:
    """Return the alternatives of a union, or the type itself as the only one."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def is_config(hint: Any) -> bool:
    """Return whether a type is a config class."""
    return isinstance(hint, type) and issubclass(hint, Config)


def _with_subclasses(classes: tuple[type[Config], ...]) -> dict[str, type[Config]]:
    by_name: dict[str, type[Config]] = {}
    for cls in classes:
        by_name[cls.__name__] = cls
        by_name.update(_with_subclasses(tuple(cls.__subclasses__())))
    return by_name


def _dump(value: Any, hint: Any, where: str) -> Any:
    if isinstance(value, Config):
        allowed = tuple(member for member in members_of(hint) if is_config(member))
        if not isinstance(value, allowed):
            raise _wrong(value, hint, where)
        named = allowed == (type(value),)
        return value.to_dict() if named else {CLASS_KEY: type(value).__name__, **value.to_dict()}
    value = _load(value, hint, where)
    if isinstance(value, tuple):
        inner = _tuple_hints(value, hint, where)
        return [_dump(item, h, f"{where}[{i}]") for i, (item, h) in enumerate(zip(value, inner, strict=True))]
    return value


def _load(value: Any, hint: Any, where: str) -> Any:
    """Check a value against a type; restore tuples, nested configs and floats written as integers."""
    members = members_of(hint)
    configs = tuple(member for member in members if is_config(member))
    if isinstance(value, Config) and isinstance(value, configs):
        return value
    if configs == (Named,) and isinstance(value, (Mapping, str)):
        return Named.read(value, where)
    if configs and isinstance(value, Mapping):
        return _load_config(value, configs, where + ".")
    for member in members:
        origin = typing.get_origin(member)
        if origin is typing.Literal:
            if any(value == choice and type(value) is type(choice) for choice in typing.get_args(member)):
                return value
        elif origin is tuple and isinstance(value, (tuple, list)):
            inner = _tuple_hints(value, member, where)
            return tuple(
                _load(v, h, f"{where}[{i}]") for i, (v, h) in enumerate(zip(value, inner, strict=True))
            )
        elif member is Any or (member in (int, bool, str, type(None), float) and type(value) is member):
            return value
    if float in members and type(value) is int:
        return float(value)
    raise _wrong(value, hint, where)


def _load_config(data: Mapping[str, Any], classes: tuple[type[Config], ...], where: str) -> Config:
    cls = classes[0]
    if not isinstance(data, Mapping):
        raise ArzooError(f"{in_words(cls)} needs a mapping of settings, got {type(data).__name__} {data!r}")
    options = _with_subclasses(classes)
    if CLASS_KEY in data:
        name = str(data[CLASS_KEY])
        if name not in options:
            raise ArzooError(f"{where + CLASS_KEY}: unknown config class {name!r}.{nearest(name, options)}")
        cls = options[name]
        data = {key: value for key, value in data.items() if key != CLASS_KEY}
    elif len(classes) > 1:
        choices = ", ".join(c.__name__ for c in classes)
        raise ArzooError(f"setting {where + CLASS_KEY!r} is missing; it is one of {choices}")
    hints = hints_of(cls)
    _refuse_unknown(data, hints, cls, where)
    no_default = (dataclasses.MISSING, dataclasses.MISSING)
    for field in dataclasses.fields(cls):
        if field.init and field.name not in data and (field.default, field.default_factory) == no_default:
            raise ArzooError(
                f"{in_words(cls)} needs the setting {where + field.name!r}, which has no default"
            )
    return cls(**{key: _load(value, hints[key], where + key) for key, value in data.items()})


def _tuple_hints(value: tuple[Any, ...] | list[Any], hint: Any, where: str) -> tuple[Any, ...]:
    hint = next(member for member in members_of(hint) if typing.get_origin(member) is tuple)
    inner = typing.get_args(hint)
    if len(inner) == 2 and inner[1] is Ellipsis:
        return (inner[0],) * len(value)
    if len(inner) != len(value):
        raise ArzooError(f"setting {where!r} needs {len(inner)} values, got {len(value)}: {list(value)}")
    return inner


def _wrong(value: Any, hint: Any, where: str) -> ArzooError:
    allowed = " or ".join(_spelled(member) for member in members_of(hint))
    return ArzooError(f"setting {where!r} must be {allowed}, got {type(value).__name__} {value!r}")


def _spelled(member: Any) -> str:
    if typing.get_origin(member) is typing.Literal:
        return "one of " + ", ".join(repr(choice) for choice in typing.get_args(member))
    if member is type(None):
        return "null"
    return getattr(member, "__name__", str(member)) if typing.get_origin(member) is None else str(member)
