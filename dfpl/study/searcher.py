"""Suggests trials through Optuna's ask and tell, and tells it what really happened.

Ray's stock OptunaSearch stores stopped trials as COMPLETE and leaves NaN trials RUNNING for ever;
here a trial is COMPLETE, PRUNED (with its step) or FAIL (with its reason), and the records, not
Optuna's storage, are the truth: a search is rebuilt from them when the same command runs again.
"""

import hashlib
import json
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import isnan
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from ray.tune.search import Searcher

from dfpl.config import RunConfig
from dfpl.data.scenario import Scenario
from dfpl.fields import ConfigError, SearchSpace
from dfpl.study.failures import NO_RECORD
from dfpl.study.objective import Block, Objective
from dfpl.study.race import middle_first, telling_order
from dfpl.study.records import RecordStore
from dfpl.study.resources import MOST_DEATHS
from dfpl.study.samplers import Sampler, grid_point, new_sampler, prior_point
from dfpl.study.space import Point, distributions, point_of
from dfpl.study.suggestion import Ended, Suggestion, ended, run_of
from dfpl.study.transfer import Tried, starting_points, tried_in
from dfpl.study.view import View

OPTUNA_STATE = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}

MEMORY = 1000
"""Trials that a sampler is left with when it knows twice as many."""
RECENT = 200
"""Complete trials by which the order of blocks is chosen."""
REDRAWS = 20
"""Times that a point which was suggested before is drawn again."""


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """How the points of a search are chosen, after the paper's."""

    sampler: Sampler = "tpe"
    transfer: int = 3
    """Points with which a search starts that were best in scenarios like its own; 0: none."""
    transfer_from: str = ""
    """Folder of an earlier study whose points count, too."""
    prior_weight: float = 2.0
    """w: suggestion n comes from around the paper's point with probability w / (w + n)."""


@dataclass
class _Search:
    """One Optuna study and what is still to be done in it."""

    study: optuna.Study
    blocks: dict[str, Block]
    waiting: list[Suggestion] = field(default_factory=list)
    """Suggestions of earlier sessions: replayed where finished, else run first."""
    count: int = 0
    """Suggestions made so far, in all sessions."""
    gaps: list[int] = field(default_factory=list)
    """Numbers of suggestions that were lost between others, which are made again."""
    tried: list[Tried] = field(default_factory=list)
    """What its trials trained whole, block by block."""
    whole: list[tuple[dict[str, float], float]] = field(default_factory=list)
    """Values of each block and of the objective, of its complete trials."""
    suggested: set[tuple[Any, ...]] = field(default_factory=set)
    """Their points, as `key_of` has them."""
    on_grid: int = 0
    """How many of them were points of the grid."""


