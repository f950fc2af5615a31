"""The picture of a study: hand-made folders, counts and times worked out by hand."""

import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import test_s3
from rich.console import Console
from samples import make_packed, make_run

from dfpl.storage import Storage, StorageError
from dfpl.study import picture, session, status
from dfpl.study.failures import LONGEST, Failure, Failures, one_line
from dfpl.study.ledger import Ledger
from dfpl.study.picture import clock, follow, show, summary
from dfpl.study.records import Record, RecordStore
from dfpl.study.session import Heartbeat, Session
from dfpl.study.status import SearchStatus, Status, Watch, eta

BASE = make_run(make_packed(), optim__epochs=9)
NOW = 1_800_000_000.0
bucket = test_s3.bucket
OPTIONAL: dict[str, Any] = {"value": None, "reason": "", "epochs": 0, "seconds": 0.0}


def suggest(store: RecordStore, search: str, number: int) -> str:
    """A suggestion of one run; returns its id."""
    return suggest_blocks(store, search, number, 1)[0]


def suggest_blocks(store: RecordStore, search: str, number: int, blocks: int) -> list[str]:
    """A suggestion with one run per block; returns the ids of its runs."""
    run_ids = [f"{search}-{number}-run{block}" for block in range(blocks)]
    values: dict[str, Any] = {"number": number, "search": search, "point": {}, "run_ids": run_ids}
    values |= {"blocks": [f"both-{block}0/0" for block in range(blocks)], "suggested_at": 0.0}
    store.root.write_json(f"suggestions/{search}-{number:05d}.json", values)
    return run_ids


def end(
    store: RecordStore, run_id: str, state: Any, value: float | None = None, **more: Any
) -> None:
    """The record of a run of at most 9 epochs that ended so many seconds before NOW."""
    at = datetime.fromtimestamp(NOW - more.pop("ago", 0), UTC).isoformat(timespec="seconds")
    facts = {**OPTIONAL, "value": value, **more, "finished_at": at}
    search, number, _ = run_id.rsplit("-", 2)
    where = {"study": "study", "search": search, "trial": int(number), "scenario": search}
    config = BASE.to_dict()
    store.save(Record(run_id=run_id, state=state, config=config, **where, **facts), [], None)


def begin(store: RecordStore, trials: dict[str, int], ago: float = 100.0, **more: Any) -> Session:
    """A driver that began so long before NOW and was heard of 12 s before it."""
    heard = more.pop("heard", Heartbeat(at=NOW - 12))
    asked: dict[str, Any] = {"name": "search", "concurrent": 2, "started_at": NOW - ago}
    found = Session(trials=trials, **{**asked, **more})
    found.save(store.root)
    heard.save(store.root, found.name)
    return found


@pytest.fixture(autouse=True)
def clock_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "time", SimpleNamespace(time=lambda: NOW))


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    found = RecordStore(tmp_path / "study")
    found.root.write_json("study.json", {})
    return found


@pytest.fixture
def searched(store: RecordStore) -> RecordStore:
    """both-50: the paper's point 0.6, a winner 0.8, one pruned after 2 of 9 epochs, one failed,
    two that run; image-30: one of three trials."""
    begin(store, {"both-50": 10, "image-30": 3})
    (zero, one, two, three) = (suggest(store, "both-50", n) for n in range(4))
    end(store, zero, "complete", 0.6, epochs=9, seconds=4.0, ago=500)
    end(store, one, "complete", 0.8, epochs=9, seconds=5.0, ago=80)
    end(store, two, "pruned", 0.99, epochs=2, seconds=1.0, ago=60)
    end(store, three, "failed", reason="NonFiniteError: it is nan in epoch 3", ago=40)
    suggest(store, "both-50", 4)
    suggest(store, "both-50", 5)
    end(store, suggest(store, "image-30", 0), "complete", 0.5, epochs=9, seconds=3.0, ago=20)
    return store


