"""What the tests of the launchers share: a small cluster, and a trial that can be disturbed.

Ray's workers import this module, so it is no test.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import ray
from samples import make_run

from dfpl.compute import Compute
from dfpl.config import RunConfig
from dfpl.data.packed import PackedDataset
from dfpl.fields import Row
from dfpl.study import slot
from dfpl.study.records import Record, RecordStore
from dfpl.study.resources import Resources
from dfpl.study.run import DRIVER_ENVIRONMENT, RAY_ENVIRONMENT
from dfpl.study.trial import Job
from dfpl.study.worker import Assignment, WorkersFailedError

HERE = Path(__file__).parent
TWO = Resources(workers=2, gpus_per_worker=0.0, concurrent=1, launcher="slot")


@contextmanager
def small_cluster() -> Iterator[None]:
    """Ray with two CPUs in this process; its workers find the modules of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**RAY_ENVIRONMENT, **DRIVER_ENVIRONMENT}.items():
            patch.setenv(name, value)
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.delenv("RAY_ADDRESS", raising=False)
        found = {"PYTHONPATH": f"{HERE}:{HERE.parent}"}
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            runtime_env={"env_vars": {**RAY_ENVIRONMENT, **found}},
        )
        yield
        ray.shutdown()


def go_on(row: Row) -> bool:
    return True


def stop(row: Row) -> bool:
    return False


@dataclass(frozen=True)
class Strike:
    """Sends a signal to a process after the second epoch; if `once`, the first time only."""

    signal: int
    pid: int
    mark: Path
    once: bool = True

    def __call__(self, row: Row) -> bool:
        if row["epoch"] == 2 and not (self.once and self.mark.exists()):
            self.mark.touch()
            os.kill(self.pid or os.getpid(), self.signal)
        return True


class Trial:
    """Stands for the process of a trial, whose slot it holds."""

    def train(
        self, assignment: Assignment, resources: Resources, attempts: int
    ) -> tuple[Record | str, list[Row]]:
        """The record, or why there is none, and the epochs that were told."""
        slot.ATTEMPTS = attempts
        rows: list[Row] = []
        try:
            return slot.fit_in_slot(assignment, resources, rows.append), rows
        except WorkersFailedError as error:
            return str(error), rows

    def pids(self) -> list[int]:
        """Of the ranks and, last, of the trial itself."""
        return [*(pid for kept in slot._kept for pid in kept.pids), os.getpid()]


@dataclass(frozen=True)
class Bench:
    """Trains runs in the slot of a trial's process, each with a store of its own."""

    trial: Any
    data: Path
    folder: Path

    def __call__(
        self,
        ask: Callable[[Row], bool] = go_on,
        resources: Resources = TWO,
        attempts: int = 3,
        **values: Any,
    ) -> tuple[Any, list[Row]]:
        store = RecordStore(self.folder / f"{len(list(self.folder.iterdir()))}/study")
        store.root.prove_writable()
        assignment = Assignment(
            run=self.run(**values),
            job=Job(
                store=store,
                data=self.data,
                search="both-50",
                trial=1,
                suggested_at=time.time(),
                launcher="slot",
            ),
            ask=ask,
            compute=Compute(),
            checkpoint_every_s=0.0,
        )
        record, rows = ray.get(self.trial.train.remote(assignment, resources, attempts))
        if isinstance(record, Record):
            assert store.read(record.run_id) == record
        return record, rows

    def run(self, **values: Any) -> RunConfig:
        return make_run(PackedDataset.load(self.data), **{"optim__epochs": 4, **values})

    def pids(self) -> list[int]:
        return ray.get(self.trial.pids.remote())


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def assert_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 20
    while any(map(lives, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in pids if lives(pid)]


def without_time(rows: list[Row]) -> list[Row]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def assert_same_result(record: Any, other: Any) -> None:
    timeless = {"seconds": 0.0, "overhead_s": None, "finished_at": "", "study": ""}
    assert replace(record, **timeless) == replace(other, **timeless)
