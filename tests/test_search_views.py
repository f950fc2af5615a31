"""What a search saw, from hand-made trials, records and epochs."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from samples import make_packed, make_run
from test_figures import overlap

from analysis import search
from analysis.search_figures import axes, importances, learning, parallel, pareto, slices, views
from analysis.search_figures.drawing import About
from dfpl.data.scenario import Scenario
from dfpl.fields import Choice, ConfigError, FloatRange, IntRange
from dfpl.study.objective import Block, Objective
from dfpl.study.records import Record, RecordStore
from dfpl.study.suggestion import Suggestion, run_of

BASE = make_run(make_packed())
METRIC = BASE.metric
SPACE = {
    "method.alpha": FloatRange(0.01, 10.0, log=True),
    "method.num_prototypes": IntRange(2, 15),
    "method.encode_missing": Choice(("zeros", "skip")),
}


def new_store(folder: Path, kind: str = "each") -> RecordStore:
    store = RecordStore(folder)
    store.root.write_json("study.json", {"objective": {"kind": kind}, "space": SPACE})
    return store


def point(alpha: float = 1.0, num_prototypes: int = 5, missing: str = "zeros") -> dict[str, Any]:
    return dict(zip(SPACE, (alpha, num_prototypes, missing), strict=True))


def leave(
    store: RecordStore,
    number: int,
    at: dict[str, Any],
    reached: dict[str, Any],
    name: str = "",
    runs: int | None = None,
) -> None:
    """A trial of the blocks `scenario/seed`, of which the first `runs` (default: all) have ended;
    each reached the last of its values by epoch, "pruned" or "failed" behind them if it was."""
    blocks = [Block(Scenario.parse(key.split("/")[0]), int(key.split("/")[1])) for key in reached]
    made = [run_of(BASE, at, block) for block in blocks]
    name = name or str(blocks[0].scenario)
    Suggestion(
        number=number,
        search=name,
        point=at,
        blocks=list(reached),
        run_ids=[run.run_id for run in made],
    ).write(store.root)
    for run, found in list(zip(made, reached.values(), strict=True))[:runs]:
        values = [one for one in found if not isinstance(one, str)]
        state = found[-1] if isinstance(found[-1], str) else "complete"
        top = max(values, default=None)
        ends = {} if top is None else {f"{METRIC}_low": top - 0.1, f"{METRIC}_high": top + 0.1}
        record = Record(
            run_id=run.run_id,
            study="study",
            search=name,
            trial=number,
            scenario=str(run.scenario),
            state=state,
            reason="" if state == "complete" else f"was {state}",
            value=top,
            best_epoch=values.index(top) + 1 if values else 0,
            epochs=len(values),
            seconds=10.0 * len(values),
            config=run.to_dict(),
            metrics={f"val/{key}": value for key, value in ends.items()},
        )
        rows: Any = [{"epoch": k + 1, f"val/{METRIC}": v} for k, v in enumerate(values)]
        store.save(record, rows, None)


@pytest.fixture(scope="module")
def each(tmp_path_factory: pytest.TempPathFactory) -> RecordStore:
    """Two searches of one scenario each; and a run of a sweep, which belongs to none."""
    store = new_store(tmp_path_factory.mktemp("each"))
    leave(store, 0, point(), {"both-50/0": [0.3, 0.5, 0.4]})
    leave(store, 1, point(0.1, 3, "skip"), {"both-50/0": [0.2, "pruned"]})
    leave(store, 2, point(10.0), {"both-50/0": ["failed"]})
    leave(store, 3, point(9.0), {"both-50/0": [0.6]}, runs=0)
    leave(store, 0, point(), {"image-30/0": [0.6, 0.7]})
    run = BASE.with_values({"seed": 7})
    facts: dict[str, Any] = {"study": "study", "search": "confirm", "trial": 0, "value": 0.9}
    facts |= {"scenario": "both-50", "state": "complete", "config": run.to_dict()}
    store.save(Record(run_id=run.run_id, **facts), [], None)
    return store


def test_each_run_of_a_trial_is_a_row_and_none_of_a_sweep(each: RecordStore) -> None:
    frame: Any = search.trials(each)
    assert frame["search"].tolist() == ["both-50"] * 3 + ["image-30"]
    assert frame["trial"].tolist() == [0, 1, 2, 0]
    assert frame["state"].tolist() == ["complete", "pruned", "failed", "complete"]
    assert frame["reason"].tolist() == ["", "was pruned", "was failed", ""]
    assert frame["complete"].tolist() == [True, False, False, True]
    assert frame["value"].tolist() == pytest.approx([0.5, 0.2, np.nan, 0.7], nan_ok=True)
    assert frame["low"].tolist() == pytest.approx([0.4, 0.1, np.nan, 0.6], nan_ok=True)
    assert frame["high"].tolist() == pytest.approx([0.6, 0.3, np.nan, 0.8], nan_ok=True)
    assert frame["epochs"].tolist() == [3, 1, 0, 2]
    assert frame["best_epoch"].tolist() == [2, 1, 0, 2]
    assert frame["seconds"].tolist() == [30.0, 10.0, 0.0, 20.0]
    assert frame["method.alpha"].tolist() == [1.0, 0.1, 10.0, 1.0]
    assert frame["method.encode_missing"].tolist() == ["zeros", "skip", "zeros", "zeros"]
    assert each.read(frame["run_id"][1]).trial == 1  # type: ignore[union-attr]


def test_learning_curves_end_where_runs_were_stopped(each: RecordStore) -> None:
    frame: Any = search.learning_curves(each, search.trials(each)["run_id"])
    assert frame["epoch"].tolist() == [1, 2, 3, 1, 1, 2]  # the run that failed has no epoch
    assert frame["value"].tolist() == [0.3, 0.5, 0.4, 0.2, 0.6, 0.7]
    assert frame["stopped_at"].tolist() == pytest.approx(
        [*[np.nan] * 3, 1, *[np.nan] * 2], nan_ok=True
    )
    assert frame["scenario"].tolist() == ["both-50"] * 4 + ["image-30"] * 2
    assert list(search.learning_curves(each, [])) == list(frame)


def test_how_a_trial_of_several_runs_ended(tmp_path: Path) -> None:
    store = new_store(tmp_path, "worst")
    met = {"both-50/0": [0.5], "image-30/0": [0.4]}
    leave(store, 0, point(), met, "worst")
    leave(store, 1, point(2.0), met, "worst", runs=1)
    leave(store, 2, point(3.0), met, "worst", runs=1)
    store.drop("worst-00002", "given up")
    leave(store, 3, point(4.0), {"both-50/0": [0.5], "image-30/0": [0.4, "failed"]}, "worst")
    frame: Any = search.trials(store)
    assert frame["trial"].tolist() == [0, 0, 1, 2, 3, 3]
    assert frame["complete"].tolist() == [True] * 5 + [False]
    ended = ["complete"] * 2 + ["unfinished", "pruned"] + ["failed"] * 2
    assert frame["trial_state"].tolist() == ended


def test_the_front_by_hand(tmp_path: Path) -> None:
    store = new_store(tmp_path, "pareto")
    reached = {  # complete data, both-50 with two seeds, image-30
        0: ([0.9], [0.5], [0.7], [0.8]),
        1: ([0.8], [0.7], [0.7], [0.65]),
        2: ([0.8], [0.6], [0.6], [0.9]),
        3: ([0.95], [0.9], [0.9], [0.9, "pruned"]),
    }
    names = ("both-0/0", "both-50/0", "both-50/1", "image-30/0")
    for number, values in reached.items():
        at = point(float(number + 1))
        leave(store, number, at, dict(zip(names, values, strict=True)), "pareto")
    frame: Any = search.front(search.trials(store), store)
    assert frame["trial"].tolist() == [0, 1, 2] and set(frame["axis"]) == {"complete data"}
    assert frame["first"].tolist() == pytest.approx([0.9, 0.8, 0.8])
    assert frame["worst"].tolist() == pytest.approx([0.6, 0.65, 0.6])
    assert frame["worst_scenario"].tolist() == ["both-50", "image-30", "both-50"]
    assert frame["on_front"].tolist() == [True, True, False]
    assert frame["first_low"].tolist() == pytest.approx([0.8, 0.7, 0.7])
    assert frame["worst_high"].tolist() == pytest.approx([0.7, 0.75, 0.7])
    assert frame["method.alpha"].tolist() == [1.0, 2.0, 3.0]


def test_a_front_needs_two_configs_that_met_all_scenarios(each: RecordStore) -> None:
    with pytest.raises(ConfigError, match=r"1 config\(s\) ran .* all of both-50, image-30; .* two"):
        search.front(search.trials(each), each)


def test_a_config_of_two_searches_is_one(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    for number, (alpha, here, there) in enumerate([(1.0, 0.5, 0.9), (2.0, 0.6, 0.7)]):
        leave(store, number, point(alpha), {"both-50/0": [here]})
        leave(store, 1 - number, point(alpha), {"image-30/0": [there]})
    frame: Any = search.front(search.trials(store), store)
    assert set(frame["axis"]) == {"mean of 2 scenarios"}
    assert set(frame["search"]) == {"both-50"} and frame["trial"].tolist() == [0, 1]
    assert frame["first"].tolist() == pytest.approx([0.7, 0.65])
    assert frame["worst"].tolist() == pytest.approx([0.5, 0.6])
    assert frame["on_front"].all()


def test_a_folder_without_a_search_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no search in"):
        search.trials(RecordStore(tmp_path))
    with pytest.raises(ConfigError, match=r"no run of a search in .* has ended"):
        search.trials(new_store(tmp_path))


# What figures show


def test_a_view_of_one_scenario_and_one_of_the_objective(tmp_path: Path) -> None:
    store = new_store(tmp_path, "worst")
    leave(store, 0, point(), {"both-50/0": [0.5], "image-30/0": [0.4], "both-50/1": [0.2]}, "worst")
    leave(store, 1, point(2.0), {"both-50/0": [0.3], "image-30/0": [0.4, "pruned"]}, "worst")
    leave(store, 2, point(3.0), {"both-50/0": [0.9], "image-30/0": [0.9]}, "worst", runs=1)
    leave(store, 3, point(4.0), {"both-50/0": ["failed"]}, "worst")
    over, both, image = views.views(search.trials(store), Objective(kind="worst"))
    assert [view.name for view in (over, both, image)] == ["worst", "both-50", "image-30"]
    assert over.title == "worst of 2 scenarios" and both.title == "in both-50"
    assert over.counts == "3 trials: 1 whole, 1 pruned, 1 failed"  # 2 goes on
    # both-50: mean of 0.5 and 0.2; image-30: 0.4
    assert over.trials[0]["value"] == pytest.approx(0.35)
    assert over.trials[0]["low"] == pytest.approx(0.25)
    assert over.trials[0]["epochs"] == 3
    assert [row["value"] for row in both.whole] == pytest.approx([0.35, 0.3, 0.9])
    assert both.best == both.trials[2] and both.paper == both.trials[0]
    assert [row["state"] for row in image.trials] == ["complete", "pruned"]
    assert np.isnan(over.of_state("failed")[0]["value"])
    [alone] = views.views(search.trials(store), Objective(kind="worst"), "image-30")
    assert alone == image
    with pytest.raises(ConfigError, match=r"no trial met both-70; .* of both-50, image-30"):
        views.views(search.trials(store), Objective(), "both-70")


def test_where_values_and_ticks_lie_on_an_axis() -> None:
    alpha, prototypes, choice = SPACE.values()
    assert axes.places(alpha, [0.01, 1.0, 10.0]) == pytest.approx([0, 2 / 3, 1])
    assert axes.places(prototypes, [2, 15]) == [0, 1]
    assert axes.places(choice, ["skip", "zeros"]) == [1, 0]
    assert axes.places(Choice((7,)), [7]) == [0]
    assert list(axes.ticks(alpha).values()) == ["0.01", "0.1", "1", "10"]
    assert axes.ticks(choice) == {0: "zeros", 1: "skip"}
    assert list(axes.ticks(FloatRange(0.0, 0.5)).values()) == ["0", "0.15", "0.3", "0.5"]
    # 1e-10 to 1e-3 leave room beside the ends: of these eight every third
    wide = axes.ticks(FloatRange(1e-12, 0.3, log=True))
    assert list(wide.values()) == ["1e-12", "1e-10", "1e-07", "0.0001", "0.3"]
    assert len(axes.ticks(IntRange(1, 2))) == 2


def rows(*values: float) -> list[dict[str, Any]]:
    return [
        {"trial": k, "run_id": f"r{k}", "value": value, "state": "complete", "epochs": 2}
        for k, value in enumerate(values)
    ]


def test_the_best_tenth_is_rounded_up() -> None:
    found = parallel.best_tenth(rows(*np.linspace(0.1, 0.9, 11)))
    assert [row["trial"] for row in found] == [10, 9]
    assert [row["trial"] for row in parallel.best_tenth(rows(0.3, 0.2))] == [0]


def test_parallel_lines_cross_axes_at_their_values() -> None:
    trials = [{**point(1.0, 15, "skip"), "value": 0.3}, {**point(0.1, 2), "value": 0.5}]
    found = parallel.heights(trials, SPACE, [20.0, 40.0, 60.0])
    np.testing.assert_allclose(found, [[2 / 3, 1 / 3], [1, 0], [1, 0], [0.25, 0.75]])
    scale = parallel.value_ticks(trials)
    assert scale[0] <= 30 < 50 <= scale[-1]


def test_the_curves_shown_are_the_best_the_papers_and_a_few_of_the_others() -> None:
    runs = rows(0.5, 0.4, 0.3, 0.9, 0.2, 0.1, 0.3)
    runs[2] |= {"state": "pruned", "value": 0.95}
    runs[6] |= {"epochs": 0}
    assert learning.chosen(runs) == [f"r{k}" for k in range(6)]
    # of 1, 2, 4 and 5 the first and the third
    assert learning.chosen(runs, most=4) == ["r0", "r1", "r3", "r4"]
    assert learning.chosen(runs, most=1) == ["r0", "r3"]
    assert learning.without_epochs(runs) == "; 1 failed before the end of an epoch"


# The drawings


ABOUT = About("made_up", "dfpl", "balanced_accuracy")


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> RecordStore:
    """A search over three scenarios with all that can happen to a trial."""
    store, random = new_store(tmp_path_factory.mktemp("pareto"), "pareto"), np.random.default_rng(0)
    for number in range(16):
        values = random.uniform(0.2, 0.8, (3, 3)).tolist()
        names = ("both-0/0", "both-50/0", "image-70/0")
        reached: dict[str, Any] = dict(zip(names, values, strict=True))
        if number in (3, 4):
            reached["both-0/0"] = [*values[0], "pruned" if number == 3 else "failed"]
        if number == 5:
            reached["both-0/0"] = ["failed"]
        alpha, count = 10 ** random.uniform(-2, 1), int(random.integers(2, 16))
        cut = 1 if number in (3, 4, 5) else None
        leave(store, number, point(float(alpha), count), reached, "pareto", runs=cut)
    return store


def view_of(store: RecordStore) -> views.View:
    return views.views(search.trials(store), Objective(kind="pareto"))[0]


def curves_of(store: RecordStore) -> Figure:
    runs = view_of(store).trials
    found = search.learning_curves(store, learning.chosen(runs))
    return learning.draw(found, runs, "both-0", ABOUT)


def shares_by_hand() -> pd.DataFrame:
    """As of `importance.build`; one scenario has too few, one equal values."""
    few = {"both-70": 9, "image-30": 12}
    told = {"fanova": 0.3, "ped_anova": 0.4, "low": 0.1, "high": 0.6}
    return pd.DataFrame(
        {"scenario": scenario, "hyperparameter": name, "n": few.get(scenario, 30)}
        | ({} if scenario in few else told)
        for scenario in ("all", "both-30", "both-50", "both-70", "image-30")
        for name in SPACE
    )


@pytest.mark.parametrize(
    "draw",
    [
        lambda store: slices.draw(view_of(store), SPACE, ABOUT),
        lambda store: parallel.draw(view_of(store), SPACE, ABOUT),
        lambda store: pareto.draw(search.front(search.trials(store), store), ABOUT),
        lambda _: importances.draw(shares_by_hand(), ABOUT),
        curves_of,
    ],
)
def test_no_text_is_cut_off_and_the_legend_covers_no_panel(draw: Any, searched: Any) -> None:
    assert overlap(draw(searched)) == []


def legend_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_scenario_without_importances_says_why() -> None:
    panels = importances.draw(shares_by_hand(), ABOUT).axes
    said = {str(panel.get_title()): [text.get_text() for text in panel.texts] for panel in panels}
    assert said["both-70, n = 9"] == ["fewer than 10 configs"]
    assert said["image-30, n = 12"] == ["all values are equal"]
    assert said["all scenarios, n = 30"] == []


def test_legends_name_what_there_is(searched: RecordStore, each: RecordStore) -> None:
    found = legend_of(slices.draw(view_of(searched), SPACE, ABOUT))
    assert found[:3] == ["whole trial", "pruned, at its best so far", "failed, without a value"]
    assert legend_of(curves_of(searched))[3:] == ["pruned here", "failed here"]
    [_, image] = views.views(search.trials(each), Objective())
    assert legend_of(slices.draw(image, SPACE, ABOUT))[0] == "whole trial"
    assert "pruned" not in " ".join(legend_of(slices.draw(image, SPACE, ABOUT)))
    assert legend_of(parallel.draw(image, SPACE, ABOUT))[0] == "best trial"


def test_what_cannot_be_drawn_says_why() -> None:
    cut = [{**row, **point(), "state": "failed"} for row in rows(0.1)]
    view = views.View("both-50", "in both-50", cut)
    with pytest.raises(ConfigError, match="no trial of both-50 has a value; all 1 failed"):
        slices.draw(view, SPACE, ABOUT)
    with pytest.raises(ConfigError, match="no trial of both-50 ran to the end"):
        parallel.draw(view, SPACE, ABOUT)
    with pytest.raises(ConfigError, match="no run of both-50 has an epoch"):
        learning.draw(search.learning_curves(RecordStore("."), []), cut, "both-50", ABOUT)


def run_command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["search", *map(str, arguments)])
    search.main()


def test_the_command_writes_figures_and_numbers(
    searched: RecordStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("dfpl.study.importance.RESAMPLES", 4)  # of which nothing is asserted
    run_command(monkeypatch, searched.root, "--out", tmp_path, "--scenario", "both-0")
    names = ("importance", "pareto", *(f"{n}_both-0" for n in ("slices", "parallel", "learning")))
    said = capsys.readouterr().out.splitlines()
    assert said == [f"wrote {tmp_path}/{name}.svg, .png and .csv" for name in names]
    assert {file.name for file in tmp_path.iterdir()} == {
        f"{name}.{kind}" for name in names for kind in ("svg", "png", "csv")
    }
    frame: Any = search.trials(searched)
    numbers = pd.read_csv(tmp_path / "slices_both-0.csv")
    expected = frame[frame["scenario"] == "both-0"]["value"].tolist()
    assert numbers["value"].tolist() == pytest.approx(expected, nan_ok=True)
    svg = (tmp_path / "slices_both-0.svg").read_text()
    assert all(text in svg for text in [*SPACE, "accuracy on the validation split (%)", "zeros"])


def test_the_command_says_what_it_leaves_out(
    each: RecordStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_command(monkeypatch, each.root, "--out", tmp_path, "--scenario", "image-30")
    said = capsys.readouterr().out
    assert "left out importance: " in said and "10 are the least" in said
    assert "left out pareto: 1 config(s)" in said
    assert f"wrote {tmp_path}/learning_image-30.svg" in said
    for arguments in ([each.root, "--scenario", "both-90"], [tmp_path]):
        with pytest.raises(SystemExit, match=r"^error: no (trial met both-90|search in)"):
            run_command(monkeypatch, *arguments)
