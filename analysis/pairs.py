"""Methods, or configs of one method, two by two: on the same samples, masks and seeds.

Run       python -m analysis.pairs RUN_DIR
          python -m analysis.pairs RUN_DIR --scenario both-50 --format latex --out pairs.tex
Reads     the records and predictions of any list of runs
Prints    per scenario and pair both scores and their difference with its 95 % interval (paired
          bootstrap over groups) and p-value; McNemar's test; over all scenarios the mean
          difference and, of six scenarios or more, Wilcoxon's signed-rank test

A score is expected over mask draws and averaged over the seeds that both have. McNemar's test is of
the right answers under the masks that the runs had in training, whatever the metric. Each seed has
a test of its own, for the seeds share their samples; printed are the mean counts and twice the
median p-value, which is valid whatever the dependence (`statistics.pooled_p`). McNemar's test
takes samples for independent: where groups hold several, the bootstrap is the one to trust. Of
multi-label data there is none: the labels of a sample are right or wrong together, so (sample,
label) pairs are not independent, and a sample as a whole is hardly ever right.

Scenarios share their test samples, too, so the signed-rank test describes these scenarios; it is no
test over independent data sets. All p-values are corrected after Holm for the number of pairs and
scenarios printed, each kind of test by itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
import pandas as pd
import tyro
from jaxtyping import Bool

from analysis.curves import read
from analysis.entries import Entry, Scored, entries, scored
from analysis.pairs_table import tables
from analysis.statistics import holm, mcnemar_p, pooled_p, signed_rank_p
from analysis.table1 import scenarios_of
from analysis.tables import RENDER, Format, publish
from dfpl.config import Metric
from dfpl.data.scenario import Scenario
from dfpl.fields import ConfigError
from dfpl.intervals import difference, p_value
from dfpl.predictions import Predictions, correct
from dfpl.study.records import Record, RecordStore

ALL = "all"
"""In the column `scenario`: the mean over those that both have."""
P_VALUES = ("p", "p_mcnemar", "p_wilcoxon")
COLUMNS = [
    *("scenario", "first", "second", "first_value", "second_value"),
    *("difference", "low", "high", "p", "only_first", "only_second", "p_mcnemar", "p_wilcoxon"),
    *("scenarios", "seeds", "n", "groups", "task", "reason"),
]


@dataclass(frozen=True, kw_only=True)
class Options:
    run_dir: tyro.conf.Positional[str]
    """Folder or URI of the runs."""
    scenario: str = ""
    """Only this one. Default: each."""
    format: Literal["markdown", "latex", "csv", "html"] = "markdown"
    """`csv`: all numbers, as fractions."""
    metric: Metric | None = None
    """Default: the metric by which the runs chose their best epoch."""
    out: str = ""
    """File to write instead of printing."""


def build(store: RecordStore, metric: Metric | None = None, scenario: str = "") -> pd.DataFrame:
    """One row per scenario and pair, then one per pair over all scenarios; differences are first
    minus second, as fractions. Raises ConfigError where there is nothing to compare."""
    records, chosen = read(store, metric)
    asked = asked_scenarios(store, records, scenario)
    found = entries(store, records)
    if len(found) < 2:
        names = ", ".join(entry.name for entry in found) or "no complete run"
        raise ConfigError(f"nothing to compare below {store.root}/records: {names}")
    scores = {name: own for name in asked if (own := scored(store, found, name, chosen, right))}
    rows = [
        {"scenario": name, **row} for name, own in scores.items() for row in compared(own, found)
    ]
    if len(scores) > 1:
        rows += [row for pair in combinations(found, 2) for row in over_scenarios(scores, *pair)]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    whole = frame["scenario"] == ALL
    for name in P_VALUES:
        for part in (whole, ~whole):
            frame.loc[part, f"{name}_holm"] = holm(frame.loc[part, name].tolist())
    return frame.assign(dataset=records[0].config["dataset"], metric=chosen)


def asked_scenarios(store: RecordStore, records: Sequence[Record], scenario: str) -> list[str]:
    """The one asked for, or all in the paper's order."""
    known = scenarios_of(records)
    if scenario and scenario not in known:
        raise ConfigError(
            f"no run of {store.root} was trained in {scenario}; there are {', '.join(known)}"
        )
    return [scenario] if scenario else known


