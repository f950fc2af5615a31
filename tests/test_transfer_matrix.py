"""The transfer of best configs: the study's list of runs, and the matrix of hand-made records."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from samples import make_packed, make_run
from test_confirm import leave

from analysis.transfer import main, render, tables
from analysis.transfer_matrix import ALL, best_for_all, build
from dfpl.config import RunConfig
from dfpl.data.scenario import Scenario
from dfpl.fields import ConfigError
from dfpl.study.plan import parse
from dfpl.study.records import RecordStore
from studies import transfer as study
from studies.transfer import Options, facts, plan_of

BASE = make_run(make_packed())


def run_of(scenario: str, alpha: float = 1.0, seed: int = 0, **values: Any) -> RunConfig:
    where = Scenario.parse(scenario).to_dict()
    return BASE.with_values({"scenario": where, "method.alpha": alpha, "seed": seed, **values})


def exported(place: Path, *found: tuple[str, int, RunConfig]) -> str:
    """An export of (search, trial, run)."""
    facts = {"value": 0.5, "data": "", "threads": 1}
    entries = [
        {
            "scenario": str(run.scenario),
            "trial": trial,
            "objective": {search: [0.5]},
            "config": run.to_dict(),
            **facts,
        }
        for search, trial, run in found
    ]
    place.write_text(json.dumps({"configs": entries}))
    return str(place)


def each(place: Path) -> str:
    """A config of its own in both-50 and image-30; in image-70 the paper's."""
    return exported(
        place,
        ("both-50", 3, run_of("both-50", 2.0, seed=5, **{"optim.epochs": 1})),
        ("image-30", 1, run_of("image-30", 4.0)),
        ("image-70", 0, run_of("image-70")),
    )


# The study


def test_every_point_meets_every_scenario_once(tmp_path: Path) -> None:
    found = study.runs(BASE, Options(from_=each(tmp_path / "best.json")))
    assert [(str(run.scenario), run.to_dict()["method"]["alpha"]) for run in found] == [
        (scenario, alpha)
        for scenario in ("both-50", "image-30", "image-70")
        for alpha in (1.0, 2.0, 4.0)  # the paper's stands for image-70 too
    ]
    assert {(run.optim, run.seed) for run in found} == {(BASE.optim, BASE.seed)}  # as given here
    some = study.runs(BASE, Options(from_=str(tmp_path / "best.json"), scenarios="both-70"))
    assert [str(run.scenario) for run in some] == ["both-70"] * 3


def test_study_json_says_where_each_point_was_found(tmp_path: Path) -> None:
    points = facts(BASE, Options(from_=each(tmp_path / "best.json")))["points"]
    assert {name: values["method.alpha"] for name, values in points.items()} == {
        "paper": 1.0,
        "both-50": 2.0,
        "image-30": 4.0,
        "image-70": 1.0,
    }
    assert points["paper"].keys() == points["both-50"].keys() and len(points["paper"]) == 7


def test_of_robust_searches_a_config_is_one_point(tmp_path: Path) -> None:
    front = [
        ("pareto", trial, run_of(scenario, alpha))
        for trial, alpha in ((1, 2.0), (4, 3.0))
        for scenario in ("both-0", "both-50")
    ]
    worst = [("worst", 2, run_of(scenario, 5.0)) for scenario in ("both-0", "both-50")]
    points = facts(BASE, Options(from_=exported(tmp_path / "b.json", *front, *worst)))["points"]
    assert {name: values["method.alpha"] for name, values in points.items()} == {
        "paper": 1.0,
        "pareto 1": 2.0,
        "pareto 4": 3.0,
        "worst": 5.0,
    }


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--from is needed: the best\.json of a search"):
        study.runs(BASE, Options())
    place = exported(tmp_path / "b.json", ("both-50", 0, run_of("both-50", metric="auroc")))
    with pytest.raises(ConfigError, match="was found with metric auroc, here it is accuracy"):
        study.runs(BASE, Options(from_=place))
    found = parse(plan_of("s", []), Options(), ["--from", "best.json", "--seeds=2"])
    assert found.study == Options(from_="best.json", seeds=2)


# The matrix


def save(
    store: RecordStore, scenario: str, alpha: float, seed: int, value: float, right: float
) -> None:
    """A run with its validation value, and the share of 40 test rows that it has right."""
    run = run_of(scenario, alpha, seed)
    leave(store, run, value, right)
    record = store.read(run.run_id)
    assert record is not None
    store.save(replace(record, scenario=scenario), [], None)


