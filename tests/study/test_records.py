"""Records: whole or not there, and all that tables read."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray.exceptions import RayActorError
from samples import make_run, save_packed

from dfpl.config import RunConfig
from dfpl.storage import Storage
from dfpl.study import records
from dfpl.study.records import Record, RecordStore, load
from dfpl.study.trial import Job, run_once
from dfpl.train import Runtime

SECRET = "aws-secret-that-must-not-leave-the-environment"
ROWS: list[dict[str, int | float]] = [{"epoch": 1, "value": 0.1}, {"epoch": 2, "value": 0.3}]


def record_of(run: RunConfig, **values: Any) -> Record:
    facts = {"study": "s", "search": str(run.scenario), "trial": 0, "state": "complete"}
    facts |= {"scenario": str(run.scenario), "config": run.to_dict(), "run_id": run.run_id}
    return Record(**{**facts, **values})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[RecordStore, Record, RunConfig]:
    """A store with one run that was really trained, where the environment holds a secret."""
    place = tmp_path_factory.mktemp("records")
    packed = save_packed(place / "data")
    run = make_run(packed)
    store = RecordStore(place / "runs/study")
    job = Job(store=store, data=place / "data", search="both-50", trial=0)
    checkpoints = store.root / f"checkpoints/{run.run_id}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        records.provenance.cache_clear()
        done = run_once(run, job, Runtime(checkpoints=checkpoints, checkpoint_every_s=0.0))
    return store, done, run


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    return RecordStore(tmp_path / "study")


@pytest.fixture
def run(trained: tuple[RecordStore, Record, RunConfig]) -> RunConfig:
    return trained[2]


def test_a_trained_run_leaves_one_whole_record(
    trained: tuple[RecordStore, Record, RunConfig],
) -> None:
    store, done, run = trained
    found = store.read(run.run_id)
    assert found is not None and found == done
    assert (found.state, found.epochs, found.study, found.scenario) == (
        "complete",
        2,
        "study",
        "both-50",
    )
    assert RunConfig.from_dict(found.config) == run
    assert found.metrics["val/accuracy"] == found.value
    assert {"val/accuracy_low", "test/scenario/accuracy", "test/image/prauc"} <= set(found.metrics)
    assert found.versions["torch"]
    assert found.num_parameters > 0
    assert list(store.read_all()) == [found]


def test_a_finished_run_leaves_nothing_in_checkpoints(
    trained: tuple[RecordStore, Record, RunConfig],
) -> None:
    assert not list(Path(trained[0].root.path).glob("checkpoints/*"))


def test_epochs_and_predictions_round_trip(
    trained: tuple[RecordStore, Record, RunConfig],
) -> None:
    store, done, run = trained
    rows = store.epochs(run.run_id)
    assert [row["epoch"] for row in rows] == [1, 2]
    assert max(row["val/accuracy"] for row in rows) == rows[-1]["value"] == done.value
    found = store.predictions(run.run_id)
    val = found.of_split("val")
    right = val.pick(val.present).argmax(axis=1) == val.label
    assert float(right.mean()) == pytest.approx(done.value)
    assert sorted(np.unique(found.split)) == ["test", "val"]


def test_no_secret_of_the_environment_is_written(
    trained: tuple[RecordStore, Record, RunConfig],
) -> None:
    written = [path for path in Path(trained[0].root.path).rglob("*") if path.is_file()]
    assert written
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]


def test_rows_written_before_a_kill_are_no_record(
    store: RecordStore, run: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "write_json", kill)
        with pytest.raises(KeyboardInterrupt):
            store.save(record_of(run), ROWS, None)
    assert store.epochs(run.run_id) == ROWS
    assert store.read(run.run_id) is None
    assert list(store.read_all()) == []
    store.save(record_of(run, value=0.3), ROWS, None)
    assert store.read(run.run_id) == record_of(run, value=0.3)


def test_a_kill_while_the_record_is_written_leaves_none(
    store: RecordStore, run: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("dfpl.storage.os.replace", kill)
        with pytest.raises(KeyboardInterrupt):
            store.save(record_of(run), [], None)
    assert store.read(run.run_id) is None
    (Path(store.root.path) / "records/.x.json.0a1b2c3d.part").write_text("{")
    assert list(store.read_all()) == []


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "3", '"run_id"', "[]", "{}", '{"run_id": "r"}', '{"study": []}', "\udcff"],
)
def test_a_file_that_is_no_record_counts_as_none(store: RecordStore, text: str) -> None:
    store.root.write("records/r.json", text.encode(errors="surrogateescape"))
    assert store.read("r") is None
    assert list(store.read_all()) == []


def test_a_field_of_a_later_version_is_passed_over(store: RecordStore, run: RunConfig) -> None:
    store.save(record_of(run), [], None)
    name = f"records/{run.run_id}.json"
    store.root.write_json(name, {**store.root.read_json(name), "later": 1})
    assert store.read(run.run_id) == record_of(run)


def test_load_gives_one_row_per_run_under_dotted_names(store: RecordStore, run: RunConfig) -> None:
    done = {"value": 0.5, "metrics": {"val/accuracy": 0.5, "test/scenario/accuracy": 0.4}}
    for trial, state in enumerate(("complete", "pruned", "failed")):
        other = run.with_values({"method.alpha": 0.5 + trial})
        values = done if state == "complete" else {"reason": state}
        store.save(record_of(other, trial=trial, state=state, **values), [], None)
    frame: Any = load(store.root.path)
    assert frame["trial"].tolist() == [0, 1, 2]
    assert frame["state"].tolist() == ["complete", "pruned", "failed"]
    assert frame["config.method.alpha"].tolist() == [0.5, 1.5, 2.5]
    assert frame["config.scenario.rate"].tolist() == [0.5] * 3
    assert frame["metrics.val/accuracy"].isna().tolist() == [False, True, True]
    stray = {"metrics", "config", "versions", "config.method", "config.scenario"}
    assert not stray & set(frame.columns)


def test_load_of_a_place_without_records_names_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=rf"no records below {tmp_path}/nowhere/records"):
        load(tmp_path / "nowhere")


def test_loading_records_needs_neither_torch_nor_ray(
    trained: tuple[RecordStore, Record, RunConfig],
) -> None:
    store, done, _ = trained
    program = (
        "import json, sys; from dfpl.study.records import RecordStore, load; "
        f"frame = load({store.root.path!r}); "
        f"rows = RecordStore({store.root.path!r}).epochs(frame.run_id[0]); "
        "heavy = sorted({'torch', 'ray', 'optuna'} & set(sys.modules)); "
        "print(json.dumps([frame.value[0], len(rows), heavy]))"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    value, rows, heavy = json.loads(shown.stdout)
    assert (value, heavy) == (done.value, [])
    assert rows == done.epochs


def test_the_driver_can_record_a_run_that_died(store: RecordStore, run: RunConfig) -> None:
    store.root.write(f"checkpoints/{run.run_id}/last.pt", b"")
    store.fail(run, "both-50", 3, "its process ended")
    found = store.read(run.run_id)
    assert found is not None
    assert (found.state, found.reason, found.trial) == ("failed", "its process ended", 3)
    assert (found.value, found.study) == (None, "study")
    assert not list(Path(store.root.path).glob("checkpoints/*"))


@pytest.mark.parametrize("place", ["/a/study", "/a/study/", "s3://bucket/a/study?region=x"])
def test_a_study_has_the_name_of_its_folder(place: str) -> None:
    root = object.__new__(Storage)
    root.root = place
    assert RecordStore(root).name == "study"


def test_a_value_that_is_no_number_is_a_failed_run_with_its_reason(tmp_path: Path) -> None:
    packed = save_packed(tmp_path / "data")
    run = make_run(packed, metric="auroc")
    store = RecordStore(tmp_path / "study")
    job = Job(store=store, data=tmp_path / "data", search="both-50", trial=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dfpl.train.measure", lambda *_: {"auroc": float("nan"), "accuracy": 1.0})
        done = run_once(run, job, Runtime())
    assert store.read(run.run_id) == done
    assert done.state == "failed"
    assert "val/auroc" in done.reason


def test_a_broken_cluster_is_no_failed_run(
    trained: tuple[RecordStore, Record, RunConfig], tmp_path: Path
) -> None:
    def ask(row: Any) -> bool:
        raise RayActorError

    run, data = trained[2], Path(trained[1].data)
    store = RecordStore(tmp_path / "study")
    job = Job(store=store, data=data, search="both-50", trial=0)
    with pytest.raises(RayActorError):
        run_once(run, job, Runtime(report=ask))
    assert store.read(run.run_id) is None


def test_a_run_that_cannot_start_is_a_record_with_its_reason(
    trained: tuple[RecordStore, Record, RunConfig], tmp_path: Path
) -> None:
    run = trained[2]
    store = RecordStore(tmp_path / "study")
    job = Job(store=store, data=tmp_path / "nowhere", search="both-50", trial=0)
    done = run_once(run, job, Runtime())
    assert store.read(run.run_id) == done
    assert done.reason.startswith(f"DataError: no packed data set in {tmp_path}/nowhere")
