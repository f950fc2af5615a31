"""Importances of hyperparameters, from made-up studies in which one of them decides."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from samples import make_packed, make_run

from analysis.importance import build, pooled, render
from dfpl.data.scenario import Scenario
from dfpl.fields import ConfigError, FloatRange, IntRange
from dfpl.study.objective import Block
from dfpl.study.records import Record, RecordStore
from dfpl.study.suggestion import Suggestion, run_of

BASE = make_run(make_packed())
SPACE = {
    "method.alpha": FloatRange(0.01, 10.0, log=True),
    "method.delta": FloatRange(0.0, 0.5),
    "method.num_prototypes": IntRange(2, 15),
}


def new_store(folder: Path, kind: str = "each") -> RecordStore:
    store = RecordStore(folder / "study")
    store.root.write_json("study.json", {"objective": {"kind": kind}, "space": SPACE})
    return store


def draw(random: np.random.Generator) -> dict[str, Any]:
    return {
        "method.alpha": float(10 ** random.uniform(-2, 1)),
        "method.delta": float(random.uniform(0, 0.5)),
        "method.num_prototypes": int(random.integers(2, 16)),
    }


def alpha_decides(point: dict[str, Any]) -> float:
    """Best at the top of alpha's log range, with a little of the others."""
    return 0.5 + np.log10(point["method.alpha"]) / 10 + point["method.delta"] / 1e3


def delta_decides(point: dict[str, Any]) -> float:
    return 0.1 + point["method.delta"]


def leave(
    store: RecordStore,
    number: int,
    point: dict[str, Any],
    reached: dict[str, Any],
    search: str = "",
) -> None:
    """A trial and the records of its runs, one per scenario: a value, or "pruned"."""
    blocks = [Block(Scenario.parse(name), 0) for name in reached]
    runs = [run_of(BASE, point, block) for block in blocks]
    search = search or str(blocks[0].scenario)
    Suggestion(
        number=number,
        search=search,
        point=point,
        blocks=[block.name for block in blocks],
        run_ids=[run.run_id for run in runs],
    ).write(store.root)
    for run, value in zip(runs, reached.values(), strict=True):
        facts: dict[str, Any] = {"state": "complete", "value": value}
        if value == "pruned":
            facts = {"state": "pruned", "value": 0.999, "epochs": 1}
        of_trial: dict[str, Any] = {"study": "study", "search": search, "trial": number}
        record = Record(
            run_id=run.run_id, scenario=str(run.scenario), config=run.to_dict(), **of_trial, **facts
        )
        store.save(record, [], None)


def table(store: RecordStore) -> Any:
    """The table, of whose columns pyright knows little."""
    return build(store)


def shares(frame: Any, scenario: str, name: str) -> tuple[float, float]:
    row = frame[(frame["scenario"] == scenario) & (frame["hyperparameter"] == name)].iloc[0]
    return row["fanova"], row["ped_anova"]


def test_the_hyperparameter_that_decides_gets_the_most_by_both(tmp_path: Path) -> None:
    store, random = new_store(tmp_path), np.random.default_rng(0)
    for number in range(60):
        point = draw(random)
        leave(store, number, point, {"both-50": alpha_decides(point)})
    frame = table(store)
    assert list(frame["scenario"]) == ["both-50"] * 3  # a single scenario needs no row for all
    assert list(frame["n"]) == [60] * 3
    assert min(shares(frame, "both-50", "method.alpha")) > 0.8
    assert frame["fanova"].sum() == pytest.approx(1.0)
    assert frame["ped_anova"].sum() == pytest.approx(1.0)
    alpha = frame.iloc[0]
    assert alpha["low"] > 0.5 and alpha["low"] < alpha["ped_anova"] <= alpha["high"] <= 1
    assert (frame["low"] <= frame["high"]).all()


def test_a_pruned_run_changes_nothing(tmp_path: Path) -> None:
    store, random = new_store(tmp_path), np.random.default_rng(1)
    for number in range(20):
        point = draw(random)
        leave(store, number, point, {"both-50": alpha_decides(point)})
    before = build(store)
    for number in range(20, 40):
        leave(store, number, draw(random), {"both-50": "pruned"})
    run = BASE.with_values({"seed": 9})
    facts: dict[str, Any] = {"study": "study", "search": "confirm", "trial": 0}
    facts |= {"scenario": "both-50", "state": "complete", "value": 0.999}
    store.save(Record(run_id=run.run_id, config=run.to_dict(), **facts), [], None)  # of a sweep
    assert build(store).equals(before)