def of(store: RecordStore) -> Status:
    return Status.of(store.root)


def test_the_trials_of_a_search_are_counted_by_state(searched: RecordStore) -> None:
    both, image = of(searched).searches
    assert both == SearchStatus(
        name="both-50",
        wanted=10,
        complete=2,
        pruned=1,
        failed=1,
        running=2,
        cut_off=0,
        best=0.8,
        best_trial=1,
        paper=0.6,
        epochs=9 + 9 + 2,
        epochs_saved=9 - 2,
        seconds=4.0,
    )
    assert (both.done, both.waiting) == (4, 4)
    assert (image.wanted, image.done, image.running, image.waiting) == (3, 1, 0, 2)
    assert not of(searched).finished


def test_the_time_left_is_that_of_the_sessions_pace(searched: RecordStore) -> None:
    # since the start, 100 s ago, trials ended 80, 60, 40 and 20 s ago: 25 s each; 6 + 2 are left
    found = of(searched)
    assert found.spent_s == 100.0
    assert found.eta_s == 8 * 25.0


def test_before_as_many_ended_as_run_at_once_the_training_times_count(
    searched: RecordStore,
) -> None:
    # since 30 s ago one trial ended, and two run at once: (6 x 4 s + 2 x 3 s) / 2
    begin(searched, {"both-50": 10, "image-30": 3}, ago=30)
    assert of(searched).eta_s == 15.0


def test_a_search_without_times_is_taken_for_like_the_others() -> None:
    def search(seconds: float | None) -> SearchStatus:
        none = dict.fromkeys(
            ("pruned", "failed", "running", "cut_off", "epochs", "epochs_saved"), 0
        )
        values: dict[str, Any] = {**none, "best": None, "best_trial": None, "paper": None}
        return SearchStatus(name="s", wanted=4, complete=1, seconds=seconds, **values)

    assert eta([search(2.0), search(None)], 1, 0, 7.0) == 3 * 2.0 + 3 * 2.0
    assert eta([search(None)], 1, 0, 7.0) is None
    assert eta([search(2.0)], 8, 0, 7.0) == 2.0  # three are left, so three run at once
    assert eta([replace(search(2.0), wanted=1)], 1, 0, 7.0) == 0.0


@pytest.mark.parametrize(
    ("heard", "state", "running", "cut_off"),
    [
        (Heartbeat(at=NOW - 12), "running", 2, 0),
        (Heartbeat(at=NOW + 3), "running", 2, 0),  # the driver's clock is ahead
        (Heartbeat(at=NOW - session.SILENT_S), "silent", 0, 2),
        (Heartbeat(at=NOW - 12, ended=True), "ended", 0, 2),
    ],
)
def test_a_trial_runs_only_while_its_driver_is_heard_of(
    searched: RecordStore, heard: Heartbeat, state: str, running: int, cut_off: int
) -> None:
    begin(searched, {"both-50": 10, "image-30": 3}, heard=heard)
    found = of(searched)
    assert found.driver.state == state
    assert (found.total("running"), found.total("cut_off")) == (running, cut_off)
    assert found.total("done") + found.total("running") + found.total("waiting") == 13


def test_a_study_of_an_older_version_has_no_driver(store: RecordStore) -> None:
    end(store, suggest(store, "both-50", 0), "complete", 0.6, epochs=9)
    suggest(store, "both-50", 1)
    found = of(store)
    assert (found.driver.state, found.spent_s, found.eta_s) == ("unknown", None, None)
    assert (found.total("done"), found.total("wanted"), found.total("cut_off")) == (1, 2, 1)
    assert not found.finished


def test_a_study_is_finished_when_all_trials_ended_in_whichever_state(store: RecordStore) -> None:
    begin(store, {"both-50": 2})
    end(store, suggest(store, "both-50", 0), "failed", reason="x")
    end(store, suggest(store, "both-50", 1), "pruned", 0.1, epochs=1)
    found = of(store)
    assert found.finished
    assert found.eta_s == 0.0
    assert found.searches[0].best is None


