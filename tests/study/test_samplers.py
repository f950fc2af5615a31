"""Grids and priors by hand, and that each sampler suggests points of the space."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import optuna
import pytest
from test_searcher import BASE, SPACE, finish, searcher_of, suggest

from dfpl.fields import Choice, FloatRange, IntRange
from dfpl.study.records import RecordStore
from dfpl.study.samplers import (
    PRIOR_WIDTH,
    Sampler,
    at_share,
    grid_point,
    levels,
    new_sampler,
    prior_point,
    share_of,
)
from dfpl.study.searcher import Strategy
from dfpl.study.space import Point, distributions

ALL = distributions(
    {
        "log": FloatRange(0.01, 1.0, log=True),
        "plain": FloatRange(0.0, 0.5),
        "many": IntRange(2, 15),
        "two": IntRange(3, 4),
        "one": IntRange(7, 7),
        "choice": Choice(("a", "b")),
    }
)
PAPER: Point = {"log": 0.1, "plain": 0.2, "many": 5, "two": 3, "one": 7, "choice": "a"}


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        ("log", [0.01, 0.1, 1.0]),
        ("plain", [0.0, 0.25, 0.5]),
        ("many", [2, 8, 15]),
        ("two", [3, 4]),
        ("one", [7]),
        ("choice", ["a", "b"]),
    ],
)
def test_the_levels_of_an_axis_reach_from_end_to_end(axis: str, expected: list[Any]) -> None:
    found = levels(ALL[axis])
    assert found == (expected if axis == "choice" else pytest.approx(expected))
    assert (found[0], found[-1]) == (expected[0], expected[-1])  # the ends to the last bit


def test_the_grid_has_every_combination_exactly_once() -> None:
    wanted = set(itertools.product(*map(levels, ALL.values())))
    assert len(wanted) == 3 * 3 * 3 * 2 * 1 * 2
    found = [grid_point(ALL, number, seed=3) for number in range(len(wanted))]
    assert {tuple(point.values()) for point in found if point} == wanted
    assert grid_point(ALL, len(wanted), seed=3) is None
    assert [list(point) for point in found if point] == [list(ALL)] * len(wanted)


def test_the_grid_is_shuffled_by_its_seed_alone() -> None:
    first, again, other = ([grid_point(ALL, n, seed) for n in range(20)] for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize(
    ("axis", "share", "value"),
    [
        ("log", 0.25, 10**-1.5),
        ("plain", 0.4, 0.2),
        ("many", 0.5, 8),  # of 8.5: to the even one
        ("many", 0.48, 8),  # 2 + 0.48 x 13 = 8.24
        ("two", 0.6, 4),
        ("one", 0.3, 7),
    ],
)
def test_the_value_at_a_share_of_the_range_by_hand(axis: str, share: float, value: float) -> None:
    found = at_share(ALL[axis], share)
    assert found == pytest.approx(value)
    assert type(found) is type(value)


def test_share_and_value_are_inverse() -> None:
    for axis in ("log", "plain"):
        for share in np.linspace(0, 1, 101).tolist():
            assert share_of(ALL[axis], at_share(ALL[axis], share)) == pytest.approx(share)
    for axis, low, high in (("many", 2, 15), ("two", 3, 4), ("one", 7, 7)):
        for value in range(low, high + 1):
            assert at_share(ALL[axis], share_of(ALL[axis], value)) == value
    assert share_of(ALL["log"], 0.1) == pytest.approx(0.5)
    assert share_of(ALL["one"], 7) == 0.5


def contains(point: Point) -> bool:
    return list(point) == list(ALL) and all(
        wanted._contains(wanted.to_internal_repr(point[name])) for name, wanted in ALL.items()
    )


def test_draws_of_the_prior_lie_in_the_space_around_the_papers_point() -> None:
    points = [prior_point(ALL, PAPER, seed) for seed in range(2000)]
    assert all(map(contains, points))
    logs = np.array([math.log10(point["log"]) for point in points])
    # the middle of two decades, cut 2.5 widths away on either side: the normal's own mean, and
    # sqrt(1 - 2 x 2.5 phi(2.5) / (Phi(2.5) - Phi(-2.5))) = 0.954 of its width
    assert logs.mean() == pytest.approx(-1.0, abs=0.03)
    assert logs.std() == pytest.approx(0.954 * 2 * PRIOR_WIDTH, rel=0.05)
    plain = np.array([point["plain"] for point in points]) / 0.5
    # 0.4, cut 2 widths below and 3 above: (phi(2) - phi(3)) / (Phi(3) - Phi(-2)) = 0.051 widths up
    assert plain.mean() == pytest.approx(0.4 + 0.051 * PRIOR_WIDTH, abs=0.015)
    keep = np.mean([point["choice"] == "a" for point in points])
    assert keep == pytest.approx(0.5 + 0.5 / 2, abs=0.04)  # half of the others are the paper's, too


def test_the_prior_of_an_integer_is_around_the_papers_and_reaches_its_ends() -> None:
    drawn = [prior_point(ALL, PAPER, seed)["many"] for seed in range(2000)]
    assert {type(value) for value in drawn} == {int}
    assert min(drawn) == 2 and 10 < max(drawn) <= 15
    assert abs(float(np.median(drawn)) - 5) <= 1


def test_a_paper_value_at_an_end_is_drawn_around_too() -> None:
    points = [prior_point(ALL, {**PAPER, "log": 0.01, "plain": 0.5}, s) for s in range(300)]
    assert all(map(contains, points))
    assert float(np.median([share_of(ALL["log"], point["log"]) for point in points])) < 0.2


def test_a_draw_of_the_prior_depends_on_its_seed_alone() -> None:
    assert prior_point(ALL, PAPER, 5) == prior_point(ALL, PAPER, 5)
    assert prior_point(ALL, PAPER, 5) != prior_point(ALL, PAPER, 6)


def strategy(sampler: Sampler) -> Strategy:
    return Strategy(sampler=sampler, transfer=0, prior_weight=0.0)


def points_after(
    folder: Path, sampler: Sampler, trials: int, sessions: list[int], lose: bool = False
) -> list[Point]:
    """The points of a search done one trial at a time, in sessions that end after so many; with
    `lose` each session is killed while a further trial runs."""
    for upto in [*sessions, trials]:
        searcher = searcher_of(folder, trials=trials, strategy=strategy(sampler))
        done = len(list(searcher.store.read_all()))
        while done < upto:
            config = suggest(searcher, "a")
            if searcher.running["a"][1] is None:
                searcher.on_trial_complete("a", {})
            else:
                finish(searcher, "a", config)
                done += 1
        if lose and upto < trials:
            searcher.suggest("lost")
    root = RecordStore(folder / "study").root
    names = (root / "suggestions").names(".json")
    return [root.read_json(f"suggestions/{name}")["point"] for name in names]


@pytest.mark.parametrize("sampler", get_args(Sampler))
def test_each_sampler_suggests_new_points_of_the_space_whether_interrupted_or_not(
    tmp_path: Path, sampler: Sampler
) -> None:
    trials = 10 if sampler == "gp" else 24
    whole = points_after(tmp_path / "whole", sampler, trials, [])
    assert len({str(point) for point in whole}) == trials
    for point in whole:
        assert set(point) == set(SPACE)
        BASE.with_values(point)  # of the right types
    assert points_after(tmp_path / "calm", sampler, trials, [3, trials - 3]) == whole


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_a_trial_that_was_killed_changes_no_later_suggestion(
    tmp_path: Path, sampler: Sampler
) -> None:
    whole = points_after(tmp_path / "whole", sampler, 16, [])
    assert points_after(tmp_path / "killed", sampler, 16, [3, 9], lose=True) == whole


def test_a_grid_is_tried_whole_before_anything_else(tmp_path: Path) -> None:
    whole = points_after(tmp_path, "grid", 30, [])
    grid = set(itertools.product(*map(levels, distributions(SPACE).values())))
    tried = [tuple(point[name] for name in SPACE) for point in whole]
    assert set(tried[1:28]) == grid  # after the paper's point, which is not on it
    assert not set(tried[28:]) & grid


def test_a_generation_of_nsga2_survives_a_restart(tmp_path: Path) -> None:
    points_after(tmp_path, "nsga2", 24, [3, 9, 17])
    searcher = searcher_of(tmp_path, trials=24, strategy=strategy("nsga2"))
    told = searcher.searches["both-50"].study.get_trials()
    generations = [
        value
        for trial in told
        for key, value in trial.system_attrs.items()
        if key.endswith("generation")
    ]
    assert len(generations) == 23  # all but the paper's point, which was given
    assert max(generations) >= 2


def test_a_known_space_changes_no_point_of_tpe() -> None:
    """Against Optuna's own sampler, fresh for each suggestion; fixed axes are left alone."""

    def points(fresh: Callable[[int], Any]) -> list[dict[str, Any]]:
        study = optuna.create_study(direction="maximize")
        for number in range(30):
            study.sampler = fresh(number)
            trial = study.ask(ALL)
            study.tell(trial, trial.params["log"] + trial.params["many"])
        return [trial.params for trial in study.get_trials()]

    def own(seed: int) -> Any:
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)

    assert points(lambda seed: new_sampler("tpe", ALL, seed, 30)) == points(own)