def test_per_scenario_and_over_all_where_each_has_its_own_trials(tmp_path: Path) -> None:
    """alpha decides in two scenarios of three, in one of them on a scale a thousand times finer."""
    store, random = new_store(tmp_path), np.random.default_rng(2)
    for number in range(25):
        one, two, three = (draw(random) for _ in range(3))
        leave(store, number, one, {"both-50": alpha_decides(one)})
        leave(store, number, two, {"image-30": 0.9 + alpha_decides(two) / 1000})
        leave(store, number, three, {"tabular-70": delta_decides(three)})
    frame = table(store)
    names = ["all", "both-50", "image-30", "tabular-70"]
    assert list(frame["scenario"].unique()) == names
    assert list(frame.groupby("scenario", sort=False)["n"].first()) == [75, 25, 25, 25]
    for scenario in ("both-50", "image-30"):
        assert min(shares(frame, scenario, "method.alpha")) > 0.8
    assert min(shares(frame, "tabular-70", "method.delta")) > 0.8
    of_alpha, of_delta = (shares(frame, "all", f"method.{name}")[0] for name in ("alpha", "delta"))
    assert of_alpha > of_delta > 0.05


def test_configs_that_met_several_scenarios_count_once_over_all(tmp_path: Path) -> None:
    store, random = new_store(tmp_path, "worst"), np.random.default_rng(3)
    for number in range(24):
        point = draw(random)
        reached: dict[str, Any] = {"both-50": alpha_decides(point)}
        if number % 2:
            reached["image-30"] = alpha_decides(point) / 100
        if number % 4 == 1:
            reached["image-70"] = "pruned"
        leave(store, number, point, reached, "worst")
    frame = table(store)
    found = dict(frame.groupby("scenario", sort=False)["n"].first())
    assert found == {"all": 24, "both-50": 24, "image-30": 12}
    assert shares(frame, "all", "method.alpha")[0] > 0.8


def test_pooling_by_hand() -> None:
    reached = {"both-50": {"x": 0.9, "y": 0.5}, "image-30": {"y": 0.04, "z": 0.02, "w": 0.03}}
    found = pooled(reached)
    # both-50: mean 0.7, spread 0.2; image-30: mean 0.03, spread 0.01 x sqrt(2 / 3)
    assert found == pytest.approx({"x": 1.0, "y": (-1 + 1.5**0.5) / 2, "z": -(1.5**0.5), "w": 0.0})
    assert pooled({"both-50": {"x": 0.5, "y": 0.5}}) == {"x": 0.0, "y": 0.0}


def test_too_few_trials_are_refused_and_a_scenario_with_few_says_so(tmp_path: Path) -> None:
    store, random = new_store(tmp_path), np.random.default_rng(4)
    for number in range(9):
        point = draw(random)
        leave(store, number, point, {"both-50": alpha_decides(point)})
    leave(store, 9, draw(random), {"both-50": "pruned"})
    with pytest.raises(ConfigError, match="has 9 configs of full length; 10 are the least"):
        build(store)
    for number in range(3):
        point = draw(random)
        leave(store, number, point, {"image-30": alpha_decides(point)})
    frame = table(store)
    assert list(frame.groupby("scenario", sort=False)["n"].first()) == [12, 9, 3]
    assert frame["fanova"].notna().tolist() == [True] * 3 + [False] * 6
    lines = render(frame).splitlines()
    assert len(lines) == 2 + 9
    assert lines[2].startswith("| all | method.alpha | ") and lines[2].endswith("] | 12 |")
    assert lines[-1] == "| image-30 | method.num_prototypes |  |  | 3 |"


def test_where_all_are_equal_nothing_decides(tmp_path: Path) -> None:
    store, random = new_store(tmp_path), np.random.default_rng(5)
    for number in range(12):
        leave(store, number, draw(random), {"both-50": 0.5})
    assert table(store)["fanova"].isna().all()


def test_a_folder_without_a_search_is_refused(tmp_path: Path) -> None:
    for content in (None, {"base": {}}):
        if content:
            RecordStore(tmp_path).root.write_json("study.json", content)
        with pytest.raises(ConfigError, match=r"no search in .* its space in study\.json"):
            build(RecordStore(tmp_path))
    with pytest.raises(ConfigError, match="has 0 configs of full length"):
        build(new_store(tmp_path))
