"""What every config is made of: frozen, checked fields, and errors that name the way out."""

import difflib
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

Row = dict[str, int | float]
"""What is known of one epoch of a run: numbers by name."""
C = TypeVar("C", bound="Config")  # not typing.Self: shape checks in tests cannot read it


class ConfigError(ValueError):
    """A person chose something wrongly; the message names it, the rule and the way out."""


class Config(BaseModel):
    """A frozen set of checked fields. Unknown names and wrong types are refused, never ignored."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        use_attribute_docstrings=True,
        validate_default=True,
        allow_inf_nan=False,
    )

    @classmethod
    def from_dict(cls: type[C], values: Mapping[str, Any], prefix: str = "") -> C:
        """Rebuild what `to_dict` wrote. Raises ConfigError with dotted names below `prefix`."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise ConfigError(explain(error, cls, prefix)) from None

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return {name: _plain(getattr(self, name)) for name in type(self).model_fields}

    def with_values(self: C, values: Mapping[str, Any]) -> C:
        """Return a copy with the fields named by dotted paths replaced.

        The whole is rebuilt once, with all its new values, so rules that tie two fields
        together are checked on the result and not on a state in between.
        """
        changed = self.to_dict()
        for path, value in values.items():
            *parents, name = path.split(".")
            part: Any = changed
            for parent in parents:
                part = part.get(parent) if isinstance(part, dict) else None
            if not isinstance(part, dict) or name not in part:
                raise ConfigError(unknown_name(path, dict(flatten(self.to_dict()))))
            part[name] = value
        return type(self).from_dict(changed)


def _plain(value: Any) -> Any:
    """A copy in plain values, so that changing it leaves the frozen config as it is."""
    return value.to_dict() if isinstance(value, Config) else deepcopy(value)


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested dictionaries under their dotted names."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def unknown_name(name: str, known: Any) -> str:
    """Say that `name` does not exist, and what was probably meant."""
    names = sorted(known)
    leaf = name.rsplit(".", 1)[-1]
    close = difflib.get_close_matches(name, names, n=1) or [
        full for full in names if full.rsplit(".", 1)[-1] == leaf
    ]
    hint = f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(names)}"
    return f"there is no field {name!r}{hint}"


def explain(error: ValidationError, owner: type[BaseModel], prefix: str = "") -> str:
    """Turn pydantic's report into one line per problem: name, rule, value found."""
    lines = []
    for problem in error.errors():
        name = prefix + ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            parents = problem["loc"][:-1]
            inside = prefix + "".join(f"{part}." for part in parents)
            known = [f"{inside}{field}" for field in _fields_at(owner, parents)]
            lines.append(unknown_name(name, known))
        elif problem["type"] == "missing":
            lines.append(f"{name} is missing")
        elif problem["type"] == "value_error":
            lines.append(str(problem.get("ctx", {}).get("error", problem["msg"])))
        else:
            rule = problem["msg"].removeprefix("Input ").removeprefix("should ")
            lines.append(f"{name} should {rule}, got {problem['input']!r}")
    return "; ".join(lines)


def _fields_at(owner: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    for part in location:
        field = owner.model_fields.get(str(part))
        annotation = field.annotation if field else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        owner = annotation
    return list(owner.model_fields)


class FloatRange(NamedTuple):
    """A real number searched in [low, high], on a log scale where its order of size matters."""

    low: float
    high: float
    log: bool = False


class IntRange(NamedTuple):
    """A whole number searched in {low, ..., high}."""

    low: int
    high: int


class Choice(NamedTuple):
    """One of a few values without order."""

    values: tuple[str | int | float | bool, ...]


SearchSpace = Mapping[str, FloatRange | IntRange | Choice]
