"""What the best configs rest on, by hand-made records: flatness, and one config for all."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from test_best import add_trial, new_store

from dfpl.fields import Choice, FloatRange, IntRange
from dfpl.study.best import trials_of
from dfpl.study.evidence import (
    ends,
    evidence,
    flatness,
    limits,
    reached_by_points,
    share_of,
)
from dfpl.study.objective import Objective
from dfpl.study.records import RecordStore
from dfpl.study.regret import one_for_all

SPACE = {"method.alpha": FloatRange(0.01, 10.0, log=True)}


def found_in(store: RecordStore, **objective: Any) -> Any:
    return flatness(trials_of(store), Objective(**objective), "accuracy", SPACE)


def reached(value: float) -> tuple[float, float]:
    """A run with an interval, which in test_best reaches 0.1 below its value."""
    return value, 0.5


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    """both-50: 0.8 with alpha 2 is best; from 0.7 on a trial is within its interval."""
    store = new_store(tmp_path)
    for number, value in enumerate((0.6, 0.8, 0.71, 0.69, 0.75)):
        add_trial(store, "both-50", number, {"both-50": reached(value)})
    add_trial(store, "both-50", 5, {"both-50": "pruned"})  # at 0.99
    add_trial(store, "both-50", 6, {"both-50": None})
    return store


def test_whole_trials_from_the_lower_end_of_the_best_ones_interval_on_are_within(
    store: RecordStore,
) -> None:
    (found,) = found_in(store)
    assert (found.search, found.whole) == ("both-50", 5)
    assert found.within == [{"method.alpha": alpha} for alpha in (2.0, 3.0, 5.0)]


def test_without_an_interval_nothing_is_said_of_flatness(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    add_trial(store, "both-50", 0, {"both-50": 0.9})
    add_trial(store, "both-50", 1, {"both-50": reached(0.8)})
    add_trial(store, "image-30", 0, {"image-30": "failed"})
    (found,) = found_in(store)
    assert (found.whole, found.within) == (2, None)


@pytest.mark.parametrize(
    ("kind", "alphas"),
    [
        # trial 1 is best by the mean, 0.65; of the lower ends 0.8 and 0.3 that is 0.55
        ("mean", [1.0, 2.0]),
        # trial 1 is best by the worst, 0.4; of the lower ends that is 0.3
        ("worst", [2.0, 3.0]),
    ],
)
def test_of_a_robust_objective_its_value_counts(
    tmp_path: Path, kind: Any, alphas: list[float]
) -> None:
    store = new_store(tmp_path, kind)
    for number, (first, second) in enumerate(((0.96, 0.15), (0.9, 0.4), (0.5, 0.31), (0.4, 0.29))):
        scenarios = {"both-50": reached(first), "image-30": reached(second)}
        add_trial(store, kind, number, scenarios)
    add_trial(store, kind, 4, {"both-50": reached(0.99), "image-30": "pruned"})
    (found,) = found_in(store, kind=kind)
    assert (found.whole, [point["method.alpha"] for point in found.within]) == (4, alphas)


def test_of_a_front_the_whole_trials_are_counted_alone(tmp_path: Path) -> None:
    store = new_store(tmp_path, "pareto")
    add_trial(store, "pareto", 0, {"both-0": reached(0.7), "both-50": reached(0.5)})
    (found,) = found_in(store, kind="pareto")
    assert (found.whole, found.within) == (1, None)


@pytest.mark.parametrize(
    ("wanted", "values", "share", "text", "whole"),
    [
        (FloatRange(0.01, 10.0, log=True), [0.1, 1.0, 0.3], 1 / 3, "0.1 to 1", "0.01 to 10"),
        (FloatRange(0.0, 0.5), [0.1, 0.2], 0.2, "0.1 to 0.2", "0 to 0.5"),
        (IntRange(2, 12), [7, 2], 0.5, "2 to 7", "2 to 12"),
        (IntRange(3, 3), [3, 3], 1.0, "3 to 3", "3 to 3"),
        (Choice(("a", "b", "c")), ["c", "a", "c"], 2 / 3, "a or c", "a or b or c"),
    ],
)
def test_the_share_of_the_search_range_by_hand(
    wanted: Any, values: list[Any], share: float, text: str, whole: str
) -> None:
    assert share_of(wanted, values) == pytest.approx(share)
    assert ends(wanted, values) == text
    assert limits(wanted) == whole


REACHED = {
    "paper": {"s1": 0.70, "s2": 0.60, "s3": 0.20},
    "broad": {"s1": 0.50, "s2": 0.45, "s3": 0.40},
    "middle": {"s1": 0.62, "s2": 0.50, "s3": 0.39},
    "lone": {"s1": 0.90},
}


def test_one_config_for_all_and_its_regret_by_hand() -> None:
    """Means 0.5, 0.45, 0.5033; worst 0.2, 0.4, 0.39; mean of the worst half (1.5 of 3)
    (0.2 + 0.3) / 1.5 = 0.3333, (0.4 + 0.225) / 1.5 = 0.4167, (0.39 + 0.25) / 1.5 = 0.4267. The best
    of the scenarios: 0.9, of one that met s1 alone, 0.6, 0.4."""
    found = {own.rule: own for own in one_for_all(REACHED, 0.5)}
    assert {rule: own.config for rule, own in found.items()} == {
        "mean": "middle",
        "worst": "broad",
        "cvar": "middle",
    }
    values = [found[rule].value for rule in ("mean", "worst", "cvar")]
    assert values == pytest.approx([1.51 / 3, 0.4, 0.64 / 1.5])
    assert found["mean"].regret == pytest.approx({"s1": 0.28, "s2": 0.1, "s3": 0.01})
    assert found["mean"].mean_regret == pytest.approx(0.13)
    assert found["mean"].worst == "s1"
    assert found["worst"].regret == pytest.approx({"s1": 0.4, "s2": 0.15, "s3": 0.0})


def test_of_equal_configs_the_first_and_of_none_nothing() -> None:
    equal = {"a": {"s1": 0.5, "s2": 0.4}, "b": {"s1": 0.4, "s2": 0.5}}
    assert [own.config for own in one_for_all(equal, 1 / 3)] == ["a"] * 3
    assert one_for_all({"a": {"s1": 0.5}, "b": {"s2": 0.5}}, 1 / 3) == []


def test_the_same_point_in_several_searches_met_several_scenarios(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    add_trial(store, "both-50", 0, {"both-50": 0.6})
    add_trial(store, "both-50", 1, {"both-50": 0.7})
    add_trial(store, "image-30", 0, {"image-30": 0.5})
    add_trial(store, "image-30", 1, {"image-30": 0.4}, alpha=9.0)
    add_trial(store, "image-30", 2, {"image-30": "pruned"}, alpha=2.0)
    assert reached_by_points(trials_of(store), SPACE) == {
        "both-50 0": {"both-50": 0.6, "image-30": 0.5},
        "both-50 1": {"both-50": 0.7},
        "image-30 1": {"image-30": 0.4},
    }


def shown(store: RecordStore, space: dict[str, Any]) -> str:
    facts = store.root.read_json("study.json")
    store.root.write_json("study.json", {**facts, "space": space})
    console = Console(file=io.StringIO(), width=200)
    console.print(*evidence(store, trials_of(store)))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def cells(text: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in text.splitlines()
        if line.startswith("│")
    ]


def test_the_tables_say_what_was_pinned_down_and_what_one_config_costs(store: RecordStore) -> None:
    add_trial(store, "image-30", 0, {"image-30": reached(0.5)})
    add_trial(store, "image-30", 1, {"image-30": reached(0.65)}, alpha=7.0)
    text = shown(store, {"method.alpha": [1.0, 9.0, False], "method.num_prototypes": [2, 15]})
    assert cells(text) == [
        ["search range", "", "", "method.alpha 1 to 9, method.num_prototypes 2 to 15"],
        ["both-50", "5", "3", "method.num_prototypes 3 to 3 (0 %), method.alpha 2 to 5 (38 %)"],
        ["image-30", "2", "1", "the best alone: how far around it is as good was not seen"],
        ["mean", "0.5500", "both-50 0", "0.1750", "0.2000 in both-50"],
        ["worst", "0.5000", "both-50 0", "0.1750", "0.2000 in both-50"],
        ["cvar, worst 33 %", "0.5000", "both-50 0", "0.1750", "0.2000 in both-50"],
    ]
    assert "Of 1 points that met all scenarios, of 6" in text and "studies/transfer.py" in text


def test_of_one_scenario_there_is_no_one_for_all(store: RecordStore) -> None:
    assert len(cells(shown(store, {"method.alpha": [0.01, 10.0, True]}))) == 2
    assert shown(store, {}) == "\n"  # an older study.json does not say what was searched
