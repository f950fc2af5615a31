"""ASHA: asynchronous successive halving over epochs (Li et al., MLSys 2020).

The run itself asks at each rung whether it may go on, and so knows why it ended: it writes its
own record, ends as every run ends, and no placement group or worker is left behind. (Tune's own
scheduler stops a trial from outside; with nested Ray Train runs that leaks their resources.)
"""

import math
from bisect import bisect_right, insort
from collections import defaultdict
from dataclasses import dataclass, field


@dataclass
class Rung:
    """The runs that came to a rung, and their values in ascending order."""

    runs: set[str] = field(default_factory=set)
    values: list[float] = field(default_factory=list)


@dataclass
class SuccessiveHalving:
    """At rung r, a run goes on if its value is among the best 1/reduction of those seen there."""

    epochs: int
    """Length of a whole run."""
    grace: int
    """Epochs of the first rung; at `epochs` or above nothing is ever stopped."""
    reduction: int = 3
    seen: dict[tuple[str, int], Rung] = field(default_factory=lambda: defaultdict(Rung))
    """By scenario and epoch."""

    @property
    def rungs(self) -> list[int]:
        """grace, grace x reduction, ... below the full length."""
        rungs, at = [], self.grace
        while at < self.epochs:
            rungs.append(at)
            at *= self.reduction
        return rungs

    def go_on(self, run_id: str, scenario: str, epoch: int, value: float) -> bool:
        """Note the value of a run at an epoch and say whether it may go on.

        Only runs of the same scenario are compared. Asking twice gives the same answer as long
        as no other run came in between, and counts once. NaN, as of an epoch of pre-training, says
        nothing.
        """
        if epoch not in self.rungs or math.isnan(value):
            return True
        rung = self.seen[scenario, epoch]
        if run_id not in rung.runs:
            rung.runs.add(run_id)
            insort(rung.values, value)
        better = len(rung.values) - bisect_right(rung.values, value)
        return better < max(1, math.ceil(len(rung.values) / self.reduction))
