"""The best configs of a study, and their export."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from rich.table import Table

from dfpl.config import RunConfig
from dfpl.fields import ConfigError
from dfpl.storage import Storage
from dfpl.study.objective import Objective
from dfpl.study.records import Record, RecordStore
from dfpl.study.suggestion import Ended, Suggestion, ended

BEST = "best.json"
NEEDED = ("scenario", "value", "config", "data", "threads")
"""What training an exported config again reads of its entry."""
Trials = dict[str, dict[int, Ended | None]]
"""The trials of each search by number; None where one has not ended."""


@dataclass(frozen=True, kw_only=True)
class Best:
    """The winner of one search, or one of several, in one scenario, beside the paper's point."""

    search: str
    scenario: str
    record: Record
    paper: Record | None
    values: tuple[float, ...]
    """Its objective: one value over all scenarios of the search, or two."""
    counts: dict[str, int]
    """Trials of the search by state."""


def best(store: RecordStore, searches: Trials | None = None) -> list[Best]:
    """The best complete trial of each search, one entry per scenario that it met.

    Of a multi-objective search all trials of the Pareto front. Chosen by the validation metric
    alone. Reads the records unless given `searches`, what `trials_of` read of them. Raises
    ConfigError where no trial is complete.
    """
    found: list[Best] = []
    for search, trials in (searches or trials_of(store)).items():
        done = {n: trial for n, trial in trials.items() if trial is not None}
        values = {
            n: trial.outcome.values
            for n, trial in done.items()
            if trial.outcome.state == "complete"
        }
        for winner in front(values):
            paper = _by_scenario(done[0]) if 0 in done else {}
            found += [
                Best(
                    search=search,
                    scenario=scenario,
                    record=record,
                    paper=paper.get(scenario),
                    values=values[winner],
                    counts=_counts(list(trials.values())),
                )
                for scenario, record in _by_scenario(done[winner]).items()
            ]
    if not found:
        reasons = Counter(record.reason for record in store.read_all() if record.reason)
        often = f"; most often: {reasons.most_common(1)[0][0]}" if reasons else ""
        raise ConfigError(f"no trial of {store.root} is complete; nothing can be exported{often}")
    return found


def front(values: Mapping[int, tuple[float, ...]]) -> list[int]:
    """The trials that no other dominates, by number: as good in every value and better in one.

    Where trials have one value that is the best of them, the first one of equals.
    """
    kept: list[int] = []
    highest = -inf
    for number in sorted(values, key=lambda n: (*(-value for value in values[n]), n)):
        if values[number][-1] > highest:  # those before are as good in the first value
            kept.append(number)
            highest = values[number][-1]
    return sorted(kept)


def _by_scenario(trial: Ended) -> dict[str, Record]:
    """The whole runs of a trial; of several seeds the first."""
    records: dict[str, Record] = {}
    for record in trial.records:
        known = records.get(record.scenario, record)
        records[record.scenario] = min(known, record, key=lambda one: one.config["seed"])
    return records


def trials_of(store: RecordStore) -> Trials:
    """Read all trials of the searches. Raises ConfigError where there is a list of runs instead."""
    facts = store.root.read_json("study.json")
    if "objective" not in facts:
        raise ConfigError(
            f"{store.root} holds no search but a list of runs: nothing was chosen there; its "
            "analysis is python -m analysis.NAME, with the name of the study"
        )
    objective = Objective.of(facts)
    trials: Trials = {}
    for suggestion in Suggestion.read_all(store.root):
        found = ended(suggestion, objective, store)
        trials.setdefault(suggestion.search, {})[suggestion.number] = found
    return trials


def _counts(trials: list[Ended | None]) -> dict[str, int]:
    states = [trial.outcome.state if trial else "unfinished" for trial in trials]
    return {name: states.count(name) for name in ("complete", "pruned", "failed", "unfinished")}


