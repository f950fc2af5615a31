"""What the best configs of a search rest on: whole trials, how flat the optimum is, and what one
config for all scenarios costs. All from validation values."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from rich.table import Table

from dfpl.fields import Choice, FloatRange, IntRange, SearchSpace, flatten
from dfpl.study.best import Trials, front
from dfpl.study.objective import Objective
from dfpl.study.records import RecordStore
from dfpl.study.regret import one_for_all
from dfpl.study.space import Point, read_space
from dfpl.study.suggestion import Ended

Reached = dict[str, dict[str, float]]
"""What points reached, by their first trial, then by scenario."""


@dataclass(frozen=True, kw_only=True)
class Flatness:
    """How many trials of a search are as good as its best, as far as validation can tell.

    With v(t) the objective of trial t, and L the objective of the lower ends of the 95 % intervals
    of the best trial's runs, a whole trial is within the interval of the best where v(t) >= L.
    """

    search: str
    whole: int
    """Trials that ran to the end."""
    within: list[Point] | None
    """Of them, the points within the interval of the best, itself among them; None where it has no
    interval, or trials have two values."""


def flatness(
    trials: Trials, objective: Objective, metric: str, space: SearchSpace
) -> list[Flatness]:
    """Of each search that has a whole trial."""
    found = []
    for search, own in trials.items():
        whole = [own[n] for n in sorted(own)]
        whole = [trial for trial in whole if trial and is_whole(trial)]
        if whole:
            alike = within_best(whole, objective, metric)
            points = None if alike is None else [point_of(trial, space) for trial in alike]
            found.append(Flatness(search=search, whole=len(whole), within=points))
    return found


def within_best(whole: Sequence[Ended], objective: Objective, metric: str) -> list[Ended] | None:
    """The trials within the interval of the best one; None as in `Flatness`."""
    values = {place: trial.outcome.values for place, trial in enumerate(whole)}
    best = whole[front(values)[0]]
    found = [record.metrics.get(f"val/{metric}_low", math.nan) for record in best.records]
    if objective.several or any(map(math.isnan, found)):
        return None
    lows = [met._replace(value=low) for met, low in zip(best.met, found, strict=True)]
    [low] = objective.values(lows)
    return [trial for trial in whole if trial.outcome.values[0] >= low]


def is_whole(trial: Ended) -> bool:
    return trial.outcome.state == "complete"


def point_of(trial: Ended, space: SearchSpace) -> Point:
    """The searched values of a trial."""
    values = dict(flatten(trial.records[0].config))
    return {name: values[name] for name in space}


def reached_by_points(trials: Trials, space: SearchSpace) -> Reached:
    """What each point reached in the scenarios in which whole trials of any search had it: the mean
    over seeds."""
    names: dict[tuple[Any, ...], str] = {}
    found: dict[str, dict[str, dict[str, float]]] = {}
    for search, own in trials.items():
        for number, trial in own.items():
            if trial is None or not is_whole(trial):
                continue
            key = tuple(point_of(trial, space).values())
            name = names.setdefault(key, f"{search} {number}")
            for record, met in zip(trial.records, trial.met, strict=True):
                by_run = found.setdefault(name, {}).setdefault(met.scenario, {})
                by_run[record.run_id] = met.value
    return {
        name: {scenario: fmean(values.values()) for scenario, values in own.items()}
        for name, own in found.items()
    }


def evidence(store: RecordStore, trials: Trials) -> list[Table]:
    """What to show below the best configs; nothing where study.json does not say what was
    searched."""
    facts = store.root.read_json("study.json")
    space, objective = read_space(facts.get("space", {})), Objective.of(facts)
    metric = facts["base"]["metric"]
    if not space:
        return []
    found = flatness(trials, objective, metric, space)
    tables = [flatness_table(found, metric, space)]
    reached = reached_by_points(trials, space)
    if len({scenario for own in reached.values() for scenario in own}) > 1:
        tables.append(one_for_all_table(reached, metric, objective.share))
    return tables


def flatness_table(found: Sequence[Flatness], metric: str, space: SearchSpace) -> Table:
    """Per search: whole trials, those within the interval of the best, and what their points span
    of each search range, the least share first."""
    shown = Table(
        title="What they rest on",
        caption=f"within: whole trials whose val/{metric} is in the 95 % interval of the best, "
        "itself among them. span: their least and greatest values, and the share of the search "
        "range in between: what stays small over many trials is pinned down, the rest is not.",
    )
    for heading in ("scenario", "whole", "within", "span"):
        shown.add_column(heading, justify="right" if heading in ("whole", "within") else "left")
    ranges = ", ".join(f"{name} {limits(wanted)}" for name, wanted in space.items())
    shown.add_row("search range", "", "", ranges, end_section=True)
    for own in found:
        within = "-" if own.within is None else str(len(own.within))
        shown.add_row(own.search, str(own.whole), within, spans(own.within, space))
    return shown


def spans(points: Sequence[Point] | None, space: SearchSpace) -> str:
    """In words, what some points span of each search range."""
    if points is None:
        return "the best has no interval"
    if len(points) == 1:
        return "the best alone: how far around it is as good was not seen"
    values = {name: [point[name] for point in points] for name in space}
    shares = {name: share_of(wanted, values[name]) for name, wanted in space.items()}
    return ", ".join(
        f"{name} {ends(space[name], values[name])} ({100 * shares[name]:.0f} %)"
        for name in sorted(space, key=lambda name: shares[name])
    )


def limits(wanted: FloatRange | IntRange | Choice) -> str:
    return ends(wanted, wanted.values if isinstance(wanted, Choice) else (wanted.low, wanted.high))


def ends(wanted: FloatRange | IntRange | Choice, values: Sequence[Any]) -> str:
    """The least and the greatest value; of a choice those that occur."""
    if isinstance(wanted, Choice):
        return " or ".join(str(value) for value in wanted.values if value in values)
    return f"{min(values):.3g} to {max(values):.3g}"


def share_of(wanted: FloatRange | IntRange | Choice, values: Sequence[Any]) -> float:
    """How much of the search range lies between the least and the greatest value, by ratio where it
    is searched by order of size; of a choice, how many of its values occur."""
    if isinstance(wanted, Choice):
        return len(set(values)) / len(wanted.values)
    by_ratio = isinstance(wanted, FloatRange) and wanted.log
    low, high, least, greatest = (
        math.log(value) if by_ratio else value
        for value in (wanted.low, wanted.high, min(values), max(values))
    )
    return (greatest - least) / (high - low) if high > low else 1.0


def one_for_all_table(reached: Reached, metric: str, share: float) -> Table:
    """The best of the points that met all scenarios by each rule, and its regret."""
    scenarios = {scenario for own in reached.values() for scenario in own}
    whole = sum(len(own) == len(scenarios) for own in reached.values())
    shown = Table(
        title=f"One config for all {len(scenarios)} scenarios, by val/{metric}",
        caption=f"Of {whole} points that met all scenarios, of {len(reached)}. Costs: how much "
        "more the best of each scenario reached there."
        + ("" if whole > 1 else " To try each best config in all: studies/transfer.py."),
    )
    for heading in ("best by", "value", "trial", "mean cost", "largest cost"):
        shown.add_column(heading)
    for own in one_for_all(reached, share):
        rule = f"cvar, worst {100 * share:.0f} %" if own.rule == "cvar" else own.rule
        largest = f"{own.regret[own.worst]:.4f} in {own.worst}"
        shown.add_row(rule, f"{own.value:.4f}", own.config, f"{own.mean_regret:.4f}", largest)
    return shown
