"""The command line as a user meets it: models, new rows with gaps, and bad input."""

import dataclasses
import json
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from samples import make_run, save_packed

from dfpl import cli
from dfpl.config import RunConfig
from dfpl.data.loader import Loader, View
from dfpl.data.packed import PackedDataset
from dfpl.evaluate import predict_split
from dfpl.fields import ConfigError
from dfpl.predict import TrainedModel, read_rows
from dfpl.representations import read
from dfpl.storage import Storage
from dfpl.study import run as study
from dfpl.study.plan import Plan
from dfpl.study.records import Record, RecordStore
from dfpl.study.resources import Resources
from dfpl.study.session import Heartbeat, Session
from dfpl.study.suggestion import Suggestion
from dfpl.train import Runtime, fit

CPU = torch.device("cpu")


@pytest.fixture
def dfpl(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command in this process; returns exit code, output and errors."""

    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dfpl", *map(str, arguments)])
        code: Any = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        out, errors = capsys.readouterr()
        return code, out, errors

    return command


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with packed data, a study of one finished run, and its model."""
    place = tmp_path_factory.mktemp("trained")
    packed = save_packed(place / "data", num_samples=80)
    run = make_run(packed, optim__epochs=3)
    torch.set_num_threads(1)
    fitted = fit(run, packed, Runtime())
    TrainedModel.of(run, packed.schema, fitted).save(Storage(place / "model"))
    record = Record(
        run_id=run.run_id,
        study="study",
        search="both-50",
        trial=0,
        scenario="both-50",
        state="complete",
        value=fitted.best_value,
        best_epoch=fitted.best_epoch,
        epochs=3,
        config=run.to_dict(),
        data=str(place / "data"),
    )
    store = RecordStore(place / "study")
    store.save(record, fitted.rows, None)
    base = {name: value for name, value in run.to_dict().items() if name != "scenario"}
    store.root.write_json("study.json", {"base": base, "objective": {"kind": "each"}})
    Suggestion(
        number=0, search="both-50", point={}, blocks=["both-50/0"], run_ids=[run.run_id]
    ).write(store.root)
    return place


def optuna_study(trained: Path, folder: Path) -> Path:
    """The study of one finished run as a search of alpha, with a trial that has not ended."""
    shutil.copytree(trained / "study", folder)
    root = Storage(folder)
    facts = {**root.read_json("study.json"), "space": {"method.alpha": [0.01, 10.0, True]}}
    root.write_json("study.json", facts)
    done = Suggestion.read(root, "both-50", 0)
    for number, run_ids in enumerate((done.run_ids, ["not-yet"])):
        trial = {"number": number, "point": {"method.alpha": 1.0 + number}, "run_ids": run_ids}
        Suggestion(**{**vars(done), **trial}).write(root)
    return folder


def test_the_records_of_a_study_are_shown_in_an_optuna_storage(
    dfpl: Any, trained: Path, tmp_path: Path
) -> None:
    folder, file = optuna_study(trained, tmp_path / "made_up"), tmp_path / "trials.db"
    for _ in range(2):  # again: in its place
        code, out, errors = dfpl("optuna", folder, f"sqlite:///{file}")
        assert code == 0, errors
        assert out.startswith("wrote made_up/both-50\nlook at it: optuna-dashboard sqlite:///")
        assert "--host 127.0.0.1" in out
    database = sqlite3.connect(file)
    assert database.execute("select study_name from studies").fetchall() == [("made_up/both-50",)]
    states = database.execute("select state from trials order by number").fetchall()
    assert states == [("COMPLETE",), ("RUNNING",)]
    values = database.execute("select param_value from trial_params").fetchall()
    assert values == [(1.0,), (2.0,)]
    database.close()


def test_a_storage_that_cannot_be_shown_in_is_said(
    dfpl: Any, trained: Path, tmp_path: Path
) -> None:
    folder = optuna_study(trained, tmp_path / "made_up")
    code, out, errors = dfpl("optuna", folder, "sqlite:////nowhere/at/all/trials.db")
    assert (code, out) == (2, "")
    assert "error: the Optuna storage sqlite:////nowhere/at/all/trials.db cannot be" in errors
    code, _, errors = dfpl("optuna", trained / "study", f"sqlite:///{tmp_path / 'trials.db'}")
    assert code == 2
    assert f"no search in {trained / 'study'} (looked for its space in study.json)" in errors


def write_rows(folder: Path, rows: list[dict[str, object]]) -> Path:
    folder.mkdir(exist_ok=True)
    pixels = np.full((40, 40, 3), 120, dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "one.png")
    pd.DataFrame(rows).to_csv(folder / "new.csv", index=False)
    return folder / "new.csv"


COMPLETE = {
    "name": "x",
    "image": "one.png",
    "length": 1.5,
    "weight": 0.2,
    "colour": "blue",
    "shape": "flat",
}
NO_TABLE = {"length": None, "weight": None, "colour": None, "shape": None}


def test_a_saved_model_says_the_same_to_the_last_bit(trained: Path) -> None:
    packed = PackedDataset.load(trained / "data")
    run = make_run(packed, optim__epochs=3)
    fitted = fit(run, packed, Runtime())
    model = TrainedModel.load(Storage(trained / "model"), CPU)
    views = View.of(packed, "test")
    before = predict_split(fitted.method, Loader(views, fitted.statistics, 16, CPU), "test")
    after = predict_split(model.method, Loader(views, model.statistics, 16, CPU), "test")
    for state in before.logits:
        assert np.array_equal(before.logits[state], after.logits[state])


def test_best_prints_exports_and_trains_again(dfpl: Any, trained: Path, tmp_path: Path) -> None:
    code, out, _ = dfpl("best", trained / "study", "--out", tmp_path / "best.json")
    assert code == 0
    assert "both-50" in out
    code, out, _ = dfpl("train", tmp_path / "best.json", "--out", tmp_path / "m", "--device", "cpu")
    assert code == 0
    assert ": the same" in out


def test_a_scenario_that_was_not_searched_is_named(dfpl: Any, trained: Path) -> None:
    code, _, errors = dfpl("best", trained / "study", "--scenario", "image-70")
    assert code == 2
    assert "no complete trial in scenario 'image-70'; there are both-50" in errors


def test_an_edited_export_is_refused_with_the_nearest_name(
    dfpl: Any, trained: Path, tmp_path: Path
) -> None:
    dfpl("best", trained / "study", "--out", tmp_path / "best.json")
    content = json.loads((tmp_path / "best.json").read_text())
    content["configs"][0]["config"]["method"]["alpa"] = 3.0
    (tmp_path / "best.json").write_text(json.dumps(content))
    code, _, errors = dfpl("train", tmp_path / "best.json")
    assert code == 2
    assert "no field 'method.alpa'; did you mean 'method.alpha'?" in errors


def test_evaluate_looks_scenarios_up(dfpl: Any, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "found.parquet"
    arguments = ["--data", trained / "data", "--scenarios", "all,curves", "--out", out]
    code, text, errors = dfpl("evaluate", trained / "model", *arguments, "--draws", 20)
    assert code == 0, errors
    for name in ("tabular-70", "image-10", "both-90"):
        assert text.count(name) == 2  # over groups and draws, and over draws alone
    assert len(pd.read_parquet(out)) == 20
    code, _, errors = dfpl("evaluate", trained / "model", *arguments, "--draws", 0)
    assert code == 2 and "draws must be at least 1, got 0" in errors


def test_what_is_exported_of_people_names_nobody(dfpl: Any, trained: Path, tmp_path: Path) -> None:
    packed = PackedDataset.load(trained / "data")
    private = replace(packed, schema=packed.schema.with_values({"private": True}))
    private.save(tmp_path / "private")
    for name in ("data", "private"):
        data = trained / "data" if name == "data" else tmp_path / "private"
        out = tmp_path / f"{name}.parquet"
        arguments = ["--data", data, "--draws", 2, "--out", out]
        code, _, errors = dfpl("evaluate", trained / "model", *arguments)
        assert code == 0, errors
    known, hidden = (pd.read_parquet(tmp_path / f"{n}.parquet") for n in ("data", "private"))
    content = (tmp_path / "private.parquet").read_bytes()
    for name in {*packed.sample["id"], *packed.sample["group"]}:
        assert name.encode() not in content
    pd.testing.assert_frame_equal(
        known.drop(columns=["id", "group"]), hidden.drop(columns=["id", "group"])
    )


def test_what_rows_are_classified_from_is_saved(dfpl: Any, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "shown.parquet"
    arguments = ["--data", trained / "data", "--draws", 2, "--split", "val"]
    code, text, errors = dfpl(
        "evaluate", trained / "model", *arguments, "--save-representations", out
    )
    assert code == 0, errors
    packed, found = PackedDataset.load(trained / "data"), read(out, "image")
    assert f"wrote what {len(found)} rows are classified from to {out}" in text
    assert found.ids.tolist() == packed.ids(packed.rows("val"))
    assert (found.facts.method, found.facts.split) == ("dfpl", "val")


def test_predictions_for_rows_with_gaps(dfpl: Any, trained: Path, tmp_path: Path) -> None:
    rows = [
        COMPLETE,
        {**COMPLETE, "image": None},
        {**COMPLETE, **NO_TABLE},
        {**COMPLETE, "colour": "never seen", "weight": None},
    ]
    code, text, errors = dfpl("predict", trained / "model", write_rows(tmp_path / "new", rows))
    assert code == 0, errors
    (tmp_path / "out.csv").write_text(text)
    found = pd.read_csv(tmp_path / "out.csv")
    assert found["available"].tolist() == ["both", "table", "image", "both"]
    assert found["name"].tolist() == ["x"] * 4
    chances = found[[f"p(class {c})" for c in range(3)]]
    np.testing.assert_allclose(chances.sum(axis=1), 1.0, atol=1e-6)


def test_a_whole_modality_may_lack_its_columns(dfpl: Any, trained: Path, tmp_path: Path) -> None:
    images = write_rows(tmp_path / "images", [{"image": "one.png"}])
    tables = write_rows(tmp_path / "tables", [{k: COMPLETE[k] for k in NO_TABLE}])
    for path, state in ((images, "image"), (tables, "table")):
        code, text, errors = dfpl("predict", trained / "model", path)
        assert code == 0, errors
        assert f"{state},class" in text


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({**COMPLETE, "image": None, **NO_TABLE}, "have neither image nor table (lines 2)"),
        ({**COMPLETE, "image": "lost.png"}, "lost.png"),
        ({**COMPLETE, "length": "long"}, "column 'length' is numeric"),
        (
            {k.replace("colour", "color"): v for k, v in COMPLETE.items()},
            "there is no field 'colour'; did you mean 'color'?",
        ),
    ],
)
def test_bad_rows_are_named(
    dfpl: Any, trained: Path, tmp_path: Path, row: dict[str, object], complaint: str
) -> None:
    code, _, errors = dfpl("predict", trained / "model", write_rows(tmp_path / "new", [row]))
    assert code == 2
    assert complaint in errors


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["best", "nowhere"], "no study in"),
        (["train", "nowhere.json"], "is no export of a study"),
        (["evaluate", "nowhere", "--data", "x"], "no model in"),
        (["data", "pack", "table", "nowhere.csv", "out"], "nowhere.csv"),
    ],
)
def test_what_is_not_there_is_said_with_the_way_out(
    dfpl: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, errors = dfpl(*arguments)
    assert code == 2
    assert complaint in errors


def test_check_and_pack_of_the_twin(dfpl: Any, tmp_path: Path) -> None:
    code, _, errors = dfpl("data", "twin", "dvm", tmp_path / "raw", "--models", 6, "--adverts", 60)
    assert code == 0, errors
    small = ["--min-adverts", 30, "--image-size", 16]
    code, text, _ = dfpl("data", "check", "dvm", tmp_path / "raw", *small)
    assert code == 0
    assert "training is possible" in text
    code, text, _ = dfpl("data", "pack", "dvm", tmp_path / "raw", tmp_path / "packed", *small)
    assert code == 0
    assert len(PackedDataset.load(tmp_path / "packed").schema.class_names) == 6
    code, text, _ = dfpl("data", "check", "dvm", tmp_path / "raw", "--min-adverts", 1000)
    assert code in (1, 2)


def test_what_representations_tell_of_the_factors_of_a_twin(dfpl: Any, tmp_path: Path) -> None:
    raw, data, model = (tmp_path / name for name in ("raw", "data", "model"))
    dfpl("data", "twin", "dvm", raw, "--models", 6, "--adverts", 30, "--pixels", 16)
    dfpl("data", "pack", "dvm", raw, data, "--min-adverts", 10, "--image-size", 16)
    packed = PackedDataset.load(data)
    run = make_run(packed, optim__epochs=1)
    fitted = fit(run, packed, Runtime(report=lambda row: True))
    TrainedModel.of(run, packed.schema, fitted).save(Storage(model))
    asked = ["evaluate", model, "--data", data, "--draws", 2, "--factors"]
    code, text, errors = dfpl(*asked, raw / "factors.csv")
    assert code == 0, errors
    assert text.index("both-50") < text.index("R^2 of linear probes")
    assert f"{len(packed.rows('test'))} complete samples of the test split" in text
    assert len(re.findall(r"│ (image|tabular) (shared|specific) (tokens|prototypes) ", text)) == 8
    assert "'shared' tells" in text and "'specific' tells" in text and "chance is 0" in text
    code, text, errors = dfpl(*asked, tmp_path / "nowhere.csv")
    assert code == 2 and "nowhere.csv does not exist" in errors


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--scenarios=both-150"], "no scenario 'both-150'"),
        (["--scenarios=foo-30"], "no scenario 'foo-30'"),
        (["--scenarios=both-50,both-50"], "lists a scenario twice"),
        (["--trials=-1"], "--trials must be at least 1, got -1"),
        (["--epochs=0"], "--epochs must be at least 1, got 0"),
        (["--data=/nowhere/at/all"], "/nowhere/at/all"),
        (["--storage=FILE/below"], "cannot be written"),
    ],
)
def test_a_wrong_choice_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], complaint: str
) -> None:
    (tmp_path / "file").write_text("")
    place = [] if "--storage" in options[0] else [f"--storage={tmp_path / 'runs'}"]
    chosen = [option.replace("FILE", str(tmp_path / "file")) for option in options]
    with pytest.raises(SystemExit) as stop:
        study.main(Plan(name="tune_dvm", source="dvm", base={}), [*place, *chosen])
    assert stop.value.code == 2
    assert complaint in capsys.readouterr().out


