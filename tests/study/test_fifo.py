"""Which trial Tune starts next."""

from types import SimpleNamespace
from typing import Any

from ray.tune.experiment import Trial

from dfpl.study.fifo import Fifo


class Watched(list[Any]):
    """A list that counts the items that are looked at from its end."""

    seen = 0

    def __reversed__(self) -> Any:
        for item in super().__reversed__():
            self.seen += 1
            yield item


class Tuning:
    """What the scheduler sees of Tune."""

    def __init__(self, states: list[str]) -> None:
        trials = [OneTrial(status=state) for state in states]
        self.trials = Watched(trials)
        self.live = {trial for trial in trials if trial.status != Trial.TERMINATED}

    def get_trials(self) -> Watched:
        return self.trials

    def get_live_trials(self) -> set[Any]:
        return self.live


class OneTrial(SimpleNamespace):
    __hash__ = object.__hash__  # pyright: ignore


def chosen(states: list[str]) -> int | None:
    tuning = Tuning(states)
    found = Fifo().choose_trial_to_run(tuning)
    places = [place for place, trial in enumerate(tuning.trials) if trial is found]
    return places[0] if places else None


def test_the_first_that_waits_is_started() -> None:
    ended, runs, waits = Trial.TERMINATED, Trial.RUNNING, Trial.PENDING
    assert chosen([ended, runs, waits, waits]) == 2
    assert chosen([waits, ended, runs, waits]) == 0
    assert chosen([ended, runs]) is None
    assert chosen([]) is None


def test_trials_that_ended_long_ago_are_not_looked_at() -> None:
    tuning = Tuning([Trial.TERMINATED] * 1000 + [Trial.RUNNING, Trial.PENDING])
    Fifo().choose_trial_to_run(tuning)
    assert tuning.trials.seen <= 3
