"""What a person sees while a study runs: lines in a log, a table on a terminal, a summary."""

import io
import pickle
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from samples import make_packed, make_run

from dfpl.storage import Storage
from dfpl.study.failures import NO_RECORD
from dfpl.study.progress import Progress
from dfpl.study.records import Record, RecordStore
from dfpl.study.session import HEARTBEAT_S, Session
from dfpl.study.status import Status

BASE = make_run(make_packed(), optim__epochs=9)
START = 1_800_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    found = RecordStore(tmp_path / "study")
    found.root.write_json("study.json", {})
    return found


def session(**values: Any) -> Session:
    asked: dict[str, Any] = {"name": "search", "trials": {"both-50": 3, "image-30": 2}}
    return Session(**{**asked, "concurrent": 2, "started_at": START, **values})


def progress_of(
    store: RecordStore, clock: Clock, terminal: bool = False, width: int = 110, **asked: Any
) -> Progress:
    console = Console(
        file=io.StringIO(), force_terminal=terminal, width=width, soft_wrap=True, highlight=False
    )
    return Progress(session(**asked), store.root, console, clock)


def shown(progress: Progress) -> str:
    assert isinstance(progress.console.file, io.StringIO)
    return progress.console.file.getvalue()


def trial_of(search: str, number: int, **last: Any) -> Any:
    """A trial as Tune knows it, with its last result."""
    return SimpleNamespace(config={"search": search, "trial": number}, last_result=last)


def begin(progress: Progress, store: RecordStore, search: str, number: int) -> None:
    values: dict[str, Any] = {"search": search, "number": number, "point": {}}
    values["run_ids"] = [f"{search}-{number}"]
    store.root.write_json(f"suggestions/{search}-{number:05d}.json", values)
    progress.on_trial_start(0, [], trial_of(search, number))


def end(
    progress: Progress, store: RecordStore, search: str, number: int, state: Any, **facts: Any
) -> None:
    """Begin a trial, record how it ended, and tell the callback as Tune does."""
    begin(progress, store, search, number)
    record(store, search, number, state, **facts)
    tell(progress, search, number, state, facts.get("value"))


def record(store: RecordStore, search: str, number: int, state: Any, **facts: Any) -> None:
    where = {"study": "study", "search": search, "trial": number, "scenario": search}
    values = {"run_id": f"{search}-{number}", "config": BASE.to_dict(), **where, **facts}
    store.save(Record(state=state, **values), [], None)


def tell(progress: Progress, search: str, number: int, state: str, value: float | None) -> None:
    value = float("nan") if value is None else value
    progress.on_trial_complete(0, [], trial_of(search, number, state=state, value=value))


def test_a_log_has_a_line_per_finished_trial_and_a_summary(
    store: RecordStore, clock: Clock
) -> None:
    with progress_of(store, clock) as progress:
        clock.now += 10
        end(progress, store, "both-50", 0, "complete", value=0.6, epochs=9, seconds=9.0)
        clock.now += 10
        end(progress, store, "both-50", 1, "pruned", value=0.5, epochs=1, seconds=1.0)
        end(progress, store, "image-30", 0, "failed", reason="NonFiniteError: nan in epoch 3")
        clock.now += 10
    lines = [line.rstrip() for line in shown(progress).splitlines()]
    assert lines[:3] == [
        # four to go, of 9 s, two at once
        "[1/5] both-50     trial 0    complete   0.6000   best 0.6000"
        "   0:00:10 spent, 0:00:18 left",
        # 5 s is the median now: 1 of both-50 and 2 of image-30
        "[2/5] both-50     trial 1    pruned     0.5000   best 0.6000   8 epochs saved"
        "   0:00:20 spent, 0:00:08 left",
        "[3/5] image-30    trial 0    failed              0:00:20 spent, 0:00:05 left"
        "   NonFiniteError: nan in epoch 3",
    ]
    assert lines[-5:] == [
        "trials    3 of 5 done: 1 complete, 1 pruned, 1 failed; 0 running, 2 waiting",
        "epochs    10 trained, 8 saved by stopping (44 %)",
        "time      0:00:30 spent, about 0:00:05 left",
        "driver    ended 0:00:00 ago; the same command goes on",
        "failed    1 x, such as image-30 trial 0: NonFiniteError: nan in epoch 3",
    ]