def table(store: RecordStore, searches: Trials | None = None) -> Table:
    """Per scenario: best value with its interval, the paper's point, trials by state; under one
    config for all scenarios, and of several seeds, the objective, too."""
    metric = store.root.read_json("study.json")["base"]["metric"]
    shown = Table(title=f"Best configs of {store.name}, by val/{metric}")
    for heading in ("scenario", "best [95 %]", "trial", "paper's config [95 %]"):
        shown.add_column(heading)
    for heading in ("complete", "pruned", "failed"):
        shown.add_column(heading, justify="right")
    searches = searches or trials_of(store)
    found = best(store, searches)
    last = ("", "")
    for entry in found:
        paper = "-" if entry.paper is None else value_with_interval(entry.paper, metric)
        value, trial = value_with_interval(entry.record, metric), str(entry.record.trial)
        alone = entry.search == entry.scenario
        if (entry.search, trial) != last and not (alone and entry.values == (entry.record.value,)):
            objective = ", ".join(f"{number:.4f}" for number in entry.values)
            title = f"{entry.search} of all seeds" if alone else f"{entry.search} of all"
            shown.add_row(title, objective, trial, "", *_shown(entry.counts))
        last = (entry.search, trial)
        shown.add_row(entry.scenario, value, trial, paper, *_shown(entry.counts))
    for search, trials in searches.items():
        if search not in {entry.search for entry in found}:
            shown.add_row(search, "-", "-", "-", *_shown(_counts(list(trials.values()))))
    return shown


def _shown(counts: dict[str, int]) -> list[str]:
    return [str(counts[state]) for state in ("complete", "pruned", "failed")]


def value_with_interval(record: Record, metric: str) -> str:
    low, high = (record.metrics.get(f"val/{metric}_{end}") for end in ("low", "high"))
    interval = "" if low is None or high is None else f" [{low:.3f}, {high:.3f}]"
    return f"{record.value:.4f}{interval}"


def export(
    store: RecordStore, out: Storage, name: str = BEST, scenario: str | None = None
) -> list[dict[str, Any]]:
    """Write the winners' whole configs as JSON that `dfpl train` takes; returns them."""
    content = exported(store, scenario)
    out.write_json(name, content)
    return content["configs"]


def exported(
    store: RecordStore, scenario: str | None = None, searches: Trials | None = None
) -> dict[str, Any]:
    """What an export holds: the winners, of all scenarios or of one, and what was searched."""
    found = best(store, searches)
    entries = [entry for entry in found if scenario is None or entry.scenario == scenario]
    if not entries:
        known = ", ".join(sorted({entry.scenario for entry in found}))
        raise ConfigError(f"no complete trial in scenario {scenario!r}; there are {known}")
    configs = [
        {
            "scenario": entry.scenario,
            "trial": entry.record.trial,
            "objective": {entry.search: entry.values},
            "value": entry.record.value,
            "best_epoch": entry.record.best_epoch,
            "run_id": entry.record.run_id,
            "config": entry.record.config,
            "data": entry.record.data,
            "device": entry.record.device,
            "threads": entry.record.threads,
            "compute": entry.record.compute,
            "workers": entry.record.workers,
            "versions": entry.record.versions,
        }
        for entry in entries
    ]
    space = store.root.read_json("study.json").get("space", {})
    return {"study": store.name, "space": space, "configs": configs}


def read_exported(path: Path) -> dict[str, Any]:
    """A whole export from its file. Raises ConfigError where it was spoilt."""
    try:
        content = dict(json.loads(path.read_text()))
        content["configs"] = list(content["configs"])
        for entry in content["configs"]:
            _ = {name: entry[name] for name in NEEDED}, dict(entry["config"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} is no export of a study ({error}); make one with: dfpl best RUN_DIR"
        ) from None
    return content


def read_export(
    path: Path, scenario: str = "", trial: int | None = None
) -> tuple[RunConfig, dict[str, Any]]:
    """One config of an exported file. Raises ConfigError where it is ambiguous or was spoilt."""
    configs = read_exported(path)["configs"]
    here = [entry for entry in configs if scenario in ("", entry["scenario"])]
    chosen = [entry for entry in here if trial in (None, entry.get("trial"))]
    if len(chosen) != 1:
        known = ", ".join(dict.fromkeys(entry["scenario"] for entry in configs))
        trials = sorted({entry["trial"] for entry in here if "trial" in entry})
        several = f", and of its trials {trials} one with --trial" if len(trials) > 1 else ""
        raise ConfigError(
            f"{path} holds the scenarios {known}; choose one with --scenario{several}"
        )
    return RunConfig.from_dict(chosen[0]["config"]), chosen[0]
