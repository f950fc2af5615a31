"""The configs that a report looks at closely: its lines in curves, and its rows in tables.

Of a search, per scenario, what was best on validation, and the paper's point; of a list of runs
each config in each scenario. The runs of a line differ in their seed alone.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

from analysis.ablation import settings
from analysis.report.labels import labels_of
from analysis.report.study import Study
from analysis.report.styles import PAPER, Look, of_config, of_method
from analysis.table1 import scenarios_of
from dfpl.fields import ConfigError
from dfpl.study.best import Best, best
from dfpl.study.records import Record


@dataclass(frozen=True, kw_only=True)
class Line:
    label: str
    scenario: str
    """In which it was trained."""
    look: Look
    records: list[Record]
    """Complete runs by seed; none where all failed or were pruned."""
    others: list[Record] = field(default_factory=list)
    """Runs of it that are not complete."""
    paper: bool = False
    """Whether it is the paper's point beside what a search found."""


def lines_of(study: Study) -> list[Line]:
    """Scenarios in the order of Table I."""
    found = list(_of_search(study) if study.is_search else _of_list(study))
    order = scenarios_of(study.records)
    return sorted(found, key=lambda line: order.index(line.scenario))


def _of_search(study: Study) -> Iterator[Line]:
    """None where no trial is complete."""
    try:
        entries = best(study.store)
    except ConfigError:
        return
    of_key = _by_config(study.records)
    winners: dict[tuple[str, str], list[Best]] = {}
    for entry in entries:
        winners.setdefault((entry.search, entry.scenario), []).append(entry)
    for (search, scenario), own in winners.items():
        of_all = "" if search == scenario else f" of {search}"
        for place, entry in enumerate(own):
            what = f"best{of_all}" if len(own) == 1 else f"front{of_all}"
            number = entry.record.trial
            also = " = the paper's point" if number == 0 else ""
            look = of_method(entry.record.config["method"]["name"])
            yield Line(
                label=f"{what}{also} (trial {number})",
                scenario=scenario,
                look=look if len(own) == 1 else of_config(place),
                records=_complete(of_key[_key(entry.record)]),
            )
        paper = own[0].paper
        if paper is not None and all(entry.record.trial for entry in own):
            yield Line(
                label=f"paper's point{of_all} (trial 0)",
                scenario=scenario,
                look=PAPER,
                records=_complete(of_key[_key(paper)]),
                paper=True,
            )


def _of_list(study: Study) -> Iterator[Line]:
    of_key = _by_config(study.records)
    labels = labels_of(study)
    looks = _looks({name: labels[name] for _, name in of_key})
    places = {name: place for place, name in enumerate(labels)}
    for scenario, name in sorted(of_key, key=lambda key: places[key[1]]):
        own = of_key[scenario, name]
        yield Line(
            label=labels[name],
            scenario=scenario,
            look=looks[name],
            records=_complete(own),
            others=[record for record in own if record.state != "complete"],
        )


def _looks(labels: dict[str, str]) -> dict[str, Look]:
    """A method's own look where it has one config; else one for each."""
    methods = {name: json.loads(name)["method.name"] for name in labels}
    counts = {method: list(methods.values()).count(method) for method in methods.values()}
    if all(count == 1 for count in counts.values()):
        return {name: of_method(method) for name, method in methods.items()}
    return {name: of_config(place) for place, name in enumerate(labels)}


def _by_config(records: list[Record]) -> dict[tuple[str, str], list[Record]]:
    found: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        found.setdefault(_key(record), []).append(record)
    return found


def _key(record: Record) -> tuple[str, str]:
    """Equal for runs that differ in their seed alone."""
    return record.scenario, config_name(record)


def config_name(record: Record) -> str:
    """A config without scenario and seed, as text."""
    return json.dumps(settings(record.config), sort_keys=True)


def _complete(records: list[Record]) -> list[Record]:
    whole = {r.config["seed"]: r for r in records if r.state == "complete"}
    return [whole[seed] for seed in sorted(whole)]
