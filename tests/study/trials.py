"""What the tests of the launchers share: a small cluster, and a trial that can be disturbed.

Ray's workers import this module, so it is no test.
"""

import gc
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from samples import make_run

from dfpl.compute import Compute
from dfpl.config import RunConfig
from dfpl.data.packed import PackedDataset
from dfpl.fields import Row
from dfpl.study import launch as launching
from dfpl.study import slot, tuning, worker
from dfpl.study.records import Record, RecordStore
from dfpl.study.resources import Resources
from dfpl.study.run import DRIVER_ENVIRONMENT, RAY_ENVIRONMENT
from dfpl.study.trial import Job, run_once
from dfpl.study.tuning import SearchSettings, tune_trial
from dfpl.study.worker import Assignment, WorkersFailedError, train_alone
from dfpl.train import Runtime

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
    """Sends a signal to a process, by default its own, after the second epoch; if `once`, the first
    time only."""

    kind: int
    pid: int
    mark: Path
    once: bool = True

    def __call__(self, row: Row) -> bool:
        if row["epoch"] == 2 and not (self.once and self.mark.exists()):
            self.mark.touch()
            os.kill(self.pid or os.getpid(), self.kind)
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


class WarmTrial:
    """Stands for the process of a trial that trains alone."""

    def train(self, assignment: Assignment) -> tuple[Record, list[Row]]:
        rows: list[Row] = []
        return train_alone(assignment, rows.append), rows

    def left_behind(self) -> dict[str, Any]:
        return left_behind()


def left_behind() -> dict[str, Any]:
    """What one trial could leave to the next, or to the machine."""
    gc.collect()
    status = Path("/proc/self/status").read_text().split()
    own = [module for name, module in sys.modules.items() if name.startswith("dfpl")]
    values: dict[Any, Any] = {(m.__name__, name): v for m in own for name, v in vars(m).items()}
    random_state: Any = np.random.get_state()  # noqa: NPY002
    return {
        "settings": (
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            torch.are_deterministic_algorithms_enabled(),
            torch.backends.cudnn.benchmark,
            torch.get_float32_matmul_precision(),
            torch.distributed.is_initialized(),
            hash(random.getstate()),
            hash(random_state[1].tobytes()),
            tuple(sorted(os.environ)),
        ),
        "caches": {
            name: len(value)
            if isinstance(value, (dict, list, set))
            else value.cache_info().currsize
            for name, value in values.items()
            if isinstance(value, (dict, list, set)) or hasattr(value, "cache_info")
        },
        "handles": len(os.listdir("/proc/self/fd")),
        "threads": int(status[status.index("Threads:") + 1]),
        "objects": len(gc.get_objects()),
        "resident_mb": int(status[status.index("VmRSS:") + 1]) / 1024,
    }


def timed_trial(config: dict[str, Any], settings: SearchSettings) -> None:
    """`tune_trial`, but notes how long the training waits at each report."""
    seconds: list[float] = []

    def run_timed(run: RunConfig, job: Job, runtime: Runtime) -> Record:
        return run_once(run, job, replace(runtime, report=timed(runtime.report, seconds)))

    worker.run_once = run_timed
    tune_trial(config, settings)
    settings.store.root.write_json(f"told/{config['trial']}.json", seconds)


def struck_trial(config: dict[str, Any], settings: SearchSettings) -> None:
    """`tune_trial`, but the process of rank 0 is killed after the second epoch, once."""
    strike = Strike(signal.SIGKILL, 0, Path(settings.store.root.path) / "struck")

    def execute(run: RunConfig, job: Job, launch: Any, ask: Any, describe: Any) -> Record:
        return launching.execute(run, job, launch, strike, describe)

    tuning.execute = execute
    tune_trial(config, settings)


def timed(report: Callable[[Row], bool], seconds: list[float]) -> Callable[[Row], bool]:
    def report_timed(row: Row) -> bool:
        start = time.perf_counter()
        try:
            return report(row)
        finally:
            seconds.append(time.perf_counter() - start)

    return report_timed


def assignment_of(run: RunConfig, data: Path, folder: Path, launcher: str = "inline") -> Assignment:
    """A run that is to be trained now, and leaves its record in `folder`."""
    return Assignment(
        run=run,
        job=Job(
            store=RecordStore(folder),
            data=data,
            search="both-50",
            trial=1,
            suggested_at=time.time(),
            launcher=launcher,
        ),
        ask=go_on,
        compute=Compute(),
        checkpoint_every_s=0.0,
    )


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
        folder = self.folder / f"{len(list(self.folder.iterdir()))}/study"
        folder.mkdir(parents=True)
        wanted = assignment_of(self.run(**values), self.data, folder, "slot")
        assignment = replace(wanted, ask=ask)
        record, rows = ray.get(self.trial.train.remote(assignment, resources, attempts))
        if isinstance(record, Record):
            assert assignment.job.store.read(record.run_id) == record
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
