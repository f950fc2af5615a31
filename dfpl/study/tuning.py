"""The Tune side of a trial: which runs it has, and when it gives up."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError

from dfpl.config import RunConfig
from dfpl.fields import Row
from dfpl.study.halving import SuccessiveHalving
from dfpl.study.launch import Describing, Launch, execute
from dfpl.study.objective import Block, Met, Objective
from dfpl.study.race import Race
from dfpl.study.records import Record, RecordStore
from dfpl.study.suggestion import Suggestion, run_of
from dfpl.study.trial import Job


@dataclass(frozen=True, kw_only=True)
class SearchSettings(Launch):
    """What all trials of a search have in common."""

    base: RunConfig
    objective: Objective
    searches: dict[str, list[Block]]
    """Blocks that the trials of each search meet."""
    referee: Any
    """Handle of the Referee actor."""


@dataclass(frozen=True, kw_only=True)
class SweepSettings(Launch):
    """A list of runs, each trained whole."""

    name: str
    runs: list[RunConfig]


class Referee:
    """Says at rungs and after runs whether a trial may go on; one for all trials of a study."""

    def __init__(self, halving: SuccessiveHalving, race: Race) -> None:
        self.halving = halving
        self.race = race

    def may_go_on(self, run_id: str, scenario: str, epoch: int, value: float) -> bool:
        return self.halving.go_on(run_id, scenario, epoch, value)

    def dropped(self, search: str, trial: int, met: Sequence[Met]) -> str:
        """Why a trial that reached this in its blocks is to meet no more of them, or nothing."""
        return self.race.dropped(search, trial, met)

    def whole(self, search: str, trial: int, met: Sequence[Met]) -> None:
        """Note what a trial reached that met all its blocks."""
        self.race.note(search, trial, met)


RefereeActor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Referee)
"""Where its node is lost it starts again and knows only what it is told from then on."""


def tune_trial(config: dict[str, Any], settings: SearchSettings) -> None:
    """All runs of one trial, one after another; the trial ends with the first that does not end
    well, or where the race says so.

    `config` holds the search, the number of the trial and its point under dotted names. A failed
    run is a NaN for Tune: an exception would cost the warm actor, and Tune would try it again.
    """
    suggestion = Suggestion.read(settings.store.root, config["search"], config["trial"])
    blocks = {block.name: block for block in settings.searches[suggestion.search]}
    met: tuple[Met, ...] = ()
    state, run_id, reason = "failed", "", ""
    for name in suggestion.blocks:
        run = run_of(settings.base, suggestion.point, blocks[name])
        if met and (reason := _dropped(run, suggestion, met, settings)):
            state = "pruned"
            break
        describe = Describing(run.optim.epochs, settings.objective, name, met)
        record = _run(run, suggestion, settings, describe)
        state, run_id, reason = record.state, record.run_id, record.reason
        if record.value is not None:
            met = (*met, Met(name, record.value))
        if state != "complete":
            break
    if state == "complete":
        settings.referee.whole.remote(suggestion.search, suggestion.number, met)
    value = nan if state == "failed" else settings.objective.values(met)[-1]
    tune.report({"value": value, "state": state, "run_id": run_id, "reason": reason})


def _dropped(
    run: RunConfig, suggestion: Suggestion, met: tuple[Met, ...], settings: SearchSettings
) -> str:
    """Why the next run of a trial is not to be trained, or nothing. Kept, so that a restarted
    study knows it; a run that is done is never taken back."""
    store = settings.store
    if store.read(run.run_id) is not None:
        return ""
    reason = store.dropped(suggestion.name)
    if not reason and suggestion.number:
        question = (suggestion.search, suggestion.number, met)
        try:
            answer: Any = ray.get(settings.referee.dropped.remote(*question))
        except RayError:
            return ""  # its node is lost; a trial that goes on is never wrong
        if reason := str(answer):
            store.drop(suggestion.name, reason)
    return reason


def _run(
    run: RunConfig, suggestion: Suggestion, settings: SearchSettings, describe: Describing
) -> Record:
    """Train one run of a trial, or show Tune the one that there is, and return its record."""
    record = settings.store.read(run.run_id)
    if record is not None:
        _replay(record, settings.store, describe)
        return record
    first = not describe.before
    job = Job(
        store=settings.store,
        data=settings.data,
        search=suggestion.search,
        trial=suggestion.number,
        suggested_at=suggestion.suggested_at if first else None,
        launcher=settings.resources.launcher,
    )
    rungs = first and suggestion.number > 0 and not settings.objective.several
    ask = Asking(run, settings.referee) if rungs else _always
    return execute(run, job, settings, ask, describe)


def _replay(record: Record, store: RecordStore, describe: Describing) -> None:
    """Show Ray a run of an earlier session as it went, so that its view stays whole."""
    for row in store.epochs(record.run_id):
        tune.report(describe(row))


def tune_run(config: dict[str, Any], settings: SweepSettings) -> None:
    """One run of a sweep; `config` holds its position in the list."""
    run = settings.runs[config["run"]]
    block = Block(run.scenario, run.seed)
    describe = Describing(run.optim.epochs, Objective(), block.name)
    record = settings.store.read(run.run_id)
    if record is None:
        job = Job(
            store=settings.store,
            data=settings.data,
            search=settings.name,
            trial=config["run"],
            launcher=settings.resources.launcher,
        )
        record = execute(run, job, settings, _always, describe)
    else:
        _replay(record, settings.store, describe)
    value = record.value if record.state == "complete" else nan
    tune.report({"value": value, "state": record.state, "run_id": record.run_id})


def _always(row: Row) -> bool:
    return True


@dataclass(frozen=True)
class Asking:
    """Asks the referee at each epoch whether a run may go on."""

    run: RunConfig
    referee: Any

    def __call__(self, row: Row) -> bool:
        question = (self.run.run_id, str(self.run.scenario), int(row["epoch"]), row["value"])
        try:
            answer: Any = ray.get(self.referee.may_go_on.remote(*question))
        except RayError:
            return True  # its node is lost; a run that goes on is never wrong
        return bool(answer)
