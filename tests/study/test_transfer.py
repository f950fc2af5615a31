"""Which points a new search starts from, and what of an earlier study counts."""

from pathlib import Path
from typing import Any

import pytest
from samples import make_packed, make_run

from dfpl.data.scenario import Scenario, parse_scenarios
from dfpl.fields import Choice, FloatRange, IntRange
from dfpl.study.records import Record, RecordStore
from dfpl.study.space import Point
from dfpl.study.transfer import Tried, distance, starting_points, tried_in

BASE = make_run(make_packed(), method__num_prototypes=5)
SPACE = {"method.alpha": FloatRange(0.01, 10.0, log=True), "method.num_prototypes": IntRange(2, 15)}


def tried(scenario: str, *values: float) -> list[Tried]:
    """Points that are named after what they reached."""
    return [Tried(Scenario.parse(scenario), value, {"x": value}) for value in values]


def names(points: list[Point]) -> list[float]:
    return [point["x"] for point in points]


@pytest.mark.parametrize(
    ("scenario", "wanted", "expected"),
    [
        ("both-50", "both-50", (False, 0.0)),
        ("both-30", "both-50", (False, 0.2)),
        ("both-30", "image-30,both-70", (False, 0.4)),
        ("both-30", "image-30,tabular-50", (True, 0.0)),
    ],
)
def test_a_rate_away_is_nearer_than_another_pattern(
    scenario: str, wanted: str, expected: tuple[bool, float]
) -> None:
    found = distance(Scenario.parse(scenario), parse_scenarios(wanted))
    assert found == (expected[0], pytest.approx(expected[1]))


def test_the_best_of_each_scenario_come_first_and_the_nearest_scenario_leads() -> None:
    found = [
        *tried("image-50", 0.91, 0.99),
        *tried("both-90", 0.31, 0.39),
        *tried("both-30", 0.55, 0.51, 0.58),
    ]
    wanted = parse_scenarios("both-50")
    expected = [0.58, 0.39, 0.99, 0.55, 0.31, 0.91, 0.51]
    assert names(starting_points(wanted, found, 99)) == expected
    for count in range(8):
        assert names(starting_points(wanted, found, count)) == expected[:count]
    assert starting_points(wanted, [], 3) == []


def test_several_wanted_scenarios_are_near_to_what_is_near_to_any_of_them() -> None:
    found = [*tried("image-70", 0.1), *tried("both-30", 0.2), *tried("tabular-30", 0.3)]
    wanted = parse_scenarios("tabular-50,both-40")
    assert names(starting_points(wanted, found, 9)) == [0.2, 0.3, 0.1]


def test_a_point_that_was_best_in_two_scenarios_is_given_once() -> None:
    same = {"x": 0.7}
    found = [
        Tried(Scenario.parse("both-50"), 0.8, same),
        Tried(Scenario.parse("both-50"), 0.6, {"x": 0.1}),
        Tried(Scenario.parse("both-30"), 0.9, same),
        Tried(Scenario.parse("both-30"), 0.9, same),  # with another seed
        Tried(Scenario.parse("both-30"), 0.2, {"x": 0.2}),
    ]
    points = starting_points(parse_scenarios("both-70"), found, 9)
    assert names(points) == [0.7, 0.1, 0.2]


def leave(store: RecordStore, change: dict[str, Any], value: float | None, **facts: Any) -> None:
    """A record file of a run that differs from the base."""
    run = BASE.with_values(change)
    record: dict[str, Any] = {"state": "complete", "config": run.to_dict(), **facts}
    store.save(
        Record(
            run_id=run.run_id,
            study="earlier",
            search="x",
            trial=0,
            scenario=str(run.scenario),
            value=value,
            **record,
        ),
        [],
        None,
    )


def test_records_are_read_as_points_of_the_space(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    leave(store, {"method.alpha": 0.5}, 0.7)
    leave(store, {"method.num_prototypes": 9, "scenario.pattern": "image", "seed": 4}, 0.8)
    found = sorted(tried_in(store, SPACE, "dfpl"), key=lambda one: one.value)
    assert found == [
        Tried(Scenario.parse("both-50"), 0.7, {"method.alpha": 0.5, "method.num_prototypes": 5}),
        Tried(Scenario.parse("image-50"), 0.8, {"method.alpha": 1.0, "method.num_prototypes": 9}),
    ]


def test_what_does_not_fit_is_left_out(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    config = BASE.to_dict()
    other = {**config, "method": {**config["method"], "name": "another"}}
    field = {**config, "method": {**config["method"], "of_an_older_version": 1}}
    leave(store, {"method.alpha": 0.1}, 0.9, state="pruned")
    leave(store, {"method.alpha": 0.2}, None, state="failed")
    leave(store, {"method.alpha": 0.3}, 0.9, config=other)
    leave(store, {"method.alpha": 0.4}, 0.9, config=field)
    leave(store, {"method.alpha": 0.5}, 0.9, config={})
    leave(store, {"method.alpha": 20.0}, 0.9)  # beyond the end of the space
    leave(store, {"method.num_prototypes": 20}, 0.9)
    store.root.write("records/torn.json", b'{"run_id": "x", ')
    assert tried_in(store, SPACE, "dfpl") == []
    assert len(list(store.read_all())) == 7


def test_a_choice_counts_where_it_is_one_of_the_values(tmp_path: Path) -> None:
    store = RecordStore(tmp_path)
    leave(store, {}, 0.7)
    known = {"method.image_network": Choice(("small", "resnet18"))}
    assert [one.point for one in tried_in(store, known, "dfpl")] == [
        {"method.image_network": "small"}
    ]
    assert tried_in(store, {"method.image_network": Choice(("resnet18", "resnet50"))}, "dfpl") == []
    assert tried_in(store, {"method.of_another_method": FloatRange(0.0, 1.0)}, "dfpl") == []


def test_an_empty_folder_has_nothing_to_start_from(tmp_path: Path) -> None:
    assert tried_in(RecordStore(tmp_path / "nowhere"), SPACE, "dfpl") == []
