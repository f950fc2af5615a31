"""Figures 3 and 4 and the sensitivity to hyperparameters: their runs, numbers and drawings."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from samples import make_packed, make_run
from test_confirm import leave

from analysis import curves, figure3, figure4, sensitivity
from analysis.style import OTHER, STYLES, style_of
from analysis.table1 import LABELS
from dfpl.config import RunConfig
from dfpl.data.scenario import Scenario
from dfpl.fields import Choice, ConfigError, FloatRange, IntRange
from dfpl.method import load, names
from dfpl.predictions import STATES, Predictions
from dfpl.storage import Storage
from dfpl.study import comparison
from dfpl.study.comparison import plan_of
from dfpl.study.comparison import runs as compared
from dfpl.study.plan import parse
from dfpl.study.records import RecordStore
from studies import figure3 as study3
from studies import figure4 as study4
from studies import sensitivity as varied

BASE = make_run(make_packed())
SPACE = load("dfpl").SEARCH_SPACE
N = 40


def run_of(method: str, scenario: str = "both-50", seed: int = 0, **values: Any) -> RunConfig:
    [found] = compared(BASE, study3.Options(methods=method, scenarios=scenario))
    return found.with_values({"seed": seed, **{f"method.{k}": v for k, v in values.items()}})


def predictions(right: dict[str, float]) -> Predictions:
    """Of 40 test rows, right in this share of them in each state."""
    truth = np.arange(N) % 2
    names = np.array([f"s{i}" for i in range(N)], dtype=object)
    answers = {s: np.where(np.arange(N) < N * right[s], truth, 1 - truth) for s in STATES}
    return Predictions(
        ids=names,
        groups=names,
        split=np.array(["test"] * N, dtype=object),
        label=truth,
        present=np.ones((N, 2), dtype=bool),
        logits={s: np.eye(2, dtype=np.float32)[answer] for s, answer in answers.items()},
        class_names=("a", "b"),
        task="multiclass",
    )


def save(
    store: RecordStore, run: RunConfig, both: float, image: float, tabular: float, **facts: Any
) -> None:
    """A finished run with what it is right in, by state."""
    leave(store, run, value=both, right=both)
    record = store.read(run.run_id)
    assert record is not None
    found = predictions({"both": both, "image": image, "tabular": tabular})
    store.save(replace(record, scenario=str(run.scenario), **facts), [], found)


def row_of(frame: Any, **keys: Any) -> dict[str, Any]:
    [row] = [r for r in frame.to_dict("records") if all(r[k] == v for k, v in keys.items())]
    return row


# The studies


def test_figure_3_trains_each_method_from_10_to_90_percent_in_two_patterns() -> None:
    found = compared(BASE, study3.Options(methods="dfpl,drfuse"))
    assert {(run.method.name, str(run.scenario)) for run in found} == {
        (method, f"{pattern}-{rate}")
        for method in ("dfpl", "drfuse")
        for pattern in ("both", "tabular")
        for rate in range(10, 100, 10)
    }
    assert len({run.run_id for run in found}) == len(found) == 36


def test_its_runs_are_those_of_table_1_where_that_has_the_scenario() -> None:
    ids = {run.run_id for run in compared(BASE, study3.Options(methods="tip"))}
    table1 = compared(BASE, comparison.Options(methods="tip"))
    shared = {str(run.scenario) for run in table1 if run.run_id in ids}
    assert shared == {
        f"{pattern}-{rate}" for pattern in ("both", "tabular") for rate in (30, 50, 70)
    }


def test_sensitivity_changes_one_hyperparameter_at_a_time() -> None:
    point, *others = varied.runs(BASE, varied.Options(values=3))
    assert point == BASE
    before, changed = point.to_dict()["method"], dict[str, list[Any]]()
    for run in others:
        now = run.to_dict()["method"]
        [name] = [name for name in now if now[name] != before[name]]
        changed.setdefault(name, []).append(now[name])
    assert changed == {
        "alpha": [0.01, 0.32, 10.0],
        "beta": [0.01, 1.0],  # the paper's 0.1 is the point itself
        "gamma": [0.01, 1.0],
        "delta": [0.0, 0.25, 0.5],
        "num_prototypes": [2, 5, 15],
        "epsilon": [0.01, 1.0],
        "omega": [0.01, 1.0],
    }
    assert len({run.run_id for run in others}) == len(others)


def test_figure_4_has_the_runs_of_table_1_in_its_scenario() -> None:
    found = compared(BASE, study4.Options(methods="dfpl,tip"))
    assert {str(run.scenario) for run in found} == {figure4.TRAINED}
    table = compared(BASE, comparison.Options(methods="dfpl,tip"))
    assert {run.run_id for run in found} < {run.run_id for run in table}


@pytest.mark.parametrize(
    ("wanted", "values"),
    [
        (FloatRange(0.01, 1.0, log=True), [0.01, 0.032, 0.1, 0.32, 1.0]),
        (FloatRange(0.0, 0.5), [0.0, 0.12, 0.25, 0.38, 0.5]),
        (IntRange(2, 15), [2, 3, 5, 9, 15]),
        (IntRange(1, 3), [1, 2, 3]),  # 1, 1.3, 1.7, 2.3, 3: no value twice
    ],
)
def test_values_reach_from_one_end_of_the_range_to_the_other(wanted: Any, values: list) -> None:
    assert list(varied.spread(wanted, 5)) == values


def test_values_without_order_have_no_curve() -> None:
    with pytest.raises(ConfigError, match="no order"):
        list(varied.spread(Choice(("ce", "bce")), 5))


def exported(path: Path, run: RunConfig) -> str:
    entry = {"scenario": str(run.scenario), "value": 0.5, "data": "", "threads": 1}
    path.write_text(json.dumps({"configs": [{**entry, "config": run.to_dict()}]}))
    return str(path)


def test_the_point_may_be_a_best_config(tmp_path: Path) -> None:
    best = BASE.with_values({"method.alpha": 0.7, "method.num_prototypes": 9, "optim.epochs": 1})
    best = best.with_values({"scenario": Scenario.parse("image-70").to_dict()})
    found = varied.runs(BASE, varied.Options(from_=exported(tmp_path / "best.json", best)))
    wanted = best.with_values({"optim.epochs": 2})  # the budget is that of this study
    assert found[0] == wanted
    assert {str(run.scenario) for run in found} == {"image-70"}


@pytest.mark.parametrize(("name", "value"), [("data_hash", "other"), ("metric", "auroc")])
def test_a_best_config_of_other_data_or_another_metric_is_refused(
    tmp_path: Path, name: str, value: str
) -> None:
    path = exported(tmp_path / "best.json", BASE.with_values({name: value}))
    with pytest.raises(ConfigError, match=f"found with {name} {value}, here"):
        varied.runs(BASE, varied.Options(from_=path))


def test_the_command_line_of_sensitivity_knows_from() -> None:
    found = parse(plan_of("s", []), varied.Options(), ["--from", "best.json", "--values=3"])
    assert found.study == varied.Options(from_="best.json", values=3)


def test_one_value_per_hyperparameter_is_refused() -> None:
    with pytest.raises(ConfigError, match="--values must be at least 2, got 1"):
        varied.runs(BASE, varied.Options(values=1))


# The numbers


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RecordStore:
    """DFPL in both-10 (two seeds), both-50 and tabular-50; DrFuse in both-10, where it failed, and
    both-50, of two configs."""
    store = RecordStore(tmp_path_factory.mktemp("figure3"))
    save(store, run_of("dfpl", "both-10", seed=0), 1.0, 0.5, 0.75)
    save(store, run_of("dfpl", "both-10", seed=1), 0.8, 0.3, 0.55)
    save(store, run_of("dfpl", "both-50"), 0.9, 0.6, 0.7)
    save(store, run_of("dfpl", "tabular-50"), 0.9, 0.4, 0.7)
    store.fail(run_of("drfuse", "both-10"), "figure3", 0, "ran out of memory")
    save(store, run_of("drfuse"), 0.1, 0.1, 0.1, finished_at="2026-01-01")
    late = run_of("drfuse").with_values({"optim.weight_decay": 0.1})
    save(store, late, 0.5, 0.5, 0.5, finished_at="2026-01-02")
    return store


def test_figure_3_tests_at_90_percent_of_the_pattern_in_training(trained: RecordStore) -> None:
    frame = figure3.build(trained)
    assert len(frame) == 5
    assert set(frame["tested"]) == {"both-90", "tabular-90"}
    # of 40 rows 36 are incomplete: 4 with both, 18 with the image alone, 18 with the table alone
    row = row_of(frame, pattern="both", rate=0.1, method="dfpl")
    seeds = [0.1 * b + 0.45 * i + 0.45 * t for b, i, t in ((1.0, 0.5, 0.75), (0.8, 0.3, 0.55))]
    assert row["value"] == pytest.approx(np.mean(seeds)) and (row["seeds"], row["n"]) == (2, N)
    assert row["low"] < row["value"] < row["high"]
    row = row_of(frame, pattern="tabular", rate=0.5, method="dfpl")
    assert row["value"] == pytest.approx(0.1 * 0.9 + 0.9 * 0.4)
    row = row_of(frame, rate=0.1, method="drfuse")
    assert np.isnan(row["value"]) and row["reason"] == "failed: ran out of memory"
    row = row_of(frame, rate=0.5, method="drfuse")
    assert row["value"] == pytest.approx(0.5) and row["older_configs"] == 1


def test_figure_4_tests_runs_of_one_scenario_at_every_rate(trained: RecordStore) -> None:
    frame = figure4.build(trained)
    assert len(frame) == 2 * 3 * 9 and set(frame["trained"]) == {"both-50"}
    for pattern, lone in (("tabular", 0.6), ("image", 0.7), ("both", 0.65)):
        for rate in (0.1, 0.5, 0.9):
            row = row_of(frame, method="dfpl", pattern=pattern, rate=rate)
            assert row["value"] == pytest.approx((1 - rate) * 0.9 + rate * lone)
    assert set(figure4.build(trained, trained="both-10")["method"]) == {"dfpl", "drfuse"}


def test_figure_4_needs_runs_of_that_scenario(trained: RecordStore, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"trained in image-30; there are both-10, tabular-50"):
        figure4.build(trained, trained="image-30")
    with pytest.raises(ConfigError, match="no records below"):
        figure4.build(RecordStore(tmp_path))


def test_intervals_hold_the_chance_of_rows_and_masks() -> None:
    """All rows right with both modalities, none with one: at 50 % the score is 0.5 in every draw,
    whatever the rows; with the rows resampled, the share of complete ones is binomial."""
    found = predictions({"both": 1.0, "image": 0.0, "tabular": 0.0})
    scores = curves.mean_scores([found, found], [Scenario.parse("both-50")], "accuracy", 1000)
    estimate = curves.bounded(scores.drawn[0])
    assert estimate.value == pytest.approx(0.5) and scores.n == N
    reach = 1.96 * np.sqrt(0.25 / N)  # of Binomial(40, 1/2) / 40
    assert estimate.high - 0.5 == pytest.approx(reach, abs=0.03)
    assert 0.5 - estimate.low == pytest.approx(reach, abs=0.03)


def test_seeds_may_have_their_rows_in_another_order() -> None:
    found = predictions({"both": 0.7, "image": 0.2, "tabular": 0.4})
    turned = found.take(np.arange(N)[::-1].copy())
    masks = [Scenario.parse("both-50")]
    both, one = (
        curves.mean_scores(own, masks, "prauc").drawn for own in ([found, turned], [found])
    )
    np.testing.assert_allclose(both, one)


@pytest.fixture(scope="module")
def around(tmp_path_factory: pytest.TempPathFactory) -> RecordStore:
    """The point 0.8 (seeds 0 and 1); alpha 0.01: 0.6 (seed 0 alone), 10: 0.5; K 2: failed."""
    store = RecordStore(tmp_path_factory.mktemp("sensitivity"))
    save(store, BASE, *[0.9] * 3, trial=0)
    save(store, BASE.with_values({"seed": 1}), *[0.7] * 3, trial=1)
    save(store, BASE.with_values({"method.alpha": 10.0}), *[0.5] * 3, trial=2)
    save(store, BASE.with_values({"method.alpha": 0.01}), *[0.6] * 3, trial=3)
    store.fail(BASE.with_values({"method.num_prototypes": 2}), "s", 4, "term task is nan")
    return store


def test_sensitivity_by_hand(around: RecordStore) -> None:
    frame: Any = sensitivity.build(around)
    alpha = frame[frame["hyperparameter"] == "method.alpha"]
    assert alpha["setting"].tolist() == [0.01, 1.0, 10.0]
    assert alpha["value"].tolist() == pytest.approx([0.6, 0.8, 0.5])
    assert alpha["base"].tolist() == [False, True, False]
    assert alpha["seeds"].tolist() == [1, 2, 1] and set(alpha["n"]) == {N}
    # with the point on seed 0 alone, which was right in 0.9 of the rows
    assert alpha["difference"].tolist()[::2] == pytest.approx([-0.3, -0.4])
    for row in alpha.to_dict("records")[::2]:
        assert row["difference_low"] < row["difference"] < row["difference_high"] < 0
    row = row_of(frame, hyperparameter="method.num_prototypes", base=False)
    assert np.isnan(row["value"]) and row["reason"] == "failed: term task is nan"
    assert row_of(frame, hyperparameter="method.num_prototypes", base=True)["setting"] == 3


def test_runs_around_several_points_are_refused(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    save(store, BASE, *[0.5] * 3)
    with pytest.raises(ConfigError, match="nothing was varied"):
        sensitivity.build(store)
    other = BASE.with_values({"method.alpha": 2.0, "method.beta": 0.3})
    save(store, other, *[0.5] * 3, trial=1)
    with pytest.raises(ConfigError, match=r"in method.alpha, method.beta, .* need a --name each"):
        sensitivity.build(store)
    save(store, run_of("dfpl", "image-30"), *[0.5] * 3, trial=2)
    with pytest.raises(ConfigError, match="are in image-30, both-50; choose one with --scenario"):
        sensitivity.build(store)


def test_where_no_run_has_a_score_the_reasons_are_told(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    store.fail(run_of("dfpl"), "s", 0, "term task is nan")
    for build in (figure3.build, figure4.build):
        with pytest.raises(ConfigError, match="no run has a test accuracy to show; failed: term"):
            build(store)


@pytest.mark.parametrize("module", [figure3, figure4, sensitivity])
def test_a_folder_without_records_ends_with_a_line(
    module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["figure", str(tmp_path)])
    with pytest.raises(SystemExit, match="error: no records below"):
        module.main()


# The drawings


def test_every_method_looks_different_with_colours_and_without() -> None:
    styles = [style_of(name) for name in names()]
    assert len({style.colour for style in styles}) == len(styles)
    assert len({style[1:] for style in styles}) == len(styles)
    assert LABELS.keys() <= STYLES.keys() <= set(names())
    assert style_of("brand_new") == OTHER and OTHER not in STYLES.values()


def made_up(methods: list[str], patterns: list[str]) -> pd.DataFrame:
    """A frame as of figure 3 and 4: falling lines, the last method without a score."""
    return pd.DataFrame(
        {
            **{"pattern": pattern, "rate": rate, "method": method, "metric": "balanced_accuracy"},
            **dict.fromkeys(("value", "low", "high"), np.nan),
            **({} if place + 1 == len(methods) else band(0.9 - 0.02 * place - 0.2 * rate)),
            **{"seeds": 3, "n": 2136, "dataset": "mimic", "reason": "", "older_configs": 0},
        }
        for pattern in patterns
        for rate in np.arange(0.1, 1.0, 0.1).round(1).tolist()
        for place, method in enumerate(methods)
    )


def band(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.03, "high": value + 0.02}


def around_every_hyperparameter() -> pd.DataFrame:
    return pd.DataFrame(
        {
            **{"hyperparameter": name, "setting": value, "base": place == 2, "method": "dfpl"},
            **band(0.8 - 0.02 * abs(place - 2)),
            **{"seeds": 3, "n": 88207, "dataset": "dvm", "metric": "accuracy"},
            **{"scenario": "both-50", "reason": "", "older_configs": 0},
        }
        for name, wanted in SPACE.items()
        for place, value in enumerate(varied.spread(wanted, 5))
    )


def figure_of_all_methods() -> Figure:
    frame = made_up(names(), ["both", "tabular", "image"])
    return curves.draw(frame, "samples incomplete in the test (%)", "Trained in both-50")


def figure_of_one_panel() -> Figure:
    frame = made_up(["dfpl", "tip"], ["both"])
    return curves.draw(frame, "samples incomplete in training (%)", "Tested with 90 % of them")


def overlap(figure: Figure) -> list[str]:
    """Panels (with their labels), titles and legend that leave the canvas; panels that the legend
    covers."""
    canvas: Any = figure.canvas
    canvas.draw()
    panels = [axes for axes in figure.axes if axes.axison]
    boxes = {str(axes.get_xlabel()): axes.get_tightbbox() for axes in panels}
    boxes |= {text.get_text(): text.get_window_extent() for text in figure.texts}
    boxes["legend"] = legend = figure.legends[0].get_window_extent()
    assert len(boxes) > 2
    paper = figure.bbox
    outside = [
        name
        for name, box in boxes.items()
        if box is None or box.x0 < 0 or box.y0 < 0 or box.x1 > paper.x1 or box.y1 > paper.y1
    ]
    return outside + [str(a.get_xlabel()) for a in panels if legend.overlaps(a.bbox)]


@pytest.mark.parametrize(
    "make",
    [
        figure_of_all_methods,
        figure_of_one_panel,
        lambda: sensitivity.draw(around_every_hyperparameter()),
    ],
)
def test_no_text_is_cut_off_and_the_legend_covers_no_panel(make: Callable[[], Figure]) -> None:
    assert overlap(make()) == []


def test_legends_name_the_methods_that_have_scores() -> None:
    legend = figure_of_one_panel().legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["DFPL"]


@pytest.mark.parametrize(
    ("module", "name", "labels"),
    [
        (figure3, "figure3", ["samples incomplete in training (%)", "table missing", "DrFuse"]),
        (figure4, "figure4", ["samples incomplete in the test (%)", "image missing", "DFPL"]),
        (sensitivity, "sensitivity", ["method.alpha", "base point", "both-50"]),
    ],
)
def test_the_commands_write_figures_and_numbers(
    module: Any,
    name: str,
    labels: list[str],
    trained: RecordStore,
    around: RecordStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = around if module is sensitivity else trained
    monkeypatch.setattr(sys, "argv", [name, str(store.root), "--out", str(tmp_path)])
    module.main()
    svg = (tmp_path / f"{name}.svg").read_text()
    assert all(text in svg for text in [*labels, "accuracy on the test split (%)"])
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    frame = module.build(store)
    assert pd.read_csv(tmp_path / f"{name}.csv")["value"].tolist() == pytest.approx(
        frame["value"].tolist(), nan_ok=True
    )
    shown = capsys.readouterr()
    assert f"wrote {Storage(tmp_path)}/{name}.svg, .png and .csv" in shown.out
    said = "dfpl: failed: term task" if module is sensitivity else "drfuse: the latest of 2"
    assert said in shown.err
