"""Ends a study before its time, in order: by a signal, or because results cannot be written.

Nothing new is begun, running trials keep a checkpoint, and the same command goes on.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from typing import Any, NoReturn

import ray
from ray import tune
from ray.tune.search import Searcher

from dfpl.storage import StorageError
from dfpl.study.closing import announce
from dfpl.study.listing import Listing
from dfpl.study.searcher import OPTUNA_STATE, OptunaSearcher

GRACE_S = 25.0
"""Longest wait for running trials; 30 s are what a machine that is taken away gives."""
UNFINISHED = {"stopped", "unwritten"}
"""Last words of a trial that leaves no record and goes on another time."""
ENDING = (signal.SIGINT, signal.SIGTERM)
"""Signals that end a study."""


class SignalledError(SystemExit):
    """A signal ended the study. After a second one it was raised wherever the program was, which
    may leave a library's state broken (a `Condition.notify` that was cut off loses the next one),
    so that its cleanup at exit waits forever: see `leave`.
    """

    def __init__(self, number: int) -> None:
        self.status = 128 + number
        super().__init__(self.status)


def leave(status: int) -> NoReturn:
    """End this process, and Ray where it was started for it; nothing of it waits for what
    libraries do at exit, and a further signal cuts nothing off."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    ray.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


class Stopping(tune.Callback, tune.Stopper):
    """Whether a study is to end, and why; Tune asks it after every step.

    The first reason counts. It is raised, by `end`, when Tune is done.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        self.reason: BaseException | None = None
        self.live: set[str] = set()
        """Trials that run."""
        self.deadline = inf

    def __getstate__(self) -> dict[str, Any]:
        """Tune keeps a copy, which nothing reads."""
        return {}

    def because(self, reason: BaseException) -> None:
        if self.reason is None:
            self.reason = reason

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.live.add(trial.trial_id)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.live.discard(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.live.discard(trial.trial_id)

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        if result.get("state") == "unwritten":
            self.because(StorageError(result["reason"]))
        return False

    def stop_all(self) -> bool:
        """Whether Tune is to end everything now: when no trial runs, or time is up."""
        if self.reason is None:
            return False
        if self.deadline == inf:
            self.deadline = self.now() + GRACE_S
            announce()
        return not self.live or self.now() > self.deadline

    def end(self) -> None:
        if self.reason is not None:
            raise self.reason

    @contextmanager
    def on_signals(self, say: Callable[[str], None]) -> Iterator[None]:
        """SIGINT (Ctrl-C) and SIGTERM end the study in order; a second one ends it at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def hear(number: int, frame: Any) -> None:
            if self.reason is not None:
                self.reason = SignalledError(number)
                raise self.reason
            self.because(SignalledError(number))
            say(
                f"{signal.Signals(number).name}: running trials keep a checkpoint, which takes "
                f"{GRACE_S:.0f} s at most; once more ends at once. The same command goes on."
            )

        before = {number: signal.signal(number, hear) for number in ENDING}
        try:
            yield
        except SystemExit:
            self.end()  # where Ray waited it has put one of its own, of code 1, in place of ours
            raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Gate(Searcher):
    """The searcher as Tune sees it: closed once the study is to end.

    What cannot be written ends the study; a trial without a record is then none that failed.
    """

    def __init__(self, searcher: OptunaSearcher | Listing, stopping: Stopping) -> None:
        super().__init__(metric=searcher.metric, mode=searcher.mode)
        self.inner = searcher
        self.stopping = stopping

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self.stopping.reason is not None:
            return Searcher.FINISHED
        try:
            return self.inner.suggest(trial_id)
        except StorageError as error:
            self.stopping.because(error)
            return Searcher.FINISHED

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self.inner.on_trial_result(trial_id, result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        state = (result or {}).get("state", "")
        try:
            if state in OPTUNA_STATE and not error:
                self._wait_for_record(result or {})
            elif self.stopping.reason is not None or (state in UNFINISHED and not error):
                return
            self.inner.on_trial_complete(trial_id, result, error)
        except StorageError as problem:
            self.stopping.because(problem)

    def _wait_for_record(self, result: dict[str, Any]) -> None:
        """A trial that says how it ended has written its record, perhaps on another machine: it
        must not be taken for one that died without."""
        root, name = self.inner.store.root, f"records/{result.get('run_id')}.json"
        if not root.wait_for(name):
            raise StorageError(
                f"{root.shown}/{name} was written, but cannot be seen from here; see that every "
                "node reaches the same storage, then the same command goes on"
            )

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the records are the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore: the records are the state."""
