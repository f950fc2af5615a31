"""How a trial ends, from the records of its runs."""

import pytest

from dfpl.data.scenario import parse_scenarios
from dfpl.study.objective import Objective, Outcome, combine, groups, outcome
from dfpl.study.records import Record, State


def record(state: State, value: float | None = None, epochs: int = 4, reason: str = "") -> Record:
    return Record(
        run_id="r",
        study="s",
        search="x",
        trial=0,
        scenario="both-50",
        state=state,
        value=value,
        epochs=epochs,
        reason=reason,
    )


HIGH, LOW = record("complete", 0.9), record("complete", 0.5)
PRUNED = record("pruned", 0.4, epochs=1, reason="ASHA stopped it")
FAILED = record("failed", epochs=0, reason="NonFiniteError")


@pytest.mark.parametrize(
    ("objective", "records", "expected"),
    [
        ("each", [HIGH], Outcome("complete", 0.9, 4)),
        ("each", [PRUNED], Outcome("pruned", 0.4, 1, "ASHA stopped it")),
        ("each", [FAILED], Outcome("failed", None, 0, "NonFiniteError")),
        ("each", [None], None),
        ("mean", [HIGH, LOW], Outcome("complete", 0.7, 8)),
        ("worst", [HIGH, LOW], Outcome("complete", 0.5, 8)),
        ("worst", [LOW, HIGH], Outcome("complete", 0.5, 8)),
        ("worst", [HIGH, PRUNED, None], Outcome("pruned", 0.4, 5, "ASHA stopped it")),
        ("mean", [HIGH, FAILED, LOW], Outcome("failed", None, 4, "NonFiniteError")),
        ("mean", [HIGH, None], None),
        ("mean", [None, HIGH], None),
        ("mean", [None, FAILED], None),
    ],
)
def test_the_outcome_of_a_trial(
    objective: Objective, records: list[Record | None], expected: Outcome | None
) -> None:
    assert outcome(objective, records) == expected


def test_combine_by_hand() -> None:
    assert combine("each", [0.3]) == 0.3
    assert combine("mean", [0.2, 0.4]) == pytest.approx(0.3)
    assert combine("worst", [0.2, 0.4]) == 0.2


def test_each_is_a_search_per_scenario_and_the_robust_ones_are_one() -> None:
    scenarios = parse_scenarios("both-50,image-30")
    each = groups("each", scenarios)
    assert list(each) == ["both-50", "image-30"]
    assert [[str(s) for s in found] for found in each.values()] == [["both-50"], ["image-30"]]
    assert groups("worst", scenarios) == {"worst": scenarios}
    assert groups("mean", scenarios) == {"mean": scenarios}
