"""The smallest difference that a test set could show: published numbers, and a simulation."""

import sys
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
from samples import save_packed

from dfpl.smallest import independent_samples, smallest_difference, told
from dfpl.study import run as driver
from dfpl.study.comparison import Options, plan_of, runs
from dfpl.study.resources import Resources


@pytest.mark.parametrize(
    ("n", "points"), [(642, 1.7), (2136, 0.95), (88_207, 0.15)], ids=["adni", "mimic", "dvm"]
)
def test_with_5_percent_of_the_answers_different(n: int, points: float) -> None:
    # 1.96 sqrt(0.05 / n)
    assert 100 * smallest_difference(float(n)).significant == pytest.approx(points, rel=0.02)
    found = smallest_difference(float(n))
    assert found.found / found.significant == pytest.approx((1.96 + 0.8416) / 1.96, rel=1e-3)


def share_significant(n: int, disagreement: float, difference: float) -> float:
    """Of 20,000 pairs of models with this true difference, by McNemar's z."""
    shares = [(disagreement + difference) / 2, (disagreement - difference) / 2]
    counts = np.random.default_rng(0).multinomial(n, [*shares, 1 - disagreement], 20_000)
    b, c = counts[:, 0], counts[:, 1]
    return float((np.abs(b - c) > 1.96 * np.sqrt(b + c)).mean())


@pytest.mark.parametrize(("n", "disagreement"), [(2000, 0.05), (642, 0.2)])
def test_what_is_found_with_power_80_is_found_in_80_of_100_studies(
    n: int, disagreement: float
) -> None:
    smallest = smallest_difference(float(n), disagreement)
    assert share_significant(n, disagreement, smallest.found) == pytest.approx(0.8, abs=0.025)
    assert share_significant(n, disagreement, smallest.significant) == pytest.approx(0.5, abs=0.03)
    assert share_significant(n, disagreement, 0.0) == pytest.approx(0.05, abs=0.01)


def test_a_difference_needs_as_much_disagreement() -> None:
    # 5 % of 40 are 2 answers: not significant even if both fall to one side. All of d = D falls to
    # one side: d = 1.96 sqrt(d / 40), d = 3.84 / 40; it is 3.84 of 40 answers
    assert smallest_difference(40.0).significant == pytest.approx(3.8415 / 40, rel=1e-4)
    assert 1.96 * sqrt(0.05 / 40) > 0.05
    assert smallest_difference(40.0, 0.3).significant == pytest.approx(
        1.96 * sqrt(0.3 / 40), rel=1e-3
    )


def test_groups_count_between_samples_and_their_own_number() -> None:
    assert independent_samples(np.array(["a", "b", "c", "d"])) == (4.0, 4.0)
    assert independent_samples(np.array(["a", "a", "b", "b"])) == (4.0, 2.0)
    # 16 / (9 + 1): one large group leaves less than two
    assert independent_samples(np.array(["a", "b", "a", "a"])) == (4.0, 1.6)


def test_samples_of_a_group_that_answer_alike_show_what_the_groups_show() -> None:
    sizes = np.array([1, 2, 3, 4] * 100)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    _, alike = independent_samples(groups)
    rng = np.random.default_rng(0)
    sides = rng.choice([-1, 0, 1], p=[0.1, 0.8, 0.1], size=(4000, len(sizes)))
    spread = ((sides * sizes).sum(axis=1) / sizes.sum()).std()
    assert 1.96 * spread == pytest.approx(smallest_difference(alike, 0.2).significant, rel=0.04)


@pytest.mark.parametrize(("independent", "disagreement"), [(0.0, 0.05), (10.0, 0.0), (10.0, 1.5)])
def test_without_samples_or_disagreement_there_is_none(
    independent: float, disagreement: float
) -> None:
    with pytest.raises(ValueError, match=r"needs samples and a share of disagreement in \(0, 1\]"):
        smallest_difference(independent, disagreement)


def test_the_line_that_a_study_prints() -> None:
    assert told(np.arange(2136), "multiclass") == (
        "2,136 samples: if 5 % of the answers differ, a difference in accuracy below 0.95 points "
        "cannot be shown; 1.4 is found with power 80 %"
    )
    pairs = np.repeat(np.arange(1068), 2)
    assert told(pairs, "multilabel").startswith(
        "2,136 samples of 1,068 groups: if 5 % of the answers differ, a difference in the accuracy "
        "of a label below 0.95 to 1.3 points cannot be shown; 1.4 to 1.9 is"
    )
    assert told(np.arange(3), "multiclass").endswith("too few to show any difference in accuracy")
    assert told(np.array([], dtype=str), "multiclass") == "no samples: nothing can be shown"


def test_a_study_prints_it_of_its_test_split_before_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = save_packed(tmp_path / "data")
    assert len(packed.rows("test")) == 15
    monkeypatch.setattr(driver, "connect", lambda: None)
    monkeypatch.setattr(
        driver, "fit_to_cluster", lambda *_: Resources(workers=1, gpus_per_worker=0.0, concurrent=1)
    )
    printed: list[str] = []
    monkeypatch.setattr(driver, "sweep", lambda *_: printed.append(capsys.readouterr().out))
    places = [f"--data={tmp_path / 'data'}", f"--storage={tmp_path}", "--method.width=16"]
    monkeypatch.setattr(sys, "argv", ["table1", *places, "--methods=dfpl"])
    driver.sweep_main(plan_of("table1", sys.argv[1:]), runs, "analysis.table1", Options())
    assert "test      15 samples: if 5 % of the answers differ" in printed[0]
