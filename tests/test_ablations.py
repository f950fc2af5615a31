"""Tables II to V: the lists of runs, and the tables made of hand-made records."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from samples import make_packed, make_run
from test_table1 import Cells, fail, save

from analysis.ablation import PAPER, build, paper_values
from analysis.ablation_table import main, render, table_of
from analysis.table2 import HEAD
from dfpl.ablation import FULL, TABLE2, TABLE3, TABLE4, TABLE5, Ablation
from dfpl.compute import Compute
from dfpl.config import RunConfig
from dfpl.data.loader import Loader, View
from dfpl.data.packed import PackedDataset
from dfpl.fields import ConfigError
from dfpl.method import build as build_method
from dfpl.step import Stepper
from dfpl.study import ablation as study
from dfpl.study import comparison
from dfpl.study.ablation import Options
from dfpl.study.records import RecordStore

PACKED = make_packed()
BASE = make_run(PACKED)
TABLES = {table.name: table for table in (TABLE2, TABLE3, TABLE4, TABLE5)}


def run_of(table: Ablation, name: str, seed: int = 0, base: RunConfig = BASE) -> RunConfig:
    [row] = [row for row in table.rows if row.name == name]
    return base.with_values({**row.values, "seed": seed})


# The studies

# prototypes, L_div, L_pali, L_cali, class prototypes, fusion, scale, K (3 in the base run)
MEANT = {
    "table2": {
        "baseline": (False, True, False, False, "gated", "concat", "global", 3),
        "SSPM": (True, True, False, False, "gated", "concat", "both", 3),
        "SSPM, PFA": (True, True, True, True, "gated", "concat", "both", 3),
        "SSPM, PFA, CMA": (True, True, True, True, "gated", "cma", "both", 3),
    },
    "table3": {
        "without L_div": (True, False, False, False, "gated", "concat", "both", 3),
        "with L_div": (True, True, False, False, "gated", "concat", "both", 3),
        "K = 3": (True, True, False, False, "gated", "concat", "both", 3),
        "K = 5": (True, True, False, False, "gated", "concat", "both", 5),
        "K = 10": (True, True, False, False, "gated", "concat", "both", 10),
        "K = 15": (True, True, False, False, "gated", "concat", "both", 15),
    },
    "table4": {
        "L_pali": (True, True, True, False, "gated", "concat", "both", 3),
        "L_cali": (True, True, False, True, "gated", "concat", "both", 3),
        "L_pali and L_cali": (True, True, True, True, "gated", "concat", "both", 3),
        "global": (True, True, False, True, "global", "concat", "both", 3),
        "prototype": (True, True, False, True, "prototype", "concat", "both", 3),
        "both": (True, True, False, True, "gated", "concat", "both", 3),
    },
    "table5": {
        "concatenation": (True, True, True, True, "gated", "concat", "both", 3),
        "addition": (True, True, True, True, "gated", "add", "both", 3),
        "CMA": (True, True, True, True, "gated", "cma", "both", 3),
        "global": (True, True, True, True, "gated", "cma", "global", 3),
        "prototype": (True, True, True, True, "gated", "cma", "prototype", 3),
        "multi-scale": (True, True, True, True, "gated", "cma", "both", 3),
    },
}
SWITCHES = [name.removeprefix("method.") for name in (*FULL, "method.num_prototypes")]


@pytest.mark.parametrize("name", TABLES)
def test_each_row_is_the_config_that_the_paper_means(name: str) -> None:
    found, before = {}, BASE.to_dict()
    for row in TABLES[name].rows:
        values = run_of(TABLES[name], row.name).to_dict()
        method = values.pop("method")
        found[row.name] = tuple(method.pop(switch) for switch in SWITCHES)
        rest = {k: v for k, v in before["method"].items() if k not in SWITCHES}
        assert method == rest and values == {k: v for k, v in before.items() if k != "method"}
    assert found == MEANT[name]


@pytest.mark.parametrize("name", TABLES)
def test_a_study_trains_each_config_once_in_each_scenario(name: str) -> None:
    found = study.runs(TABLES[name], BASE, Options(scenarios="both-50,image-70"))
    wanted = list(dict.fromkeys(MEANT[name].values()))
    for scenario in ("both-50", "image-70"):
        methods = [run.method.to_dict() for run in found if str(run.scenario) == scenario]
        assert [tuple(method[switch] for switch in SWITCHES) for method in methods] == wanted
    assert len({run.run_id for run in found}) == len(found) == 2 * len(wanted)


def test_in_one_folder_the_four_tables_are_15_configs() -> None:
    base = BASE.with_values({"method.num_prototypes": 5})
    ids = {run.run_id for table in TABLES.values() for run in study.runs(table, base, Options())}
    # II; III without L_div and with three other K; IV with one loss, two kinds; V add, two scales
    assert len(ids) == 4 + 4 + 4 + 3


def test_a_base_run_without_a_part_is_refused_by_all_its_names() -> None:
    base = BASE.with_values({"method.fusion": "add", "method.diversity": False})
    complaint = "table5 starts from the whole .*diversity is False, method.fusion is add: leave"
    with pytest.raises(ConfigError, match=complaint):
        study.runs(TABLE5, base, Options())


def exported(place: Path, *found: RunConfig) -> str:
    facts = {"value": 0.5, "data": "", "threads": 1}
    entries = [{"scenario": str(r.scenario), "config": r.to_dict(), **facts} for r in found]
    place.write_text(json.dumps({"configs": entries}))
    return str(place)


def test_the_rows_may_change_a_best_config_but_for_what_they_set(tmp_path: Path) -> None:
    best = BASE.with_values({"method.alpha": 0.7, "method.num_prototypes": 9, "optim.epochs": 1})
    other = best.with_values({"method.alpha": 4.0, "scenario.rate": 0.7})
    place = exported(tmp_path / "best.json", best, other)
    found = [run.to_dict() for run in study.runs(TABLE3, BASE, Options(from_=place))]
    assert {run["method"]["alpha"] for run in found} == {0.7}  # that of both-50
    assert [run["method"]["num_prototypes"] for run in found] == [9, 9, 3, 5, 10, 15]
    assert {run["optim"]["epochs"] for run in found} == {2}  # the budget is that of this study
    asked = Options(from_=place, scenarios="both-50,image-70", scenario="both-70")
    found = study.runs(TABLE3, BASE, asked)
    assert {run.to_dict()["method"]["alpha"] for run in found} == {4.0}
    assert {str(run.scenario) for run in found} == {"both-50", "image-70"}


@pytest.mark.parametrize("scenarios", ["image-30", "both-50,both-70"])
def test_of_several_best_configs_one_must_be_meant(tmp_path: Path, scenarios: str) -> None:
    place = exported(tmp_path / "b.json", BASE, BASE.with_values({"scenario.rate": 0.7}))
    with pytest.raises(ConfigError, match=r"both-50, both-70; choose one with --scenario$"):
        study.runs(TABLE2, BASE, Options(from_=place, scenarios=scenarios))


def test_a_best_config_of_another_method_is_refused(tmp_path: Path) -> None:
    [drfuse] = comparison.runs(BASE, comparison.Options(methods="drfuse", scenarios="both-50"))
    place = exported(tmp_path / "best.json", drfuse)
    with pytest.raises(ConfigError, match=r"--from .* was found with method\.name drfuse, here .*"):
        study.runs(TABLE2, BASE, Options(from_=place))


CONFIGS = {
    run.run_id: run for table in TABLES.values() for run in study.runs(table, BASE, Options())
}


@pytest.mark.parametrize("run", CONFIGS.values(), ids=CONFIGS)
def test_every_config_takes_a_step_of_training(run: RunConfig) -> None:
    torch.manual_seed(0)
    train = View.of(PACKED, "train", run.scenario)
    loader = Loader(train, train.statistics(), 16, torch.device("cpu"))
    method = build_method(run.method, PACKED.schema).train()
    batch = loader.build(loader.read(np.arange(16)), run.augment)
    terms = Stepper(method, run.optim, Compute()).step(batch, 1e-3)
    assert all(term.isfinite() for term in terms.values())
    assert not [n for n, p in method.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[RunConfig]:
    """What the command `table3` with --method.width=16 and two seeds hands to the sweep."""
    from dfpl.study import run as driver
    from dfpl.study.resources import Resources

    make_packed().save(tmp_path / "data")
    listed: list[RunConfig] = []
    monkeypatch.setattr(driver, "connect", lambda: None)
    monkeypatch.setattr(
        driver, "fit_to_cluster", lambda *_: Resources(workers=1, gpus_per_worker=0.0, concurrent=1)
    )
    monkeypatch.setattr(driver, "sweep", lambda name, wanted, launch: listed.extend(wanted))
    places = [f"--data={tmp_path / 'data'}", f"--storage={tmp_path}", "--seeds=2"]
    monkeypatch.setattr(sys, "argv", ["table3", *places, "--method.width=16"])
    return listed


def test_the_command_of_a_study_hands_its_runs_to_the_sweep(
    listed: list[RunConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sys.argv.append("--method.alpha=2")
    study.main(TABLE3)
    assert [(run.method.to_dict()["num_prototypes"], run.seed) for run in listed] == [
        (K, seed) for K in (5, 5, 3, 10, 15) for seed in (0, 1)
    ]
    assert {run.method.to_dict()["alpha"] for run in listed} == {2.0}
    assert f"now: python -m analysis.table3 {tmp_path / 'table3'}" in capsys.readouterr().out
    store = RecordStore(tmp_path / "table3")
    save(store, listed[0], 0.9)  # the table finds what the study lists
    [found] = [row for row in build([store], TABLE3).to_dict("records") if row["seeds"]]
    assert (found["row"], found["value"]) == ("without L_div", 0.9)


def test_the_table_finds_the_runs_around_a_best_config(
    listed: list[RunConfig], tmp_path: Path
) -> None:
    data_hash = PackedDataset.load(tmp_path / "data").schema.content_hash
    values = {"method.alpha": 0.7, "method.num_prototypes": 9, "data_hash": data_hash}
    best = BASE.with_values(values)
    place = exported(tmp_path / "best.json", best)
    sys.argv += [f"--from={place}", "--metric=accuracy"]
    study.main(TABLE3)
    store = RecordStore(tmp_path / "table3")
    for run in listed:
        save(store, run, 0.9)
    frame: Any = build([store], TABLE3)
    assert list(frame["seeds"]) == [2] * 6
    assert store.root.read_json("study.json")["base"]["method"]["num_prototypes"] == 9
    exported(tmp_path / "best.json", best.with_values({"method.alpha": 0.8}))
    with pytest.raises(SystemExit, match="2"):  # the rows of two configs would stand in one folder
        study.main(TABLE3)


# The tables


def leave_study(store: RecordStore, base: RunConfig = BASE) -> None:
    values = {name: value for name, value in base.to_dict().items() if name != "scenario"}
    store.root.write_json("study.json", {"base": values})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RecordStore:
    """Table II, right in so many of 40 rows: the baseline 0.5 and 0.6 with two seeds, SSPM 0.7 with
    the first (the second failed), with PFA not there, the whole model 0.8 and 0.9; and a run with
    another K, which stands in no row."""
    store = RecordStore(tmp_path_factory.mktemp("table2"))
    leave_study(store)
    for name, seed, right in (
        ("SSPM, PFA, CMA", 0, 0.8),
        ("SSPM, PFA, CMA", 1, 0.9),
        ("baseline", 0, 0.5),
        ("baseline", 1, 0.6),
        ("SSPM", 0, 0.7),
    ):
        save(store, run_of(TABLE2, name, seed), right)
    fail(store, run_of(TABLE2, "SSPM", 1), "ran out of memory")
    save(store, run_of(TABLE2, "SSPM").with_values({"method.num_prototypes": 9}), 1.0)
    return store


@pytest.fixture(scope="module")
def frame(store: RecordStore) -> Any:
    """The table, of whose columns pyright knows little."""
    return build([store], TABLE2)


def row_of(frame: Any, name: str) -> dict[str, Any]:
    [row] = frame[frame["row"] == name].to_dict("records")
    return row


def test_rows_are_means_over_seeds_in_the_order_of_the_paper(frame: Any) -> None:
    assert list(frame["row"]) == list(MEANT["table2"])
    assert list(frame["seeds"]) == [2, 1, 0, 2]
    assert frame["value"].tolist() == pytest.approx([0.55, 0.7, np.nan, 0.85], nan_ok=True)
    assert list(frame["best"]) == [False, False, False, True]
    for name in ("baseline", "SSPM", "SSPM, PFA, CMA"):
        row = row_of(frame, name)
        assert row["low"] < row["value"] < row["high"]
        assert (row["n"], row["scenario"], row["dataset"]) == (40, "both-50", "made_up")


def test_a_row_is_compared_with_the_one_above_on_the_seeds_that_both_have(frame: Any) -> None:
    row = row_of(frame, "SSPM")
    # seed 0 alone: 8 of 40 rows more, s = sqrt(0.2 * 0.8 / 40) = 0.0632, 0.2 is 3.2 of them;
    # accuracy has steps of 1 / 40
    assert row["difference"] == pytest.approx(0.2) and row["common_seeds"] == 1
    assert row["difference_low"] == pytest.approx(0.2 - 1.96 * 0.0632, abs=1 / 40)
    assert row["difference_high"] == pytest.approx(0.2 + 1.96 * 0.0632, abs=1 / 40)
    assert 0.0005 < row["p"] < 0.004 and row["p_holm"] == row["p"]  # the only comparison
    whole = row_of(frame, "SSPM, PFA, CMA")
    assert np.isnan(whole["difference"]) and whole["common_seeds"] == 0  # nothing above it


def test_what_is_missing_says_why(frame: Any) -> None:
    assert row_of(frame, "SSPM")["reason"] == "seed 1 failed: ran out of memory"
    assert row_of(frame, "SSPM, PFA")["reason"] == "not there"
    assert row_of(frame, "baseline")["reason"] == ""


def test_table_2_has_the_papers_marks(frame: Any) -> None:
    table = table_of(frame, TABLE2, HEAD)
    assert table.header == ["SSPM", "PFA", "CMA", "made_up both-50, accuracy", "difference"]
    assert [[cell.text for cell in row[:3]] for row in table.rows] == [
        ["no", "no", "no"],
        ["yes", "no", "no"],
        ["yes", "yes", "no"],
        ["yes", "yes", "yes"],
    ]
    assert table.rows[1][3].text.startswith("70.0 [") and table.rows[1][3].text.endswith("(n 1)")
    assert table.rows[1][4].text.startswith("+20.0 [+")
    assert table.rows[3][3].best and table.rows[2][3].text == "not there"
    assert "Mean over 1 or 2 seed(s)" in table.notes[0] and "n = 40 test" in table.notes[0]
    assert "Difference to the row above" in table.notes[1] and "for 1 comparison." in table.notes[1]
    assert len(table.notes) == 2  # the data is not the paper's


def test_a_run_that_stands_in_two_groups_is_in_both(tmp_path: Path) -> None:
    store, base = RecordStore(tmp_path), BASE.with_values({"method.num_prototypes": 5})
    leave_study(store, base)
    for name, right in (("without L_div", 0.6), ("K = 5", 0.7), ("K = 10", 0.5)):
        save(store, run_of(TABLE3, name, base=base), right)
    frame: Any = build([store], TABLE3)
    assert row_of(frame, "with L_div")["value"] == row_of(frame, "K = 5")["value"] == 0.7
    assert row_of(frame, "without L_div")["difference"] == pytest.approx(-0.1)
    assert row_of(frame, "K = 10")["difference"] == pytest.approx(-0.2)
    assert frame["best"].tolist() == [False, True, False, True, False, False]  # of each group
    rows = table_of(frame, TABLE3).rows
    assert [cell.text for cell in rows[2][:3]] == ["prototypes", "K = 3", "not there"]
    # p of 4 and of 8 of 40 rows, s = 0.0474 and 0.0632: 0.035 and 0.0016, the second doubled
    assert row_of(frame, "K = 10")["p_holm"] == pytest.approx(2 * row_of(frame, "K = 10")["p"])


def test_several_data_sets_and_scenarios_stand_side_by_side(tmp_path: Path) -> None:
    stores = []
    for dataset, scenarios in (("dvm", ("both-50", "image-30")), ("adni", ("both-50",))):
        store, base = RecordStore(tmp_path / dataset), BASE.with_values({"dataset": dataset})
        leave_study(store, base)
        for scenario in scenarios:
            pattern, rate = scenario.split("-")
            place = {"scenario.pattern": pattern, "scenario.rate": int(rate) / 100}
            save(store, run_of(TABLE2, "SSPM", base=base).with_values(place), 0.9)
        stores.append(store)
    frame: Any = build(stores, TABLE2)
    table = table_of(frame, TABLE2, HEAD)
    assert table.header[3::2] == [
        "dvm image-30, accuracy",
        "dvm both-50, accuracy",
        "adni both-50, accuracy",
    ]
    row = table.rows[1]
    assert [cell.beside for cell in row[3::2]] == ["", "; paper 91.32", "; paper 74.77"]
    assert [cell.text for cell in row[4::2]] == ["", "paper +1.65", "paper +0.63"]
    assert table.rows[0][5].beside == "; paper 89.67"
    assert "to be compared with runs on its data alone" in table.notes[2]
    with pytest.raises(ConfigError, match="several folders have adni both-50"):
        build([*stores, stores[1]], TABLE2)


def test_all_values_of_the_paper_are_known() -> None:
    for name, table in TABLES.items():
        rows = {("both-50", row.group, row.name) for row in table.rows}
        lines = len(pd.read_csv(PAPER / f"{name}.csv"))
        assert paper_values(table, "dvm", "accuracy").keys() == rows
        assert lines == len(rows) * (3 if name == "table2" else 1)
        assert all(
            row.against in {other.name for other in table.rows if other.group == row.group} | {""}
            for row in table.rows
        )
    found = paper_values(TABLE2, "mimic", "prauc")
    assert found["both-50", "components", "SSPM, PFA, CMA"] == 0.4022
    assert paper_values(TABLE2, "mimic", "accuracy") == {}
    # the same configs have the same values
    values = {name: paper_values(table, "dvm", "accuracy") for name, table in TABLES.items()}
    by_config: dict[str, set[float]] = {}
    base = BASE.with_values({"method.num_prototypes": 5})
    for name, table in TABLES.items():
        for row in table.rows:
            config = base.with_values(row.values).run_id
            value = values[name]["both-50", row.group, row.name]
            by_config.setdefault(config, set()).add(value)
    assert len(by_config) == 15 and all(len(found) == 1 for found in by_config.values())


def test_folders_without_runs_of_the_table_are_refused(store: RecordStore, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no study in .*run studies/table2\.py first"):
        build([RecordStore(tmp_path)], TABLE2)
    with pytest.raises(ConfigError, match=r"no run of table4 below .*run studies/table4\.py"):
        build([store], TABLE4)


def test_every_format_holds_the_whole_table(frame: Any) -> None:
    markdown = render(frame, TABLE2, "markdown", HEAD)
    assert markdown.count("\n| ") == 2 + 4
    assert [len(row) for row in Cells(render(frame, TABLE2, "html", HEAD)).rows] == [5] * 5
    body = [line for line in render(frame, TABLE2, "latex", HEAD).splitlines() if " & " in line]
    assert [line.count(" & ") for line in body] == [4] * 5
    assert len(render(frame, TABLE2, "csv").splitlines()) == 1 + 4


def test_the_commands_work(
    store: RecordStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "t.tex"
    monkeypatch.setattr(sys, "argv", ["t", str(store.root), "--format=latex", f"--out={out}"])
    main(TABLE2, "", HEAD)
    assert out.read_text().startswith(r"\begin{table}")
    monkeypatch.setattr(sys, "argv", ["t"])
    with pytest.raises(SystemExit, match=r"no folder of runs; try python -m analysis\.table2"):
        main(TABLE2, "", HEAD)
    assert capsys.readouterr().out == ""
