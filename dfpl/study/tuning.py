"""The Tune side of a study: what a trial's actor does, and how it reaches the referee."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan
from socket import gethostname
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError

from dfpl.config import RunConfig
from dfpl.storage import StorageError
from dfpl.study.closing import Listening, closing
from dfpl.study.launch import Launch, execute
from dfpl.study.objective import Block, Met, Objective
from dfpl.study.records import Record
from dfpl.study.rounds import Ask, Describing, Referee, Rounds, Train, always
from dfpl.study.suggestion import FOLDER as SUGGESTIONS
from dfpl.study.suggestion import Suggestion, trial_name
from dfpl.study.trial import Job
from dfpl.train import EndedError


@dataclass(frozen=True, kw_only=True)
class SearchSettings(Launch):
    """What all trials of a search have in common."""

    base: RunConfig
    objective: Objective
    searches: dict[str, list[Block]]
    """Blocks that the trials of each search meet."""
    referee: Any
    """Handle of the RefereeActor."""
    rungs: list[int]
    """Epochs at which it is asked whether a run may go on."""


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
    rungs: Sequence[int]
    """Epochs at which it is asked: between them any run may go on."""

    def may_go_on(self, run_id: str, scenario: str, epoch: int, value: float) -> bool:
        if epoch not in self.rungs:
            return True
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
    would try it again. So is a trial that leaves no record, as results cannot be written or the
    study is to end: the driver hears of it.
    """
    tune.report(last_words(lambda: _play(config, settings)))


def last_words(play: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What Tune is told last of a trial."""
    try:
        if closing():
            raise EndedError
        return play()
    except EndedError:
        return {"value": nan, "state": "stopped"}
    except StorageError as error:
        reason = getattr(error, "cause", error)  # of a rank, without its trace
        return {"value": nan, "state": "unwritten", "reason": f"{reason} (on {gethostname()})"}


def _play(config: dict[str, Any], settings: SearchSettings) -> dict[str, Any]:
    root, name = settings.store.root, f"{trial_name(config['search'], config['trial'])}.json"
    if not root.wait_for(f"{SUGGESTIONS}/{name}"):
        raise StorageError(
            f"{root.shown}/{SUGGESTIONS}/{name} was written, but cannot be seen from here; see "
            "that every node reaches the same storage, then the same command goes on"
        )
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
        return execute(run, job, settings, Listening(ask), describe)

    return rounds_of(settings, train).play(suggestion)


def rounds_of(settings: SearchSettings, train: Train) -> Rounds:
    """The rounds of this search's trials under Tune."""
    return Rounds(
        base=settings.base,
        objective=settings.objective,
        searches=settings.searches,
        store=settings.store,
        judge=FarReferee(settings.referee, settings.rungs),
        train=train,
        tell=tune.report,
    )


def tune_run(config: dict[str, Any], settings: SweepSettings) -> None:
    """One run of a sweep; `config` holds its position in the list."""
    tune.report(last_words(lambda: _train_listed(config, settings)))


def _train_listed(config: dict[str, Any], settings: SweepSettings) -> dict[str, Any]:
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
        record = execute(run, job, settings, Listening(always), describe)
    else:
        for row in settings.store.epochs(record.run_id):
            tune.report(describe(row))
    value = record.value if record.state == "complete" else nan
    return {"value": value, "state": record.state, "run_id": record.run_id}
