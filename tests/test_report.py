"""The report: what it shows, by hand-made records; texts stay texts, and no sample is named."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_search import SECRET, made_up_search
from test_figures import run_of, save

from analysis.report import build, tuning, write
from analysis.report.blocks import duration, percents, score
from analysis.report.page import page
from analysis.report.study import Study
from dfpl import cli
from dfpl.fields import ConfigError
from dfpl.study.records import Record, RecordStore

HOSTILE = "<img src=x onerror=alert(1)></script><!--"
MOST_MB = 5


def section(data: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return next(part["blocks"] for part in data["sections"] if part["id"] == name)


def of_kind(blocks: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [block for block in blocks if kind in (block["kind"], block.get("chart"))]


def facts_of(data: dict[str, Any]) -> dict[str, str]:
    return dict(of_kind(section(data, "run"), "facts")[0]["rows"])


def texts(data: dict[str, Any], name: str) -> str:
    return " ".join(block["text"] for block in of_kind(section(data, name), "text"))


@pytest.fixture(scope="module")
def methods(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two methods in one scenario; of two seeds of DFPL one is right more often."""
    store = RecordStore(tmp_path_factory.mktemp("methods") / "table")
    for seed, image in ((0, 0.7), (1, 0.8)):
        save(store, run_of("dfpl", seed=seed), both=0.9, image=image, tabular=0.5)
    save(store, run_of("shaspec"), both=0.8, image=0.6, tabular=0.5)
    save(store, run_of("tip"), 0.1, 0.1, 0.1, state="failed", reason="out of memory: 3 GB")
    save(store, run_of("tip", seed=1), 0.1, 0.1, 0.1, state="failed", reason="out of memory: 7 GB")
    return build(Study.read(store.root.path))


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search") / "tuned"
    made_up_search(RecordStore(folder), ["both-50", "tabular-70"], trials=8)
    return folder


@pytest.fixture(scope="module")
def found(search: Path) -> dict[str, Any]:
    return build(Study.read(str(search)))