class OptunaSearcher(Searcher):
    """All searches of a study behind Tune's interface: one per scenario, or one robust search."""

    def __init__(
        self,
        *,
        base: RunConfig,
        space: SearchSpace,
        objective: Objective,
        scenarios: list[Scenario],
        trials: int,
        store: RecordStore,
        strategy: Strategy,
        view: View | None = None,
    ) -> None:
        """`view`: an Optuna storage in which others can watch the searches."""
        super().__init__(metric="value", mode="max")
        self.base = base
        self.space = distributions(space)
        self.paper = point_of(base, space)
        self.objective = objective
        self.trials = trials
        self.store = store
        self.strategy = strategy
        self.view = view
        self.running: dict[str, tuple[Suggestion, optuna.Trial | None]] = {}
        self.seen: dict[str, set[int]] = defaultdict(set)
        self.deaths: Counter[str] = Counter()
        self.earlier = self._earlier(space)
        waiting = self._suggestions()
        self.searches = {
            name: self._open(name, blocks, waiting[name])
            for name, blocks in objective.searches(scenarios, base.seed).items()
        }

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next point, as Tune's trial config.

        Where searches start from each other's best points they are made one after another, else
        side by side. A trial whose process died comes before all others.
        """
        open_ones = [search for search in self.searches.values() if search.count < self.trials]
        if not open_ones:
            return None if self.running else Searcher.FINISHED  # one may die, and come again
        one_by_one = self.strategy.transfer > 0
        search = open_ones[0] if one_by_one else min(open_ones, key=lambda s: s.count)
        if search.waiting:
            suggestion = search.waiting.pop(0)
            search.count += 1
            done = self.finished(suggestion) is not None
            trial = None if done else self._ask_again(search, suggestion)
        else:
            suggestion, trial = self._new(search)
        self.running[trial_id] = (suggestion, trial)
        if self.view is not None and trial is not None:
            self.view.suggested(suggestion.search, suggestion.name, self._running(suggestion))
        return {"search": suggestion.search, "trial": suggestion.number, **suggestion.point}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Pass an intermediate value on, so that samplers may learn from pruned trials."""
        suggestion, trial = self.running.get(trial_id, (None, None))
        step = result.get("step")
        if suggestion is None or trial is None or step is None or self.objective.several:
            return
        if isnan(result["so_far"]):  # pre-training
            return
        if step not in self.seen[trial_id]:
            self.seen[trial_id].add(step)  # a trial that Tune restarts reports epochs again
            trial.report(result["so_far"], int(step))
            if self.view is not None:
                self.view.reported(suggestion.search, suggestion.name, int(step), result["so_far"])

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell Optuna the state that the records give. A trial without one has died: it is
        suggested again, and fails after too many deaths.

        (Tune's own recovery gives a trial up whose process dies before its first report.)
        """
        suggestion, trial = self.running.pop(trial_id, (None, None))
        if suggestion is None or trial is None:
            return
        self.seen.pop(trial_id, None)
        search = self.searches[suggestion.search]
        found = self.finished(suggestion)
        if found is None:
            self.deaths[suggestion.name] += 1
            if self.deaths[suggestion.name] <= MOST_DEATHS:
                search.study.tell(trial, None, TrialState.FAIL)
                search.waiting.insert(0, suggestion)
                search.count -= 1
                return
            self._record_death(suggestion, NO_RECORD)
            found = self.finished(suggestion)
            assert found is not None
        state = OPTUNA_STATE[found.outcome.state]
        trial.set_user_attr("reason", found.outcome.reason)
        values = found.outcome.values if state == TrialState.COMPLETE else None
        search.study.tell(trial, values, state)
        self._note(search, suggestion, found)
        if self.view is not None:
            self.view.told(suggestion.search, suggestion.name, self._frozen(suggestion, found))

    def finished(self, suggestion: Suggestion) -> Ended | None:
        """How a trial ended, from its records; None while it has not."""
        return ended(suggestion, self.objective, self.store)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the records are the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore: the records are the state."""

    def runs(self, search: str, point: Point, blocks: Sequence[str] = ()) -> list[RunConfig]:
        """The runs of a trial: the point in each block of its search, in this order or theirs."""
        known = self.searches[search].blocks
        return [run_of(self.base, point, known[name]) for name in blocks or known]

    def _earlier(self, space: SearchSpace) -> list[Tried]:
        folder = self.strategy.transfer_from
        if not folder:
            return []
        found = tried_in(RecordStore(folder), space, self.base.method.name)
        if not found:
            raise ConfigError(
                f"--transfer-from {folder} holds no complete run of method "
                f"{self.base.method.name} whose values lie in this search space"
            )
        return found

    def _suggestions(self) -> dict[str, list[Suggestion]]:
        """What earlier sessions suggested, by search."""
        found: dict[str, list[Suggestion]] = defaultdict(list)
        for suggestion in Suggestion.read_all(self.store.root):
            found[suggestion.search].append(suggestion)
        return found

    def _open(self, name: str, blocks: list[Block], waiting: list[Suggestion]) -> _Search:
        """Rebuild a search from what earlier sessions suggested and recorded."""
        search = _Search(self._study(name), {block.name: block for block in blocks})
        known = [(self.finished(one), one) for one in waiting]
        known.sort(key=lambda pair: (pair[0] is not None, pair[1].number))
        numbers = {one.number for one in waiting}
        search.gaps = sorted(set(range(max(numbers, default=-1) + 1)) - numbers)
        for found, suggestion in known:
            search.waiting.append(suggestion)
            self._count(search, suggestion)
            if found is not None:
                self._note(search, suggestion, found)
        trials = [self._frozen(one, found) for found, one in known if found is not None]
        search.study.add_trials(memorable(trials))
        if self.view is not None:
            self.view.opened(
                name,
                len(search.study.directions),
                {s.name: self._frozen(s, found) for found, s in known if found is not None},
            )
        return search

    def _study(self, name: str) -> optuna.Study:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        directions = [StudyDirection.MAXIMIZE] * (2 if self.objective.several else 1)
        return optuna.create_study(study_name=name, directions=directions)

    def _forget(self, search: _Search) -> None:
        """Start the sampler's memory anew with what is worth remembering and what is running."""
        trials = search.study.get_trials(deepcopy=False)
        search.study = self._study(search.study.study_name)
        search.study.add_trials(memorable([trial for trial in trials if trial.state.is_finished()]))
        for trial_id, (suggestion, trial) in self.running.items():
            if trial is not None and suggestion.search == search.study.study_name:
                self.running[trial_id] = (suggestion, self._ask_again(search, suggestion))

    def _new(self, search: _Search) -> tuple[Suggestion, optuna.Trial]:
        if len(search.study.get_trials(deepcopy=False)) >= 2 * MEMORY:
            self._forget(search)
        name = search.study.study_name
        number = search.gaps.pop(0) if search.gaps else search.count
        search.count += 1
        seed = self._seed(name, number)
        search.study.sampler = new_sampler(self.strategy.sampler, self.space, seed, self.trials)
        origin, point = self._chosen(search, number, seed)
        trial, attributes = self._fresh(search, point, seed)
        blocks = self._order(search)
        suggestion = Suggestion(
            number=number,
            search=name,
            point=dict(trial.params),
            blocks=blocks,
            run_ids=[
                run_of(self.base, trial.params, search.blocks[block]).run_id for block in blocks
            ],
            suggested_at=time.time(),
            origin=origin,
            attributes=attributes,
        )
        self._count(search, suggestion)
        suggestion.write(self.store.root)
        return suggestion, trial

    def _chosen(self, search: _Search, number: int, seed: int) -> tuple[str, Point | None]:
        """A point that is not the sampler's, and where it is from."""
        if number == 0:
            return "paper", self.paper
        if number <= self.strategy.transfer:
            wanted = [block.scenario for block in search.blocks.values()]
            others = [one for other in self.searches.values() for one in other.tried]
            count = self.strategy.transfer + number
            for point in starting_points(wanted, [*others, *self.earlier], count):
                if key_of(point) not in search.suggested:
                    return "transfer", point
        if self.strategy.sampler == "grid":
            return "grid", self._next_of_grid(search)
        weight = self.strategy.prior_weight
        if np.random.default_rng(seed).random() < weight / (weight + number):
            return "prior", prior_point(self.space, self.paper, seed)
        return "sampler", None

    def _next_of_grid(self, search: _Search) -> Point | None:
        """The next point of the shuffled grid that was not suggested; None at its end."""
        seed = self._seed("grid", 0)
        for place in range(search.on_grid, search.on_grid + len(search.suggested) + 1):
            point = grid_point(self.space, place, seed)
            if point is None or key_of(point) not in search.suggested:
                return point
        return None

    def _fresh(
        self, search: _Search, point: Point | None, seed: int
    ) -> tuple[optuna.Trial, dict[str, Any]]:
        """A trial at this point, or at one of the sampler's, and what the sampler noted about it.

        A point that was suggested before would be the same runs again: another is drawn at random,
        but for a space so small that there may be none.
        """
        trial = self._ask(search, point)
        attributes = _of_the_sampler(search.study)
        for draw in range(REDRAWS):
            if key_of(trial.params) not in search.suggested:
                break
            search.study.tell(trial, None, TrialState.FAIL)
            search.study.sampler = new_sampler("random", self.space, seed + draw, self.trials)
            trial = self._ask(search, None)
            self._note_for_sampler(search, trial, attributes)
        return trial, attributes

    def _order(self, search: _Search) -> list[str]:
        """The blocks, most telling first; as they are where order does not matter."""
        names = list(search.blocks)
        if len(names) < 3 or self.objective.several:
            return names
        first, *rest = middle_first(list(search.blocks.values()))
        recent = search.whole[-RECENT:]
        values = [value for _, value in recent]
        return [first, *telling_order(rest, [met for met, _ in recent], values)]

    def _ask(self, search: _Search, point: Point | None) -> optuna.Trial:
        if point is not None:
            search.study.enqueue_trial(point)
        return search.study.ask(self.space)

    def _ask_again(self, search: _Search, suggestion: Suggestion) -> optuna.Trial:
        """A trial at a point that was suggested before, with what its sampler had noted."""
        trial = self._ask(search, suggestion.point)
        self._note_for_sampler(search, trial, suggestion.attributes)
        return trial

    @staticmethod
    def _note_for_sampler(search: _Search, trial: optuna.Trial, attributes: dict[str, Any]) -> None:
        for key, value in attributes.items():
            search.study._storage.set_trial_system_attr(trial._trial_id, key, value)

    def _seed(self, search: str, number: int) -> int:
        """Suggestion n depends on the seed, n and what was told; not on interruptions, as long as
        the sampler remembers all of it. (NSGA-II may mix other parents after a killed trial.)"""
        text = json.dumps([self.base.seed, search, number])
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest())

    @staticmethod
    def _count(search: _Search, suggestion: Suggestion) -> None:
        search.suggested.add(key_of(suggestion.point))
        search.on_grid += suggestion.origin == "grid"

    def _note(self, search: _Search, suggestion: Suggestion, found: Ended) -> None:
        """Remember what other searches and the order of blocks can learn from."""
        search.tried += [
            Tried(search.blocks[one.block].scenario, one.value, suggestion.point)
            for one in found.met
        ]
        if found.outcome.state == "complete":
            values = {one.block: one.value for one in found.met}
            search.whole.append((values, found.outcome.values[0]))

    def _record_death(self, suggestion: Suggestion, reason: str) -> None:
        """The one record that the driver writes: of a run whose process can write none."""
        for run in self.runs(suggestion.search, suggestion.point, suggestion.blocks):
            if self.store.read(run.run_id) is None:
                self.store.fail(run, suggestion.search, suggestion.number, reason)
                return

    def _frozen(self, suggestion: Suggestion, found: Ended) -> FrozenTrial:
        return frozen(suggestion, found, self.space)

    def _running(self, suggestion: Suggestion) -> FrozenTrial:
        return frozen(suggestion, None, self.space)


