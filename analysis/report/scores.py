"""The scores of the lines, from their stored predictions, one file in memory at a time.

S points of the grid, R draws, C classes. An interval is that of the figures (`analysis.curves`):
each draw of who is incomplete meets a resample of the groups of its own, the same for all lines.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Float

from analysis.cores import each
from analysis.curves import bounded, mean_scores
from analysis.report.lines import Line
from dfpl.config import Metric
from dfpl.contribution import complete, scores_by_class
from dfpl.data.scenario import PATTERNS, Scenario
from dfpl.intervals import Estimate, estimate, resample_weights
from dfpl.metrics import truth, weighted_scores
from dfpl.predictions import PredictionError, Predictions, Task
from dfpl.study.records import RecordStore

DRAWS, RESAMPLES = 100, 200
RATES = tuple(percent / 100 for percent in range(0, 101, 5))
GRID = [Scenario(pattern=pattern, rate=rate) for pattern in PATTERNS for rate in RATES]
STATES = {"both": "both-0", "image only": "tabular-100", "table only": "image-100"}
"""What is available, as a scenario in which nothing else is."""
NONE = Estimate(np.nan, np.nan, np.nan)


@dataclass(frozen=True, kw_only=True)
class ByClass:
    """The scores of each class in each state, on samples that have both by nature."""

    names: tuple[str, ...]
    counts: list[int]
    values: Float[np.ndarray, "4 R C"]
    """Of a guess, of both, image, table; of the rows as they are, then of their resamples."""
    n: int
    task: Task


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A line with its scores; without any where no run is complete, or has predictions."""

    line: Line
    drawn: dict[int, Float[np.ndarray, "S R"]]
    """By seed: expected over mask draws, then of each draw on its resample."""
    places: dict[str, int]
    """Where in S a scenario is."""
    n: int
    num_complete: int
    """Test samples that have both by nature: among them scenarios are drawn."""
    val: Estimate
    """On validation, as the line was trained."""
    by_class: ByClass | None = None
    reason: str = ""

    @property
    def mean(self) -> Float[np.ndarray, "S R"]:
        return np.mean(list(self.drawn.values()), axis=0)

    def at(self, scenario: str) -> Estimate:
        """The score on test under a scenario, and its interval."""
        return bounded(self.mean[self.places[scenario]]) if self.drawn else NONE


def score_lines(store: RecordStore, lines: list[Line], metric: Metric) -> list[Scored]:
    files = RecordStore(store.root)  # travels without the records that it may hold
    return each(partial(_score, files, metric=metric), lines, "configs")


def _score(store: RecordStore, line: Line, metric: Metric) -> Scored:
    own = Scenario.parse(line.scenario)
    grid = GRID if str(own) in map(str, GRID) else [*GRID, own]
    places = {str(scenario): place for place, scenario in enumerate(grid)}
    drawn, val, by_class = {}, list[np.ndarray](), list[ByClass]()
    n = num_complete = 0
    try:
        for record in line.records:
            found = store.predictions(record.run_id)
            val.append(_validation(found.of_split("val"), metric))
            test = found.of_split("test")
            n, num_complete = len(test), int(test.exists("both").sum())
            drawn[record.config["seed"]] = mean_scores([test], grid, metric, DRAWS).drawn
            if num_complete:
                by_class.append(_by_class(complete(test), metric))
    except (FileNotFoundError, PredictionError) as error:
        missing = isinstance(error, FileNotFoundError)
        return _without(line, "no predictions are stored" if missing else str(error))
    if not drawn:
        return _without(line, "no run is complete")
    return Scored(
        line=line,
        drawn=drawn,
        places=places,
        n=n,
        num_complete=num_complete,
        val=estimate(np.mean(val, axis=0)),
        by_class=_mean(by_class),
    )


def _without(line: Line, reason: str) -> Scored:
    """Without predictions, the records still say what was reached on validation."""
    values = [record.value for record in line.records if record.value is not None]
    val = NONE._replace(value=float(np.mean(values))) if values else NONE
    return Scored(line=line, drawn={}, places={}, n=0, num_complete=0, val=val, reason=reason)


def _validation(val: Predictions, metric: Metric) -> Float[np.ndarray, " R"]:
    """Of the rows as they are, then of resampled groups: as in `dfpl.study.trial.score`."""
    if len(val) == 0:
        return np.full(1 + RESAMPLES, np.nan)
    weights = _unit_and_resampled(val)
    return weighted_scores(val.pick(val.present), val.label, weights, val.task)[metric]


def _by_class(test: Predictions, metric: Metric) -> ByClass:
    return ByClass(
        names=test.class_names,
        counts=truth(test.label, len(test.class_names)).sum(axis=0).tolist(),
        values=scores_by_class(test, metric, _unit_and_resampled(test)),
        n=len(test),
        task=test.task,
    )


def _mean(seeds: list[ByClass]) -> ByClass | None:
    """Over seeds: they scored the same samples with the same resamples."""
    if not seeds:
        return None
    first = seeds[0]
    values = np.mean([own.values for own in seeds], axis=0)
    return replace(first, values=values)


def _unit_and_resampled(rows: Predictions) -> Float[np.ndarray, "R N"]:
    weights = resample_weights(rows.groups, RESAMPLES, seed=0)
    return np.concatenate([np.ones((1, len(rows))), weights])
