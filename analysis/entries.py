"""What stands side by side in a folder of runs: its methods, or the configs of its one method.

Runs that differ by scenario and seed alone are one config. Where there are several methods, each
counts with its latest config of a scenario, as in Table I. Where there is one, all of its configs
count, named by what they change in the base run of the study.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from analysis.ablation import settings
from analysis.runs import Runs, score_runs
from analysis.table1 import method_of, methods_of, scenarios_of
from dfpl.config import Metric
from dfpl.data.scenario import Scenario
from dfpl.fields import ConfigError
from dfpl.predictions import Predictions, Task
from dfpl.study.records import Record, RecordStore

MOST = 50
"""Configs that are compared two by two; beyond, Holm's correction leaves nothing to be shown."""
BASE = "base run"
Key = tuple[str, int]
"""An entry's name and a seed."""


@dataclass(frozen=True)
class Entry:
    name: str
    """The method, or what the config changes."""
    runs: dict[str, Runs]
    """By scenario."""


def entries(store: RecordStore, records: Sequence[Record]) -> list[Entry]:
    """The methods in the paper's order, or the configs, those first that change least.

    Raises ConfigError where there are too many configs.
    """
    methods = methods_of(records, {})
    if len(methods) > 1:
        groups = {name: [r for r in records if method_of(r) == name] for name in methods}
    else:
        groups = configs(store, [r for r in records if r.state == "complete"])
    return [
        Entry(
            name,
            {
                scenario: Runs([record for record in own if record.scenario == scenario])
                for scenario in scenarios_of(own)
            },
        )
        for name, own in groups.items()
    ]


def configs(store: RecordStore, records: Sequence[Record]) -> dict[str, list[Record]]:
    """The records of each config under its name."""
    found: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        found.setdefault(tuple(settings(record.config).items()), []).append(record)
    if len(found) > MOST:
        raise ConfigError(
            f"{store.root} has {len(found)} configs, {MOST} can be compared two by two; of a "
            "search, confirm the best one: studies/confirm.py"
        )
    values = [dict(key) for key in found]
    names = dict.fromkeys(name for own in values for name in own)
    differ = [name for name in names if len({repr(own.get(name)) for own in values}) > 1]
    base = base_of(store)
    changes = [
        [
            f"{name.removeprefix('method.')} = {own.get(name)}"
            for name in differ
            if not base or own.get(name) != base.get(name)
        ]
        for own in values
    ]
    named = zip(changes, found.values(), strict=True)
    in_order = sorted(named, key=lambda pair: (len(pair[0]), pair[0]))
    return {", ".join(changed) or BASE: own for changed, own in in_order}


def base_of(store: RecordStore) -> dict[str, Any]:
    """The base run of the study by dotted names; empty where the folder is not that of a study."""
    try:
        return settings(store.root.read_json("study.json")["base"])
    except (FileNotFoundError, ValueError, KeyError):
        return {}


@dataclass(frozen=True)
class Scored:
    """The complete runs of all entries in one scenario."""

    scores: dict[Key, Float[np.ndarray, " R"]]
    """Expected over mask draws: of the test split, then of its resamples."""
    seen: dict[Key, Any]
    """What was read of each run's test split besides."""
    groups: Shaped[np.ndarray, " N"]
    task: Task
    masks: Scenario

    def seeds(self, name: str) -> list[int]:
        return sorted(seed for entry, seed in self.scores if entry == name)

    def mean(self, name: str, seeds: Sequence[int]) -> Float[np.ndarray, " R"]:
        """Of an entry, over these seeds."""
        return np.mean([self.scores[name, seed] for seed in seeds], axis=0)


def scored(
    store: RecordStore,
    found: Sequence[Entry],
    scenario: str,
    metric: Metric,
    see: Callable[[Predictions, Scenario], Any],
) -> Scored | None:
    """Read the test splits of a scenario, one at a time, all in the same order of samples; None
    where no run is complete. `see` is given each with the masks that the runs had."""
    runs = {entry.name: entry.runs[scenario] for entry in found if scenario in entry.runs}
    whole = [record for own in runs.values() for record in own.of_seed.values()]
    if not whole:
        return None
    masks = Scenario.from_dict(whole[0].config["scenario"])
    own = score_runs(store, runs, [masks], metric, lambda test: see(test, masks))
    first = own.first
    assert first is not None
    return Scored(
        scores={(n, k): scores for n, of in own.under(0).items() for k, scores in of.items()},
        seen={(n, k): seen for n, of in own.seen.items() for k, seen in of.items()},
        groups=first.groups,
        task=first.task,
        masks=masks,
    )