POINTS = {"paper": 1.0, "both-50": 2.0, "image-30": 4.0}
REACHED = {  # by scenario and alpha: validation, test, with seed 0
    "both-50": {1.0: (0.60, 0.50), 2.0: (0.80, 0.70), 4.0: (0.70, 0.80)},
    "image-30": {1.0: (0.50, 0.40), 2.0: (0.20, 0.30), 4.0: (0.55, 0.60)},
}


def leave_study(store: RecordStore, points: dict[str, float]) -> None:
    base = {name: value for name, value in BASE.to_dict().items() if name != "scenario"}
    named = {name: {"method.alpha": alpha} for name, alpha in points.items()}
    store.root.write_json("study.json", {"base": base, "points": named})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RecordStore:
    """Three points in two scenarios; of image-30 in both-50 a second seed, of the paper's a failed
    one; and a run of no point."""
    store = RecordStore(tmp_path_factory.mktemp("transfer"))
    leave_study(store, POINTS)
    for scenario, of_alpha in REACHED.items():
        for alpha, (value, right) in of_alpha.items():
            save(store, scenario, alpha, 0, value, right)
    save(store, "both-50", 4.0, 1, 0.74, 0.9)
    store.fail(run_of("both-50", 1.0, seed=1), "transfer", 9, "ran out of memory")
    save(store, "both-50", 7.0, 0, 0.99, 0.99)
    return store


@pytest.fixture(scope="module")
def frame(store: RecordStore) -> Any:
    return build(store)


def row_of(frame: Any, tuned: str, scenario: str) -> dict[str, Any]:
    [row] = frame[(frame["tuned"] == tuned) & (frame["scenario"] == scenario)].to_dict("records")
    return row


def test_the_matrix_by_hand(frame: Any) -> None:
    places = [(row["scenario"], row["tuned"]) for row in frame.to_dict("records")]
    assert places == [(s, t) for s in ("image-30", "both-50", ALL) for t in POINTS]
    row = row_of(frame, "image-30", "both-50")  # two seeds
    assert (row["validation"], row["value"]) == (pytest.approx(0.72), pytest.approx(0.85))
    assert row["validation_regret"] == pytest.approx(0.08)
    assert (row["seeds"], row["common_seeds"], row["n"]) == (2, 1, 40)
    # on the seed that both have: what was tuned there is right in 4 of 40 rows less
    assert (row["reference"], row["regret"]) == ("both-50", pytest.approx(-0.1))
    spread = np.sqrt(0.1 * 0.9 / 40)
    assert row["regret_low"] == pytest.approx(-0.1 - 1.96 * spread, abs=1 / 40)
    assert row["regret_high"] == pytest.approx(-0.1 + 1.96 * spread, abs=1 / 40)
    row = row_of(frame, "both-50", "image-30")
    assert row["validation_regret"] == pytest.approx(0.35)
    assert row["regret"] == pytest.approx(0.3) and row["regret_low"] > 0
    row = row_of(frame, "paper", "both-50")
    assert row["regret"] == pytest.approx(0.2)
    assert row["reason"] == "seed 1 failed: ran out of memory"
    own = row_of(frame, "both-50", "both-50")
    assert (own["regret"], own["validation_regret"]) == (0.0, 0.0)


def test_over_all_scenarios_the_means(frame: Any) -> None:
    row = row_of(frame, "image-30", ALL)
    assert row["validation"] == pytest.approx((0.72 + 0.55) / 2)
    assert row["value"] == pytest.approx((0.85 + 0.6) / 2)
    assert row["validation_regret"] == pytest.approx((0.08 + 0.0) / 2)
    # 0 against itself, and 4 of 40 rows of both-50: half of that gap, with half its interval
    assert row["regret"] == pytest.approx(-0.05)
    one = row_of(frame, "image-30", "both-50")
    for end in ("regret_low", "regret_high"):
        assert row[end] == pytest.approx(one[end] / 2)
    assert (row["seeds"], row["common_seeds"]) == (1, 1)


def test_one_config_for_all_is_chosen_on_validation(frame: Any) -> None:
    """Means 0.55, 0.5, 0.635; worst 0.5, 0.2, 0.55; the worst third of two is the worst one."""
    found = {own.rule: own for own in best_for_all(frame)}
    assert {own.config for own in found.values()} == {"image-30"}
    assert [own.value for own in found.values()] == pytest.approx([0.635, 0.55, 0.55])
    table = tables(frame)[2]
    first = [cell.text for cell in table.rows[0]]
    assert first[:5] == ["mean", "image-30", "63.5", "4.0", "8.0 in both-50"]
    assert first[5].startswith("-5.0 [") and first[6] == "+0.0 [+0.0, +0.0] in image-30"
    assert "One config for all 2 scenarios" in table.title


