"""The search space as Optuna knows it, and its points."""

from collections.abc import Mapping
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from dfpl.config import RunConfig
from dfpl.fields import Choice, ConfigError, FloatRange, IntRange, SearchSpace, flatten

Point = dict[str, Any]


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """The space in Optuna's types, under the same dotted names."""
    return {name: _distribution(wanted) for name, wanted in space.items()}


def read_space(values: Mapping[str, Any]) -> SearchSpace:
    """A search space from what JSON made of it, as in study.json."""
    return {name: _read(wanted) for name, wanted in values.items()}


def _read(wanted: Any) -> FloatRange | IntRange | Choice:
    match wanted:
        case [list() as values]:
            return Choice(tuple(values))
        case [low, high, log]:
            return FloatRange(low, high, log)
        case [low, high]:
            return IntRange(low, high)
    raise ConfigError(f"{wanted} is no search range; study.json was changed")


def _distribution(wanted: FloatRange | IntRange | Choice) -> BaseDistribution:
    match wanted:
        case FloatRange():
            return FloatDistribution(wanted.low, wanted.high, log=wanted.log)
        case IntRange():
            return IntDistribution(wanted.low, wanted.high)
        case Choice():
            return CategoricalDistribution(wanted.values)


def point_of(run: RunConfig, space: SearchSpace) -> Point:
    """The values that `run` has in the space: for the untouched base, the paper's point.

    Raises ConfigError where a value lies outside, since it could not be told to the sampler.
    """
    known = dict(flatten(run.to_dict()))
    for name, wanted in distributions(space).items():
        if not _lies_in(wanted, known[name]):
            raise ConfigError(f"{name} = {known[name]} lies outside its search range, {wanted}")
    return {name: known[name] for name in space}


def _lies_in(wanted: BaseDistribution, value: Any) -> bool:
    try:
        return wanted._contains(wanted.to_internal_repr(value))
    except ValueError:  # a choice that is none of the values
        return False
