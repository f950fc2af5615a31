"""Table I: the study's list of runs, and the table made of hand-made records."""

import csv
import io
import shutil
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from samples import make_packed, make_run, save_packed
from test_confirm import leave

from analysis import table1 as analysis
from analysis.table1 import build, render, tables, write_diagram
from analysis.tables import RENDER, Cell, Table, html, latex, markdown, turned
from dfpl.config import RunConfig
from dfpl.data.scenario import NINE, Scenario
from dfpl.fields import ConfigError
from dfpl.method import load, names
from dfpl.storage import Storage
from dfpl.study.best import export
from dfpl.study.comparison import Options, plan_of, runs
from dfpl.study.records import RecordStore
from dfpl.study.suggestion import Suggestion

BASE = make_run(make_packed())


def run_of(method: str, scenario: str = "both-50", seed: int = 0, **values: Any) -> RunConfig:
    [found] = runs(BASE, Options(methods=method, scenarios=scenario))
    return found.with_values({"seed": seed, **{f"method.{k}": v for k, v in values.items()}})


# The study


def test_every_method_meets_every_scenario_once() -> None:
    found = runs(BASE, Options())
    assert len({run.run_id for run in found}) == len(found) == 9 * len(names())
    assert {(run.method.name, str(run.scenario)) for run in found} == {
        (name, str(scenario)) for name in names() for scenario in NINE
    }
    assert {(run.optim, run.augment, run.metric, run.data_hash) for run in found} == {
        (BASE.optim, BASE.augment, BASE.metric, BASE.data_hash)
    }


def test_all_methods_have_the_encoders_of_the_base_run_and_else_their_own_values() -> None:
    base = BASE.with_values({"method.encode_missing": "skip", "method.alpha": 7.0})
    for run in runs(base, Options(scenarios="both-50")):
        values, own = run.method.to_dict(), load(run.method.name).Config().to_dict()
        if run.method.name == "dfpl":
            assert run.method == base.method
            continue
        encoders = {
            "width": 16,
            "image_network": "small",
            "tabular_heads": 2,
            "tabular_shared_depth": 1,
            "tabular_branch_depth": 1,
            "tabular_depth": 2,
            "encode_missing": "skip",
        }
        shared = {name: value for name, value in encoders.items() if name in own}
        assert values == {**own, **shared}, run.method.name


def test_methods_and_scenarios_can_be_chosen() -> None:
    found = runs(BASE, Options(methods="drfuse, dfpl", scenarios="image-30,both-70"))
    assert [(run.method.name, str(run.scenario)) for run in found] == [
        ("drfuse", "image-30"),
        ("dfpl", "image-30"),
        ("drfuse", "both-70"),
        ("dfpl", "both-70"),
    ]


