"""What one figure of trials shows: those of a scenario, or of a search by its objective."""

import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from dfpl.fields import ConfigError
from dfpl.study.objective import Met, Objective

Rows = list[dict[str, Any]]


class View(NamedTuple):
    name: str
    """A scenario, or the name of a search over several."""
    title: str
    trials: Rows
    """One per trial: its first run, with the `value`, `low`, `high`, `epochs` and `state` of the
    whole."""

    def of_state(self, state: str) -> Rows:
        return [row for row in self.trials if row["state"] == state]

    @property
    def whole(self) -> Rows:
        return self.of_state("complete")

    @property
    def best(self) -> dict[str, Any] | None:
        """Of whole trials; the first one of equals."""
        return max(self.whole, key=lambda row: row["value"], default=None)

    @property
    def paper(self) -> dict[str, Any] | None:
        """Trial 0, the paper's config, however it ended."""
        return next((row for row in self.trials if row["trial"] == 0), None)

    @property
    def counts(self) -> str:
        parts = {"whole": self.whole, **{s: self.of_state(s) for s in ("pruned", "failed")}}
        told = ", ".join(f"{len(rows)} {name}" for name, rows in parts.items())
        return f"{len(self.trials)} trials: {told}"


def views(frame: pd.DataFrame, objective: Objective, scenario: str = "") -> list[View]:
    """Of each scenario, or of the one asked for; first by the objective where that makes one value
    of several scenarios. `frame` is that of `search.trials`. Raises ConfigError where no trial met
    `scenario`."""
    rows: Rows = frame.to_dict("records")
    known = list(dict.fromkeys(row["scenario"] for row in rows))
    if scenario and scenario not in known:
        raise ConfigError(f"no trial met {scenario}; choose with --scenario of {', '.join(known)}")
    state = "trial_state" if objective.kind == "each" else "state"
    found = [
        View(
            name,
            f"in {name}",
            by_trial([r for r in rows if r["scenario"] == name], Objective(), state),
        )
        for name in ([scenario] if scenario else known)
    ]
    if scenario or objective.several or objective.kind == "each":
        return found
    over = View(
        objective.kind,
        f"{objective.kind} of {len(known)} scenarios",
        by_trial(rows, objective, "trial_state"),
    )
    return [over, *found]


def by_trial(rows: Rows, objective: Objective, state: str) -> Rows:
    """One row per trial that has ended, from those of its runs: the objective of their values, and
    of the ends of their intervals; of a cut trial, of what it met. `state` is the column that says
    how it ended."""
    found: Rows = []
    for _, runs in groupby(rows, key=lambda row: (row["search"], row["trial"])):
        own = list(runs)
        ended = own[-1][state]
        if ended != "unfinished":
            values = {end: combined(own, end, objective) for end in ("value", "low", "high")}
            epochs = sum(row["epochs"] for row in own)
            found.append({**own[0], **values, "epochs": epochs, "state": ended})
    return found


def combined(rows: Sequence[dict[str, Any]], name: str, objective: Objective) -> float:
    """The objective of a column; NaN where a run has none."""
    met = [Met(f"{row['scenario']}/{row['seed']}", row[name]) for row in rows]
    if any(math.isnan(one.value) for one in met):
        return np.nan
    return objective.values(met)[0]
