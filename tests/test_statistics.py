"""Corrected p-values and ranks, against values by hand and from Demsar, JMLR 2006."""

import numpy as np
import pandas as pd
import pytest

from analysis.diagram import draw, image
from analysis.statistics import Ranks, holm, mean_ranks


def test_holm_by_hand() -> None:
    # sorted: 0.01 x 4, then 0.02 x 3, 0.03 x 2, which may not be below it, and 0.9 x 1
    assert holm([0.02, 0.9, 0.01, 0.03]) == pytest.approx([0.06, 0.9, 0.04, 0.06])
    assert holm([0.4, 0.6]) == pytest.approx([0.8, 0.8])


def test_what_was_not_compared_does_not_count() -> None:
    found = holm([np.nan, 0.02, np.nan, 0.5])
    assert found[1::2] == pytest.approx([0.04, 0.5]) and np.isnan(found[::2]).all()
    assert holm([]) == [] and np.isnan(holm([np.nan])).all()


def scores_of(*rows: list[float]) -> pd.DataFrame:
    return pd.DataFrame([*rows], columns=list("abcd"[: len(rows[0])]))


def test_ranks_and_friedmans_test_by_hand() -> None:
    found = mean_ranks(scores_of([0.9, 0.5, 0.1], [0.8, 0.9, 0.3], [0.7, 0.6, 0.5]))
    assert found.mean == pytest.approx({"a": 4 / 3, "b": 5 / 3, "c": 3.0})
    assert list(found.mean) == ["a", "b", "c"]  # the best first
    # 12 N / (k (k + 1)) (sum of squared mean ranks - k (k + 1)^2 / 4)
    assert found.statistic == pytest.approx(3 * (16 / 9 + 25 / 9 + 9 - 12))
    assert found.num_blocks == 3


def test_equal_scores_share_their_ranks() -> None:
    found = mean_ranks(scores_of([0.5, 0.5, 0.1], [0.5, 0.1, 0.5], [0.1, 0.5, 0.5]))
    assert list(found.mean.values()) == pytest.approx([2.0, 2.0, 2.0])
    same = mean_ranks(scores_of(*[[0.5, 0.5, 0.5]] * 4))
    assert (same.statistic, same.p, same.groups) == (0.0, 1.0, [["a", "b", "c"]])


@pytest.mark.parametrize(("alpha", "difference"), [(0.05, 1.25), (0.10, 1.12)])
def test_the_critical_difference_is_the_published_one(alpha: float, difference: float) -> None:
    scores = pd.DataFrame(np.random.default_rng(0).normal(size=(14, 4)))
    assert mean_ranks(scores, alpha).critical_difference == pytest.approx(difference, abs=0.005)


def ranked(mean: dict[str, float], critical: float) -> Ranks:
    return Ranks(
        mean=mean,
        num_blocks=14,
        statistic=0.0,
        p=1.0,
        critical_difference=critical,
        pairs=pd.DataFrame(),
        alpha=0.05,
    )


def test_groups_are_the_largest_that_do_not_differ() -> None:
    published = {"m+cf": 1.964, "m": 2.000, "cf": 2.893, "C4.5": 3.143}
    assert ranked(published, 1.25).groups == [["m+cf", "m", "cf", "C4.5"]]
    assert ranked(published, 1.12).groups == [["m+cf", "m", "cf"], ["cf", "C4.5"]]
    assert ranked(published, 0.1).groups == [["m+cf", "m"]]
    assert ranked(published, 0.01).groups == []


def test_groups_agree_with_the_p_values_of_the_pairs() -> None:
    random = np.random.default_rng(3)
    scores = pd.DataFrame(random.normal(size=(9, 6)) + np.arange(6) / 2, columns=list("abcdef"))
    found = mean_ranks(scores)
    for a in scores:
        for b in scores:
            together = any({a, b} <= set(group) for group in found.groups)
            assert a == b or together == (found.pairs.loc[a, b] >= found.alpha)
    assert len(found.groups) > 1


@pytest.mark.parametrize("shape", [(2, 5), (5, 2)])
def test_too_few_methods_or_blocks_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"ranks need 3 methods in 3 scenarios at least"):
        mean_ranks(pd.DataFrame(np.zeros(shape)))


def test_the_same_diagram_is_the_same_file() -> None:
    ranks = mean_ranks(scores_of([0.9, 0.5, 0.1], [0.8, 0.9, 0.3], [0.7, 0.6, 0.5]))
    files = [image(draw(ranks, "title"), "svg") for _ in range(2)]
    assert files[0] == files[1] and b"title" in files[0]
