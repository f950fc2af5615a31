"""Who lacks what: exact counts, nested in the rate, from sample ids alone."""

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfpl.data.scenario import CURVES, IMAGE, NINE, TABULAR, Scenario, parse_scenarios
from dfpl.fields import ConfigError

IDS = [f"sample {i}" for i in range(200)]
SCENARIOS = st.builds(
    Scenario,
    pattern=st.sampled_from(["tabular", "image", "both"]),
    rate=st.floats(0, 1),
    seed=st.integers(0, 5),
)
SIZES = st.integers(0, 120)


@settings(max_examples=60, deadline=None)
@given(SCENARIOS, SIZES)
def test_counts_are_exact_and_none_loses_both(scenario: Scenario, size: int) -> None:
    available = scenario.draw(IDS[:size])
    no_image, no_table = (~available).sum(axis=0)
    affected = round(scenario.rate * size)
    expected = {
        "image": (affected, 0),
        "tabular": (0, affected),
        "both": (affected - affected // 2, affected // 2),
    }
    assert (no_image, no_table) == expected[scenario.pattern]
    assert available.any(axis=1).all()


@settings(max_examples=60, deadline=None)
@given(SCENARIOS, st.floats(0, 1), SIZES)
def test_what_is_missing_at_a_low_rate_is_missing_at_a_higher(
    scenario: Scenario, other: float, size: int
) -> None:
    low, high = sorted([scenario.rate, other])
    at_low = scenario.with_values({"rate": low}).draw(IDS[:size])
    at_high = scenario.with_values({"rate": high}).draw(IDS[:size])
    assert not (at_high & ~at_low).any()


@settings(max_examples=40, deadline=None)
@given(SCENARIOS, st.permutations(range(40)))
def test_the_order_of_the_rows_does_not_matter(scenario: Scenario, order: list[int]) -> None:
    straight = scenario.draw(IDS[:40])
    mixed = scenario.draw([IDS[i] for i in order])
    np.testing.assert_array_equal(mixed, straight[order])


def test_the_draw_is_the_same_on_every_machine() -> None:
    available = Scenario(pattern="both", rate=0.5).draw([f"s{i}" for i in range(8)])
    expected = [[1, 1], [0, 1], [1, 1], [1, 0], [1, 1], [1, 0], [1, 1], [0, 1]]
    assert available.astype(int).tolist() == expected


def test_seeds_and_patterns_draw_others() -> None:
    first = Scenario(pattern="image", rate=0.5).draw(IDS)[:, IMAGE]
    other_seed = Scenario(pattern="image", rate=0.5, seed=1).draw(IDS)[:, IMAGE]
    other_pattern = Scenario(pattern="tabular", rate=0.5).draw(IDS)[:, TABULAR]
    for other in (other_seed, other_pattern):
        assert 0.3 < (first == other).mean() < 0.7


def test_both_30_leaves_85_percent_of_each_modality() -> None:
    available = Scenario.parse("both-30").draw(IDS)
    assert available.mean(axis=0).tolist() == [0.85, 0.85]


@pytest.mark.parametrize(("rate", "left"), [(0.0, 200), (1.0, 0)])
def test_nobody_and_everybody(rate: float, left: int) -> None:
    for pattern, column in (("image", IMAGE), ("tabular", TABULAR)):
        scenario = Scenario.from_dict({"pattern": pattern, "rate": rate})
        assert scenario.draw(IDS)[:, column].sum() == left


@settings(max_examples=60, deadline=None)
@given(SCENARIOS, st.lists(st.sampled_from([(1, 1), (1, 0), (0, 1)]), max_size=60))
def test_natural_gaps_stay_and_the_rest_is_drawn_among_complete_samples(
    scenario: Scenario, gaps: list[tuple[int, int]]
) -> None:
    present = np.array(gaps, dtype=bool).reshape(-1, 2)
    available = scenario.hide(IDS[: len(gaps)], present)
    complete = present.all(axis=1)
    np.testing.assert_array_equal(available[~complete], present[~complete])
    assert (~available[complete]).any(axis=1).sum() == round(scenario.rate * complete.sum())
    assert available.any(axis=1).all()


def test_hiding_does_not_change_what_was_present() -> None:
    present = np.ones((10, 2), dtype=bool)
    Scenario.parse("both-70").hide(IDS[:10], present)
    assert present.all()


@pytest.mark.parametrize(
    ("text", "pattern", "rate"),
    [("both-50", "both", 0.5), (" image-0 ", "image", 0.0), ("tabular-12.5", "tabular", 0.125)],
)
def test_a_scenario_is_read_from_its_name(
    text: str, pattern: Literal["tabular", "image", "both"], rate: float
) -> None:
    scenario = Scenario.parse(text, seed=3)
    assert scenario == Scenario(pattern=pattern, rate=rate, seed=3)
    assert str(scenario) == text.strip()


@pytest.mark.parametrize("percent", range(0, 101))
def test_every_whole_percent_is_written_as_it_is_read(percent: int) -> None:
    assert str(Scenario.parse(f"both-{percent}")) == f"both-{percent}"


@pytest.mark.parametrize("text", ["both-150", "foo-30", "both--1", "both", "both-", "both-5e1", ""])
def test_no_scenario_is_refused_with_the_rule(text: str) -> None:
    with pytest.raises(ConfigError, match=r"no scenario '.*': it is a pattern .* such as both-50"):
        Scenario.parse(text)


def test_lists_of_scenarios() -> None:
    assert [str(s) for s in parse_scenarios("both-50, image-70")] == ["both-50", "image-70"]
    assert parse_scenarios("all") == list(NINE)
    assert [str(s) for s in NINE] == [
        f"{pattern}-{rate}" for pattern in ("tabular", "image", "both") for rate in (30, 50, 70)
    ]


def test_sets_of_scenarios_are_merged() -> None:
    curves = parse_scenarios("curves")
    assert curves == list(CURVES)
    assert [str(s) for s in curves[:9]] == [f"tabular-{10 * i}" for i in range(1, 10)]
    assert set(NINE) < set(curves) and len(curves) == 27
    assert parse_scenarios("all, curves") == [*NINE, *(s for s in CURVES if s not in NINE)]
    assert [str(s) for s in parse_scenarios("both-50,image-5,all")[:3]] == [
        *("both-50", "image-5", "tabular-30")
    ]
    assert len(parse_scenarios("both-50,image-5,all")) == 10


@pytest.mark.parametrize("text", ["both-50,both-50", "both-50,image-30,both-50.0"])
def test_a_scenario_listed_twice_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="twice"):
        parse_scenarios(text)
