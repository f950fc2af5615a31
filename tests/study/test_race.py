"""Racing by hand, against scipy's paired t test, and in simulations of its errors."""

from math import sqrt

import numpy as np
import pytest
from scipy.stats import t, ttest_rel

from dfpl.data.scenario import parse_scenarios
from dfpl.study.objective import Kind, Met, Objective
from dfpl.study.race import Race, middle_first, telling_order

THREE = ["both-30/0", "both-50/0", "both-70/0"]
NINE = [f"both-{10 * n}/0" for n in range(1, 10)]
WINNER = (0.8, 0.6, 0.7)
OTHER = (0.7, 0.6, 0.5)
"""Differs from the winner by -0.1, 0, -0.2: squared residuals 0.02 with 2 degrees of freedom, so
s = 0.1. After one block u = d + 2.919986 x 0.1 x sqrt(1 + 1/2) = d + 0.357624."""


def met(names: list[str], values: tuple[float, ...]) -> list[Met]:
    """What a trial reached in the first blocks."""
    return [Met(*one) for one in zip(names, values, strict=False)]


def race_of(
    kind: Kind, *whole: tuple[float, ...], level: float = 0.05, share: float = 2 / 3
) -> Race:
    """A race over three blocks in which trials 0, 1, ... have met all."""
    race = Race(Objective(kind=kind, share=share), {"all": THREE}, level)
    for number, values in enumerate(whole):
        race.note("all", number, met(THREE, values))
    return race


@pytest.mark.parametrize(
    ("kind", "value", "hoped"),
    [
        ("mean", 0.1, 0.2384),  # d = -0.7: 0.1, then 0.6 - 0.3424 and 0.7 - 0.3424
        ("cvar", 0.1, 0.1788),  # the lowest two of those
        ("worst", 0.3, 0.3000),  # d = -0.5: 0.3, then 0.4576 and 0.5576
        ("worst", 0.501, 0.5010),  # d = -0.299: 0.501, then 0.6586 and 0.7586
    ],
)
def test_the_formula_by_hand(kind: Kind, value: float, hoped: float) -> None:
    winners = {"mean": 0.7, "cvar": 0.65, "worst": 0.6}
    assert race_of(kind, WINNER, OTHER).dropped("all", 2, met(THREE, (value,))) == (
        f"racing dropped it after 1 of 3 runs: it may reach {hoped:.4f}, "
        f"and trial 0 has {winners[kind]:.4f}"
    )


@pytest.mark.parametrize(
    ("kind", "bound"),
    [
        # 3 x + 0.6 + 0.7 + 2 (0.357624 - 0.8) = 3 x 0.7
        ("mean", 0.561584),
        # the lowest two of x, x + 0.157624, x + 0.257624 make 2 x 0.65
        ("cvar", 0.571188),
        # x alone: the next ones are higher
        ("worst", 0.6),
    ],
)
def test_the_bound_between_dropped_and_not_by_hand(kind: Kind, bound: float) -> None:
    race = race_of(kind, WINNER, OTHER)
    assert race.dropped("all", 2, met(THREE, (bound - 1e-4,)))
    assert not race.dropped("all", 2, met(THREE, (bound + 1e-4,)))


def test_for_the_mean_it_is_the_paired_t_test_of_a_finite_population() -> None:
    random = np.random.default_rng(0)
    answers = []
    for _ in range(200):
        count, level = int(random.integers(2, 9)), float(random.uniform(0.01, 0.3))
        winner = random.normal(size=9)
        values = winner + random.normal(-0.4, 1.0, size=9)
        race = Race(Objective(kind="mean"), {"all": NINE}, level)
        race.note("all", 0, met(NINE, tuple(winner.tolist())))
        dropped = race.dropped("all", 1, met(NINE, tuple(values[:count].tolist())))
        statistic = ttest_rel(values[:count], winner[:count]).statistic / sqrt(1 - count / 9)
        answers.append(bool(dropped))
        assert answers[-1] == (statistic <= t.ppf(level, count - 1))
    assert 20 < sum(answers) < 180


