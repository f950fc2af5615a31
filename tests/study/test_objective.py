"""How the values of scenarios make that of a trial, and how a trial ends."""

import pytest

from dfpl.data.scenario import parse_scenarios
from dfpl.fields import ConfigError
from dfpl.study.objective import Kind, Met, Objective, Outcome, lower_mean, outcome
from dfpl.study.records import Record, State


def record(state: State, value: float | None = None, epochs: int = 4, reason: str = "") -> Record:
    return Record(
        run_id="r",
        study="s",
        search="x",
        trial=0,
        scenario={0.9: "both-30", 0.5: "both-50"}.get(value or 0.0, "both-70"),
        state=state,
        value=value,
        epochs=epochs,
        reason=reason,
        config={"seed": 0},
    )


HIGH, LOW = record("complete", 0.9), record("complete", 0.5)
PRUNED = record("pruned", 0.4, epochs=1, reason="ASHA stopped it")
FAILED = record("failed", epochs=0, reason="NonFiniteError")


@pytest.mark.parametrize(
    ("kind", "records", "count", "expected"),
    [
        ("each", [HIGH], 1, Outcome("complete", (0.9,), 4)),
        ("each", [PRUNED], 1, Outcome("pruned", (0.4,), 1, "ASHA stopped it")),
        ("each", [FAILED], 1, Outcome("failed", (), 0, "NonFiniteError")),
        ("each", [], 1, None),
        ("mean", [HIGH, LOW], 2, Outcome("complete", (0.7,), 8)),
        ("worst", [HIGH, LOW], 2, Outcome("complete", (0.5,), 8)),
        ("worst", [HIGH, PRUNED], 3, Outcome("pruned", (0.4,), 5, "ASHA stopped it")),
        ("mean", [HIGH, FAILED], 3, Outcome("failed", (), 4, "NonFiniteError")),
        ("mean", [HIGH], 2, None),
    ],
)
def test_the_outcome_of_a_trial(
    kind: Kind, records: list[Record], count: int, expected: Outcome | None
) -> None:
    assert outcome(Objective(kind=kind), records, count) == expected


def test_the_race_ends_a_trial_after_whole_runs_with_what_it_has_reached() -> None:
    objective = Objective(kind="mean")
    assert outcome(objective, [HIGH], 2, "racing") == Outcome("pruned", (0.9,), 4, "racing")
    assert outcome(objective, [HIGH, LOW], 2, "racing") == Outcome("complete", (0.7,), 8)
    assert outcome(objective, [], 2, "racing") is None


MET = [
    Met("both-0/0", 0.95),
    Met("both-50/0", 0.8),
    Met("both-50/1", 0.6),
    Met("image-70/0", 0.4),
    Met("image-70/1", 0.6),
    Met("tabular-30/0", 0.9),
]


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (Objective(kind="mean"), (0.7625,)),  # of 0.95, 0.7, 0.5, 0.9
        (Objective(kind="worst"), (0.5,)),
        (Objective(kind="cvar", share=0.5), (0.6,)),  # (0.5 + 0.7) / 2
        (Objective(kind="cvar", share=0.375), (0.85 / 1.5,)),  # (0.5 + 0.7 / 2) / 1.5
        (Objective(kind="cvar", share=0.1), (0.5,)),
        (Objective(kind="pareto"), (0.95, 0.5)),
    ],
)
def test_seeds_are_averaged_first_then_scenarios_count(
    objective: Objective, expected: tuple[float, ...]
) -> None:
    assert objective.values(MET) == pytest.approx(expected)


def test_the_mean_of_the_lowest_share_by_hand() -> None:
    values = [1.0, 2.0, 4.0, 8.0]
    found = [lower_mean(values, share) for share in (0.0, 0.25, 0.375, 0.5, 1.0)]
    assert found == pytest.approx([1.0, 1.0, 2 / 1.5, 1.5, 3.75])


def test_each_is_a_search_per_scenario_and_the_robust_ones_are_one() -> None:
    scenarios = parse_scenarios("both-50,image-30")
    each = Objective(kind="each").searches(scenarios, 0)
    assert {name: [b.name for b in blocks] for name, blocks in each.items()} == {
        "both-50": ["both-50/0"],
        "image-30": ["image-30/0"],
    }
    worst = Objective(kind="worst", seeds=2).searches(scenarios, 5)
    assert {name: [b.name for b in blocks] for name, blocks in worst.items()} == {
        "worst": ["both-50/5", "image-30/5", "both-50/6", "image-30/6"]
    }


def test_pareto_meets_complete_data_first_and_once() -> None:
    found = Objective(kind="pareto").searches(parse_scenarios("both-50,image-0"), 0)
    assert [block.name for block in found["pareto"]] == ["both-0/0", "both-50/0"]
    with pytest.raises(ConfigError, match="none of them has missing data; name one"):
        Objective(kind="pareto").searches(parse_scenarios("image-0"), 0)


@pytest.mark.parametrize("share", [0.0, 1.1])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="--worst-share must be above 0 and at most 1"):
        Objective(kind="cvar", share=share)
