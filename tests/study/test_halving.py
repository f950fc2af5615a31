"""ASHA by hand: which runs go on at which rung, and what it remembers."""

import pytest

from dfpl.study.halving import SuccessiveHalving


@pytest.mark.parametrize(
    ("epochs", "grace", "rungs"),
    [(9, 1, [1, 3]), (10, 1, [1, 3, 9]), (100, 11, [11, 33, 99]), (5, 5, []), (5, 9, [])],
)
def test_rungs_are_powers_of_the_reduction_below_the_whole_length(
    epochs: int, grace: int, rungs: list[int]
) -> None:
    assert SuccessiveHalving(epochs=epochs, grace=grace).rungs == rungs


def test_the_top_third_of_those_seen_goes_on() -> None:
    halving = SuccessiveHalving(epochs=9, grace=1)
    asked = [("a", 0.5), ("b", 0.6), ("c", 0.4), ("d", 0.55), ("e", 0.5), ("f", 0.7), ("g", 0.56)]
    # places left: 1 of 1, 1 of 2, 1 of 3, 2 of 4, 2 of 5, 2 of 6, 3 of 7
    expected = [True, True, False, True, False, True, True]
    assert [halving.go_on(name, "both-50", 1, value) for name, value in asked] == expected


def test_equal_values_do_not_stop_each_other() -> None:
    halving = SuccessiveHalving(epochs=9, grace=1)
    assert all(halving.go_on(name, "both-50", 1, 0.5) for name in "abcdef")
    assert not halving.go_on("g", "both-50", 1, 0.4)


def test_between_rungs_every_run_goes_on_and_nothing_is_noted() -> None:
    halving = SuccessiveHalving(epochs=9, grace=1)
    assert halving.go_on("a", "both-50", 1, 0.9)
    assert halving.go_on("b", "both-50", 2, 0.0)
    assert halving.seen.keys() == {("both-50", 1)}


def test_asked_twice_a_run_counts_once_and_is_told_the_same() -> None:
    halving = SuccessiveHalving(epochs=9, grace=1)
    halving.go_on("a", "both-50", 1, 0.6)
    halving.go_on("b", "both-50", 1, 0.5)
    for _ in range(5):
        assert not halving.go_on("c", "both-50", 1, 0.4)
    assert halving.seen["both-50", 1] == {"a": 0.6, "b": 0.5, "c": 0.4}
    assert not halving.go_on("d", "both-50", 1, 0.45)  # 2 places for 4; 6 runs, 2 were open to it


def test_a_grace_of_all_epochs_never_stops_anything() -> None:
    halving = SuccessiveHalving(epochs=3, grace=3)
    assert all(halving.go_on(str(v), "both-50", e, v) for e in (1, 2, 3) for v in (0.9, 0.5, 0.1))


def test_runs_of_different_scenarios_are_never_compared() -> None:
    halving = SuccessiveHalving(epochs=9, grace=1)
    assert halving.go_on("a", "both-30", 1, 0.9)
    assert halving.go_on("b", "both-70", 1, 0.1)
    assert not halving.go_on("c", "both-30", 1, 0.1)
