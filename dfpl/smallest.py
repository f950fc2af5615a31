"""The smallest difference that a test set could show: known before anything is trained.

Two models answer the same n samples. In b of them the first alone is right, in c the second alone;
D = (b + c) / n is the share in which they disagree. McNemar's test, two-sided at the level alpha
and by its normal approximation, calls their difference in accuracy d = (b - c) / n significant if

    |b - c| / sqrt(b + c)  >  z(1 - alpha / 2)      hence      |d|  >  z(1 - alpha / 2) sqrt(D / n)

and finds a true difference with a given power if that is at least

    (z(1 - alpha / 2) + z(power)) sqrt(D / n)

(Connor, Biometrics 1987, with D in place of D - d^2, hence a little too large). A difference of d
takes D >= d, so D counts as max(D, d): with z for the factor, the larger of z sqrt(D / n), z^2 / n.

Samples of one group (patient, lesion) may be right or wrong together, with the intraclass
correlation rho, as if there were fewer of them (Kish, Survey Sampling 1965):

    n / (1 + (m - 1) rho),      m = sum_g m_g^2 / n,  m_g samples in group g

rho is not known in advance; its ends 0 and 1 give n and n^2 / sum_g m_g^2, which is the number of
groups where all are of one size.
"""

from math import sqrt
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped

ALPHA, POWER = 0.05, 0.8
ASSUMED = 0.05
"""D, where nothing is known of the models: of the answers, a fraction."""
_Z = NormalDist().inv_cdf(1 - ALPHA / 2)
FACTORS = _Z, _Z + NormalDist().inv_cdf(POWER)
"""Of the standard deviation of a difference: to be significant, and to be found."""


class Smallest(NamedTuple):
    """Differences in accuracy, as fractions; above 1 where there are too few samples for any."""

    significant: float
    """The smallest that would be significant."""
    found: float
    """The smallest true one that is found with power POWER."""


def smallest_difference(independent: float, disagreement: float = ASSUMED) -> Smallest:
    """What so many independent samples could show of two models that disagree in this share.

    Raises ValueError where there is no sample or no disagreement.
    """
    if independent <= 0 or not 0 < disagreement <= 1:
        raise ValueError(
            "the smallest difference needs samples and a share of disagreement in (0, 1], got "
            f"{independent:g} samples and {disagreement:g}"
        )
    return Smallest(
        *(max(f * sqrt(disagreement / independent), f**2 / independent) for f in FACTORS)
    )


def independent_samples(groups: Shaped[np.ndarray, " N"]) -> tuple[float, float]:
    """As how many independent samples they count: if groups do not matter (rho = 0), and if
    samples of a group are right or wrong together (rho = 1)."""
    sizes = np.unique(groups, return_counts=True)[1].astype(np.float64)
    return float(sizes.sum()), float(sizes.sum() ** 2 / (sizes**2).sum())


def told(groups: Shaped[np.ndarray, " N"], task: str, disagreement: float = ASSUMED) -> str:
    """One line about a test split, from the group of each sample, in percentage points.

    Multi-label answers are right or wrong by label: there it is the accuracy of one label.
    """
    n, num_groups = len(groups), len(np.unique(groups))
    if n == 0:
        return "no samples: nothing can be shown"
    best, worst = (smallest_difference(own, disagreement) for own in independent_samples(groups))
    accuracy = "accuracy" if task == "multiclass" else "the accuracy of a label"
    inside = f" of {num_groups:,} groups" if num_groups < n else ""
    assumed = f"{n:,} samples{inside}: if {100 * disagreement:.2g} % of the answers differ"
    if worst.significant > 1:
        return f"{assumed}, they are too few to show any difference in {accuracy}"
    return (
        f"{assumed}, a difference in {accuracy} below "
        f"{_range(best.significant, worst.significant)} points cannot be shown; "
        f"{_range(best.found, worst.found)} is found with power {100 * POWER:g} %"
    )


def _range(low: float, high: float) -> str:
    """Both ends in percentage points, or one where they do not differ."""
    return " to ".join(dict.fromkeys(f"{100 * min(end, 1.0):.2g}" for end in (low, high)))
