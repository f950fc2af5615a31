"""The best configs of a study, what they rest on, and their export."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from dfpl.config import RunConfig
from dfpl.fields import ConfigError
from dfpl.storage import Storage
from dfpl.study.objective import Outcome, outcome
from dfpl.study.records import Record, RecordStore

BEST = "best.json"
NEEDED = ("scenario", "value", "config", "data", "threads")
"""What training an exported config again reads of its entry."""


@dataclass(frozen=True, kw_only=True)
class Best:
    """The winner of one search in one scenario, beside the paper's point."""

    search: str
    scenario: str
    record: Record
    paper: Record | None
    counts: dict[str, int]
    """Trials of the search by state."""


def best(store: RecordStore) -> list[Best]:
    """The best complete trial of each search, one entry per scenario that it met.

    Chosen by the validation metric alone. Raises ConfigError where no trial is complete.
    """
    objective = store.root.read_json("study.json")["objective"]
    trials = _trials(store)
    found: list[Best] = []
    for search, by_number in trials.items():
        ended = {number: outcome(objective, records) for number, records in by_number.items()}
        complete = {n: o.value for n, o in ended.items() if o and o.state == "complete"}
        if not complete:
            continue
        winner = max(complete, key=lambda n: (complete[n], -n))
        paper = {r.scenario: r for r in by_number.get(0, []) if r and r.state == "complete"}
        found += [
            Best(
                search=search,
                scenario=record.scenario,
                record=record,
                paper=paper.get(record.scenario),
                counts=_counts(list(ended.values())),
            )
            for record in by_number[winner]
            if record
        ]
    if not found:
        reasons = Counter(record.reason for record in store.read_all() if record.reason)
        often = f"; most often: {reasons.most_common(1)[0][0]}" if reasons else ""
        raise ConfigError(f"no trial of {store.root} is complete; nothing can be exported{often}")
    return found


def _trials(store: RecordStore) -> dict[str, dict[int, list[Record | None]]]:
    """The runs of each trial of each search, in the order of its scenarios."""
    trials: dict[str, dict[int, list[Record | None]]] = {}
    suggestions = store.root / "suggestions"
    for name in suggestions.names(".json"):
        values = suggestions.read_json(name)
        records = [store.read(run_id) for run_id in values["run_ids"]]
        trials.setdefault(values["search"], {})[values["number"]] = records
    return trials


def _counts(ended: list[Outcome | None]) -> dict[str, int]:
    states = [o.state if o else "unfinished" for o in ended]
    return {name: states.count(name) for name in ("complete", "pruned", "failed", "unfinished")}


def table(store: RecordStore) -> Table:
    """Per scenario: best value with its interval, the paper's point, trials by state."""
    about = store.root.read_json("study.json")
    metric = about["base"]["metric"]
    shown = Table(title=f"Best configs of {store.name}, by val/{metric}")
    for heading in ("scenario", "best [95 %]", "trial", "paper's config [95 %]"):
        shown.add_column(heading)
    for heading in ("complete", "pruned", "failed"):
        shown.add_column(heading, justify="right")
    found = best(store)
    for entry in found:
        paper = "-" if entry.paper is None else value_with_interval(entry.paper, metric)
        value, trial = value_with_interval(entry.record, metric), str(entry.record.trial)
        shown.add_row(entry.scenario, value, trial, paper, *_shown(entry.counts))
    for search, trials in _trials(store).items():
        if search not in {entry.search for entry in found}:
            ended = [outcome(about["objective"], records) for records in trials.values()]
            shown.add_row(search, "-", "-", "-", *_shown(_counts(ended)))
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
    entries = [e for e in best(store) if scenario is None or e.scenario == scenario]
    if not entries:
        known = ", ".join(sorted({e.scenario for e in best(store)}))
        raise ConfigError(f"no complete trial in scenario {scenario!r}; there are {known}")
    configs = [
        {
            "scenario": entry.scenario,
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
    out.write_json(name, {"study": store.name, "configs": configs})
    return configs


def read_export(path: Path, scenario: str = "") -> tuple[RunConfig, dict[str, Any]]:
    """One config of an exported file. Raises ConfigError where it is ambiguous or was spoilt."""
    try:
        configs = list(json.loads(path.read_text())["configs"])
        for entry in configs:
            _ = {name: entry[name] for name in NEEDED}, dict(entry["config"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} is no export of a study ({error}); make one with: dfpl best RUN_DIR"
        ) from None
    known = ", ".join(entry["scenario"] for entry in configs)
    chosen = [entry for entry in configs if scenario in ("", entry["scenario"])]
    if len(chosen) != 1:
        raise ConfigError(f"{path} holds the scenarios {known}; choose one with --scenario")
    return RunConfig.from_dict(chosen[0]["config"]), chosen[0]
