"""Where a new search starts: from what was best in finished scenarios like its own."""

from collections.abc import Sequence
from typing import NamedTuple

from dfpl.config import RunConfig
from dfpl.data.scenario import Scenario
from dfpl.fields import ConfigError, SearchSpace
from dfpl.study.records import RecordStore
from dfpl.study.space import Point, point_of


class Tried(NamedTuple):
    """A point that was trained whole in a scenario, and what it reached there on validation."""

    scenario: Scenario
    value: float
    point: Point


def starting_points(wanted: Sequence[Scenario], tried: Sequence[Tried], count: int) -> list[Point]:
    """Up to `count` distinct points: the best one of each scenario, the nearest scenario first,
    then the second best ones, and so on."""
    by_scenario: dict[str, list[Tried]] = {}
    for one in sorted(tried, key=lambda one: -one.value):
        by_scenario.setdefault(str(one.scenario), []).append(one)
    groups = sorted(by_scenario.values(), key=lambda group: distance(group[0].scenario, wanted))
    points: list[Point] = []
    for place in range(max(map(len, groups), default=0)):
        for group in groups:
            if place < len(group) and group[place].point not in points:
                points.append(group[place].point)
    return points[:count]


def distance(scenario: Scenario, wanted: Sequence[Scenario]) -> tuple[bool, float]:
    """How far a scenario is from the nearest of those wanted: a rate away is nearer than another
    pattern, whatever its rate."""
    return min(
        (scenario.pattern != other.pattern, abs(scenario.rate - other.rate)) for other in wanted
    )


def tried_in(store: RecordStore, space: SearchSpace, method: str) -> list[Tried]:
    """All that an earlier study trained whole, as points of this space.

    A run whose values do not lie in the space, or whose method is another, is left out.
    """
    found: list[Tried] = []
    for record in store.read_all():
        if record.state == "complete" and record.value is not None:
            try:
                run = RunConfig.from_dict(record.config)
                point = point_of(run, space)
            except (ConfigError, KeyError):
                continue
            if run.method.name == method:
                found.append(Tried(run.scenario, record.value, point))
    return found
