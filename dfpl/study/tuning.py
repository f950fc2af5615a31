"""The Tune side of a study: what a trial's actor does, and how it reaches the referee."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError

from dfpl.config import RunConfig
from dfpl.study.launch import Launch, execute
from dfpl.study.objective import Block, Met, Objective
from dfpl.study.records import Record
from dfpl.study.rounds import Ask, Describing, Referee, Rounds, always
from dfpl.study.suggestion import Suggestion
from dfpl.study.trial import Job


@dataclass(frozen=True, kw_only=True)
class SearchSettings(Launch):
    """What all trials of a search have in common."""

    base: RunConfig
    objective: Objective
    searches: dict[str, list[Block]]
    """Blocks that the trials of each search meet."""
    referee: Any
    """Handle of the RefereeActor."""


@dataclass(frozen=True, kw_only=True)
class SweepSettings(Launch):
    """A list of runs, each trained whole."""

    name: str
    runs: list[RunConfig]


RefereeActor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Referee)
"""Where its node is lost it starts again and knows only what it is told from then on."""


@dataclass(frozen=True)
class FarReferee:
    """The referee as seen from a trial. Where its node is lost a trial goes on, which is never
    wrong."""

    actor: Any

    def may_go_on(self, run_id: str, scenario: str, epoch: int, value: float) -> bool:
        return bool(self._answer("may_go_on", True, run_id, scenario, epoch, value))

    def dropped(self, search: str, trial: int, met: Sequence[Met]) -> str:
        return str(self._answer("dropped", "", search, trial, met))

    def whole(self, search: str, trial: int, met: Sequence[Met]) -> None:
        self._answer("whole", None, search, trial, met)

    def _answer(self, question: str, otherwise: Any, *facts: Any) -> Any:
        try:
            return ray.get(getattr(self.actor, question).remote(*facts))
        except RayError:
            return otherwise


def tune_trial(config: dict[str, Any], settings: SearchSettings) -> None:
    """One trial; `config` holds its search, its number, and its point under dotted names.

    A failed run is a record, and NaN for Tune: an exception would cost the warm actor, and Tune
    would try it again.
    """
    suggestion = Suggestion.read(settings.store.root, config["search"], config["trial"])

    def train(run: RunConfig, ask: Ask, describe: Describing) -> Record:
        job = Job(
            store=settings.store,
            data=settings.data,
            search=suggestion.search,
            trial=suggestion.number,
            suggested_at=None if describe.before else suggestion.suggested_at,
            launcher=settings.resources.launcher,
        )
        return execute(run, job, settings, ask, describe)

    rounds = Rounds(
        base=settings.base,
        objective=settings.objective,
        searches=settings.searches,
        store=settings.store,
        judge=FarReferee(settings.referee),
        train=train,
        tell=tune.report,
    )
    tune.report(rounds.play(suggestion))


def tune_run(config: dict[str, Any], settings: SweepSettings) -> None:
    """One run of a sweep; `config` holds its position in the list."""
    run = settings.runs[config["run"]]
    describe = Describing(run.optim.epochs, Objective(), Block(run.scenario, run.seed).name)
    record = settings.store.read(run.run_id)
    if record is None:
        job = Job(
            store=settings.store,
            data=settings.data,
            search=settings.name,
            trial=config["run"],
            launcher=settings.resources.launcher,
        )
        record = execute(run, job, settings, always, describe)
    else:
        for row in settings.store.epochs(record.run_id):
            tune.report(describe(row))
    value = record.value if record.state == "complete" else nan
    tune.report({"value": value, "state": record.state, "run_id": record.run_id})
