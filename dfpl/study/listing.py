"""The runs of a sweep behind Tune's interface: each once, and again where its process died."""

from collections import Counter, deque
from typing import Any

from ray.tune.search import Searcher

from dfpl.config import RunConfig
from dfpl.study.failures import NO_RECORD
from dfpl.study.records import RecordStore
from dfpl.study.resources import MOST_DEATHS


class Listing(Searcher):
    """Hands out a list of runs by their places in it, in order."""

    def __init__(self, name: str, runs: list[RunConfig], store: RecordStore) -> None:
        """`name` is that of the sweep."""
        super().__init__(metric="value", mode="max")
        self.name = name
        self.runs = runs
        self.store = store
        self.waiting = deque(range(len(runs)))
        self.running: dict[str, int] = {}
        self.deaths: Counter[int] = Counter()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if not self.waiting:
            return None if self.running else Searcher.FINISHED
        self.running[trial_id] = place = self.waiting.popleft()
        return {"run": place}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """A run without a record has died: it comes again, and fails after too many deaths."""
        place = self.running.pop(trial_id)
        run = self.runs[place]
        if self.store.read(run.run_id) is not None:
            return
        self.deaths[place] += 1
        if self.deaths[place] > MOST_DEATHS:
            self.store.fail(run, self.name, place, NO_RECORD)
        else:
            self.waiting.appendleft(place)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the records are the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore: the records are the state."""
