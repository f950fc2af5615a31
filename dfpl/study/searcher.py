"""Suggests trials through Optuna's ask and tell, and tells it what really happened.

Ray's stock OptunaSearch stores stopped trials as COMPLETE and leaves NaN trials RUNNING for ever;
here a trial is COMPLETE, PRUNED (with its step) or FAIL (with its reason), and the records, not
Optuna's storage, are the truth: a search is rebuilt from them when the same command runs again.
"""

import hashlib
import json
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from ray.tune.search import Searcher

from dfpl.config import RunConfig
from dfpl.fields import SearchSpace
from dfpl.study.objective import Objective, Outcome, groups, outcome
from dfpl.study.records import RecordStore
from dfpl.study.space import Point, distributions, point_of

OPTUNA_STATE = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """A point to be tried in one search; its runs are those of the search's scenarios."""

    number: int
    """Position within its search; 0 is the paper's point."""
    search: str
    """Name of the search: a scenario, or the robust objective."""
    point: Point
    run_ids: list[str]
    suggested_at: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.search}-{self.number:05d}"


@dataclass
class _Search:
    """One Optuna study and what is still to be done in it."""

    study: optuna.Study
    waiting: list[Suggestion] = field(default_factory=list)
    """Suggestions of earlier sessions: replayed where finished, else run first."""
    count: int = 0
    """Suggestions made so far, in all sessions."""


class OptunaSearcher(Searcher):
    """All searches of a study behind Tune's interface: one per scenario, or one robust search."""

    def __init__(
        self,
        *,
        base: RunConfig,
        space: SearchSpace,
        objective: Objective,
        scenarios: list[Any],
        trials: int,
        store: RecordStore,
    ) -> None:
        super().__init__(metric="value", mode="max")
        self.base = base
        self.space = distributions(space)
        self.paper = point_of(base, space)
        self.objective: Objective = objective
        self.scenarios = groups(objective, scenarios)
        self.trials = trials
        self.store = store
        self.running: dict[str, tuple[Suggestion, optuna.Trial | None]] = {}
        self.seen: dict[str, set[int]] = defaultdict(set)
        self.searches = {name: self._open(name) for name in self.scenarios}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next point of the search that has got furthest behind, as Tune's trial config."""
        search = min(self.searches.values(), key=self._made)
        if self._made(search) >= self.trials:
            return Searcher.FINISHED
        name = search.study.study_name
        if search.waiting:
            suggestion = search.waiting.pop(0)
            search.count += 1
            trial = None if self.finished(suggestion) else self._ask(search, suggestion.point)
        else:
            suggestion, trial = self._new(search, name)
        self.running[trial_id] = (suggestion, trial)
        return {"search": name, "trial": suggestion.number, **suggestion.point}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Pass an intermediate value on, so that samplers may learn from pruned trials."""
        _, trial = self.running.get(trial_id, (None, None))
        step = result.get("step")
        if trial is not None and step is not None and step not in self.seen[trial_id]:
            self.seen[trial_id].add(step)  # a trial that Tune restarts reports epochs again
            trial.report(result["value"], int(step))

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell Optuna the state that the records give; a run without one has died."""
        suggestion, trial = self.running.pop(trial_id, (None, None))
        if suggestion is None or trial is None:
            return
        self.seen.pop(trial_id, None)
        found = self.finished(suggestion)
        if found is None:
            found = Outcome("failed", None, 0, "its process ended without a record")
            self._record_death(suggestion, found.reason)
        self._tell(self.searches[suggestion.search].study, trial, found)

    def finished(self, suggestion: Suggestion) -> Outcome | None:
        """State, value and reason of a suggestion, from its records; None while unfinished."""
        return outcome(self.objective, [self.store.read(name) for name in suggestion.run_ids])

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the records are the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore: the records are the state."""

    @staticmethod
    def _made(search: _Search) -> int:
        return search.count

    def _open(self, name: str) -> _Search:
        """Rebuild a search from what earlier sessions suggested and recorded."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        search = _Search(optuna.create_study(study_name=name, direction="maximize"))
        suggestions = self.store.root / "suggestions"
        for file in suggestions.names(".json"):
            values = suggestions.read_json(file)
            if values["search"] == name:
                search.waiting.append(Suggestion(**values))
        search.waiting.sort(key=lambda s: (self.finished(s) is not None, s.number))
        for suggestion in search.waiting:
            found = self.finished(suggestion)
            if found is not None:
                search.study.add_trial(_frozen(suggestion, found, self.space))
        return search

    def _new(self, search: _Search, name: str) -> tuple[Suggestion, optuna.Trial]:
        number = search.count
        search.count += 1
        search.study.sampler = optuna.samplers.TPESampler(seed=self._seed(name, number))
        trial = self._ask(search, self.paper if number == 0 else None)
        suggestion = Suggestion(
            number=number,
            search=name,
            point=dict(trial.params),
            run_ids=[run.run_id for run in self.runs(name, trial.params)],
            suggested_at=time.time(),
        )
        self.store.root.write_json(f"suggestions/{suggestion.name}.json", vars(suggestion))
        return suggestion, trial

    def runs(self, search: str, point: Point) -> list[RunConfig]:
        """The runs of a trial: the point in each scenario of its search."""
        return [
            self.base.with_values({**point, "scenario": scenario.to_dict()})
            for scenario in self.scenarios[search]
        ]

    def _ask(self, search: _Search, point: Point | None) -> optuna.Trial:
        if point is not None:
            search.study.enqueue_trial(point)
        return search.study.ask(self.space)

    def _seed(self, search: str, number: int) -> int:
        """Suggestion n depends on the seed, n and what was told, not on interruptions."""
        text = json.dumps([self.base.seed, search, number])
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest())

    def _tell(self, study: optuna.Study, trial: optuna.Trial, found: Outcome) -> None:
        state = OPTUNA_STATE[found.state]
        trial.set_user_attr("reason", found.reason)
        study.tell(trial, found.value if state == TrialState.COMPLETE else None, state)

    def _record_death(self, suggestion: Suggestion, reason: str) -> None:
        """The one record that the driver writes: of a run whose process can write none."""
        for run in self.runs(suggestion.search, suggestion.point):
            if self.store.read(run.run_id) is None:
                self.store.fail(run, suggestion.search, suggestion.number, reason)
                return


def _frozen(
    suggestion: Suggestion, found: Outcome, space: dict[str, BaseDistribution]
) -> FrozenTrial:
    """A finished trial of an earlier session, as Optuna would have stored it."""
    pruned_at = {} if found.value is None else {found.step: found.value}
    return create_trial(
        state=OPTUNA_STATE[found.state],
        value=None if found.state == "failed" else found.value,
        intermediate_values=pruned_at if found.state == "pruned" else {},
        params=suggestion.point,
        distributions=space,
        user_attrs={"reason": found.reason, "run_ids": suggestion.run_ids},
    )