@pytest.mark.parametrize(
    ("methods", "complaint"),
    [("drfus", "did you mean 'drfuse'"), ("dfpl,dfpl", "lists a method twice")],
)
def test_wrong_methods_are_refused(methods: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        runs(BASE, Options(methods=methods))


def searched(folder: Path, run: RunConfig, value: float, space: dict[str, Any]) -> str:
    """The folder of a search with one complete trial."""
    store = RecordStore(folder)
    store.root.write_json("study.json", {"objective": {"kind": "each"}, "space": space})
    leave(store, run, value, right=0.5)
    Suggestion(
        number=0, search="both-50", point={}, blocks=["both-50/0"], run_ids=[run.run_id]
    ).write(store.root)
    return str(folder)


def file_of(folder: str) -> str:
    """The export of such a search, in a file beside it."""
    place = Path(f"{folder}.json")
    export(RecordStore(folder), Storage(place.parent), place.name)
    return str(place)


def test_a_tuned_config_replaces_hyperparameters_but_neither_encoders_nor_budget(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run_of("dmrnet", alpha=0.005, task_loss="bce", width=32, tabular_depth=1)
    found = found.with_values(
        {"optim.learning_rate": 3e-3, "optim.weight_decay": 0.1, "optim.epochs": 1}
    )
    folder = searched(tmp_path / "a", found, 0.6, {"optim.learning_rate": [1e-4, 1e-2, True]})
    asked = Options(methods="dfpl,dmrnet", scenarios="both-50,both-70", tuned=folder)
    dfpl, tuned, _, other = runs(BASE, asked)
    assert dfpl.method == BASE.method
    untuned = run_of("dmrnet")
    wanted = {"method.alpha": 0.005, "method.task_loss": "bce", "optim.learning_rate": 3e-3}
    assert tuned == untuned.with_values(wanted)
    assert other.method == untuned.method and other.optim == untuned.optim  # not searched there
    assert "tuned     dmrnet in both-50" in capsys.readouterr().out


def test_an_export_in_a_file_says_the_same_as_the_folder_of_the_search(tmp_path: Path) -> None:
    found = run_of("dmrnet", alpha=0.005).with_values(
        {"optim.learning_rate": 3e-3, "optim.weight_decay": 0.1, "optim.epochs": 1}
    )
    folder = searched(tmp_path / "a", found, 0.6, {"optim.learning_rate": [1e-4, 1e-2, True]})
    worse = searched(tmp_path / "b", run_of("dmrnet", alpha=0.9), 0.5, {})
    of_folder, of_file = (
        runs(BASE, Options(methods="dmrnet,dfpl", tuned=f"{place},{worse}"))
        for place in (folder, file_of(folder))
    )
    shutil.rmtree(folder)  # as on another machine
    alone = runs(BASE, Options(methods="dmrnet,dfpl", tuned=f"{folder}.json"))
    assert of_folder == of_file == alone
    [tuned] = [run for run in alone if run.optim.learning_rate == 3e-3]
    assert (tuned.method.name, str(tuned.scenario)) == ("dmrnet", "both-50")
    assert tuned.to_dict()["method"]["alpha"] == 0.005 and tuned.optim.weight_decay == 0.0


def test_a_file_that_was_spoilt_or_edited_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.json is no export of a study"):
        runs(BASE, Options(tuned=str(tmp_path / "nowhere.json")))
    place = Path(file_of(searched(tmp_path / "a", run_of("dmrnet"), 0.5, {})))
    place.write_text(place.read_text().replace('"alpha"', '"alpa"'))
    with pytest.raises(ConfigError, match=r"no field 'method\.alpa'; did you mean"):
        runs(BASE, Options(tuned=str(place)))


def test_of_several_searches_the_one_with_the_best_validation_value_counts(tmp_path: Path) -> None:
    folders = [
        searched(tmp_path / str(value), run_of("dmrnet", alpha=value), value, {})
        for value in (0.2, 0.7, 0.4)
    ]
    options = Options(methods="dmrnet", scenarios="both-50", tuned=",".join(folders))
    assert runs(BASE, options)[0].to_dict()["method"]["alpha"] == 0.7


def test_searches_on_other_data_or_by_another_metric_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no search in .*nowhere"):
        runs(BASE, Options(tuned=str(tmp_path / "nowhere")))
    for name, value in (("data_hash", "other"), ("metric", "auroc")):
        run = run_of("dmrnet").with_values({name: value})
        folder = searched(tmp_path / name, run, 0.5, {})
        for place in (folder, file_of(folder)):
            with pytest.raises(ConfigError, match=f"{place} was found with {name} {value}, here"):
                runs(BASE, Options(tuned=place))


def test_the_settings_are_those_of_the_data(tmp_path: Path) -> None:
    save_packed(tmp_path / "own")
    assert plan_of("s", []).source == plan_of("s", ["--data", "/raw/dvm"]).source == "dvm"
    assert plan_of("s", ["--table=my.csv"]).source == "table"
    assert plan_of("s", ["--epochs", "2", f"--data={tmp_path / 'own'}"]).source == "table"


def test_the_study_reads_its_own_options_and_adds_the_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from dfpl.study import run as study
    from dfpl.study.resources import Resources

    save_packed(tmp_path / "data")
    listed: list[RunConfig] = []
    monkeypatch.setattr(study, "connect", lambda: None)
    monkeypatch.setattr(
        study, "fit_to_cluster", lambda *_: Resources(workers=1, gpus_per_worker=0.0, concurrent=1)
    )
    monkeypatch.setattr(study, "sweep", lambda name, wanted, launch: listed.extend(wanted))
    arguments = [f"--data={tmp_path / 'data'}", f"--storage={tmp_path}", "--seeds=2"]
    chosen = ["--methods=dfpl,im_fuse", "--scenarios=both-50", "--method.width=16"]
    monkeypatch.setattr(sys, "argv", ["table1", *arguments, *chosen])
    study.sweep_main(plan_of("table1", sys.argv[1:]), runs, "analysis.table1", Options())
    assert [(run.method.name, run.seed) for run in listed] == [
        *(("dfpl", 0), ("dfpl", 1)),
        *(("im_fuse", 0), ("im_fuse", 1)),
    ]
    assert all(run.to_dict()["method"]["width"] == 16 for run in listed)
    assert len({run.run_id for run in listed}) == 4
    assert f"now: python -m analysis.table1 {tmp_path / 'table1'}" in capsys.readouterr().out


# The table


def save(store: RecordStore, run: RunConfig, right: float, **facts: Any) -> None:
    """A run whose test predictions are right in this share of 40 rows, in every state."""
    leave(store, run, value=right, right=right)
    record = store.read(run.run_id)
    assert record is not None
    record = replace(record, scenario=str(run.scenario), **facts)
    store.save(record, [], store.predictions(run.run_id))


def fail(store: RecordStore, run: RunConfig, reason: str) -> None:
    store.fail(run, "table1", 0, reason)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RecordStore:
    """Two scenarios, out of order. both-50: DFPL 0.9 and 1.0 with two seeds, DrFuse 0.9 with one
    (the other failed), the forest 0.2; STiL failed. image-30: DrFuse 0.5, DFPL has two configs."""
    store = RecordStore(tmp_path_factory.mktemp("table1"))
    save(store, run_of("dfpl", seed=0), 0.9)
    save(store, run_of("dfpl", seed=1), 1.0)
    save(store, run_of("drfuse", seed=0), 0.9)
    fail(store, run_of("drfuse", seed=1), "ran out of memory")
    save(store, run_of("forest"), 0.2)
    fail(store, run_of("stil"), "term task is nan")
    save(store, run_of("drfuse", "image-30"), 0.5)
    save(store, run_of("dfpl", "image-30"), 0.3, finished_at="2026-01-01")
    save(store, run_of("dfpl", "image-30", alpha=2.0), 0.4, finished_at="2026-01-02")
    return store


@pytest.fixture(scope="module")
def frame(store: RecordStore) -> Any:
    """The table, of whose columns pyright knows little."""
    return build(store)


def row_of(
    frame: Any, scenario: str, method: str, available: str = "as in training"
) -> dict[str, Any]:
    keys = {"scenario": scenario, "method": method, "available": available}
    [row] = [r for r in frame.to_dict("records") if all(r[k] == v for k, v in keys.items())]
    return row


def test_rows_and_columns_are_in_the_order_of_the_paper(frame: Any) -> None:
    assert list(frame["scenario"].unique()) == ["image-30", "both-50"]  # by rate
    assert list(frame["method"].unique()) == ["stil", "drfuse", "dfpl", "forest"]
    states = ["as in training", "complete", "image only", "table only"]
    assert list(frame["available"].unique()) == states
    assert len(frame) == 2 * 4 * 4


def test_scores_are_means_over_seeds(frame: Any) -> None:
    for available in frame["available"].unique():
        row = row_of(frame, "both-50", "dfpl", available)
        assert row["value"] == pytest.approx(0.95) and (row["seeds"], row["n"]) == (2, 40)
        assert row["low"] < 0.95 < row["high"] and row["best"]


def test_methods_are_compared_with_the_best_on_the_seeds_that_both_have(
    frame: Any,
) -> None:
    row = row_of(frame, "both-50", "drfuse")
    assert row["value"] == pytest.approx(0.9) and row["seeds"] == 1
    # DFPL's seed 0 was right in the same rows: no difference at all
    assert (row["difference"], row["p"], row["p_holm"], row["as_good"]) == (0.0, 1.0, 1.0, True)
    row = row_of(frame, "both-50", "forest")
    assert row["difference"] == pytest.approx(0.2 - 0.9)
    # 28 of 40 rows differ: s = sqrt(0.7 * 0.3 / 40) = 0.0725, 0.7 is 9.7 of them
    assert row["p"] < 1e-12 and not row["as_good"]
    assert row["difference_low"] < -0.7 < row["difference_high"] < 0


def test_p_values_are_corrected_for_all_comparisons_of_the_table(frame: Any) -> None:
    trained = frame[frame["available"] == "as in training"]
    assert trained["p_holm"].notna().sum() == 3  # two in both-50, one in image-30
    row = row_of(frame, "image-30", "dfpl")
    # 4 of 40 rows differ: s = sqrt(0.1 * 0.9 / 40) = 0.0474, 0.1 is 2.1 of them: p = 0.035
    assert 0.02 < row["p"] < 0.06
    assert row["p_holm"] == pytest.approx(2 * row["p"]) and row["as_good"]
    assert frame[frame["available"] != "as in training"]["p_holm"].isna().all()


def test_missing_cells_say_why(frame: Any) -> None:
    assert row_of(frame, "both-50", "stil")["reason"] == "failed: term task is nan"
    assert row_of(frame, "image-30", "stil")["reason"] == "not there"
    assert row_of(frame, "both-50", "drfuse")["reason"] == "seed 1 failed: ran out of memory"
    assert np.isnan(row_of(frame, "both-50", "stil")["value"])
    assert row_of(frame, "both-50", "dfpl")["reason"] == ""


def test_of_several_configs_the_latest_counts_and_the_table_says_so(frame: Any) -> None:
    row = row_of(frame, "image-30", "dfpl")
    assert row["value"] == pytest.approx(0.4) and row["older_configs"] == 1
    notes = tables(frame)[0].notes
    assert "DFPL in image-30: the latest of 2 configs." in notes


def test_the_first_table_by_hand(frame: Any) -> None:
    table = tables(frame)[0]
    assert table.header == ["missing", "image/table", "STiL", "DrFuse", "DFPL", "forest"]
    assert [[cell.text for cell in row[:2]] for row in table.rows] == [
        ["30 %", "70/100"],
        ["50 %", "75/75"],
    ]
    stil, drfuse, dfpl, forest = table.rows[1][2:]
    assert stil == Cell("failed: term task is nan")
    assert drfuse.text.startswith("90.0 [") and drfuse.text.endswith("] (n 1)")
    assert drfuse.beside == "; seed 1 failed: ran out of memory"
    assert (drfuse.best, drfuse.as_good, dfpl.best, forest.as_good) == (False, True, True, False)
    assert "40 test samples" in table.notes[0] and "Holm over 3 comparisons" in table.notes[0]


def test_rows_may_be_methods(frame: Any) -> None:
    table = turned(tables(frame)[0], 2)
    assert table.header == ["", "30 % 70/100", "50 % 75/75"]
    assert [row[0].text for row in table.rows] == ["STiL", "DrFuse", "DFPL", "forest"]
    assert [row[1] for row in table.rows] == tables(frame)[0].rows[0][2:]
    assert "| DFPL |" in render(frame, "markdown", "methods")


def test_a_number_of_seeds_that_is_the_same_throughout_is_told_once(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    for name in ("dfpl", "drfuse"):
        save(store, run_of(name), 0.9)
    table = tables(build(store))[0]
    assert table.notes[0].startswith("Mean over 1 seed [")
    assert all("(n " not in cell.text for cell in table.rows[0])


def test_the_second_table_has_the_three_states_of_each_scenario(frame: Any) -> None:
    rows = tables(frame)[1].rows
    assert [[cell.text for cell in row[:2]] for row in rows] == [
        [scenario, state]
        for scenario in ("image-30", "both-50")
        for state in ("complete", "image only", "table only")
    ]
    assert rows[3][4].text.startswith("95.0 [") and rows[3][4].best


def test_another_metric_can_be_asked_for(store: RecordStore) -> None:
    row = row_of(build(store, "balanced_accuracy"), "both-50", "dfpl")
    assert row["metric"] == "balanced_accuracy" and row["value"] == pytest.approx(0.95)


def test_the_papers_values_stand_beside_runs_on_its_data(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    save(store, run_of("dfpl").with_values({"dataset": "dvm"}), 0.9)
    found = build(store)
    shown = tables(found)[0]
    assert shown.header[2:] == [*analysis.LABELS.values()]
    assert row_of(found, "both-50", "dfpl")["paper"] == pytest.approx(0.9450)
    tip, dfpl = shown.rows[0][2], shown.rows[0][-1]
    assert tip == Cell("not there", beside="; paper 89.00") and dfpl.beside == "; paper 94.50"
    other: Any = build(store, "auroc")
    assert other["paper"].isna().all()  # the paper has another metric


def test_all_values_of_the_paper_are_known() -> None:
    for dataset, metric in (("dvm", "accuracy"), ("adni", "accuracy"), ("mimic", "prauc")):
        found = analysis.paper_values(dataset, metric)
        assert found.keys() == {(str(s), name) for s in NINE for name in analysis.LABELS}
    assert analysis.paper_values("mimic", "prauc")["tabular-70", "drfuse"] == 0.345
    assert analysis.paper_values("made_up", "accuracy") == {}
    assert analysis.LABELS.keys() <= set(names())


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no records below"):
        build(RecordStore(tmp_path))


# Ranks


def scored(values: dict[str, list[float]]) -> pd.DataFrame:
    """What `build` returns, as far as ranks need it."""
    scenarios = [str(scenario) for scenario in NINE]
    return pd.DataFrame(
        {"scenario": s, "available": available, "method": name, "value": value}
        for available in ("as in training", "complete")
        for name, own in values.items()
        for s, value in zip(scenarios, own, strict=False)
    )


def test_mean_ranks_over_the_scenarios_by_hand() -> None:
    frame = scored(
        {
            "dfpl": [0.9, 0.9, 0.9, 0.8],
            "drfuse": [0.8, 0.9, 0.8, 0.9],
            "late_fusion": [0.1, 0.1, 0.1, 0.1],
            "tip": [0.5, np.nan, 0.5, 0.5],
        }
    )
    table = analysis.table_of_ranks(frame)
    ranks = [[cell.text for cell in row] for row in table.rows]
    assert ranks == [["DFPL", "1.38"], ["DrFuse", "1.62"], ["late fusion", "3.00"]]
    # CD = 2.343 sqrt(3 x 4 / (6 x 4)) = 1.657, just above 3 - 1.375
    said = "difference at 5 %: 1.66; groups that do not differ: (DFPL, DrFuse, late fusion)."
    assert said in table.notes[0]
    assert table.notes[1] == "Not ranked, as they lack a scenario: TIP."


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({name: [0.1, 0.2] for name in ("dfpl", "tip", "stil")}, "3 methods in 2"),
        ({"dfpl": [0.1, 0.2, 0.3], "tip": [0.1, 0.2, 0.3]}, "2 methods in 3"),
        ({"dfpl": [np.nan]}, "0 methods in 0"),
    ],
)
def test_with_too_little_there_is_no_diagram_and_the_table_says_why(
    tmp_path: Path,
    values: dict[str, list[float]],
    reason: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = analysis.table_of_ranks(scored(values))
    assert not table.rows and "No ranks and no diagram" in table.notes[0]
    assert reason in table.notes[0]
    for form in RENDER.values():
        text = form(table)
        assert "Mean ranks over" in text and "No ranks" in text and "mean rank" not in text
    write_diagram(scored(values), Storage(tmp_path))
    assert not list(tmp_path.iterdir()) and reason in capsys.readouterr().err


def test_the_diagram_names_every_method(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    values = {name: random.normal(size=9).tolist() for name in (*analysis.LABELS, "table_only")}
    write_diagram(scored(values), Storage(tmp_path))
    svg = (tmp_path / "table1_ranks.svg").read_text()
    assert all(name in svg for name in ("DFPL", "IF-MMIN", "table only", "critical difference"))
    assert (tmp_path / "table1_ranks.png").read_bytes().startswith(b"\x89PNG")


# Formats


TABLE = Table(
    title="a & b",
    header=["x|y", "50 %"],
    rows=[
        [Cell("plain_1"), Cell("best", best=True, as_good=True)],
        [Cell("a|b"), Cell("<2", as_good=True, beside="; c&d")],
    ],
    notes=["n_1: 5 %"],
)


def test_markdown() -> None:
    assert markdown(TABLE).splitlines() == [
        "**a & b**",
        "",
        r"| x\|y | 50 % |",
        "| --- | --- |",
        "| plain_1 | **best** |",
        r"| a\|b | <2°; c&d |",
        "",
        "n_1: 5 %",
    ]


def test_latex() -> None:
    lines = latex(TABLE).splitlines()
    assert lines[1:3] == [r"\caption{a \& b}", r"\begin{tabular}{ll}"]
    assert lines[4] == r"x|y & 50 \% \\"
    assert lines[6:8] == [r"plain\_1 & \textbf{best} \\", r"a|b & \textless{}2$^{\circ}$; c\&d \\"]
    assert lines[-2] == r"n\_1: 5 \% \\"
    text = "\n".join(lines)
    assert text.count(r"\begin") == text.count(r"\end") == 2


class Cells(HTMLParser):
    """The cells of a page by row, and whether every tag that opens is closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += f"<b>{data}</b>" if "b" in self.open else data


def test_html() -> None:
    rows = [["x|y", "50 %"], ["plain_1", "<b>best</b>"], ["a|b", "<2°; c&d"]]
    assert Cells(html(TABLE)).rows == rows


def test_every_format_holds_the_whole_table(frame: Any) -> None:
    rows = list(csv.DictReader(io.StringIO(render(frame, "csv"))))
    assert len(rows) == len(frame)
    assert float(rows[2]["value"]) == pytest.approx(0.4)
    text = render(frame, "markdown")
    assert text.count("\n| ") == sum(len(t.rows) + 2 for t in tables(frame) if t.rows)
    cells = Cells(render(frame, "html")).rows
    assert [len(row) for row in cells] == [6] * (1 + 2) + [6] * (1 + 6)
    lines = render(frame, "latex").splitlines()
    body = [line for line in lines if " & " in line]
    assert [line.count(" & ") for line in body] == [5] * (1 + 2) + [5] * (1 + 6)


@pytest.mark.parametrize("out", [True, False])
def test_the_command_prints_or_writes(
    out: bool,
    store: RecordStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    frame: Any,
) -> None:
    monkeypatch.setattr(analysis, "build", lambda store, metric: frame)
    place = ["--out", str(tmp_path / "t.tex"), "--format", "latex"] if out else []
    monkeypatch.setattr(sys, "argv", ["table1", str(store.root), *place])
    analysis.main()
    shown = capsys.readouterr()
    text = (tmp_path / "t.tex").read_text() if out else shown.out
    assert text == render(frame, "latex" if out else "markdown")
    assert "no diagram: ranks need 3 methods in 3 scenarios at least" in shown.err


def test_scenarios_are_told_by_what_is_left() -> None:
    assert [analysis.availability(str(s)) for s in (NINE[0], NINE[5], NINE[8])] == [
        ["30 %", "100/70"],
        ["70 %", "30/100"],
        ["70 %", "65/65"],
    ]
    assert analysis.availability(str(Scenario.parse("both-50"))) == ["50 %", "75/75"]