def test_it_is_the_same_whoever_scores_the_configs(
    search: Path, found: dict[str, Any], impatient: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert json.dumps(build(Study.read(str(search)))) == json.dumps(found)
    assert "configs: 4 of 4" in capsys.readouterr().err


def test_a_list_of_runs_has_all_sections_and_a_comparison_in_place_of_hyperparameters(
    methods: dict[str, Any],
) -> None:
    assert [part["id"] for part in methods["sections"]] == [
        *("run", "results", "robustness", "classes", "comparison", "failures", "reproduce")
    ]
    assert all(part["title"] and part["how"].endswith(".") for part in methods["sections"])


def test_results_are_means_over_seeds_on_the_test_split(methods: dict[str, Any]) -> None:
    """Of 40 rows half are incomplete under both-50: 10 lack the image, 10 the table."""
    [table] = of_kind(section(methods, "results"), "table")
    rows = {
        row[1].split(" ")[0]: dict(zip(table["columns"], row, strict=True)) for row in table["rows"]
    }
    dfpl, shaspec, tip = rows["DFPL"], rows["ShaSpec"], rows["TIP"]
    as_trained = 0.5 * 0.9 + 0.25 * 0.75 + 0.25 * 0.5  # 0.7625
    assert dfpl["test, as trained"].startswith(f"{100 * as_trained:.1f} [")
    assert dfpl["test, both"].startswith("90.0 [")
    assert dfpl["test, image only"].startswith("75.0 [")
    assert dfpl["test, table only"].startswith("50.0 [")
    assert (dfpl["seeds"], dfpl["n"]) == ("2", "40")
    assert shaspec["test, image only"].startswith("60.0 [") and shaspec["seeds"] == "1"
    assert "failed: out of memory" in tip["config"] and tip["test, both"] == "–"


def test_curves_are_exact_and_say_how_many_are_hidden(methods: dict[str, Any]) -> None:
    [drawing] = of_kind(section(methods, "robustness"), "robustness")
    data = drawing["data"]
    line = next(line for line in data["lines"] if line["label"] == "DFPL")
    assert data["rates"] == list(range(0, 101, 5))
    for rate in (0, 20, 50, 100):
        place, share = data["rates"].index(rate), rate / 100
        expected = {
            "image": 90 - share * (90 - 50),
            "tabular": 90 - share * (90 - 75),
            "both": 90 - share * (90 - (50 + 75) / 2),
        }
        for pattern, value in expected.items():
            point = line["curves"][pattern][place]
            assert point[0] == pytest.approx(value, abs=0.006), (pattern, rate)
            assert point[1] <= point[0] <= point[2]
    assert data["sizes"] == [{"n": 40, "complete": 40, "hidden": data["sizes"][0]["hidden"]}]
    assert data["sizes"][0]["hidden"]["both"][data["rates"].index(70)] == (14, 14)
    assert data["sizes"][0]["hidden"]["image"][data["rates"].index(70)] == (28, 0)


def test_contributions_of_each_class_by_hand(methods: dict[str, Any]) -> None:
    """ShaSpec: right in the first 80, 60 and 50 % of the rows, whose classes alternate."""
    [drawing] = of_kind(section(methods, "classes"), "classes")
    line = next(line for line in drawing["data"]["lines"] if line["label"] == "ShaSpec")
    assert line["names"] == ["mean over classes", "b", "a"] and line["counts"] == [40, 20, 20]
    assert line["nothing"] == [50.0, 50.0, 50.0]
    firsts = {name: [own[0] for own in scores] for name, scores in line["states"].items()}
    assert firsts == {"both": [80.0] * 3, "image only": [60.0] * 3, "table only": [50.0] * 3}
    shares = {name: [own[0] for own in found] for name, found in line["shares"].items()}
    assert shares == {"image": [20.0] * 3, "tabular": [10.0] * 3, "interaction": [20.0] * 3}
    low, high = line["shares"]["image"][0][1:]
    assert low < 20.0 < high


def test_the_comparison_is_paired_on_common_seeds(methods: dict[str, Any]) -> None:
    [table] = of_kind(section(methods, "comparison"), "table")
    rows = {row[1]: dict(zip(table["columns"], row, strict=True)) for row in table["rows"]}
    assert rows["DFPL"]["minus the best"] == "best"
    # of seed 0 alone: 0.675 against 0.75
    assert rows["ShaSpec"]["minus the best"].startswith("-7.5 [")
    assert rows["ShaSpec"]["common seeds"] == "1"


def test_failures_that_differ_in_numbers_count_together(methods: dict[str, Any]) -> None:
    [table] = of_kind(section(methods, "failures"), "table")
    [row] = table["rows"]
    assert row[0] == "failed" and row[1].startswith("out of memory: ") and row[3] == "2"


def test_a_search_says_what_was_run(found: dict[str, Any]) -> None:
    facts = facts_of(found)
    # per scenario: trial 2 stopped after 3 epochs of 8, trial 5 failed in the first
    assert facts["Runs"] == "16 records; 12 complete, 2 pruned, 2 failed"
    assert facts["Epochs"] == "104 trained, 10 saved by stopping (9 %)"
    assert facts["Training time"] == "1 h 44 min in all, 8 min 0 s per run (median)"
    assert facts["Scenarios"] == "both-50, tabular-70"
    assert facts["Objective"] == "a config of its own for each scenario"
    assert facts["Code"] == "commit 1234567, hash abc"
    space = of_kind(section(found, "run"), "table")[1]
    assert space["rows"][0] == ["method.alpha", "0.01 to 10, log scale", "1"]


def test_of_a_search_the_best_by_validation_stands_beside_the_papers_point(
    search: Path, found: dict[str, Any]
) -> None:
    [table] = of_kind(section(found, "results"), "table")
    labels = [row[:2] for row in table["rows"]]
    records = list(RecordStore(search).read_all())
    for scenario in ("both-50", "tabular-70"):
        best = max(
            (r for r in records if r.scenario == scenario and r.state == "complete"),
            key=lambda record: record.value or 0.0,
        )
        assert [scenario, f"best (trial {best.trial})"] in labels
        assert [scenario, "paper's point (trial 0)"] in labels
    gap = table["columns"].index("best − paper's, test")
    assert [row[gap][0] for row in table["rows"]] == ["+", "–", "+", "–"]


def test_of_a_search_hyperparameters_curves_and_where_they_stopped(found: dict[str, Any]) -> None:
    blocks = section(found, "hyperparameters")
    [importances] = of_kind(blocks, "importances")
    shares = {row["name"]: row["ped_anova"][0] for row in importances["data"]["views"][0]["rows"]}
    assert max(shares, key=shares.__getitem__) == "method.alpha"
    [slices] = of_kind(blocks, "slices")
    columns = slices["data"]["columns"]
    assert columns["trial"].count(0) == 2
    assert len(columns["trial"]) == 14  # the two that failed have no value
    assert {len(values) for values in columns.values()} == {14}
    [learning] = of_kind(blocks, "learning")
    stopped = {run["trial"]: run["stopped"] for run in learning["data"]["runs"]}
    assert stopped[0] is None and stopped[2] == 3
    assert sum(run["best"] for run in learning["data"]["runs"]) == 2
    assert not of_kind(blocks, "front")


def test_a_large_search_is_thinned_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "MOST_POINTS", 30)
    monkeypatch.setattr(tuning, "MOST_CURVES", 10)
    monkeypatch.setattr(tuning, "MOST_CONFIGS", 12)
    store = RecordStore(tmp_path / "large")
    made_up_search(store, ["both-50"], trials=60)
    blocks = section(build(Study.read(store.root.path)), "hyperparameters")
    [slices], [learning] = of_kind(blocks, "slices"), of_kind(blocks, "learning")
    shown = slices["data"]["columns"]["trial"]
    complete = [record for record in store.read_all() if record.state == "complete"]
    best = sorted(complete, key=lambda record: -(record.value or 0.0))[: tuning.BEST_KEPT]
    assert {0, *(record.trial for record in best)} <= set(shown) and len(shown) <= 30
    assert [run["trial"] for run in learning["data"]["runs"]][:2] == [best[0].trial, 0]
    assert len(learning["data"]["runs"]) == 10
    assert of_kind(blocks, "importances")[0]["data"]["views"][0]["n"] == 12
    words = " ".join(block["text"] for block in of_kind(blocks, "text"))
    assert " of 60 runs are drawn" in words and "10 of 60 runs have a curve here" in words


