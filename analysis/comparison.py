"""The runs of several methods in one scenario, and each method against the best of them."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from analysis.runs import Runs, score_runs
from dfpl.config import Metric
from dfpl.data.scenario import Scenario
from dfpl.intervals import difference, estimate, p_value
from dfpl.study.records import RecordStore

STATES = {
    "complete": Scenario.parse("both-0"),
    "image only": Scenario.parse("tabular-100"),
    "table only": Scenario.parse("image-100"),
}
AS_TRAINED = "as in training"
COLUMNS = [
    *("scenario", "available", "method", "value", "low", "high", "seeds", "n", "best"),
    *("difference", "difference_low", "difference_high", "p", "reason", "older_configs"),
]
"""What is told of a method in a scenario, with what is available there or in a state."""
Scores = dict[int, Float[np.ndarray, " R"]]
"""Of one method by seed: of the test split, then of its resamples."""


def rows_of_scenario(
    store: RecordStore,
    scenario: str,
    methods: Sequence[str],
    found: dict[str, Runs],
    metric: Metric,
) -> Iterator[dict[str, Any]]:
    """The rows of all methods, as in training and in each state."""
    scored = score_runs(store, found, [Scenario.parse(scenario), *STATES.values()], metric)
    for place, available in enumerate((AS_TRAINED, *STATES)):
        here = {name: own for name, own in scored.under(place).items() if own}
        for row in compared_with_best(methods, here):
            runs = found.get(row["method"])
            yield {
                "scenario": scenario,
                "available": available,
                **row,
                "n": scored.n,
                "reason": runs.reason if runs else "not there",
                "older_configs": runs.older_configs if runs else 0,
            }


def compared_with_best(
    methods: Sequence[str], scores: dict[str, Scores]
) -> Iterator[dict[str, Any]]:
    """Each method's mean over seeds; how much less that is than the best's on the seeds that both
    have, and the p-value of that."""
    means = {name: np.mean(list(own.values()), axis=0) for name, own in scores.items()}
    known = {name: mean for name, mean in means.items() if not np.isnan(mean[0])}
    best = max(known, key=lambda name: known[name][0], default="")
    for name in methods:
        own = scores.get(name, {})
        row: dict[str, Any] = {"method": name, "seeds": len(own), "best": name == best, "p": np.nan}
        row |= estimate(means[name])._asdict() if name in known else {}
        common = sorted(own.keys() & scores[best].keys()) if name in known else []
        if common and name != best:
            sides = [np.mean([of[seed] for seed in common], axis=0) for of in (own, scores[best])]
            gap = difference(*sides)
            row |= {"difference": gap.difference, "difference_low": gap.low}
            row |= {"difference_high": gap.high, "p": p_value(*sides)}
        yield row
