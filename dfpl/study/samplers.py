"""Where the points of a search come from: a sampler of Optuna's, a grid, or around the paper's."""

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from dfpl.study.space import Point

Sampler = Literal["tpe", "gp", "random", "grid", "nsga2"]
Space = Mapping[str, BaseDistribution]
LEVELS = 3
"""Values per axis of a grid."""
PRIOR_WIDTH = 0.2
"""Standard deviation of the prior around the paper's value, as a share of the (log) range."""


class KnownSpaceTPE(optuna.samplers.TPESampler):
    """TPE over all of a known space. Optuna's own finds the space in what all trials have in
    common, which a fresh sampler would look for in each of them again."""

    def __init__(self, space: Space, seed: int) -> None:
        super().__init__(seed=seed, multivariate=True, constant_liar=True)
        self.space = {name: space[name] for name in sorted(space) if not space[name].single()}

    def infer_relative_search_space(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self.space


def new_sampler(name: Sampler, space: Space, seed: int, trials: int) -> optuna.samplers.BaseSampler:
    """A fresh sampler for one suggestion; all that it knows is what its study was told.

    `trials`: how many the search will have; a fifth of them make a generation of NSGA-II.
    """
    match name:
        case "tpe":
            return KnownSpaceTPE(space, seed)
        case "gp":
            return optuna.samplers.GPSampler(seed=seed)
        case "nsga2":
            return optuna.samplers.NSGAIISampler(seed=seed, population_size=max(4, trials // 5))
        case "random" | "grid":
            return optuna.samplers.RandomSampler(seed=seed)


def grid_point(space: Space, number: int, seed: int) -> Point | None:
    """The point at this position of the shuffled full grid; None beyond its end.

    An axis has `LEVELS` values from end to end, on a log scale where it is one; a choice has all.
    """
    axes = {name: levels(wanted) for name, wanted in space.items()}
    size = math.prod(len(axis) for axis in axes.values())
    if number >= size:
        return None
    place = int(np.random.default_rng(seed).permutation(size)[number])
    point: Point = {}
    for name, axis in axes.items():
        place, at = divmod(place, len(axis))
        point[name] = axis[at]
    return point


def levels(wanted: BaseDistribution) -> list[Any]:
    if isinstance(wanted, CategoricalDistribution):
        return list(wanted.choices)
    found = [at_share(wanted, share) for share in np.linspace(0, 1, LEVELS)]
    return list(dict.fromkeys(found))


def prior_point(space: Space, paper: Point, seed: int) -> Point:
    """A draw around the paper's point: a normal distribution on each axis, cut at its ends; a
    choice keeps the paper's value in every other draw."""
    random = np.random.default_rng(seed)
    return {name: _near(wanted, paper[name], random) for name, wanted in space.items()}


def _near(wanted: BaseDistribution, value: Any, random: np.random.Generator) -> Any:
    if isinstance(wanted, CategoricalDistribution):
        keep = random.random() < 0.5
        return value if keep else wanted.choices[random.integers(len(wanted.choices))]
    centre = share_of(wanted, value)
    while not 0 <= (share := random.normal(centre, PRIOR_WIDTH)) <= 1:
        pass
    return at_share(wanted, share)


def at_share(wanted: BaseDistribution, share: float) -> float | int:
    """The value at this share of the range from its low end, of the log range where it is one."""
    low, high, log = _range(wanted)
    value = low ** (1 - share) * high**share if log else (1 - share) * low + share * high
    if isinstance(wanted, IntDistribution):
        return round(value)
    return min(max(value, low), high)


def share_of(wanted: BaseDistribution, value: float | int) -> float:
    """Where a value lies in its range, 0 at the low end and 1 at the high one."""
    low, high, log = _range(wanted)
    if log:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return (value - low) / (high - low) if high > low else 0.5


def _range(wanted: BaseDistribution) -> tuple[float, float, bool]:
    assert isinstance(wanted, FloatDistribution | IntDistribution)
    return float(wanted.low), float(wanted.high), wanted.log
