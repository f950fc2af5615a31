"""The runs of a config in a scenario, and what runs score on the test split.

S scenarios, R scores of a run: expected over mask draws, of the rows as they are, then of each
resample of groups.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

import numpy as np
from jaxtyping import Float

from analysis.confirm import without_seed
from analysis.cores import each
from dfpl.config import Metric
from dfpl.data.scenario import Scenario
from dfpl.intervals import resampled_scores
from dfpl.predictions import Predictions, Rows
from dfpl.study.records import Record, RecordStore

LONGEST = 70
"""Characters of a reason."""


class Runs:
    """The runs of one method in one scenario: those of its latest config."""

    def __init__(self, records: Sequence[Record]) -> None:
        latest = without_seed(max(records, key=lambda record: record.finished_at))
        own = [record for record in records if without_seed(record) == latest]
        self.of_seed = {r.config["seed"]: r for r in own if r.state == "complete"}
        self.others = [record for record in own if record.state != "complete"]
        self.older_configs = len({str(without_seed(record)) for record in records}) - 1

    @property
    def reason(self) -> str:
        """Why seeds, or all of them, are missing."""
        some = "seed {seed} " if self.of_seed else ""
        said = [
            f"{some.format(seed=r.config['seed'])}{r.state}: {shorten(r.reason, LONGEST)}"
            for r in self.others
        ]
        return "; ".join(dict.fromkeys(said))


@dataclass(frozen=True)
class ScoredRuns:
    """What runs reached, by name and seed; a name without a complete run has no seed."""

    scores: dict[str, dict[int, Float[np.ndarray, "S R"]]]
    seen: dict[str, dict[int, Any]]
    """What else was read of each."""
    first: Predictions | None
    """Of the first run; all are of the same samples."""

    def under(self, place: int) -> dict[str, dict[int, Float[np.ndarray, " R"]]]:
        """The scores under one of the scenarios."""
        return {
            name: {seed: scores[place] for seed, scores in own.items()}
            for name, own in self.scores.items()
        }

    @property
    def n(self) -> int:
        """Test samples."""
        return 0 if self.first is None else len(self.first)


def score_runs(
    store: RecordStore,
    runs: Mapping[str, Runs],
    scenarios: Sequence[Scenario],
    metric: Metric,
    see: Callable[[Predictions], Any] | None = None,
) -> ScoredRuns:
    """Score the runs on the same resamples of the same samples; one that has several names is read
    once. `see` is given the test split of each, all in the same order.

    Raises PredictionError where samples differ.
    """
    of_name = {
        name: {seed: own.of_seed[seed].run_id for seed in sorted(own.of_seed)}
        for name, own in runs.items()
    }
    ids = list(dict.fromkeys(run_id for own in of_name.values() for run_id in own.values()))
    if not ids:
        return ScoredRuns({name: {} for name in runs}, {name: {} for name in runs}, None)
    first = store.predictions(ids[0]).of_split("test")
    read = Reading(store, tuple(scenarios), metric, first.rows, see)
    found = dict(zip(ids, [read.score(first), *each(read, ids[1:], "runs")], strict=True))
    scores, seen = (
        {name: {k: found[i][part] for k, i in own.items()} for name, own in of_name.items()}
        for part in (0, 1)
    )
    return ScoredRuns(scores, seen, first)


@dataclass(frozen=True)
class Reading:
    """Reads and scores a run. It travels to other processes."""

    store: RecordStore
    scenarios: tuple[Scenario, ...]
    metric: Metric
    rows: Rows
    see: Callable[[Predictions], Any] | None

    def __call__(self, run_id: str) -> tuple[Float[np.ndarray, "S R"], Any]:
        return self.score(self.store.predictions(run_id).of_split("test").like(self.rows))

    def score(self, run: Predictions) -> tuple[Float[np.ndarray, "S R"], Any]:
        [scores] = resampled_scores([run], self.scenarios, self.metric)
        return scores, self.see(run) if self.see else None