def right(test: Predictions, masks: Scenario) -> Bool[np.ndarray, "N L"]:
    """Which answers are right under the masks."""
    return correct(test.pick_scenario(masks), test.label)


def compared(found: Scored, all_entries: Sequence[Entry]) -> Iterator[dict[str, Any]]:
    """The rows of one scenario."""
    for first, second in combinations(all_entries, 2):
        seeds = [found.seeds(entry.name) for entry in (first, second)]
        common = sorted(set(seeds[0]) & set(seeds[1]))
        yield {
            "first": first.name,
            "second": second.name,
            **facts_of(found),
            **(differences(found, first.name, second.name, common) if common else {}),
            "seeds": len(common),
            "reason": "" if common else why_not(found, first, second),
        }


def facts_of(found: Scored) -> dict[str, Any]:
    groups = len(np.unique(found.groups))
    return {"n": len(found.groups), "groups": groups, "task": found.task}


def differences(found: Scored, first: str, second: str, seeds: list[int]) -> dict[str, Any]:
    sides = found.mean(first, seeds), found.mean(second, seeds)
    row = bootstrapped(*sides)
    if found.task == "multiclass":
        answers = [(found.seen[first, seed], found.seen[second, seed]) for seed in seeds]
        counts = [(int((a & ~b).sum()), int((b & ~a).sum())) for a, b in answers]
        row["only_first"], row["only_second"] = np.mean(counts, axis=0).tolist()
        row["p_mcnemar"] = pooled_p([mcnemar_p(*own) for own in counts])
    return row


def bootstrapped(a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
    """Both scores, their difference and its p-value, of the same resamples."""
    gap = difference(a, b)
    values = {"first_value": float(a[0]), "second_value": float(b[0])}
    return {**values, **gap._asdict(), "p": p_value(a, b)}


def why_not(found: Scored, first: Entry, second: Entry) -> str:
    """Why two entries have no seed in common."""
    missing = [entry for entry in (first, second) if not found.seeds(entry.name)]
    said = []
    for entry in missing:
        runs = entry.runs.get(str(found.masks))
        said.append(f"{entry.name} {runs.reason if runs else 'not there'}")
    return "; ".join(said) or "no seed in common"


def over_scenarios(
    scores: dict[str, Scored], first: Entry, second: Entry
) -> Iterator[dict[str, Any]]:
    """The row of a pair over the scenarios that both have, if these are two or more."""
    sides = []
    for found in scores.values():
        seeds = sorted(set(found.seeds(first.name)) & set(found.seeds(second.name)))
        if seeds:
            sides.append([found.mean(entry.name, seeds) for entry in (first, second)])
    if len(sides) > 1:
        gaps = [float(a[0] - b[0]) for a, b in sides]
        yield {
            "scenario": ALL,
            "first": first.name,
            "second": second.name,
            **facts_of(next(iter(scores.values()))),
            **bootstrapped(*np.mean(sides, axis=0)),
            "p_wilcoxon": signed_rank_p([gap for gap in gaps if not np.isnan(gap)]),
            "scenarios": len(sides),
            "reason": "",
        }


def render(frame: pd.DataFrame, form: Format | Literal["csv"]) -> str:
    if form == "csv":
        return frame.to_csv(index=False)
    return "\n\n".join(RENDER[form](table) for table in tables(frame)) + "\n"


def main() -> None:
    options = tyro.cli(Options, description=__doc__)

    def make() -> str:
        frame = build(RecordStore(options.run_dir), options.metric, options.scenario)
        return render(frame, options.format)

    publish(make, options.out)


if __name__ == "__main__":
    main()
