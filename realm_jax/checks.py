"""Checks of settings: rules and ranges, and the names and types of what comes from JSON."""

import dataclasses
import math
import types
import typing
from typing import Any, Literal

from realm_jax.errors import ConfigError


def require(condition: bool, rule: str, *, got: Any, remedy: str) -> None:
    """Raise ConfigError unless the condition holds."""
    if not condition:
        raise ConfigError(rule, got=got, remedy=remedy)


def require_least(part: Any, least: int, *names: str) -> None:
    """Raise ConfigError unless these values of a part are finite and at least so large; a NaN is not."""
    for name in names:
        value = getattr(part, name)
        require(
            least <= value < math.inf,
            f"{name} must be at least {least}, and finite",
            got=value,
            remedy="Correct the value.",
        )


def require_above(part: Any, *names: str) -> None:
    """Raise ConfigError unless these values of a part are above 0."""
    for name in names:
        value = getattr(part, name)
        require(value > 0, f"{name} must be above 0", got=value, remedy="Correct the value.")


def require_share(part: Any, *names: str) -> None:
    """Raise ConfigError unless these values of a part are shares of a whole."""
    for name in names:
        value = getattr(part, name)
        require(0 <= value <= 1, f"{name} must be in [0, 1]", got=value, remedy="0.1 is a tenth.")


def to_dict(config: Any) -> dict[str, Any]:
    """Turn a config into plain JSON types."""
    return dataclasses.asdict(config)


def from_dict(kind: type, values: Any, *, where: str = "config") -> Any:
    """Build a config from plain JSON types.

    Args:
      kind: the dataclass to build.
      values: a dict with a subset of its fields; missing ones take their defaults.
      where: dotted name of this part, for errors.

    Raises:
      ConfigError: an unknown key, or a value of the wrong type.
    """
    fields = {f.name: f for f in dataclasses.fields(kind)}
    hints = typing.get_type_hints(kind)
    require(isinstance(values, dict), f"{where} must be a table", got=values, remedy="Give its keys.")
    for key in values:
        require(
            key in fields,
            f"{where} has the keys {', '.join(sorted(fields))}",
            got=key,
            remedy="Check the spelling; unknown keys are never ignored.",
        )
    built = {key: _checked(hints[key], value, where=f"{where}.{key}") for key, value in values.items()}
    return kind(**built)


def _checked(hint: Any, value: Any, *, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type, hint), value, where=where)
    if typing.get_origin(hint) is Literal:
        allowed = typing.get_args(hint)
        require(
            value in allowed, f"{where} must be one of {', '.join(allowed)}", got=value, remedy="Pick one."
        )
        return value
    if isinstance(hint, types.UnionType):
        raise TypeError(f"{where}: union types are not used in configs")
    accepted = (int, float) if hint is float else hint
    wrong_bool = isinstance(value, bool) and hint is not bool
    require(
        isinstance(value, accepted) and not wrong_bool,
        f"{where} must be of type {hint.__name__}",
        got=value,
        remedy="Correct the value.",
    )
    return float(value) if hint is float else value