def memorable(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """What a sampler is given of more than 2,000 finished trials, as its time grows with them: the
    best half thousand that are complete, and the last half thousand."""
    if len(trials) < 2 * MEMORY:
        return trials
    complete = [place for place, trial in enumerate(trials) if trial.state == TrialState.COMPLETE]
    best = sorted(complete, key=lambda place: -sum(trials[place].values))[: MEMORY // 2]
    kept = {*best, *range(len(trials) - MEMORY // 2, len(trials))}
    return [trials[place] for place in sorted(kept)]


def key_of(point: Point) -> tuple[Any, ...]:
    """A point as a set can hold it."""
    return tuple(sorted(point.items()))


def frozen(
    suggestion: Suggestion, found: Ended | None, space: dict[str, BaseDistribution]
) -> FrozenTrial:
    """A trial as Optuna stores it; a running one where it has no outcome yet."""
    attributes = {
        "trial": suggestion.number,
        "run_ids": suggestion.run_ids,
        "blocks": suggestion.blocks,
        "origin": suggestion.origin,
    }
    common: dict[str, Any] = {
        "params": suggestion.point,
        "distributions": space,
        "system_attrs": suggestion.attributes,
    }
    if found is None:
        trial = create_trial(state=TrialState.RUNNING, user_attrs=attributes, **common)
    else:
        end = found.outcome
        state = OPTUNA_STATE[end.state]
        pruned = state == TrialState.PRUNED and len(end.values) == 1
        trial = create_trial(
            state=state,
            values=end.values if state == TrialState.COMPLETE or pruned else None,
            intermediate_values={end.step: end.values[0]} if pruned else {},
            user_attrs={**attributes, "reason": end.reason, "epochs": end.step},
            **common,
        )
        if found.finished_at:
            trial.datetime_complete = _local(datetime.fromisoformat(found.finished_at))
    if suggestion.suggested_at:
        trial.datetime_start = _local(datetime.fromtimestamp(suggestion.suggested_at, UTC))
    return trial


def _local(moment: datetime) -> datetime:
    """As Optuna has times: of this place, without saying so."""
    return moment.astimezone().replace(tzinfo=None)


def _of_the_sampler(study: optuna.Study) -> dict[str, Any]:
    """What the sampler noted about the last trial."""
    attributes = study.get_trials(deepcopy=False)[-1].system_attrs
    return {key: value for key, value in attributes.items() if key != "fixed_params"}
