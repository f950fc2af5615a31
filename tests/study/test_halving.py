"""ASHA by hand: rungs, the best third, and what is never stopped."""

import pytest

from dfpl.study.halving import SuccessiveHalving


@pytest.mark.parametrize(
    ("epochs", "grace", "rungs"), [(9, 1, [1, 3]), (10, 3, [3, 9]), (27, 3, [3, 9]), (5, 5, [])]
)
def test_the_rungs(epochs: int, grace: int, rungs: list[int]) -> None:
    assert SuccessiveHalving(epochs=epochs, grace=grace).rungs == rungs


def test_the_best_third_of_those_seen_goes_on() -> None:
    halving = SuccessiveHalving(epochs=9, grace=3)
    asked = [("a", 0.5), ("b", 0.4), ("c", 0.6), ("d", 0.55), ("e", 0.7), ("f", 0.58)]
    answers = [halving.go_on(name, "both-50", 3, value) for name, value in asked]
    # among 1, 2, 3 seen one may go on, among 4, 5, 6 two: d is second of four, f third of six
    assert answers == [True, False, True, True, True, False]


def test_asking_twice_counts_once() -> None:
    halving = SuccessiveHalving(epochs=9, grace=3)
    assert halving.go_on("a", "both-50", 3, 0.9)
    assert not halving.go_on("b", "both-50", 3, 0.1)
    assert not halving.go_on("b", "both-50", 3, 0.1)
    assert len(halving.seen["both-50", 3].values) == 2


def test_scenarios_are_not_compared_with_each_other() -> None:
    halving = SuccessiveHalving(epochs=9, grace=3)
    assert halving.go_on("a", "image-30", 3, 0.9)
    assert halving.go_on("b", "both-70", 3, 0.1)


def test_between_rungs_and_with_a_long_grace_nothing_stops() -> None:
    halving = SuccessiveHalving(epochs=9, grace=3)
    halving.go_on("a", "both-50", 3, 0.9)
    assert halving.go_on("b", "both-50", 2, 0.1)
    patient = SuccessiveHalving(epochs=9, grace=9)
    assert all(patient.go_on(name, "both-50", 9, 0.1) for name in "abcd")


def test_an_epoch_of_pre_training_says_nothing() -> None:
    halving = SuccessiveHalving(epochs=9, grace=3)
    assert halving.go_on("a", "both-50", 3, float("nan"))
    assert halving.go_on("b", "both-50", 3, 0.1)  # the first with a value
    assert not halving.go_on("c", "both-50", 3, 0.05)
