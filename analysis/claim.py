"""One claim of a paper: what should be better than what, and whether runs show that.

R: the score of the test split, then of each of its resamples.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from analysis.comparison import Scores
from analysis.statistics import holm
from analysis.table1 import LEVEL


class Comparison(NamedTuple):
    """What should be larger, and what smaller, by seed."""

    name: str
    larger: Scores
    smaller: Scores


class Claim(NamedTuple):
    source: str
    text: str
    paper: str
    """The paper's differences in points, in words."""
    comparisons: list[Comparison]
    study: str
    """The study whose runs it needs."""
    n: int = 0
    """Test samples."""


class Gap(NamedTuple):
    """How much larger, for other samples and other seeds."""

    difference: float
    low: float
    high: float
    p: float
    """Two-sided, that there is no difference."""
    seeds: int


def gap_of(compared: Comparison) -> Gap:
    """The mean difference d over the S seeds that both have, with its interval:

        d +- t_nu sqrt(g^2 + s^2 / S),   nu = (S - 1) (g^2 + s^2 / S)^2 / (s^2 / S)^2

    g: standard deviation of d over resamples of groups; s: of the difference over seeds; nu after
    Satterthwaite, g taken as known. With one seed s is unknown: no interval, no p.
    """
    _, larger, smaller = compared
    seeds = sorted(larger.keys() & smaller.keys())
    if not seeds:
        return Gap(np.nan, np.nan, np.nan, np.nan, 0)
    gaps = np.stack([larger[seed] - smaller[seed] for seed in seeds])  # (S, R)
    value, S = float(gaps[:, 0].mean()), len(seeds)
    if S == 1:
        return Gap(value, np.nan, np.nan, np.nan, 1)
    of_groups = float(np.nanvar(gaps[:, 1:].mean(axis=0)))
    of_seeds = float(np.var(gaps[:, 0], ddof=1)) / S
    total = of_groups + of_seeds
    if total == 0:
        return Gap(value, value, value, float(value == 0), S)
    freedom = (S - 1) * (total / of_seeds) ** 2 if of_seeds else np.inf
    wide = float(stats.t.ppf(1 - LEVEL / 2, freedom)) * total**0.5
    p = 2 * float(stats.t.sf(abs(value) / total**0.5, freedom))
    return Gap(value, value - wide, value + wide, p, S)


def verdict(gaps: Sequence[Gap]) -> str:
    """What the comparisons of a claim say together:

    holds           every difference is above 0: each interval lies there
    does not hold   some difference is below 0: p < 5 % after Holm over the claim's comparisons
    cannot tell     neither; or there is one seed alone

    Whoever says "all are better" errs in 5 % of the cases at most, as each comparison does (an
    intersection-union test), so the first rule needs no correction; the second does.
    """
    if gaps and all(gap.low > 0 for gap in gaps):
        return "holds"
    corrected = holm([gap.p for gap in gaps])
    against = [p < LEVEL for gap, p in zip(gaps, corrected, strict=True) if gap.difference < 0]
    return "does not hold" if any(against) else "cannot tell"
