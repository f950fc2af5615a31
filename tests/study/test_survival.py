"""A study survives what happens to its processes: the same command goes on, nothing is lost.

By the numbers of the failure spec (part D.3), and where each is tested:
1, 8 driver or everything killed   test_main_job (the same command finishes what is left)
2  killed after a suggestion       test_searcher (on disk before its trial starts), test_suggestion
3  one of two workers killed       test_slot
4  a worker hangs                  test_slot
5  a node is lost                  tests/benchmarks/chaos.py, at random times
6  SIGTERM                         here
7  Ctrl-C twice                    here
9  out of memory                   here; that the study goes on: test_study (a failing trial)
10 epochs reported twice           test_searcher
11 not finite                      test_train, test_study
26 to 31 storage                   test_storage_faults
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from samples import make_run, save_packed
from test_main_job import ROOT, command, environment

from dfpl.checkpoint import Progress
from dfpl.fields import ConfigError
from dfpl.study import trial
from dfpl.study.lock import Hold
from dfpl.study.records import RecordStore
from dfpl.study.stopping import GRACE_S, Stopping
from dfpl.study.trial import Job, run_once
from dfpl.train import Runtime

pytestmark = [
    pytest.mark.timeout(280),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # sockets and files of ray itself
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
EPOCHS = 2000


def wait_until(ready: Any, longest_s: float = 150.0) -> None:
    end = time.monotonic() + longest_s
    while not ready():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


class Driver:
    """A long study as a process of its own, with checkpoints only where it is told to end."""

    def __init__(self, place: Path) -> None:
        self.folder = place / "runs/study"
        options = [
            "--scenarios=both-50",
            "--trials=2",
            "--concurrent=1",
            "--checkpoint-every-s=9999",
        ]
        self.log = place / f"{time.monotonic_ns()}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command(place / "data", place / "runs", *options, f"--epochs={EPOCHS}"),
                cwd=ROOT,
                env=environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def rows(self) -> list[dict[str, Any]]:
        """What Tune was told of its first trial."""
        (path, *_) = [*self.folder.glob("ray/*/result.json"), None]
        lines = path.read_text().splitlines() if path is not None else []
        return [json.loads(line) for line in lines[-2:]]

    def checkpoint(self) -> Progress | None:
        (name, *_) = [*(RecordStore(self.folder).root / "suggestions").names(), ""]
        if not name:
            return None
        (run_id,) = json.loads((self.folder / "suggestions" / name).read_text())["run_ids"]
        return Progress.load(RecordStore(self.folder).root / f"checkpoints/{run_id}")

    def end(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def assert_whole(folder: Path) -> None:
    """Every file can be read, none is a part, no run is recorded, and no driver holds the study."""
    assert RecordStore(folder).set_aside_torn() == []
    assert not [path for path in folder.rglob("*.part")]
    assert not list(folder.glob("records/*")) and not list(folder.glob("drivers/*"))
    for name in ("suggestions", "progress", "heartbeats"):
        assert [json.loads(path.read_text()) for path in folder.glob(f"{name}/*.json")]


@pytest.mark.ray
def test_a_study_that_is_told_to_end_keeps_a_checkpoint_and_goes_on(tmp_path: Path) -> None:
    save_packed(tmp_path / "data", num_samples=80)
    first = Driver(tmp_path)
    try:
        wait_until(lambda: len(first.rows()) == 2)
        with pytest.raises(ConfigError, match=f"another driver works on .*{first.process.pid} on"):
            Hold(RecordStore(first.folder).root, print, print).take()
        assert first.checkpoint() is None
        first.process.send_signal(signal.SIGTERM)
        wait_until(lambda: first.checkpoint() is not None, 30.0)
        assert first.process.wait(60) == 128 + signal.SIGTERM
    finally:
        first.end()
    assert "SIGTERM: running trials keep a checkpoint" in first.log.read_text()
    assert_whole(first.folder)
    kept = first.checkpoint()
    assert kept is not None and kept.epochs_done >= 2
    second = Driver(tmp_path)
    try:
        wait_until(
            lambda: second.rows() and second.rows()[-1].get("epoch", 0) > kept.epochs_done + 1
        )
        for _ in range(2):  # as a terminal sends it: to all processes of the command
            os.killpg(second.process.pid, signal.SIGINT)
            time.sleep(0.5)
        assert second.process.wait(60) == 130
    finally:
        second.end()
    assert_whole(second.folder)
    again = second.checkpoint()
    assert again is not None and again.rows[: kept.epochs_done] == kept.rows


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried"),
            "out of GPU memory with optim.batch_",
        ),
        (MemoryError("cannot allocate"), "out of memory with optim.batch_size = 16"),
    ],
)
def test_a_run_without_enough_memory_fails_with_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, hint: str
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(trial, "fit", fail)
    run = make_run(save_packed(tmp_path / "data"))
    job = Job(store=RecordStore(tmp_path / "s"), data=tmp_path / "data", search="x", trial=0)
    record = run_once(run, job, Runtime())
    assert record.state == "failed" and record.reason.startswith(hint)


class Tuned:
    """A trial as Tune knows it."""

    def __init__(self, trial_id: str) -> None:
        self.trial_id = trial_id


def test_a_study_ends_when_its_trials_have_or_when_time_is_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[int] = []
    monkeypatch.setattr("dfpl.study.stopping.announce", lambda: told.append(1))
    now = [0.0]
    for in_time in (True, False):
        stopping = Stopping(lambda: now[0])
        for name in "ab":
            stopping.on_trial_start(0, [], Tuned(name))
        assert not stopping.stop_all()
        stopping.because(SystemExit(143))
        stopping.because(SystemExit(1))
        told.clear()
        assert not stopping.stop_all() and not stopping.stop_all() and told == [1]
        stopping.on_trial_complete(0, [], Tuned("a"))
        now[0] += GRACE_S - 1
        assert not stopping.stop_all()
        if in_time:
            stopping.on_trial_error(0, [], Tuned("b"))
        else:
            now[0] += 2
        assert stopping.stop_all()
        with pytest.raises(SystemExit) as ended:
            stopping.end()
        assert ended.value.code == 143


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_with_its_own_code_whatever_ray_makes_of_it(number: int) -> None:
    said: list[str] = []
    stopping = Stopping()
    with pytest.raises(SystemExit) as ended, stopping.on_signals(said.append):
        signal.raise_signal(number)
        assert stopping.reason is not None and len(said) == 1
        try:
            signal.raise_signal(number)
        except SystemExit:
            raise SystemExit(1) from None  # as ray.get does
    assert ended.value.code == 128 + number


@pytest.mark.parametrize("raised", ["KeyboardInterrupt", "SignalledError(2)"])
def test_a_signal_cannot_cut_off_or_hold_up_the_end_of_the_process(raised: str) -> None:
    script = (
        "import atexit, signal, time\n"
        "from dfpl.study import stopping\n"
        "from dfpl.study.run import complaints_end_with_2\n"
        "atexit.register(time.sleep, 600)\n"
        "stopping.ray.shutdown = lambda: (signal.raise_signal(2), print('ray is down'))\n"
        "with complaints_end_with_2():\n"
        f"    raise {raised.replace('Sig', 'stopping.Sig')}\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60)
    assert done.returncode == 130 and done.stdout == b"ray is down\n"


def test_a_process_that_ends_for_another_reason_keeps_its_code() -> None:
    with pytest.raises(SystemExit) as ended, Stopping().on_signals(print):
        raise SystemExit(3)
    assert ended.value.code == 3