def test_an_unknown_option_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        study.main(Plan(name="tune_dvm", source="dvm", base={}), ["--method.alfa=1"])
    assert stop.value.code == 2
    assert "--method.alpha" in "".join(capsys.readouterr())


@pytest.fixture
def exported(dfpl: Any, trained: Path, tmp_path: Path) -> Path:
    assert dfpl("best", trained / "study", "--out", tmp_path / "best.json")[0] == 0
    return tmp_path / "best.json"


def test_a_config_is_trained_again_with_the_arithmetic_of_its_study(
    dfpl: Any, exported: Path, tmp_path: Path
) -> None:
    content = json.loads(exported.read_text())

    def objective(compute: dict[str, str]) -> str:
        content["configs"][0]["compute"] = compute
        exported.write_text(json.dumps(content))
        code, out, _ = dfpl("train", exported, "--out", tmp_path / "m", "--device", "cpu")
        assert code == 0
        return out.splitlines()[0]

    assert objective({"precision": "bfloat16"}) != objective({"precision": "float32"})


def test_another_number_than_the_studys_is_said(dfpl: Any, exported: Path, tmp_path: Path) -> None:
    content = json.loads(exported.read_text())
    content["configs"][0]["value"] += 1e-9
    exported.write_text(json.dumps(content))
    code, out, _ = dfpl("train", exported, "--out", tmp_path / "m", "--device", "cpu")
    assert code == 0
    assert ": NOT the same" in out