def test_the_last_picture_of_the_driver_is_that_of_another_shell(
    store: RecordStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dfpl.study.status.time", SimpleNamespace(time=clock))
    with progress_of(store, clock) as progress:
        begin(progress, store, "both-50", 0)
        end(progress, store, "both-50", 1, "complete", value=0.6, epochs=9, seconds=9.0)
        assert progress.status() == Status.of(store.root)
        assert progress.status().total("running") == 1
    assert progress.status(ended=True) == Status.of(store.root)
    assert Status.of(store.root).driver.state == "ended"


def test_a_trial_is_counted_once_however_often_tune_tells_of_it(
    store: RecordStore, clock: Clock
) -> None:
    with progress_of(store, clock) as progress:
        begin(progress, store, "both-50", 0)
        begin(progress, store, "both-50", 0)  # its actor was lost
        record(store, "both-50", 0, "complete", value=0.6)
        for _ in range(2):
            tell(progress, "both-50", 0, "complete", 0.6)
        progress.on_trial_error(0, [], trial_of("both-50", 0))
        assert progress.status().total("done") == 1
    assert shown(progress).count("trial 0 ") == 1


def test_what_earlier_sessions_finished_is_counted_from_the_start(
    store: RecordStore, clock: Clock
) -> None:
    with progress_of(store, clock) as progress:
        end(progress, store, "both-50", 0, "complete", value=0.6, seconds=4.0)
    with progress_of(store, clock) as again:
        assert again.status().total("done") == 1
        tell(again, "both-50", 0, "complete", 0.6)  # Tune shows it again
        end(again, store, "both-50", 1, "complete", value=0.7, seconds=4.0)
    lines = shown(again).splitlines()
    assert lines[0] == "1 trials have ended already; they are not repeated"
    assert lines[1].startswith("[2/5] both-50     trial 1 ")


def test_a_trial_that_died_is_a_failure_once_a_record_says_so(
    store: RecordStore, clock: Clock
) -> None:
    died = trial_of("both-50", 0, value=0.3, state="running")
    with progress_of(store, clock) as progress:
        begin(progress, store, "both-50", 0)
        progress.on_trial_error(0, [], died)  # it is tried again
        assert progress.status().total("failed") == 0
        record(store, "both-50", 0, "failed", reason=NO_RECORD)
        progress.on_trial_error(0, [], died)
    assert "1 failed" in shown(progress)
    assert NO_RECORD in shown(progress).splitlines()[0]


def test_a_trial_that_an_interrupt_stopped_has_not_ended(store: RecordStore, clock: Clock) -> None:
    with pytest.raises(KeyboardInterrupt), progress_of(store, clock) as progress:
        begin(progress, store, "both-50", 0)
        tell(progress, "both-50", 0, "running", 0.3)
        raise KeyboardInterrupt
    assert "0 of 5 done" in shown(progress)
    goes_on = "the same command goes on, first with 1 trial(s) that were cut off"
    assert f"driver    ended 0:00:00 ago; {goes_on}" in shown(progress)


def test_a_sweep_is_followed_by_its_runs(store: RecordStore, clock: Clock) -> None:
    asked = {"name": "confirm", "trials": {"confirm": 2}, "runs": {"confirm": ["a-0", "confirm-1"]}}
    record(store, "a", 0, "complete", value=0.6)  # trained by the search before
    with progress_of(store, clock, **asked) as progress:
        assert progress.status().total("done") == 1
        record(store, "confirm", 1, "complete", value=0.7)
        for number, value in ((0, 0.6), (1, 0.7)):
            last = {"state": "complete", "value": value}
            progress.on_trial_complete(
                0, [], SimpleNamespace(config={"run": number}, last_result=last)
            )
    lines = shown(progress).splitlines()
    assert lines[1].startswith("[2/2] confirm     trial 1    complete   0.7000   best 0.7000")
    assert "driver    ended" in lines


def test_an_event_reads_the_files_of_its_trial_alone(
    store: RecordStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with progress_of(store, clock, trials={"both-50": 99}) as progress:
        for number in range(9):
            end(progress, store, "both-50", number, "complete", value=0.6)
        read: list[str] = []
        original = Storage.read

        def noting(self: Storage, name: str) -> bytes:
            read.append(name)
            return original(self, name)

        monkeypatch.setattr(Storage, "read", noting)
        monkeypatch.setattr(Storage, "names", None)
        end(progress, store, "both-50", 9, "complete", value=0.7)
        assert read == ["both-50-00009.json", "both-50-9.json"]
        assert progress.status().searches[0].best == 0.7


def test_heartbeats_are_left_every_few_seconds(
    store: RecordStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    beats: list[float] = []
    original = Storage.write_json

    def noting(self: Storage, name: str, value: Any) -> None:
        if name.startswith("heartbeats/"):
            beats.append(value["at"] - START)
        original(self, name, value)

    monkeypatch.setattr(Storage, "write_json", noting)
    with progress_of(store, clock) as progress:
        for _ in range(130):  # 13 s of Tune's loop
            clock.now += 0.1
            progress.on_step_end(0, [])
        assert len(beats) == 3
        assert all(b - a >= HEARTBEAT_S for a, b in pairwise(beats))
    assert store.root.read_json("heartbeats/search.json") == {"at": clock.now, "ended": True}


def test_a_terminal_shows_a_table_in_place_a_few_times_a_second(
    store: RecordStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with progress_of(store, clock, terminal=True) as progress:
        assert progress.live is not None
        pictures: list[Any] = []
        update = progress.live.update

        def noting(picture: Any, refresh: bool) -> None:
            pictures.append(picture)
            update(picture, refresh=refresh)

        monkeypatch.setattr(progress.live, "update", noting)
        end(progress, store, "both-50", 0, "complete", value=0.6, epochs=9)
        end(progress, store, "both-50", 1, "failed", reason="no data")
        for _ in range(21):
            clock.now += 0.1
            progress.on_step_end(0, [])
        assert 3 <= len(pictures) <= 5
    text = shown(progress)
    assert "\x1b[" in text  # drawn over the last picture
    assert "trial 0    complete" not in text
    assert text.count("[2/5] both-50     trial 1    failed") == 1  # a failure stays in view
    assert progress.live is None
    assert text.rstrip().endswith("failed    1 x, such as both-50 trial 1: no data")


@pytest.mark.parametrize("width", [80, 110])
def test_the_live_table_is_not_cut_off(store: RecordStore, clock: Clock, width: int) -> None:
    with progress_of(store, clock, terminal=True, width=width) as progress:
        end(progress, store, "both-50", 0, "complete", value=0.6, epochs=9)
        end(progress, store, "both-50", 1, "failed", reason=f"{'a long reason ' * 12}END")
        said = len(shown(progress))
        clock.now += 1
        progress.on_step_end(0, [])
        text = shown(progress)[said:]
    assert "0.6000" in text and "image-30" in text and "…" not in text
    assert "END" in text


@pytest.mark.parametrize("terminal", [True, False])
def test_a_watcher_that_cannot_read_or_write_says_so_once(
    store: RecordStore, clock: Clock, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise OSError("secret_key=abc: disk\nfull")

    monkeypatch.setattr(Storage, "write", broken)
    monkeypatch.setattr(Storage, "read", broken)
    monkeypatch.setattr(Storage, "names", broken)
    with progress_of(store, clock, terminal=terminal) as progress:
        for number in range(3):
            clock.now += HEARTBEAT_S
            progress.on_trial_start(0, [], trial_of("both-50", number))
            progress.on_step_end(0, [])
            tell(progress, "both-50", number, "complete", 0.5)
            progress.on_trial_error(0, [], SimpleNamespace(config={}, last_result=None))
    assert "3 of 5 done: 3 complete" in shown(progress)  # as Tune told
    said = "progress is not shown rightly; the study goes on: OSError: secret_key=*** disk full"
    assert shown(progress).count(said) == 1
    assert "secret_key=abc" not in shown(progress)


def test_what_the_study_raises_is_not_kept(store: RecordStore, clock: Clock) -> None:
    with pytest.raises(ValueError, match="the study's own"), progress_of(store, clock):
        raise ValueError("the study's own")


def test_tune_can_keep_its_callbacks_in_a_file(store: RecordStore, clock: Clock) -> None:
    with progress_of(store, clock, terminal=True) as progress:
        assert isinstance(pickle.loads(pickle.dumps(progress)), Progress)  # noqa: S301