def test_a_search_of_few_trials_says_why_nothing_decides(tmp_path: Path) -> None:
    store = RecordStore(tmp_path / "few")
    made_up_search(store, ["both-50"], trials=3)
    data = build(Study.read(store.root.path))
    assert "10 are the least from which importances" in texts(data, "hyperparameters")


def test_a_search_over_scenarios_has_a_front(tmp_path: Path) -> None:
    store = RecordStore(tmp_path / "pareto")
    made_up_search(store, ["both-0", "both-50"], trials=6, kind="pareto")
    blocks = section(build(Study.read(store.root.path)), "hyperparameters")
    [front] = of_kind(blocks, "front")
    assert front["data"]["x"] == "complete data" and any(
        point["on_front"] for point in front["data"]["points"]
    )


def test_commands_that_make_it_again(found: dict[str, Any], search: Path) -> None:
    commands = [block["text"] for block in of_kind(section(found, "reproduce"), "code")]
    assert commands[0] == "git checkout 1234567"
    assert f"dfpl best {search}" in commands and f"dfpl report {search}" in commands
    trained = [line for line in commands if line.startswith(f"dfpl train {search}/best.json")]
    assert len(trained) == 2 and all("--data /data/made_up" in line for line in trained)


def test_texts_stay_texts_and_nothing_is_loaded(tmp_path: Path) -> None:
    store = RecordStore(tmp_path / "hostile")
    made_up_search(store, ["both-50"], trials=6, classes=(HOSTILE, "b", "c"))
    store.save(
        Record(
            run_id="x",
            study="s",
            search=HOSTILE,
            trial=9,
            scenario="both-50",
            state="failed",
            reason=HOSTILE,
            config=next(store.read_all()).config,
        ),
        [],
        None,
    )
    text = page(build(Study.read(store.root.path)))
    assert HOSTILE not in text and "<img" not in text
    shown = json.loads(text.split('id="data">')[1].split("</script>")[0])
    assert HOSTILE in json.dumps(shown)  # it is there, as a text
    assert not re.search(r"""(src|href|url)\s*[=(]\s*["']?(https?:)?//""", text)
    policy = text.split('Content-Security-Policy" content="')[1].split('"')[0]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy and "http" not in policy
    assert len(text) < MOST_MB * 1e6


def test_no_sample_is_named(found: dict[str, Any], search: Path) -> None:
    run_id = next(r.run_id for r in RecordStore(search).read_all() if r.state == "complete")
    ids = RecordStore(search).predictions(run_id).ids
    assert ids[0].startswith(SECRET)
    assert SECRET not in json.dumps(found)


def test_the_command_writes_it_and_equal_runs_give_equal_files(
    search: Path,
    found: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    out = tmp_path / "seen.html"
    monkeypatch.setattr(sys, "argv", ["dfpl", "report", str(search), "--out", str(out)])
    cli.main()
    assert capsys.readouterr().out == f"wrote {out}\n"
    assert out.read_text() == page(found)


def test_a_folder_without_records_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no records below .*run a study first"):
        write(str(tmp_path))


def test_without_plotly_it_says_what_to_install(
    search: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    for name in [name for name in sys.modules if name.startswith(("analysis.report", "plotly"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.setattr(sys, "argv", ["dfpl", "report", str(search)])
    with pytest.raises(SystemExit):
        cli.main()
    errors = capsys.readouterr().err
    assert "dfpl report needs plotly" in errors and "pip install 'dfpl[analysis]'" in errors


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(7.46, "7.5 s"), (250, "4 min 10 s"), (3900, "1 h 5 min"), (97200, "1 d 3 h")],
)
def test_durations(seconds: float, written: str) -> None:
    assert duration(seconds) == written


def test_numbers_without_a_value() -> None:
    assert score((np.nan, np.nan, np.nan)) == "–"
    assert score((0.5, np.nan, np.nan)) == "50.0"
    assert percents([[0.12346, np.nan]]) == [[12.35, None]] and percents(0.5) == 50.0
