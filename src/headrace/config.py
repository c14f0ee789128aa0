"""Typed configurations: frozen dataclasses from and to plain JSON values.

A recipe travels through KFP as nested dicts of JSON values. `decode` turns one back into its
dataclass and refuses what it does not know, naming the nearest name it does; `encode` is its
inverse; `override` applies one `section.key=value` from a command line.
"""

import contextlib
import dataclasses
import difflib
import enum
import json
import os
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from headrace.errors import ConfigError

T = TypeVar("T")


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which of `known` was probably meant, as the end of an error message."""
    choices = sorted(known)
    close = difflib.get_close_matches(str(name), choices, n=1, cutoff=0.5)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(choices) or 'none'}."


def asked(variable: str, choices: Sequence[str], otherwise: str, what: str) -> str:
    """The choice that an environment variable names; `otherwise` where it is unset or empty.

    Args:
        variable: Its name.
        choices: What it may name.
        otherwise: What is meant where it names nothing.
        what: What it names, for the message: `policy`.

    Raises:
        ConfigError: It names none of them.
    """
    value = os.environ.get(variable) or otherwise
    if value not in choices:
        raise ConfigError(f"{variable}={value!r} is no {what}. {nearest(value, choices)}")
    return value


def encode(value: Any) -> Any:
    """Turn a configuration into JSON values; tuples become lists, enum members their values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    return value.value if isinstance(value, enum.Enum) else value


def decode(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """Build the dataclass `cls` from JSON values, nested dataclasses included.

    Args:
        cls: A dataclass type; its annotations say what is accepted.
        values: JSON values, for instance what `encode` returned.
        where: Path of this section in the whole configuration, for messages.

    Raises:
        ConfigError: An unknown key, a missing one, or a value of another type.
    """
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    section = where or cls.__name__
    if not isinstance(values, Mapping):
        raise ConfigError(f"{section}={values!r} is not a section. Give {cls.__name__} as key-value pairs.")
    for key in values:
        if key not in fields:
            raise ConfigError(f"{section} has no key {key!r}. {nearest(key, fields)}")
    for name, field in fields.items():
        optional = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if name not in values and not optional:
            raise ConfigError(f"{section} needs {name!r}, which has no default. Set {section}.{name}.")
    inner = f"{where}." if where else ""
    return cls(**{key: _decode_value(hints[key], value, inner + key) for key, value in values.items()})


def _decode_value(hint: Any, value: Any, where: str) -> Any:
    """Check one value against its annotation and convert it, recursing into containers."""
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        return decode(typing.cast(type[Any], hint), value, where)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _decode_union(arguments, value, where)
    if origin is typing.Literal:
        return _one_of(value, arguments, where)
    if origin in (tuple, list):
        return _decode_sequence(origin, arguments, value, where)
    if origin in (dict, Mapping) or hint is dict:
        return _decode_mapping(arguments or (Any, Any), value, where)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return hint(_one_of(value, tuple(member.value for member in hint), where))
    return _decode_scalar(hint, value, where)


def _decode_union(choices: tuple[Any, ...], value: Any, where: str) -> Any:
    """Take the first alternative that accepts the value; None only where it is offered."""
    if value is None and type(None) in choices:
        return None
    problem: ConfigError | None = None
    for choice in choices:
        if choice is type(None):
            continue
        try:
            return _decode_value(choice, value, where)
        except ConfigError as error:
            problem = problem or error
    raise problem or ConfigError(f"{where}={value!r} fits none of {choices}.")


def _one_of(value: Any, choices: tuple[Any, ...], where: str) -> Any:
    """Accept exactly one of the listed values; True is not 1, and 1.0 becomes the 1 that is listed."""
    for choice in choices:
        if choice == value and isinstance(choice, bool) == isinstance(value, bool):
            return choice
    raise ConfigError(f"{where}={value!r} is not a choice. {nearest(str(value), map(str, choices))}")


def _decode_sequence(origin: type, arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    """Decode a list or tuple item by item; a fixed-length tuple checks its length."""
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f"{where}={value!r} is not a list. Write it as JSON, such as [1, 2].")
    fixed = origin is tuple and Ellipsis not in arguments
    if fixed and len(value) != len(arguments):
        raise ConfigError(f"{where} has {len(value)} items and takes {len(arguments)}.")
    hints = arguments if fixed else (arguments or (Any,))[:1] * len(value)
    return origin(
        _decode_value(hint, item, f"{where}[{index}]")
        for index, (hint, item) in enumerate(zip(hints, value, strict=True))
    )


def _decode_mapping(arguments: tuple[Any, ...], value: Any, where: str) -> dict[str, Any]:
    """Decode a mapping whose keys are names."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}={value!r} is not a mapping. Write it as JSON.")
    return {key: _decode_value(arguments[1], item, f"{where}.{key}") for key, item in value.items()}


def _decode_scalar(hint: Any, value: Any, where: str) -> Any:
    """Accept a value of the annotated type; KFP hands whole numbers over as floats."""
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, hint) and not (isinstance(value, bool) and hint is not bool):
        return value
    raise ConfigError(f"{where}={value!r} is {type(value).__name__}, not {hint.__name__}. Change its type.")


def override(config: T, assignment: str) -> T:
    """Apply one `section.key=value` to a configuration and check the whole again.

    The value is read as JSON where it parses as JSON and fits, and as plain text otherwise, so that
    `train.steps=100` is a number, and `corpus.uri=gs://bucket/pile` and `corpus.name=2024` need no quotes.

    Raises:
        ConfigError: No `=`, an unknown section or key, or a value of the wrong type.
    """
    path, found, text = assignment.partition("=")
    if not found:
        raise ConfigError(f"{assignment!r} is no assignment. Write section.key=value.")
    names = path.strip().split(".")
    try:
        value = json.loads(text)
    except ValueError:
        return _replace(config, names, text)
    try:
        return _replace(config, names, value)
    except ConfigError:
        with contextlib.suppress(ConfigError):
            return _replace(config, names, text)
        raise


def _replace(config: T, names: list[str], value: Any) -> T:
    """Set the key that `names` leads to, and decode the whole."""
    values = encode(config)
    section = values
    *parents, key = names
    for depth, name in enumerate(parents):
        if not isinstance(section, dict) or name not in section:
            known = section if isinstance(section, dict) else ()
            raise ConfigError(f"There is no section {'.'.join(parents[: depth + 1])!r}. {nearest(name, known)}")
        section = section[name]
    if not isinstance(section, dict):
        raise ConfigError(f"{'.'.join(parents)!r} holds a value, not a section. Set it whole.")
    section[key] = value
    return decode(type(config), values)