def test_another_seed_is_not_compared(dfpl: Any, exported: Path, tmp_path: Path) -> None:
    code, out, _ = dfpl("train", exported, "--out", tmp_path / "m", "--seed", 7, "--device", "cpu")
    assert code == 0
    assert "the study found" not in out
    assert json.loads((tmp_path / "m/model.json").read_text())["run"]["seed"] == 7


def test_a_cut_training_of_another_run_is_not_taken_for_this_one(
    dfpl: Any, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(row: dict[str, float]) -> bool:
        raise KeyboardInterrupt

    place = ["--out", tmp_path / "m", "--device", "cpu"]
    with monkeypatch.context() as patch:
        patch.setattr(cli, "_print_epoch", lambda metric: stop)
        patch.setattr("dfpl.train.Runtime", often_saving)
        with pytest.raises(KeyboardInterrupt):
            dfpl("train", exported, "--seed", 7, *place)
    assert list((tmp_path / "m").rglob("last.pt"))
    code, out, _ = dfpl("train", exported, *place)
    assert code == 0
    assert ": the same" in out
    assert not list((tmp_path / "m").rglob("last.pt"))


def often_saving(**settings: Any) -> Runtime:
    return Runtime(**settings, checkpoint_every_s=0.0)


def test_data_that_is_not_the_studys_is_refused(dfpl: Any, exported: Path, tmp_path: Path) -> None:
    save_packed(tmp_path / "other", num_samples=80, seed=1)
    place = ["--out", tmp_path / "m", "--data", tmp_path / "other"]
    code, _, errors = dfpl("train", exported, *place)
    assert code == 2
    assert "Point --data at the data that the study used" in errors


def test_a_place_that_cannot_be_written_is_said_before_training(
    dfpl: Any, exported: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    code, out, errors = dfpl("train", exported, "--out", tmp_path / "file/model")
    assert code == 2
    assert f"{tmp_path}/file/model cannot be written" in errors
    assert "epoch" not in out


def test_the_order_of_columns_survives_a_saved_model(tmp_path: Path) -> None:
    packed = save_packed(tmp_path / "first", num_samples=80)
    columns = {"shape": ["flat", "round", "tall"], "colour": ["blue", "red"]}
    schema = packed.schema.with_values({"category": columns})
    packed = dataclasses.replace(packed, schema=schema).save(tmp_path / "data")
    run = make_run(packed, optim__epochs=1)
    fitted = fit(run, packed, Runtime())
    TrainedModel.of(run, packed.schema, fitted).save(Storage(tmp_path / "model"))
    model = TrainedModel.load(Storage(tmp_path / "model"), CPU)
    assert list(model.schema.category) == ["shape", "colour"]
    model.refuse_other_data(packed)
    row = {**COMPLETE, "shape": "round", "colour": "red"}
    rows = read_rows(write_rows(tmp_path / "new", [row]), model.schema, None)
    assert rows.category.tolist() == [[3, 3]]
    view = View.of(packed, "test")
    before = predict_split(fitted.method, Loader(view, fitted.statistics, 16, CPU), "test")
    after = predict_split(model.method, Loader(view, model.statistics, 16, CPU), "test")
    for state in before.logits:
        assert np.array_equal(before.logits[state], after.logits[state])


def test_a_model_is_not_scored_on_other_columns(dfpl: Any, trained: Path, tmp_path: Path) -> None:
    packed = PackedDataset.load(trained / "data")
    schema = packed.schema.with_values({"numeric": ["length", "height"]})
    dataclasses.replace(packed, schema=schema).save(tmp_path / "other")
    code, _, errors = dfpl("evaluate", trained / "model", "--data", tmp_path / "other")
    assert code == 2
    assert "['length', 'weight'], the data has ['length', 'height']" in errors


def test_raw_data_that_forbids_training_ends_a_check_with_1(dfpl: Any, tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"id": f"s{i}", "image": "one.png", "length": i / 7, "label": "same"} for i in range(30)
    ]
    code, text, _ = dfpl("data", "check", "table", write_rows(tmp_path / "raw", rows))
    assert code == 1
    assert "training is impossible" in text


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (["--epochs=7"], "base.optim.epochs was 6, is 7"),
        (["--seed=1"], "base.seed was 0, is 1"),
        (["--objective=worst"], "objective.kind was each, is worst"),
        (["--precision=bfloat16"], "compute.precision was None, is bfloat16"),
        (["--method.beta=0.1"], "space.method.beta was [0.01, 1.0, True], is None"),
    ],
)
def test_another_study_in_the_same_folder_is_refused_by_field(
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: list[str],
    complaint: str,
) -> None:
    def reached() -> None:
        raise ConfigError("reached the cluster")

    monkeypatch.setattr(study, "connect", reached)
    plan = Plan(name="tune_dvm", source="dvm", base={})
    same = [f"--data={trained / 'data'}", f"--storage={tmp_path}", "--epochs=6"]
    for arguments, expected in (
        (same, "reached the cluster"),
        ([*same, "--trials=9", "--scenarios=both-30"], "reached the cluster"),
        ([*same, *change], complaint),
    ):
        with pytest.raises(SystemExit) as stop:
            study.main(plan, arguments)
        assert stop.value.code == 2
        assert expected in capsys.readouterr().out


