"""The rounds of a trial: one run per block, one after another, until it is done or out.

No Ray here: how a run is trained, who is told, and how the referee is reached are given.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any, Protocol, runtime_checkable

from dfpl.config import RunConfig
from dfpl.fields import Row
from dfpl.study.halving import SuccessiveHalving
from dfpl.study.objective import Block, Met, Objective
from dfpl.study.race import Race
from dfpl.study.records import Record, RecordStore
from dfpl.study.suggestion import Suggestion, run_of

Ask = Callable[[Row], bool]
"""Told about an epoch, says whether the run may go on."""
Tell = Callable[[dict[str, Any]], None]


@runtime_checkable
class Judge(Protocol):
    """Says at rungs and between runs whether a trial may go on."""

    def may_go_on(self, run_id: str, scenario: str, epoch: int, value: float) -> bool: ...

    def dropped(self, search: str, trial: int, met: Sequence[Met]) -> str: ...

    def whole(self, search: str, trial: int, met: Sequence[Met]) -> None: ...


class Referee:
    """The judge of all trials of a study: halving over epochs in the first block, then the race."""

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


@dataclass(frozen=True)
class Describing:
    """Turns the row of an epoch into what Tune, TensorBoard and the sampler see."""

    epochs: int
    """Length of a whole run."""
    objective: Objective
    block: str
    """Name of the block that is being trained."""
    before: tuple[Met, ...] = ()
    """What the trial reached in the blocks before."""

    def __call__(self, row: Row) -> dict[str, Any]:
        """The row with its `step` within the trial, and the objective over what was met `so_far`,
        the running block included."""
        step = len(self.before) * self.epochs + int(row["epoch"])
        so_far = self.objective.values([*self.before, Met(self.block, row["value"])])[0]
        return {**row, "step": step, "so_far": so_far, "state": "running"}


Train = Callable[[RunConfig, Ask, Describing], Record]


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """What the trials of a search have in common."""

    base: RunConfig
    objective: Objective
    searches: dict[str, list[Block]]
    """Blocks that the trials of each search meet."""
    store: RecordStore
    judge: Judge
    train: Train
    tell: Tell

    def play(self, suggestion: Suggestion) -> dict[str, Any]:
        """Train all runs of a trial; it ends with the first that does not end well, or where the
        race says so. Returns what Tune is told last: a failed trial is a NaN for it."""
        blocks = {block.name: block for block in self.searches[suggestion.search]}
        met: tuple[Met, ...] = ()
        state, run_id, reason = "failed", "", ""
        for name in suggestion.blocks:
            run = run_of(self.base, suggestion.point, blocks[name])
            if met and (reason := self._out(run, suggestion, met)):
                state = "pruned"
                break
            describe = Describing(run.optim.epochs, self.objective, name, met)
            record = self._run(run, suggestion, describe)
            state, run_id, reason = record.state, record.run_id, record.reason
            if record.value is not None:
                met = (*met, Met(name, record.value))
            if state != "complete":
                break
        if state == "complete":
            self.judge.whole(suggestion.search, suggestion.number, met)
        value = nan if state == "failed" else self.objective.values(met)[-1]
        return {"value": value, "state": state, "run_id": run_id, "reason": reason}

    def _out(self, run: RunConfig, suggestion: Suggestion, met: tuple[Met, ...]) -> str:
        """Why the next run of a trial is not to be trained, or nothing. Kept, so that a restarted
        study knows it; a run that is done is never taken back, the paper's point never out."""
        if self.store.read(run.run_id) is not None:
            return ""
        reason = self.store.dropped(suggestion.name)
        if not reason and suggestion.number > 0:
            reason = self.judge.dropped(suggestion.search, suggestion.number, met)
            if reason:
                self.store.drop(suggestion.name, reason)
        return reason

    def _run(self, run: RunConfig, suggestion: Suggestion, describe: Describing) -> Record:
        """Train one run of a trial, or show the one that there is as it went."""
        record = self.store.read(run.run_id)
        if record is None:
            halved = not describe.before and suggestion.number > 0 and not self.objective.several
            return self.train(run, self._asking(run) if halved else always, describe)
        for row in self.store.epochs(record.run_id):
            self.tell(describe(row))
        return record

    def _asking(self, run: RunConfig) -> Ask:
        return Asking(self.judge, run.run_id, str(run.scenario))


@dataclass(frozen=True)
class Asking:
    """Asks the judge at each epoch whether a run may go on."""

    judge: Judge
    run_id: str
    scenario: str

    def __call__(self, row: Row) -> bool:
        return self.judge.may_go_on(self.run_id, self.scenario, int(row["epoch"]), row["value"])


def always(row: Row) -> bool:
    return True
