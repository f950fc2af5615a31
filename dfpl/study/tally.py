"""The trials of one search that ended, counted; one more costs the same however many there are."""

from bisect import bisect_left, insort
from collections import Counter
from dataclasses import dataclass, field
from math import floor
from typing import NamedTuple

from dfpl.study.failures import Failure, Failures

STATES = ("complete", "pruned", "failed")
Key = tuple[str, int]
"""Search and number of a trial."""


class Trial(NamedTuple):
    """How a trial ended, over all its runs."""

    search: str
    number: int
    state: str
    value: float | None
    reason: str
    epochs: int = 0
    epochs_saved: int = 0
    seconds: float = 0.0
    finished_at: float = 0.0


@dataclass
class Tally:
    """What is known of the trials of one search."""

    states: Counter[str] = field(default_factory=Counter)
    open: int = 0
    """Trials that were suggested and have not ended."""
    suggests: bool = True
    """Whether it is a search: trial 0 of a sweep is not the paper's point."""
    best: float | None = None
    best_trial: int | None = None
    paper: float | None = None
    epochs: int = 0
    epochs_saved: int = 0
    seconds: list[float] = field(default_factory=list)
    finished_at: list[float] = field(default_factory=list)
    """Both ascending."""
    failures: Failures = field(default_factory=Failures)

    @property
    def median_seconds(self) -> float | None:
        """Median training time of a trial."""
        middle = len(self.seconds) // 2
        if not self.seconds:
            return None
        return (self.seconds[middle] + self.seconds[-1 - middle]) / 2

    def add(self, trial: Trial) -> None:
        self.states[trial.state] += 1
        self.epochs += trial.epochs
        self.epochs_saved += trial.epochs_saved
        insort(self.finished_at, trial.finished_at)
        if trial.seconds:
            insort(self.seconds, trial.seconds)
        if trial.state == "failed":
            where = {"search": trial.search, "trial": trial.number}
            self.failures.add(Failure(reason=trial.reason, count=1, **where))
        elif trial.state == "complete" and trial.value is not None:
            self._compare(trial.number, trial.value)

    def _compare(self, number: int, value: float) -> None:
        """Of equal values the first trial is the best, as in `dfpl best`."""
        if self.best is None or (value, -number) > (self.best, -(self.best_trial or 0)):
            self.best, self.best_trial = value, number
        if number == 0 and self.suggests:
            self.paper = value

    def since(self, moment: float) -> int:
        """Trials that ended since then; records tell whole seconds."""
        return len(self.finished_at) - bisect_left(self.finished_at, floor(moment))
