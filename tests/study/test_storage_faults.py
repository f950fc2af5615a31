"""Storage that is full, read-only, gone, slow to show files, torn, or used by two drivers.

By the numbers of the failure spec (part D.3): 26 a full disk, 27 torn files, 28 two drivers, 29 a
folder like NFS, 30 odd names and a read-only folder.
"""

import errno
import io
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from samples import make_packed, make_run, save_packed

from dfpl import checkpoint
from dfpl.config import RunConfig
from dfpl.data.packed import PackedDataset
from dfpl.data.scenario import parse_scenarios
from dfpl.fields import ConfigError, FloatRange
from dfpl.storage import Storage, StorageError
from dfpl.study import lock, tuning
from dfpl.study.lock import Claim, Hold, driving
from dfpl.study.objective import Objective
from dfpl.study.progress import Progress
from dfpl.study.records import Record, RecordStore, load
from dfpl.study.resources import MOST_DEATHS
from dfpl.study.run import _same_study_as_before
from dfpl.study.searcher import OptunaSearcher, Strategy
from dfpl.study.session import Session
from dfpl.study.stopping import Gate, Stopping
from dfpl.study.suggestion import Suggestion
from dfpl.study.trial import Job, run_once
from dfpl.train import EndedError, Runtime

FULL = "could not be written: No space left on device; free space there, then the same command"
BASE = make_run(make_packed(), optim__epochs=2)


