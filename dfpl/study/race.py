"""Racing over scenarios: a config that will not win is dropped before it has met them all.

Source       the paired tests of F-Race (Birattari et al., 2002), here against the best config
             alone and with the variance that is common to all configs, so that it may act early

A config x meets the blocks (scenarios, seeds) one after another. Of its B blocks it has met k, and
d_b = x_b - w_b are its differences from the winner so far, w, which has met all. Taking the d_b
for draws with one spread s, the mean of those to come lies, but for a chance of `level`, below

    u = mean_met(d) + t s sqrt(1 / k + 1 / (B - k)),     t = quantile of Student's t, 1 - level

The config is dropped when even with w_b + u in every block to come it would not win. For the mean
over blocks this is the paired t test with the correction for a finite population; for `worst` and
`cvar` it holds as it stands. s^2 pools the squared residuals of x with those of the complete
configs, each around its own mean difference from w: so one block may be enough.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt
from statistics import median
from typing import Any

import numpy as np

from dfpl.study.objective import Block, Met, Objective

LEVEL = 0.05
"""Chance, at each test, to drop a config that would have won."""

REMEMBERED = 200
"""Whole trials by which the spread is judged."""


@dataclass
class Race:
    """The trials of each search that met all blocks, and whether another may still win."""

    objective: Objective
    blocks: dict[str, list[str]]
    """Names of the blocks of each search."""
    level: float = LEVEL
    """0 never drops a config."""
    whole: dict[str, dict[int, dict[str, float]]] = field(default_factory=lambda: defaultdict(dict))
    """By search and trial, the value of each block."""

    def note(self, search: str, trial: int, met: Sequence[Met]) -> None:
        """Remember a trial that met all blocks; of many the last ones, and the best."""
        whole = self.whole[search]
        whole[trial] = {one.block: one.value for one in met}
        if len(whole) > REMEMBERED:
            del whole[next(n for n in whole if n != self._winner(search))]

    def dropped(self, search: str, trial: int, met: Sequence[Met]) -> str:
        """The reason to drop a trial that has met some of its blocks, or nothing.

        Multi-objective trials are never dropped.
        """
        others = [n for n in self.whole[search] if n != trial]
        if not others or not self.level or self.objective.several:
            return ""
        winner = self._winner(search, without=trial)
        best = self.whole[search][winner]
        values = {one.block: one.value for one in met}
        hoped = self._hoped(search, values, best)
        if hoped is None or hoped > self._value(best):
            return ""
        return (
            f"racing dropped it after {len(values)} of {len(best)} runs: it may reach "
            f"{hoped:.4f}, and trial {winner} has {self._value(best):.4f}"
        )

    def _winner(self, search: str, without: int = -1) -> int:
        whole = self.whole[search]
        return max((n for n in whole if n != without), key=lambda n: (self._value(whole[n]), -n))

    def _value(self, values: dict[str, float]) -> float:
        return self.objective.values([Met(name, value) for name, value in values.items()])[0]

    def _hoped(self, search: str, values: dict[str, float], best: dict[str, float]) -> float | None:
        """The objective of a trial if in all blocks to come it is as good as chance allows; None
        where nothing is known about the spread."""
        names = self.blocks[search]
        met = np.array([value - best[name] for name, value in values.items()])
        squares, freedom = _residuals(met)
        for other in self.whole[search].values():
            if other is not best:
                more = _residuals(np.array([other[name] - best[name] for name in names]))
                squares, freedom = squares + more[0], freedom + more[1]
        if not freedom:
            return None
        spread, to_come = sqrt(squares / freedom), len(names) - len(met)
        margin = _quantile(1 - self.level, freedom) * spread * sqrt(1 / len(met) + 1 / to_come)
        hope = {name: best[name] + met.mean() + margin for name in names} | values
        return self._value(hope)


def _residuals(differences: np.ndarray) -> tuple[float, int]:
    """Sum of squares around the mean, and its degrees of freedom."""
    return float(((differences - differences.mean()) ** 2).sum()), len(differences) - 1


def _quantile(share: float, freedom: int) -> float:
    from scipy.stats import t  # slow to import: only where it is needed

    return float(t.ppf(share, freedom))


def middle_first(blocks: Sequence[Block]) -> list[str]:
    """The blocks by how telling one expects them to be before anything is known: the first seed
    first, then rates in the middle, and the pattern that leaves samples in all three states.

    The first of them is where halving compares all trials, so it stays the same throughout.
    """
    middle = median(block.scenario.rate for block in blocks)

    def place(block: Block) -> tuple[int, float, bool]:
        scenario = block.scenario
        return block.seed, round(abs(scenario.rate - middle), 9), scenario.pattern != "both"

    return [block.name for block in sorted(blocks, key=place)]


def telling_order(
    blocks: Sequence[str], complete: Sequence[dict[str, float]], values: Sequence[float]
) -> list[str]:
    """The blocks, those first whose values go with the objective most closely over the complete
    trials (correlation of ranks); as they are while fewer than five trials are complete.

    A block in which all trials are alike tells nothing and comes last.
    """
    if len(complete) < 5 or len(set(values)) == 1:
        return list(blocks)
    from scipy.stats import spearmanr

    def closeness(name: str) -> float:
        found = [trial[name] for trial in complete]
        if len(set(found)) == 1:
            return -1.0
        correlation: Any = spearmanr(found, values)
        return float(correlation.statistic)

    return sorted(blocks, key=lambda name: -closeness(name))