def test_more_trials_than_the_last_command_asked_for_are_shown(store: RecordStore) -> None:
    begin(store, {"both-50": 1})
    for number in range(3):
        end(store, suggest(store, "both-50", number), "complete", 0.5)
    assert (of(store).total("done"), of(store).total("wanted")) == (3, 3)
    assert of(store).searches[0].best_trial == 0  # of equal values the first


def test_a_robust_trial_has_ended_with_its_last_run_or_the_first_that_did_not(
    store: RecordStore,
) -> None:
    store.root.write_json("study.json", {"objective": {"kind": "worst"}})
    begin(store, {"worst": 5})
    whole, half, pruned, dropped = (suggest_blocks(store, "worst", n, 3) for n in range(4))
    for run_id, value in zip(whole, (0.9, 0.4, 0.7), strict=True):
        end(store, run_id, "complete", value, epochs=9, seconds=2.0)
    end(store, half[0], "complete", 0.95, epochs=9)
    end(store, pruned[0], "complete", 0.5, epochs=9)
    end(store, pruned[1], "pruned", 0.3, epochs=4)
    end(store, dropped[0], "complete", 0.2, epochs=9)
    store.root.write_json("dropped/worst-00003.json", {"reason": "racing dropped it"})
    (found,) = of(store).searches
    assert (found.complete, found.pruned, found.running) == (1, 2, 1)
    assert (found.best, found.best_trial, found.seconds) == (0.4, 0, 6.0)
    assert found.epochs == 27 + 13 + 9
    assert found.epochs_saved == (27 - 13) + (27 - 9)


def test_a_sweep_counts_runs_that_a_search_had_trained_before(searched: RecordStore) -> None:
    begin(
        searched,
        {"confirm": 3},
        name="confirm",
        runs={"confirm": ["both-50-1-run0", "confirm-1-run0", "confirm-2-run0"]},
        heard=Heartbeat(at=NOW),
    )
    end(searched, "confirm-1-run0", "failed", reason="x")
    found = {search.name: search for search in of(searched).searches}
    assert found["both-50"].done == 4
    confirm = found["confirm"]
    assert (confirm.done, confirm.running, confirm.cut_off, confirm.paper) == (2, 1, 0, None)
    assert (confirm.best, confirm.failed) == (0.8, 1)


def test_files_that_are_spoilt_count_as_none(searched: RecordStore) -> None:
    before = of(searched)
    for name in ("records/both-50-4-run0", "suggestions/both-50-00009", "heartbeats/x"):
        for text in ("", "{", "[]", "3", "null", '{"state": []}', '{"run_ids": 3}'):
            searched.root.write(f"{name}.json", text.encode())
            assert of(searched) == before
    searched.root.write("progress/x.json", b"{}")
    assert of(searched) == before