class Disk:
    """A small disk that can be filled up and made read-only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.filler = folder / "filler"

    def fill(self) -> None:
        with self.filler.open("ab", buffering=0) as stream:
            for size in (1 << 16, 1):
                with pytest.raises(OSError, match="No space left"):
                    while True:
                        stream.write(bytes(size))

    def free(self) -> None:
        self.filler.unlink()

    def remount(self, how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", self.folder], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a disk of its own cannot be mounted here")
    yield Disk(folder)
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bool]]:
    """Lets every write fail, as a full disk does, while it says so."""
    now = {"full": False}
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        if now["full"]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    yield now


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "packed"
    save_packed(folder)
    return folder


@pytest.fixture(scope="module")
def run(data: Path) -> RunConfig:
    return make_run(PackedDataset.load(data), optim__epochs=2)


def train(run: RunConfig, store: RecordStore, data: Path, **runtime: Any) -> Record:
    job = Job(store=store, data=data, search="both-50", trial=0)
    checkpoints = store.root / f"checkpoints/{run.run_id}"
    facts = {"checkpoints": checkpoints, "checkpoint_every_s": 0.0, **runtime}
    return run_once(run, job, Runtime(**facts))


def assert_same_result(record: Record, other: Record) -> None:
    timeless = {"seconds": 0.0, "finished_at": "", "study": "", "data": ""}
    assert replace(record, **timeless) == replace(other, **timeless)


def gate_of(folder: Path, trials: int = 3) -> Gate:
    searcher = OptunaSearcher(
        base=BASE,
        space={"method.alpha": FloatRange(0.01, 10.0, log=True)},
        objective=Objective(),
        scenarios=parse_scenarios("both-50"),
        trials=trials,
        store=RecordStore(folder),
        strategy=Strategy(transfer=0, prior_weight=0.0),
    )
    return Gate(searcher, Stopping())


def suggest(gate: Gate, trial_id: str) -> dict[str, Any]:
    found = gate.suggest(trial_id)
    assert isinstance(found, dict)
    return found


def inner(gate: Gate) -> OptunaSearcher:
    assert isinstance(gate.inner, OptunaSearcher)
    return gate.inner


def record_of(gate: Gate, config: dict[str, Any], **values: Any) -> Record:
    point = {"method.alpha": config["method.alpha"]}
    (run,) = inner(gate).runs(config["search"], point)
    where = {"study": "study", "search": config["search"], "trial": config["trial"]}
    facts = {"scenario": "both-50", "state": "complete", "value": 0.5, "epochs": 2}
    return Record(run_id=run.run_id, config=run.to_dict(), **{**where, **facts, **values})


def end(gate: Gate, trial_id: str, record: Record) -> None:
    gate.inner.store.save(record, [{"epoch": 1, "value": 0.5}], None)
    words = {"value": record.value, "state": record.state, "run_id": record.run_id}
    gate.on_trial_complete(trial_id, words)


# 26: a full disk, and one that is read-only or gone


def test_a_run_on_a_full_disk_trains_to_its_end_and_is_not_recorded_as_failed(
    disk: Disk, data: Path, run: RunConfig, tmp_path: Path
) -> None:
    undisturbed = train(run, RecordStore(tmp_path / "other/study"), data)
    store = RecordStore(disk.folder / "study")
    before = train(run.with_values({"seed": 1}), store, data)
    disk.fill()
    epochs: list[float] = []
    with (
        pytest.warns(UserWarning, match=f"no checkpoint, but the run goes on: .*{FULL}"),
        pytest.raises(StorageError, match=f"{disk.folder}/study/.*{FULL}"),
    ):
        train(run, store, data, report=lambda row: epochs.append(row["epoch"]) is None)
    assert epochs == [1, 2]
    assert store.read(run.run_id) is None
    assert load(store.root.path)["run_id"].tolist() == [before.run_id]
    assert len(store.predictions(before.run_id).of_split("test")) == 15
    assert not list(disk.folder.rglob("*.part"))
    disk.free()
    assert_same_result(train(run, store, data), undisturbed)


def test_a_run_needs_no_checkpoint_to_end_well(
    full_disk: dict[str, bool], data: Path, run: RunConfig, tmp_path: Path
) -> None:
    undisturbed = train(run, RecordStore(tmp_path / "other/study"), data)
    full_disk["full"] = True

    def free_at_the_end(row: Any) -> bool:
        full_disk["full"] = row["epoch"] < 2
        return True

    with pytest.warns(UserWarning, match="no checkpoint, but the run goes on"):
        record = train(run, RecordStore(tmp_path / "study"), data, report=free_at_the_end)
    assert_same_result(record, undisturbed)


def test_a_suggestion_that_cannot_be_written_ends_the_study_and_is_made_again(
    full_disk: dict[str, bool], tmp_path: Path
) -> None:
    gate = gate_of(tmp_path / "study")
    end(gate, "a", record_of(gate, suggest(gate, "a")))
    full_disk["full"] = True
    assert gate.suggest("b") == Gate.FINISHED
    assert gate.suggest("c") == Gate.FINISHED
    with pytest.raises(StorageError, match=f"suggestions/both-50-00001.json {FULL}"):
        gate.stopping.end()
    full_disk["full"] = False
    again = gate_of(tmp_path / "study")
    assert [suggest(again, name)["trial"] for name in "abc"] == [0, 1, 2]
    assert inner(gate_of(tmp_path / "undisturbed")).paper == inner(again).paper


@pytest.mark.parametrize("words", ["unwritten", "stopped"])
def test_a_trial_without_a_record_for_the_storages_sake_did_not_fail(
    tmp_path: Path, words: str
) -> None:
    gate = gate_of(tmp_path / "study")
    first = suggest(gate, "a")
    result = {"value": float("nan"), "state": words, "reason": f"x {FULL} goes on"}
    gate.stopping("a", result)
    gate.on_trial_complete("a", result)
    assert list(gate.inner.store.read_all()) == []
    assert (gate.stopping.reason is not None) == (words == "unwritten")
    again = gate_of(tmp_path / "study")
    for _ in range(1 + MOST_DEATHS):
        assert suggest(again, "a") == first
        again.on_trial_complete("a", {"state": "running"}, error=True)
    (died,) = again.inner.store.read_all()
    assert (died.state, died.reason) == ("failed", "its process ended without a record")


def test_a_trial_that_dies_while_the_study_ends_did_not_fail(tmp_path: Path) -> None:
    gate = gate_of(tmp_path / "study")
    suggest(gate, "a")
    gate.stopping.because(SystemExit(143))
    gate.on_trial_complete("a", None, error=True)
    assert list(gate.inner.store.read_all()) == []


def test_the_last_words_of_a_trial_say_what_could_not_be_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tuning, "closing", lambda: False)

    def play(error: Exception) -> dict[str, Any]:
        raise error

    unwritten = tuning.last_words(lambda: play(StorageError(f"/a/b {FULL} goes on")))
    assert unwritten["state"] == "unwritten"
    assert unwritten["reason"].startswith(f"/a/b {FULL} goes on (on ")
    assert tuning.last_words(lambda: play(EndedError()))["state"] == "stopped"
    with pytest.raises(FileNotFoundError):
        tuning.last_words(lambda: play(FileNotFoundError()))
    monkeypatch.setattr(tuning, "closing", lambda: True)
    assert tuning.last_words(lambda: {"state": "complete"})["state"] == "stopped"


def test_a_read_only_folder_is_named_with_the_way_out(
    disk: Disk, data: Path, run: RunConfig
) -> None:
    store = RecordStore(disk.folder / "my study")
    train(run, store, data)
    disk.remount("ro")
    other = run.with_values({"seed": 1})
    with (
        pytest.warns(UserWarning, match="no checkpoint"),
        pytest.raises(StorageError, match=r"Read-only file system; make it writable, then the"),
    ):
        train(other, store, data)
    with pytest.raises(StorageError, match=r"^--storage .*my study cannot be written: .*Read-only"):
        store.root.prove_writable()
    assert load(store.root.path)["run_id"].tolist() == [run.run_id]
    disk.remount("rw")
    record = train(other, store, data)
    assert (record.state, record.reason) == ("complete", "")


def test_a_folder_that_vanishes_ends_the_study(tmp_path: Path) -> None:
    stopping = Stopping()
    hold = Hold(Storage(tmp_path / "study"), print, stopping.because)
    hold.take()
    hold.beat()
    assert stopping.reason is None
    shutil.rmtree(tmp_path / "study")
    hold.beat()
    with pytest.raises(StorageError, match=f"{tmp_path}/study was removed, or is not mounted"):
        stopping.end()
    assert not (tmp_path / "study").exists()


# 27: torn files

TORN = [b"", b"{", b'{"run_id": "a", "conf', bytes(4096), b"PAR1", b"\xff\xfe"]


@pytest.mark.parametrize("content", TORN)
@pytest.mark.parametrize("kind", ["suggestions", "records", "epochs", "predictions", "dropped"])
def test_a_torn_file_is_set_aside(tmp_path: Path, kind: str, content: bytes) -> None:
    gate = gate_of(tmp_path / "study")
    for name in "ab":
        end(gate, name, record_of(gate, suggest(gate, name)))
    store = gate.inner.store
    store.drop("worst-00000", "raced")
    assert store.set_aside_torn() == []
    (run_id,) = Suggestion.read(store.root, "both-50", 0).run_ids
    name = {
        "suggestions": "suggestions/both-50-00000.json",
        "records": f"records/{run_id}.json",
        "dropped": "dropped/worst-00000.json",
    }.get(kind, f"{kind}/{run_id}.parquet")
    store.root.write(name, content)
    found = store.set_aside_torn()
    extra = [f"records/{run_id}.json"] if kind in ("epochs", "predictions") else []
    assert found == [name, *extra]
    assert store.root.read(f"{name}.torn") == content
    assert store.set_aside_torn() == []
    again = gate_of(tmp_path / "study")
    configs = [suggest(again, each) for each in "abc"]
    assert sorted(config["trial"] for config in configs) == [0, 1, 2]
    kept = (tmp_path / "study/records").glob("*.json")
    assert len(list(kept)) == (1 if kind in ("records", "epochs", "predictions") else 2)
    if kind != "dropped":
        first = next(config for config in configs if config["trial"] == 0)
        assert first["method.alpha"] == 1.0


def test_a_torn_checkpoint_starts_the_run_anew(tmp_path: Path) -> None:
    for content in (*TORN, b"PK\x03\x04" + bytes(100)):
        Storage(tmp_path).write(checkpoint.LAST, content)
        assert checkpoint.Progress.load(Storage(tmp_path)) is None


def test_a_torn_description_of_the_study_is_written_anew(tmp_path: Path) -> None:
    store = RecordStore(tmp_path / "study")
    _same_study_as_before(store, BASE, {})
    whole = store.root.read("study.json")
    store.root.write("study.json", whole[:50])
    _same_study_as_before(store, BASE, {})
    assert store.root.read("study.json") == whole
    assert store.root.read("study.json.torn") == whole[:50]


# 28: two drivers


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "SILENT_S", 1.0)
    monkeypatch.setattr(lock, "HEARTBEAT_S", 0.1)


def hold_of(folder: Path) -> Hold:
    return Hold(Storage(folder), lambda text: None, lambda reason: None)


def claims(folder: Path) -> list[str]:
    return (Storage(folder) / lock.FOLDER).names(".json")


def elsewhere(hold: Hold) -> None:
    """Let a hold look as if its driver worked on another machine."""
    hold.claim = replace(hold.claim, host="node-7", place="another machine")


def test_a_second_driver_is_refused_and_told_who_the_first_is(tmp_path: Path) -> None:
    with driving(Storage(tmp_path), print, print):
        with pytest.raises(
            ConfigError,
            match=rf"another driver works on {tmp_path}: process {os.getpid()} on .*, heard of "
            r"\d s ago; end that one first, or give this study its own --name",
        ):
            hold_of(tmp_path).take()
        assert len(claims(tmp_path)) == 1
    assert claims(tmp_path) == []
    with driving(Storage(tmp_path), print, print):
        pass


def test_a_driver_that_was_killed_does_not_block_the_next(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom dfpl.storage import Storage\nfrom dfpl.study.lock import Hold\n"
        f"Hold(Storage({str(tmp_path)!r}), print, print).take()\nprint('held', flush=True)\n"
        "time.sleep(100)"
    )
    first = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None and first.stdout.readline() == "held\n"
    with pytest.raises(ConfigError, match=f"process {first.pid} on "):
        hold_of(tmp_path).take()
    first.send_signal(signal.SIGKILL)
    time.sleep(0.1)  # dead, but nobody has asked how it ended: a zombie
    start = time.monotonic()
    second = hold_of(tmp_path)
    second.take()
    assert time.monotonic() - start < 1.0
    assert claims(tmp_path) == [f"{second.claim.name}.json"]
    first.communicate()


def test_another_process_with_the_id_of_a_dead_driver_does_not_block(tmp_path: Path) -> None:
    dead = hold_of(tmp_path)
    dead.claim = replace(dead.claim, born="12345", pid=os.getppid())
    dead._write(drives=True)
    hold_of(tmp_path).take()


def test_a_driver_of_another_machine_blocks_while_it_is_heard_of(
    tmp_path: Path, quick: None
) -> None:
    first, said = hold_of(tmp_path), []
    elsewhere(first)
    first._write(drives=True)
    threading.Thread(target=first.keep, daemon=True).start()
    second = Hold(Storage(tmp_path), said.append, print)
    with pytest.raises(ConfigError, match=r"process \d+ on node-7, heard of \d s ago"):
        second.take()
    assert re.search(
        "on node-7 drove this study, and was heard of . s ago; waiting up to 1 s", said[0]
    )
    first.over.set()


@pytest.mark.parametrize("set_back_s", [0.0, 3600.0, -3600.0])
def test_a_silent_driver_of_another_machine_is_taken_for_dead(
    tmp_path: Path, quick: None, set_back_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = hold_of(tmp_path), hold_of(tmp_path)
    elsewhere(first)
    lost: list[Exception] = []
    first.lost = lost.append
    first._write(drives=True)
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() - set_back_s)  # another clock
    start = time.monotonic()
    second.take()
    assert 1.0 <= time.monotonic() - start < 5.0
    first.beat()  # it was only asleep
    (reason,) = lost
    assert f"process {os.getpid()} on " in str(reason) and "took over" in str(reason)


def test_of_many_drivers_that_start_at_once_at_most_one_drives(tmp_path: Path) -> None:
    holds = [hold_of(tmp_path / "a") for _ in range(4)]
    outcomes: list[bool] = []

    def ask(hold: Hold) -> None:
        try:
            hold.take()
            outcomes.append(True)
        except ConfigError:
            outcomes.append(False)

    threads = [threading.Thread(target=ask, args=(hold,)) for hold in holds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 4 and sum(outcomes) <= 1
    assert len(claims(tmp_path / "a")) == sum(outcomes)


def test_a_spoilt_claim_does_not_block(tmp_path: Path) -> None:
    folder = Storage(tmp_path) / lock.FOLDER
    for number, content in enumerate((b"", b"{}", b"[]", b'{"pid": 1}')):
        folder.write(f"{number}.json", content)
    hold_of(tmp_path).take()


def test_a_claim_tells_a_process_from_its_successor() -> None:
    own = Claim.own()
    assert own.lives() is True
    assert replace(own, born="1").lives() is False
    assert replace(own, host="node-7").lives() is None
    assert replace(own, place="").lives() is None


# 29: a folder like NFS: no locks, and what others wrote is seen late


class Late(Storage):
    """A folder as another machine sees it: new files are shown late, until somebody lists them."""

    late_s = 0.4

    def _shown(self, name: str) -> bool:
        path = Path(self.path, name)
        return not path.exists() or time.time() - path.stat().st_mtime >= self.late_s

    def exists(self, name: str) -> bool:
        return super().exists(name) and self._shown(name)

    def read(self, name: str) -> bytes:
        if not self._shown(name):
            raise FileNotFoundError(name)
        return super().read(name)


@contextmanager
def no_locks() -> Iterator[None]:
    """fcntl as an NFS without a lock daemon has it."""
    import fcntl

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    with pytest.MonkeyPatch.context() as patch:
        for name in ("flock", "lockf", "fcntl"):
            patch.setattr(fcntl, name, refuse)
        yield


def test_a_record_that_is_seen_late_is_no_death(tmp_path: Path) -> None:
    with no_locks():
        gate = gate_of(tmp_path / "study")
        gate.inner.store.root = Late(tmp_path / "study")
        config = suggest(gate, "a")
        record = record_of(gate, config)
        assert gate.inner.store.read(record.run_id) is None
        end(gate, "a", record)
        (found,) = RecordStore(tmp_path / "study").read_all()
        assert found == record
        gate.stopping.end()


def test_a_record_that_is_never_seen_ends_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Storage, "wait_for", lambda self, name: self.exists(name))
    gate = gate_of(tmp_path / "study")
    config = suggest(gate, "a")
    words = {"value": 0.5, "state": "complete", "run_id": record_of(gate, config).run_id}
    gate.on_trial_complete("a", words)
    assert list(gate.inner.store.read_all()) == []
    with pytest.raises(StorageError, match="was written, but cannot be seen from here"):
        gate.stopping.end()


def test_waiting_for_a_file_that_another_machine_writes(tmp_path: Path) -> None:
    folder = Late(tmp_path)
    writer = threading.Timer(0.2, lambda: Storage(tmp_path).write("deep/a.json", b"{}"))
    writer.start()
    assert folder.wait_for("deep/a.json", 10.0)
    writer.join()
    assert not folder.wait_for("deep/b.json", 0.1)


# 30: odd names


@pytest.mark.parametrize(
    "name", ["Größe und Maß", "a 'quoted' \"study\"", "研究 ✓", "tab\tand\nline", "50%25?x#y", "-x"]
)
def test_a_study_may_have_any_name(tmp_path: Path, data: Path, run: RunConfig, name: str) -> None:
    root = Storage(tmp_path / "all my runs; $HOME") / name
    root.prove_writable()
    store = RecordStore(root)
    with driving(root, print, print):
        record = train(run.with_values({"optim.epochs": 1}), store, data)
    assert record.study == name
    assert RecordStore(str(tmp_path / "all my runs; $HOME" / name)).read(record.run_id) == record
    assert load(root.path)["study"].tolist() == [name]


@pytest.mark.parametrize("name", ["x" * 255, "ä" * 127])
def test_the_longest_name_that_a_disk_allows_will_do(tmp_path: Path, name: str) -> None:
    root = Storage(tmp_path) / name
    root.prove_writable()
    root.write(name, b"1")
    assert root.read(name) == b"1"


def test_a_name_that_is_too_long_is_refused_before_any_work(tmp_path: Path) -> None:
    root = Storage(tmp_path) / ("x" * 256)
    with pytest.raises(StorageError, match=r"cannot be written: .*File name too long"):
        root.prove_writable()
    with pytest.raises(StorageError, match="File name too long; give a shorter name, then"):
        Storage(tmp_path).write("x" * 256, b"")


def test_no_key_of_a_bucket_is_in_a_message() -> None:
    folder = object.__new__(Storage)
    for root in ("s3://key:hidden@bucket/runs?access_key=hidden", "/a b/c@d", "gs://bucket/x"):
        folder.root = root
        assert "hidden" not in folder.shown
    assert [folder.shown for folder.root in ("/a b/c@d", "s3://k:h@b/r?q=1")] == [
        "/a b/c@d",
        "s3://b/r",
    ]


# 31: a clock that is set back


def test_suggestions_are_ordered_by_their_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random.seed(0)
    monkeypatch.setattr(time, "time", lambda: 1.8e9 - 1000 * random.random())
    gate = gate_of(tmp_path / "study", trials=6)
    configs = [suggest(gate, str(number)) for number in range(4)]
    again = gate_of(tmp_path / "study", trials=6)
    assert [suggest(again, str(number)) for number in range(4)] == configs
    assert suggest(again, "4")["trial"] == 4


def test_heartbeats_go_on_where_the_clock_is_set_back(tmp_path: Path) -> None:
    now = [1.8e9]
    asked = Session(name="search", trials={"both-50": 1}, concurrent=1, started_at=now[0])
    root = Storage(tmp_path)
    with Progress(asked, root, Console(file=io.StringIO()), lambda: now[0]) as progress:
        now[0] -= 3600
        progress.on_step_end(0, [])
        assert root.read_json("heartbeats/search.json")["at"] == now[0]


def test_no_time_is_negative_where_the_clock_is_set_back(
    tmp_path: Path, data: Path, run: RunConfig
) -> None:
    store = RecordStore(tmp_path / "study")
    job = Job(store=store, data=data, search="both-50", trial=0, suggested_at=time.time() + 3600)
    record = run_once(run.with_values({"optim.epochs": 1}), job, Runtime())
    assert record.overhead_s == 0.0 and record.seconds > 0
