"""Axes of searched hyperparameters: where a value lies in its range, and ticks in real units."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.ticker import MaxNLocator

from dfpl.fields import Choice, FloatRange, IntRange
from dfpl.study.samplers import share_of
from dfpl.study.space import distributions

Wanted = FloatRange | IntRange | Choice
LEAST_GAP = 0.14
"""Between two ticks, as a share of the axis."""
MOST_INNER = 3
"""Ticks between the two ends."""


def places(wanted: Wanted, values: Sequence[Any]) -> list[float]:
    """Where values lie on an axis from 0 to 1: on a log scale where the search is on one; choices
    at equal distances in the order in which they are listed."""
    if isinstance(wanted, Choice):
        last = max(len(wanted.values) - 1, 1)
        return [wanted.values.index(value) / last for value in values]
    [whole] = distributions({"": wanted}).values()
    return [share_of(whole, value) for value in values]


def ticks(wanted: Wanted) -> dict[float, str]:
    """Texts by place: both ends of a range and round numbers in between that leave room; every
    choice."""
    if isinstance(wanted, Choice):
        return dict(zip(places(wanted, wanted.values), map(str, wanted.values), strict=True))
    ends = [wanted.low, wanted.high]
    numbers = round_numbers(wanted)
    apart = [
        (place, value)
        for place, value in zip(places(wanted, numbers), numbers, strict=True)
        if LEAST_GAP <= place <= 1 - LEAST_GAP
    ]
    inner = apart[:: max(1, math.ceil(len(apart) / MOST_INNER))]
    found = [(0.0, ends[0]), *inner, (1.0, ends[1])]
    return {place: f"{value:g}" for place, value in found}


def round_numbers(wanted: FloatRange | IntRange) -> list[float]:
    """Within the range: powers of ten on a log scale, else multiples of a round step."""
    if isinstance(wanted, FloatRange) and wanted.log:
        first, last = math.ceil(math.log10(wanted.low)), math.floor(math.log10(wanted.high))
        return [10.0**power for power in range(first, last + 1)]
    steps = MaxNLocator(MOST_INNER + 1, integer=isinstance(wanted, IntRange))
    found = map(float, steps.tick_values(wanted.low, wanted.high))
    return [value for value in found if wanted.low <= value <= wanted.high]