def test_a_minimum_at_the_winners_is_certain_whatever_the_spread() -> None:
    wild = [(5.0, -5.0, 0.0), (-9.0, 9.0, 0.1)]
    race = race_of("worst", WINNER, *wild, level=1e-9)
    assert race.dropped("all", 3, met(THREE, (0.6,)))
    assert race.dropped("all", 3, met(THREE, (0.9, 0.59)))
    assert not race.dropped("all", 3, met(THREE, (0.601, 0.601)))


@pytest.mark.parametrize("kind", ["mean", "worst", "cvar"])
def test_level_0_never_drops(kind: Kind) -> None:
    for others in ([], [OTHER], [WINNER]):  # with WINNER again the spread is 0
        race = race_of(kind, WINNER, *others, level=0.0)
        for values in ((-9.0,), (0.0, 0.0), (-9.0, 9.0)):
            assert not race.dropped("all", 5, met(THREE, values))


@pytest.mark.parametrize("kind", ["mean", "worst", "cvar"])
def test_where_nothing_is_known_about_the_spread_nothing_is_dropped(kind: Kind) -> None:
    assert not race_of(kind).dropped("all", 1, met(THREE, (-9.0, -9.0)))
    assert not race_of(kind, WINNER).dropped("all", 1, met(THREE, (-9.0,)))
    assert race_of(kind, WINNER).dropped("all", 1, met(THREE, (-9.0, -9.1)))


def test_other_searches_do_not_count() -> None:
    race = Race(Objective(kind="mean"), {"all": THREE, "more": THREE})
    for number in range(5):
        race.note("more", number, met(THREE, WINNER))
    assert not race.dropped("all", 1, met(THREE, (-9.0, -9.0)))


def test_multi_objective_trials_are_never_dropped() -> None:
    race = race_of("pareto", WINNER, OTHER, OTHER)
    assert not race.dropped("all", 3, met(THREE, (-9.0, -9.0)))


def test_a_trial_does_not_race_against_itself() -> None:
    race = race_of("mean", WINNER, OTHER)
    assert "trial 1 has 0.6000" in race.dropped("all", 0, met(THREE, (-9.0, -9.1)))
    assert not race_of("mean", WINNER).dropped("all", 0, met(THREE, (-9.0, -9.1)))


def test_of_equal_winners_the_first_one_is_named() -> None:
    race = Race(Objective(kind="mean"), {"all": THREE})
    for number in (7, 3, 5):
        race.note("all", number, met(THREE, WINNER))
    assert "and trial 3 has" in race.dropped("all", 9, met(THREE, (0.0, 0.1)))


def test_seeds_are_blocks_whose_mean_counts() -> None:
    names = ["both-30/0", "both-50/0", "both-30/1", "both-50/1"]
    race = Race(Objective(kind="worst", seeds=2), {"all": names}, 1e-9)
    for number, values in enumerate([(0.8, 0.6, 0.8, 0.6), (0.1, 0.9, 0.2, 0.4)]):
        race.note("all", number, met(names, values))
    assert not race.dropped("all", 2, met(names, (0.9, 0.5)))  # the next seed may lift it
    assert race.dropped("all", 2, met(names, (0.5, 0.9, 0.6)))  # both-30 is done, with 0.55


def random_race(
    random: np.random.Generator, gap: float, count: int, others: int
) -> tuple[Race, list[Met]]:
    """A race with a winner and others around it, and a trial that has met `count` of nine blocks
    and would end `gap` below the winner; noise 1, far smaller than what blocks differ by."""
    winner = random.normal(0, 10, size=9)
    race = Race(Objective(kind="mean"), {"all": NINE})
    race.note("all", 0, met(NINE, tuple(winner.tolist())))
    for number in range(others):
        values = winner - 3 + random.normal(size=9)
        race.note("all", number + 1, met(NINE, tuple(values.tolist())))
    noise = random.normal(size=9)
    values = winner - gap + noise - noise.mean()
    return race, met(NINE, tuple(values[:count].tolist()))