def test_a_watch_reads_no_record_twice(
    searched: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(searched.root)
    first, read = watch.look(), list[str]()
    original = Storage.read_json

    def noting(self: Storage, name: str) -> Any:
        read.append(name)
        return original(self, name)

    monkeypatch.setattr(Storage, "read_json", noting)
    assert watch.look() == first
    end(searched, "both-50-4-run0", "complete", 0.85, epochs=9)
    second = watch.look()
    assert [name for name in read if name.startswith("both-50")] == ["both-50-4-run0.json"]
    assert (second.searches[0].best, second.searches[0].done) == (0.85, 5)


def test_the_books_of_some_searches_leave_the_others_unread(searched: RecordStore) -> None:
    ledger = Ledger(searched.root, ["image-30"])
    ledger.refresh()
    assert ledger.ended == {("image-30", 0)}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of boto3 under moto
def test_a_study_in_a_bucket_is_seen_as_one_on_a_disk(
    searched: RecordStore, bucket: str, tmp_path: Path
) -> None:
    root = Storage(bucket) / "study"
    with pytest.raises(StorageError, match=r"no study in s3://results/runs/study\?scheme=http"):
        Status.of(root)
    place = Path(searched.root.path)
    for path in place.rglob("*.json"):
        root.write(path.relative_to(place).as_posix(), path.read_bytes())
    assert Status.of(root) == of(searched)


def test_a_folder_that_is_no_study_is_named_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(
        StorageError, match=rf"no study in {tmp_path} \(looked for study\.json.*runs/tune_table"
    ):
        Status.of(Storage(tmp_path))


def test_looking_needs_neither_ray_nor_torch_nor_pandas(searched: RecordStore) -> None:
    program = (
        "import sys; from dfpl.storage import Storage; from dfpl.study.status import Status; "
        f"import dfpl.study.picture; Status.of(Storage({searched.root.root!r})); "
        "print(sorted({'torch', 'ray', 'optuna', 'pandas'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert shown.stdout.strip() == "[]", shown.stderr


def drawn(found: Status, width: int, terminal: bool) -> str:
    console = Console(
        file=io.StringIO(), width=width, force_terminal=terminal, soft_wrap=True, color_system=None
    )
    show(found, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("width", [80, 110])
def test_nothing_in_the_table_is_cut_off(searched: RecordStore, width: int, terminal: bool) -> None:
    text = drawn(of(searched), width, terminal)
    rows = [line.split() for line in text.splitlines()]
    more = ["waiting"], ["4"], ["2"]
    waiting = more if width >= 100 else ([], [], [])
    times = (["epochs", "saved", "s/trial"], ["20", "26", "%", "4"], ["9", "0", "%", "3"])
    if width < 100:
        times = (["saved"], ["26", "%"], ["0", "%"])
    heading = ["search", "done", "running", *waiting[0], "complete", "pruned", "failed"]
    assert rows[0] == [*heading, "best", "trial", "paper", *times[0]]
    both = ["both-50", "4/10", "2", *waiting[1], "2", "1", "1", "0.8000", "1", "0.6000"]
    assert rows[1] == [*both, *times[1]]
    image = ["image-30", "1/3", "0", *waiting[2], "1", "0", "0", "0.5000", "0", "0.5000"]
    assert rows[2] == [*image, *times[2]]
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width


def test_large_numbers_and_long_names_fit_a_narrow_terminal(searched: RecordStore) -> None:
    found = of(searched)
    large = replace(
        found.searches[0], name="tabular-70", complete=9000, pruned=900, failed=100, wanted=12345
    )
    long = replace(large, name="a_sweep_with_a_rather_long_name")
    text = drawn(replace(found, searches=[large]), 80, True)
    assert "10000/12345" in text and "tabular-70" in text
    text = drawn(replace(found, searches=[long]), 80, True)
    assert "…" not in text
    column = "".join(line.split()[0] for line in text.splitlines()[:6] if line.split())
    assert "a_sweep" in column


def test_the_summary_says_counts_epochs_time_driver_and_reasons(searched: RecordStore) -> None:
    assert summary(of(searched)) == [
        "trials    5 of 13 done: 3 complete, 1 pruned, 1 failed; 2 running, 6 waiting",
        "epochs    29 trained, 7 saved by stopping (19 %)",
        "time      0:01:40 spent, about 0:03:20 left",
        "driver    running, last heard of 12 s ago",
        "failed    1 x, such as both-50 trial 3: NonFiniteError: it is nan in epoch 3",
    ]


@pytest.mark.parametrize(
    ("heard", "said"),
    [
        (Heartbeat(at=NOW - 80), "not heard of for 0:01:20; if it is dead, the same command goes"),
        (Heartbeat(at=NOW - 80, ended=True), "ended 0:01:20 ago; the same command goes on, first"),
    ],
)
def test_where_nobody_works_the_way_to_go_on_is_said(
    searched: RecordStore, heard: Heartbeat, said: str
) -> None:
    begin(searched, {"both-50": 10, "image-30": 3}, heard=heard)
    line = summary(of(searched))[3]
    assert line.startswith(f"driver    {said}")
    assert line.endswith("first with 2 trial(s) that were cut off")


def test_failures_that_differ_in_numbers_are_counted_together() -> None:
    failures = Failures()
    for trial, reason in enumerate(
        ["nan in epoch 12", "nan in epoch 3", "no data", "nan in epoch 1.5e-3", "nan in epoch nan"]
    ):
        failures.add(Failure(reason=reason, count=1, search="s", trial=9 - trial))
    assert failures.most_frequent_first() == [
        Failure(reason="nan in epoch nan", count=4, search="s", trial=5),
        Failure(reason="no data", count=1, search="s", trial=7),
    ]


def test_only_the_most_frequent_reasons_are_shown(store: RecordStore) -> None:
    names = "abcdefg"
    begin(store, {"both-50": 9})
    for number, name in enumerate(names + "ab"):
        end(store, suggest(store, "both-50", number), "failed", reason=f"it is {name}")
    shown = [line for line in summary(of(store)) if line.startswith("failed")]
    assert shown[0] == "failed    2 x, such as both-50 trial 0: it is a"
    assert len(shown) == picture.REASONS + 1
    assert shown[-1] == "failed    2 x for 2 other reasons"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("two\n  lines\there", "two lines here"),
        ("s3://AKey:sEcret+x@bucket/a: no access", "s3://***@bucket/a: no access"),
        ("secret_key=abc123&region=x", "secret_key=***&region=x"),
        ("AWS_SECRET_ACCESS_KEY: abc/123+, next", "AWS_SECRET_ACCESS_KEY: ***, next"),
        ("with AKIAIOSFODNN7EXAMPLE given", "with *** given"),
        ("'password': 'hunter2'", "'password': ***"),
        ("KeyError: 'lr' (train.py:12)", "KeyError: 'lr' (train.py:12)"),
        ("token_disentanglement = nan, task = 1.3", "token_disentanglement = nan, task = 1.3"),
        ("x" * 300, "x" * (LONGEST - 3) + "..."),
    ],
)
def test_a_reason_is_one_line_without_secrets(text: str, shown: str) -> None:
    assert one_line(text) == shown


def test_following_ends_with_the_study(
    searched: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = ["both-50-4-run0", "both-50-5-run0"]

    def sleep(seconds: float) -> None:
        if left:
            end(searched, left.pop(), "complete", 0.7, epochs=9)
        else:
            Heartbeat(at=NOW, ended=True).save(searched.root, "search")

    monkeypatch.setattr(picture.time, "sleep", sleep)
    console = Console(file=io.StringIO(), width=110)
    found = follow(Watch(searched.root).look, console)
    assert (found.driver.state, found.total("done")) == ("ended", 7)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert re.findall(r"(\d+) of 13 done", text) == ["5", "6", "7"]


def test_following_on_a_terminal_draws_in_place_and_ends_with_ctrl_c(
    searched: RecordStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(picture.time, "sleep", interrupt)
    console = Console(file=io.StringIO(), width=110, force_terminal=True, soft_wrap=True)
    found = follow(Watch(searched.root).look, console)
    assert found.total("done") == 5
    assert isinstance(console.file, io.StringIO)
    assert "5 of 13 done" in console.file.getvalue()


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.4, "0:00:00"), (61.0, "0:01:01"), (90061.0, "25:01:01")]
)
def test_a_time_is_shown_in_hours_minutes_seconds(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


def test_what_is_left_in_the_folder_can_be_read_by_others(searched: RecordStore) -> None:
    place = Path(searched.root.path)
    assert json.loads((place / "heartbeats/search.json").read_text()) == {
        "at": NOW - 12,
        "ended": False,
    }
    asked = json.loads((place / "progress/search.json").read_text())
    assert asked["trials"] == {"both-50": 10, "image-30": 3}
