"""The Tune side of a trial: which runs it has, and when it gives up."""

from dataclasses import dataclass
from math import nan
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError

from dfpl.config import RunConfig
from dfpl.data.scenario import Scenario
from dfpl.fields import Row
from dfpl.study.halving import SuccessiveHalving
from dfpl.study.launch import Describing, Launch, execute
from dfpl.study.objective import Objective, combine
from dfpl.study.records import Record, RecordStore
from dfpl.study.trial import Job


@dataclass(frozen=True, kw_only=True)
class SearchSettings(Launch):
    """What all trials of a search have in common."""

    base: RunConfig
    objective: Objective
    searches: dict[str, list[Scenario]]
    """Scenarios that the trials of each search meet."""
    halving: Any
    """Handle of the SuccessiveHalving actor."""


@dataclass(frozen=True, kw_only=True)
class SweepSettings(Launch):
    """A list of runs, each trained whole."""

    name: str
    runs: list[RunConfig]


def tune_trial(config: dict[str, Any], settings: SearchSettings) -> None:
    """All runs of one trial, one after another; the trial ends with the first that does.

    `config` holds the search, the number of the trial and its point under dotted names. A failed
    run is a NaN for Tune: an exception would cost the warm actor, and Tune would try it again.
    """
    point = {name: value for name, value in config.items() if name not in ("search", "trial")}
    values: list[float] = []
    for scenario in settings.searches[config["search"]]:
        run = settings.base.with_values({**point, "scenario": scenario.to_dict()})
        record = settings.store.read(run.run_id)
        if record is None:
            record = _train(run, config, settings, values)
        else:
            _replay(record, settings.store, Describing(len(values), run.optim.epochs))
        values.append(nan if record.value is None else record.value)
        if record.state != "complete":
            break
    value = nan if record.state == "failed" else combine(settings.objective, values)
    tune.report({"value": value, "state": record.state, "run_id": record.run_id})


def _replay(record: Record, store: RecordStore, describe: Describing) -> None:
    """Show Ray a run of an earlier session as it went, so that its view stays whole."""
    for row in store.epochs(record.run_id):
        tune.report(describe(row))


def _train(
    run: RunConfig, config: dict[str, Any], settings: SearchSettings, before: list[float]
) -> Record:
    """Train one run of a trial and return its record."""
    suggestion = settings.store.root.read_json(
        f"suggestions/{config['search']}-{config['trial']:05d}.json"
    )
    job = Job(
        store=settings.store,
        data=settings.data,
        search=config["search"],
        trial=config["trial"],
        suggested_at=None if before else suggestion["suggested_at"],
        launcher=settings.resources.launcher,
    )
    ask = Asking(run, settings.halving, never=config["trial"] == 0)
    return execute(run, job, settings, ask, Describing(len(before), run.optim.epochs))


def tune_run(config: dict[str, Any], settings: SweepSettings) -> None:
    """One run of a sweep; `config` holds its position in the list."""
    run = settings.runs[config["run"]]
    record, describe = settings.store.read(run.run_id), Describing(0, run.optim.epochs)
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
    """Asks the halving actor whether a run may go on; the paper's point always may."""

    run: RunConfig
    halving: Any
    never: bool

    def __call__(self, row: Row) -> bool:
        question = (self.run.run_id, str(self.run.scenario), int(row["epoch"]), row["value"])
        try:
            answer: Any = ray.get(self.halving.go_on.remote(*question))
        except RayError:
            return True  # its node is lost; a run that goes on is never wrong
        return bool(answer) or self.never


HalvingActor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(SuccessiveHalving)
"""Where its node is lost it starts again and knows only what it is told from then on."""