@pytest.mark.parametrize(("count", "others"), [(1, 2), (2, 4), (5, 0), (8, 10)])
def test_a_trial_that_would_end_at_the_winners_value_is_dropped_at_the_level(
    count: int, others: int
) -> None:
    random = np.random.default_rng(count)
    drawn = [random_race(random, 0.0, count, others) for _ in range(1500)]
    dropped = [bool(race.dropped("all", 99, found)) for race, found in drawn]
    # 0.05 with a standard error of sqrt(0.05 x 0.95 / 1500) = 0.0056; three of them
    assert np.mean(dropped) == pytest.approx(0.05, abs=0.017)


@pytest.mark.parametrize("kind", ["mean", "worst", "cvar"])
def test_few_that_would_have_won_are_dropped_among_configs_that_are_alike(kind: Kind) -> None:
    """As in a search: the winner is the luckiest of those that met all, not a given one."""
    random = np.random.default_rng(0)
    objective = Objective(kind=kind)
    wrong = 0
    for _ in range(600):
        values = random.normal(size=9) + random.normal(0, 0.3, size=(4, 9))
        race = Race(objective, {"all": NINE})
        found = [met(NINE, tuple(row.tolist())) for row in values]
        for number in range(3):
            race.note("all", number, found[number])
        reached = [objective.values(one)[0] for one in found]
        wrong += reached[3] > max(reached[:3]) and bool(race.dropped("all", 3, found[3][:2]))
    assert wrong / 600 < 0.05


@pytest.mark.parametrize(("gap", "count", "power"), [(5.0, 1, 0.9), (5.0, 2, 0.99), (3.0, 2, 0.9)])
def test_what_is_clearly_worse_goes_after_one_or_two_blocks(
    gap: float, count: int, power: float
) -> None:
    random = np.random.default_rng(count)
    drawn = [random_race(random, gap, count, others=4) for _ in range(300)]
    assert np.mean([bool(race.dropped("all", 99, found)) for race, found in drawn]) > power


def trials(*columns: tuple[float, ...]) -> list[dict[str, float]]:
    """Complete trials, from the values of each block over them."""
    return [dict(zip(THREE, row, strict=True)) for row in zip(*columns, strict=True)]


VALUES = (1.0, 2.0, 3.0, 4.0, 5.0)


@pytest.mark.parametrize(
    ("columns", "order"),
    [
        # correlations of ranks: 1 - 6 x 2 / 120 = 0.9, -1, 1
        (((1.0, 2.0, 3.0, 5.0, 4.0), (5.0, 4.0, 3.0, 2.0, 1.0), (0.1, 0.2, 0.3, 0.4, 9.0)), "201"),
        # with two equal values 9.5 / sqrt(10 x 9.5) = 0.975, above 0.9
        (((1.0, 2.0, 3.0, 5.0, 4.0), (0.1, 0.1, 0.2, 0.3, 0.4), (5.0, 4.0, 3.0, 2.0, 1.0)), "102"),
        # a block in which all are alike is last; of blocks that tell the same the first is first
        (((7.0, 7.0, 7.0, 7.0, 7.0), (0.1, 0.2, 0.3, 0.4, 0.5), (1.0, 2.0, 3.0, 4.0, 5.0)), "120"),
    ],
)
def test_the_block_that_goes_with_the_objective_is_met_first(
    columns: tuple[tuple[float, ...], ...], order: str
) -> None:
    assert telling_order(THREE, trials(*columns), VALUES) == [THREE[int(n)] for n in order]


def test_the_order_stays_where_nothing_can_be_learned() -> None:
    backwards = trials((5.0, 4.0, 3.0, 2.0, 1.0), (1.0,) * 5, VALUES)
    assert telling_order(THREE, backwards[:4], VALUES[:4]) == THREE
    assert telling_order(THREE, backwards, (3.0,) * 5) == THREE
    assert telling_order(THREE, [], []) == THREE


def test_the_middle_comes_first_and_both_before_one_pattern() -> None:
    blocks = Objective(kind="mean", seeds=2).searches(parse_scenarios("all"), 0)["mean"]
    order = middle_first(blocks)
    assert order[:3] == ["both-50/0", "tabular-50/0", "image-50/0"]
    assert order[3:5] == ["both-30/0", "both-70/0"]
    assert [name.endswith("/0") for name in order] == [True] * 9 + [False] * 9
