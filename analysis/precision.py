"""What a printed test score owes to chance: masks, seeds, samples; and what differences could show.

Run       python -m analysis.precision RUN_DIR
          python -m analysis.precision RUN_DIR --scenario both-50 --metric accuracy
Reads     the records and predictions of any list of runs
Prints    per scenario and method (or config of one method) the standard deviation of a score that
          was measured once, as the paper's are, and its parts; the smallest difference that the
          test split could show

A score Y that was measured once is of one seed, one draw m of who is incomplete and one set t of
test samples, whose groups (patients, lesions) were drawn. Its variance is, exactly,

    Var Y  =  E Var(Y | s, t)  +  E Var(E_m Y | t)  +  Var(E_sm Y)
                masks               seeds               samples

so each part holds, too, how it acts on what stands right of it. Estimated from S seeds, R draws
of masks and W resamples of groups, with y_s the score of a seed expected over masks (exact but for
PRAUC, where it is the mean over the same 20 draws for all seeds), y_sr under draw r, y the mean of
y_s over seeds, and * for a resample of groups:

    masks    =  1 / S  sum_s  Var_r(y_sr)
    seeds    =  1 / (S - 1)  sum_s (y_s - y)^2
    samples  =  Var_w(y*)  -  I / S,      I  =  1 / (S - 1)  sum_s  Var_w(y*_s - y*)

(Var_r with R - 1, not below 0). I is how differently the seeds meet the same samples: `seeds`
holds it, and the bootstrap of a mean over S seeds holds 1 / S of it again. One seed tells nothing
of seeds, and `samples` holds I there. A mean over S seeds expected over masks, as our tables have,
varies by seeds / S + samples. Intervals of standard deviations are those of chi squared with as
many degrees of freedom as there are draws, seeds, or groups (resamples, where fewer), less one.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import tyro
from jaxtyping import Bool, Float
from scipy.stats import chi2

from analysis.curves import read
from analysis.entries import Scored, entries, scored
from analysis.pairs import Options, asked_scenarios, right
from analysis.precision_table import render
from analysis.tables import publish
from dfpl.config import Metric
from dfpl.data.scenario import Scenario
from dfpl.fields import ConfigError
from dfpl.predictions import Predictions
from dfpl.robustness import scores_of_draws
from dfpl.smallest import ASSUMED, FACTORS, Smallest, independent_samples, smallest_difference
from dfpl.study.records import RecordStore

DRAWS = 200
SOURCES = ("masks", "seeds", "samples")


class Precision(NamedTuple):
    parts: pd.DataFrame
    """One row per scenario and entry: standard deviations as fractions, shares of the variance."""
    smallest: pd.DataFrame
    """One row per scenario and way to tell: differences as fractions."""


class Seen(NamedTuple):
    """What is read of one run besides its scores."""

    right: Bool[np.ndarray, "N L"]
    masks: float
    """The variance over draws of masks."""


def build(store: RecordStore, metric: Metric | None = None, scenario: str = "") -> Precision:
    """Both tables. Raises ConfigError where no run is complete."""
    records, chosen = read(store, metric)
    found = entries(store, records)

    def see(test: Predictions, masks: Scenario) -> Seen:
        drawn = scores_of_draws(test, [masks], [chosen], draws=DRAWS, seed=0)[chosen][0]
        return Seen(right(test, masks), float(drawn.var(ddof=1)))

    parts, smallest = [], []
    for name in asked_scenarios(store, records, scenario):
        if own := scored(store, found, name, chosen, see):
            there = [entry.name for entry in found if own.seeds(entry.name)]
            parts += [{"scenario": name, **part_of(own, entry)} for entry in there]
            smallest += [{"scenario": name, **row} for row in smallest_of(own, there)]
    if not parts:
        raise ConfigError(f"no complete run below {store.root}/records; analysis needs one")
    facts = {"dataset": records[0].config["dataset"], "metric": chosen}
    return Precision(pd.DataFrame(parts).assign(**facts), pd.DataFrame(smallest).assign(**facts))


def part_of(found: Scored, name: str) -> dict[str, Any]:
    """The row of an entry: its score and what that varies with."""
    seeds = found.seeds(name)
    expected = np.stack([found.scores[name, seed] for seed in seeds])
    masks = [found.seen[name, seed].masks for seed in seeds]
    groups = len(np.unique(found.groups))
    variances = parts_of(expected, np.array(masks))
    total = sum(variances)
    freedom = DRAWS, len(seeds), min(groups, expected.shape[1] - 1)
    row: dict[str, Any] = {"entry": name, "value": float(expected[:, 0].mean())}
    for source, variance, count in zip(SOURCES, variances, freedom, strict=True):
        ends = deviation_interval(variance, count - 1)
        row |= {source: variance**0.5, f"{source}_low": ends[0], f"{source}_high": ends[1]}
        row[f"{source}_share"] = variance / total if total else np.nan
    seeds_part = 0.0 if len(seeds) == 1 else variances[1]
    of_mean = (seeds_part / len(seeds) + variances[2]) ** 0.5
    counts = {"num_seeds": len(seeds), "draws": DRAWS, "n": len(found.groups), "groups": groups}
    return {**row, "once": total**0.5, "of_mean": of_mean, **counts}


def parts_of(
    expected: Float[np.ndarray, "S R"], masks: Float[np.ndarray, " S"]
) -> tuple[float, float, float]:
    """The variance of a score from masks, seeds and samples, as in the docstring of this module.

    `expected`: by seed, the score expected over masks, then that of each resample; `masks`: by
    seed, the variance over draws. Of one seed the part of seeds is NaN.
    """
    S, scores, resampled = len(expected), expected[:, 0], existing(expected[:, 1:])
    of_samples = resampled.mean(axis=0).var(ddof=1) if resampled.size else np.nan
    if S == 1:
        return float(masks.mean()), np.nan, float(of_samples)
    apart = resampled - resampled.mean(axis=0)
    interaction = apart.var(axis=1, ddof=1).sum() / (S - 1) if resampled.size else np.nan
    of_samples = np.maximum(of_samples - interaction / S, 0.0)
    return float(masks.mean()), float(scores.var(ddof=1)), float(of_samples)


def existing(resampled: Float[np.ndarray, "S W"]) -> Float[np.ndarray, "S V"]:
    """The resamples in which the metric exists; none where one alone has it."""
    kept = resampled[:, ~np.isnan(resampled).any(axis=0)]
    return kept if kept.shape[1] > 1 else kept[:, :0]


def deviation_interval(variance: float, freedom: int) -> tuple[float, float]:
    """The 95 % interval of a standard deviation:  sqrt(f v / chi2_f(0.975)), sqrt(... (0.025))."""
    if freedom < 1 or np.isnan(variance):
        return np.nan, np.nan
    low, high = (freedom * variance / chi2.ppf(level, freedom) for level in (0.975, 0.025))
    return float(low**0.5), float(high**0.5)


def smallest_of(found: Scored, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """What could be shown in accuracy, if models disagree as assumed in advance and as these do;
    and in the metric, by the median of the pairs' bootstrap."""
    facts = {"n": len(found.groups), "groups": len(np.unique(found.groups)), "task": found.task}
    pairs = [
        (first, second, seeds)
        for first, second in combinations(names, 2)
        if (seeds := sorted({*found.seeds(first)} & {*found.seeds(second)}))
    ]
    shares = {"assumed": ASSUMED}
    if pairs:
        shares["observed"] = float(np.mean([disagreement(found, *pair) for pair in pairs]))
    for way, share in shares.items():
        if share > 0:  # else all answers are the same
            ends = [smallest_difference(own, share) for own in independent_samples(found.groups)]
            yield {"way": way, "disagreement": share, **_columns(*ends), **facts}
    spread = float(np.median([spread_of_difference(found, *pair) for pair in pairs] or [np.nan]))
    if spread > 0:
        both = Smallest(*(factor * spread for factor in FACTORS))
        yield {"way": "bootstrap", "disagreement": np.nan, **_columns(both, both), **facts}


def disagreement(found: Scored, first: str, second: str, seeds: Sequence[int]) -> float:
    """The share of answers (of several labels: of the answers for each) that one side alone has
    right, mean over seeds."""
    sides = [[found.seen[name, seed].right for seed in seeds] for name in (first, second)]
    return float(np.mean([(a != b).mean() for a, b in zip(*sides, strict=True)]))


def spread_of_difference(found: Scored, first: str, second: str, seeds: Sequence[int]) -> float:
    """The standard deviation of a pair's difference over the resamples."""
    gaps = existing((found.mean(first, seeds) - found.mean(second, seeds))[None, 1:])
    return float(gaps.std(ddof=1)) if gaps.size else np.nan


def _columns(best: Smallest, worst: Smallest) -> dict[str, float]:
    return {
        "significant_low": best.significant,
        "significant_high": worst.significant,
        "found_low": best.found,
        "found_high": worst.found,
    }


def main() -> None:
    options = tyro.cli(Options, description=__doc__)

    def make() -> str:
        found = build(RecordStore(options.run_dir), options.metric, options.scenario)
        return render(found.parts, found.smallest, options.format)

    publish(make, options.out)


if __name__ == "__main__":
    main()