def test_a_study_of_nothing_is_refused(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [f"--{name.replace('_', '-')}={value}" for name, value in ALL_SEVEN.items()]
    plan = Plan(name="tune_dvm", source="dvm", base={})
    with pytest.raises(SystemExit) as stop:
        study.main(plan, [f"--data={trained / 'data'}", f"--storage={tmp_path}", *given])
    assert stop.value.code == 2
    assert "every searched field was given" in capsys.readouterr().out


def test_a_sweep_has_every_seed_from_the_given_one_on(
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    runs: list[RunConfig] = []
    monkeypatch.setattr(study, "connect", lambda: None)
    monkeypatch.setattr(
        study, "fit_to_cluster", lambda *_: Resources(workers=1, gpus_per_worker=0.0, concurrent=1)
    )
    monkeypatch.setattr(study, "sweep", lambda name, wanted, launch: runs.extend(wanted))
    arguments = [f"--data={trained / 'data'}", f"--storage={tmp_path}", "--seeds=2", "--seed=5"]
    monkeypatch.setattr(sys, "argv", ["study", *arguments, "--method.width=16"])
    plan = Plan(name="made_up", source="table", base={})
    study.sweep_main(plan, lambda base, _: [base], read_by="analysis.made_up")
    assert [run.seed for run in runs] == [5, 6]
    assert all(run.to_dict()["method"]["width"] == 16 for run in runs)
    assert f"now: python -m analysis.made_up {tmp_path / 'made_up'}" in capsys.readouterr().out


@pytest.mark.parametrize("trials", [1, 2])
def test_status_says_how_far_a_study_is_and_whether_it_is_done(
    dfpl: Any, trained: Path, trials: int
) -> None:
    Session(name="search", trials={"both-50": trials}, concurrent=1).save(
        Storage(trained / "study")
    )
    Heartbeat(at=time.time(), ended=True).save(Storage(trained / "study"), "search")
    for options in ([], ["--follow"]):
        code, out, _ = dfpl("status", trained / "study", *options)
        assert code == (0 if trials == 1 else 3)
        assert f"trials    1 of {trials} done: 1 complete, 0 pruned, 0 failed" in out
        assert ("the same command goes on" in out) == (trials == 2)


def test_status_of_a_folder_that_is_no_study_names_it(dfpl: Any, tmp_path: Path) -> None:
    code, _, errors = dfpl("status", tmp_path / "nowhere")
    assert code == 2
    assert f"no study in {tmp_path}/nowhere (looked for study.json, progress/ and" in errors
    assert "such as runs/tune_table" in errors


def test_status_starts_without_ray_torch_and_pandas(trained: Path) -> None:
    program = (
        "import sys; from dfpl import cli; "
        f"sys.argv = ['dfpl', 'status', {str(trained / 'study')!r}]\n"
        "try:\n    cli.main()\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'ray', 'optuna', 'pandas', 'pydantic'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert shown.stdout.splitlines()[-1] == "[]", shown.stderr


ALL_SEVEN = {
    "method.alpha": 1.0,
    "method.beta": 0.1,
    "method.gamma": 0.1,
    "method.delta": 0.2,
    "method.num_prototypes": 5,
    "method.epsilon": 0.1,
    "method.omega": 0.1,
}
