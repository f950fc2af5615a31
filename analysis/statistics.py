"""Comparisons of several methods over several blocks (scenarios, data sets).

k methods, N blocks. Blocks are taken for independent; scenarios of one data set share their
samples, so that what is said of them is a description rather than a test.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import pandas as pd
import scikit_posthocs
from scipy.stats import PermutationMethod, friedmanchisquare, studentized_range, wilcoxon
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

LEAST = 3
"""Methods, and blocks, without which the Friedman test says nothing."""
LEAST_SIGNED = 6
"""Blocks without which the signed-rank test cannot reach 5 %: 5 of one sign have p = 1/16."""
FEW_DISCORDANT = 25
"""Below, McNemar's test is exact."""
MOST_EXACT = 13
"""Blocks whose signs are all gone through: 2^13 of them."""


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected for their number after Holm; NaN, where nothing was compared, stays
    and does not count."""
    found = np.array(p_values, dtype=float)
    known = ~np.isnan(found)
    if known.any():
        found[known] = multipletests(found[known], method="holm")[1]
    return found.tolist()


@dataclass(frozen=True)
class Ranks:
    """The mean ranks of methods, and which of them the Nemenyi test tells apart."""

    mean: dict[str, float]
    """By method, the best first; 1 is best, equal scores share the mean of their ranks."""
    num_blocks: int
    statistic: float
    """Friedman's chi squared, corrected for ties."""
    p: float
    """That all methods rank alike."""
    critical_difference: float
    """Mean ranks that differ by no more are not told apart."""
    pairs: pd.DataFrame
    """Nemenyi's p-value of each pair of methods."""
    alpha: float

    @property
    def groups(self) -> list[list[str]]:
        """The largest groups of two or more methods that do not differ, by rank."""
        names, found, end = list(self.mean), [], 0
        for start, first in enumerate(names):
            farthest = self.mean[first] + self.critical_difference
            last = sum(rank <= farthest for rank in self.mean.values())
            if last > max(end, start + 1):
                found.append(names[start:last])
            end = max(end, last)
        return found


def mean_ranks(scores: pd.DataFrame, alpha: float = 0.05) -> Ranks:
    """Friedman's test, and Nemenyi's, of scores (one row per block, one column per method; higher
    is better), as in Demsar, JMLR 2006:

        CD = q_alpha sqrt(k (k + 1) / (6 N)),  q the studentized range over sqrt(2)

    Raises ValueError where there are too few methods or blocks.
    """
    blocks, methods = scores.shape
    if min(blocks, methods) < LEAST:
        raise ValueError(
            f"ranks need {LEAST} methods in {LEAST} scenarios at least, there are {methods} "
            f"methods in {blocks}"
        )
    ranks = scores.rank(axis=1, ascending=False)
    statistic, p = 0.0, 1.0
    if (ranks.nunique(axis=1) > 1).any():  # else all are equal everywhere
        statistic, p = friedmanchisquare(*(ranks[name] for name in ranks))
    quantile = studentized_range.isf(alpha, methods, np.inf) / sqrt(2)
    return Ranks(
        mean=dict(sorted(zip(scores, ranks.mean(), strict=True), key=lambda own: own[1])),
        num_blocks=blocks,
        statistic=float(statistic),
        p=float(p),
        critical_difference=float(quantile * sqrt(methods * (methods + 1) / (6 * blocks))),
        pairs=scikit_posthocs.posthoc_nemenyi_friedman(scores.reset_index(drop=True)),
        alpha=alpha,
    )


def mcnemar_p(only_first: int, only_second: int) -> float:
    """McNemar's p-value that two models are right equally often, two-sided, from the number of
    samples (independent ones) that one of them alone has right.

    Of few discordant samples by the binomial distribution, else by chi squared with one degree of
    freedom and the continuity correction:

        (|b - c| - 1)^2 / (b + c)
    """
    few = only_first + only_second < FEW_DISCORDANT
    table = [[0, only_first], [only_second, 0]]
    return float(mcnemar(table, exact=few, correction=True).pvalue)  # pyright: ignore


def pooled_p(p_values: Sequence[float]) -> float:
    """One p-value from those of several seeds, which share their samples: twice their median.

    Valid whatever their dependence, hence cautious (Meinshausen, Meier and Buehlmann, JASA 2009,
    gamma = 1/2); of one seed, its own.
    """
    if len(p_values) == 1:
        return float(p_values[0])
    return min(1.0, 2 * float(np.median(p_values)))


def signed_rank_p(differences: Sequence[float]) -> float:
    """Wilcoxon's p-value, two-sided, that the differences over blocks lie around 0; NaN of fewer
    than LEAST_SIGNED. Blocks without a difference do not count. Exact, also with ties, up to
    MOST_EXACT blocks."""
    if len(differences) < LEAST_SIGNED:
        return np.nan
    if not np.any(differences):
        return 1.0
    exact = len(differences) <= MOST_EXACT
    return float(wilcoxon(differences, method=PermutationMethod() if exact else "auto").pvalue)  # pyright: ignore