def test_the_tables_show_validation_and_beside_it_the_test(frame: Any) -> None:
    scores, costs, _ = tables(frame)
    assert scores.header == costs.header == ["tuned in", "image-30", "both-50", "mean of all"]
    assert [row[0].text for row in scores.rows] == list(POINTS)
    cell = scores.rows[2][1]
    assert cell.text == "55.0" and cell.best and cell.beside.startswith("; test 60.0 [")
    assert [row[2].best for row in scores.rows] == [False, True, False]
    assert scores.rows[0][2].beside.endswith("; seed 1 failed: ran out of memory")
    assert "n = 40 test samples. Mean over 1 or 2 seed(s)" in scores.notes[0]
    assert costs.rows[1][1].text == "35.0" and costs.rows[1][1].beside.startswith("; test +30.0 [+")
    assert costs.rows[2][1].beside == "; compared with"


def test_the_matrix_finds_what_the_study_lists(tmp_path: Path) -> None:
    store, options = RecordStore(tmp_path), Options(from_=each(tmp_path / "best.json"))
    leave_study(store, {})
    store.root.write_json(
        "study.json", {**store.root.read_json("study.json"), **facts(BASE, options)}
    )
    for run in study.runs(BASE, options):
        save(store, str(run.scenario), run.to_dict()["method"]["alpha"], 0, 0.5, 0.5)
    frame: Any = build(store)
    assert len(frame) == 4 * (3 + 1) and set(frame["seeds"]) == {1} and set(frame["reason"]) == {""}
    assert row_of(frame, "paper", "image-70")["regret"] == 0.0  # the same runs


def test_where_none_was_tuned_in_a_scenario_the_best_there_is_compared_with(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    leave_study(store, {"paper": 1.0, "worst": 2.0, "absent": 9.0})
    save(store, "both-50", 1.0, 0, 0.6, 0.9)
    save(store, "both-50", 2.0, 0, 0.7, 0.5)
    frame: Any = build(store)
    row = row_of(frame, "paper", "both-50")
    assert (row["reference"], row["regret"]) == ("worst", pytest.approx(-0.4))
    assert np.isnan(row_of(frame, "absent", "both-50")["value"])
    assert row_of(frame, "absent", ALL)["reason"] == "not there"
    assert tables(frame)[0].rows[2][1].text == "not there"
    assert {own.config for own in best_for_all(frame)} == {"worst"}


def test_without_a_config_in_every_scenario_there_is_none_for_all(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    leave_study(store, {"a": 1.0, "b": 2.0})
    save(store, "both-50", 1.0, 0, 0.6, 0.9)
    save(store, "image-30", 2.0, 0, 0.7, 0.5)
    frame: Any = build(store)
    assert np.isnan(row_of(frame, "a", ALL)["value"])
    table = tables(frame)[2]
    assert (table.rows, table.notes) == ([], ["No config has a value in every scenario."])


def test_other_folders_are_refused(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    for content in (None, {"base": {}}):
        if content is not None:
            store.root.write_json("study.json", content)
        with pytest.raises(ConfigError, match=r"no transfer of configs in .*run studies/transfer"):
            build(store)
    leave_study(store, POINTS)
    with pytest.raises(ConfigError, match=r"no run of a point below .*records"):
        build(store)


def test_every_format_holds_the_three_tables(frame: Any) -> None:
    assert render(frame, "markdown").count("\n| ") == 3 * 2 + 9
    assert render(frame, "html").count("<tr>") == 3 + 9
    assert render(frame, "latex").count(r"\begin{tabular}") == 3
    assert len(render(frame, "csv").splitlines()) == 1 + 9


def test_the_command_works(
    store: RecordStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["transfer", str(store.root)])
    main()
    assert "| paper | 50.0; test 40.0 [" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["transfer", str(store.root), f"--out={tmp_path / 'm.md'}"])
    main()
    assert (tmp_path / "m.md").read_text().startswith("**Tuned in (rows)")
    monkeypatch.setattr(sys, "argv", ["transfer", str(tmp_path)])
    with pytest.raises(SystemExit, match="no transfer of configs"):
        main()
