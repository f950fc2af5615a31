"""The four metrics against values by hand and scikit-learn, and what their intervals promise."""

from dataclasses import fields
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, average_precision_score, recall_score, roc_auc_score

from dfpl.config import Metric
from dfpl.data.scenario import NINE, Scenario
from dfpl.intervals import (
    expected,
    interval_of,
    intervals_around,
    p_value,
    paired_difference,
    resample_weights,
    resampled_scores,
    summarise,
)
from dfpl.metrics import (
    METRICS,
    class_prauc,
    class_ranks,
    measure,
    num_classes_scored,
    probabilities,
    truth,
    weighted_scores,
)
from dfpl.predictions import STATES, Label, PredictionError, Predictions, Task
from dfpl.robustness import curves

BOTH_50 = Scenario.parse("both-50")

SHARES = np.array([[0.7, 0.2, 0.1], [0.4, 0.5, 0.1], [0.3, 0.6, 0.1], [0.5, 0.3, 0.2]])
CLASSES = np.array([0, 0, 1, 2])
BY_HAND = {
    "accuracy": 2 / 4,  # rows 0 and 2
    "balanced_accuracy": (1 / 2 + 1 + 0) / 3,
    "auroc": (3 / 4 + 1 + 1) / 3,  # class 0: 0.4 wins over 0.3 and loses to 0.5
    "prauc": (5 / 6 + 1 + 1) / 3,  # class 0: precision 1 at 0.7 and 2/3 at 0.4
}

LABEL_SHARES = np.array([[0.9, 0.4], [0.8, 0.3], [0.1, 0.6]])
LABELS = np.array([[1, 0], [0, 0], [1, 1]], dtype=np.float32)
LABELS_BY_HAND = {
    "accuracy": 4 / 6,  # the second label is right three times, the first once
    "balanced_accuracy": ((1 / 2 + 0) / 2 + 1) / 2,
    "auroc": (1 / 2 + 1) / 2,
    "prauc": ((1 + 2 / 3) / 2 + 1) / 2,
}


def logits_of(shares: np.ndarray, task: Task) -> np.ndarray:
    """Logits that give these probabilities."""
    odds = np.log(shares) if task == "multiclass" else np.log(shares / (1 - shares))
    return odds.astype(np.float32)


def with_unit_weights(logits: np.ndarray, label: Label, task: Task) -> dict[str, float]:
    scores = weighted_scores(logits, label, np.ones((1, len(label))), task)
    return {metric: float(scores[metric][0]) for metric in METRICS}


def made_up_scores(N: int, C: int, task: Task, seed: int = 0) -> tuple[np.ndarray, Label]:
    """Logits that know something of the label, on a coarse grid so that many are tied."""
    rng = np.random.default_rng(seed)
    if task == "multiclass":
        label = rng.integers(0, C - 1, N)  # the last class is absent
    else:
        label = (rng.random((N, C)) < 0.3).astype(np.float32)
        label[:, -1] = 0
    return np.round(rng.normal(size=(N, C)) + truth(label, C)).astype(np.float32), label


def made_up(N: int = 120, C: int = 3, seed: int = 0, gaps: float = 0.1) -> Predictions:
    """States that know less and less of the label; groups of two; some rows lack a modality."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, C, N)
    lot = rng.random(N)
    present = np.stack([lot >= gaps, lot <= 1 - gaps], axis=1)
    needed = {"both": present.all(axis=1), "image": present[:, 0], "tabular": present[:, 1]}
    strength = {"both": 2.0, "image": 1.0, "tabular": 0.5}
    base = rng.normal(size=(N, C))
    logits = {
        state: np.where(
            needed[state][:, None],
            base + strength[state] * truth(label, C) + 0.5 * rng.normal(size=(N, C)),
            np.nan,
        ).astype(np.float32)
        for state in STATES
    }
    return Predictions(
        ids=np.array([f"s{row}" for row in rng.permutation(N)], dtype=object),
        groups=np.array([f"g{row // 2}" for row in range(N)], dtype=object),
        split=np.full(N, "test", dtype=object),
        label=label,
        present=present,
        logits=logits,
        class_names=tuple(f"class {c}" for c in range(C)),
        task="multiclass",
    )


def changed(predictions: Predictions, **changes) -> Predictions:
    own = {field.name: getattr(predictions, field.name) for field in fields(predictions)}
    return Predictions(**(own | changes))


def with_noise(predictions: Predictions, noise: float, seed: int) -> Predictions:
    """The same samples, classified by a model that is further off."""
    rng = np.random.default_rng(seed)
    logits = {
        state: (values + noise * rng.normal(size=values.shape)).astype(np.float32)
        for state, values in predictions.logits.items()
    }
    return changed(predictions, logits=logits)


@pytest.mark.parametrize("score", [measure, with_unit_weights])
def test_four_rows_of_three_classes_by_hand(score) -> None:
    found = score(logits_of(SHARES, "multiclass"), CLASSES, "multiclass")
    assert found == pytest.approx(BY_HAND, abs=1e-6)


@pytest.mark.parametrize("score", [measure, with_unit_weights])
def test_three_rows_of_two_labels_by_hand(score) -> None:
    found = score(logits_of(LABEL_SHARES, "multilabel"), LABELS, "multilabel")
    assert found == pytest.approx(LABELS_BY_HAND, abs=1e-6)


@pytest.mark.parametrize("score", [measure, with_unit_weights])
def test_a_class_without_positives_is_left_out_and_counted(score) -> None:
    shares = np.concatenate([0.9 * SHARES, np.full((4, 1), 0.1)], axis=1)
    found = score(logits_of(shares, "multiclass"), CLASSES, "multiclass")
    assert found == pytest.approx(BY_HAND, abs=1e-6)
    assert num_classes_scored(CLASSES, 4) == 3


@pytest.mark.parametrize("score", [measure, with_unit_weights])
def test_a_score_that_does_not_exist_is_nan(score) -> None:
    found = score(logits_of(SHARES, "multiclass"), np.zeros(4, dtype=np.int64), "multiclass")
    assert np.isnan(found["auroc"])  # no row of another class to rank against
    assert found["prauc"] == pytest.approx(1)
    nothing = score(logits_of(LABEL_SHARES, "multilabel"), np.zeros_like(LABELS), "multilabel")
    assert np.isnan(nothing["auroc"]) and np.isnan(nothing["prauc"])
    assert nothing["balanced_accuracy"] == pytest.approx((1 / 3 + 2 / 3) / 2)  # specificities


@pytest.mark.parametrize("score", [measure, with_unit_weights])
def test_one_label_alone_is_scored(score) -> None:
    found = score(logits_of(LABEL_SHARES[:, :1], "multilabel"), LABELS[:, :1], "multilabel")
    assert found == pytest.approx(
        {"accuracy": 1 / 3, "balanced_accuracy": 1 / 4, "auroc": 1 / 2, "prauc": 5 / 6}
    )


def test_ties_count_half_and_share_their_precision() -> None:
    scores = np.array([0.5, 0.5, 0.2])
    auroc, prauc = class_ranks(scores, np.array([True, False, False]), np.ones((3, 1)))
    assert (auroc[0], prauc[0]) == ((1 / 2 + 1) / 2, 1 / 2)


def test_sure_logits_are_not_tied() -> None:
    logits = np.array([[20.0, -10.0], [25.0, -10.0], [22.0, -10.0]], dtype=np.float32)
    assert len(np.unique(probabilities(logits, "multilabel")[:, 0])) == 3
    assert measure(logits, np.array([[0, 0], [1, 0], [0, 0]], np.float32), "multilabel")[
        "auroc"
    ] == pytest.approx(1)


def test_logits_within_zero_and_one_are_still_logits() -> None:
    # read as probabilities these would all be below 0.5, hence "no"
    logits = np.array([[0.3], [0.4], [0.1]], dtype=np.float32)
    assert measure(logits, np.ones((3, 1), np.float32), "multilabel")["accuracy"] == 1


@pytest.mark.parametrize("score", [measure, with_unit_weights])
def test_logits_that_are_not_finite_are_refused(score) -> None:
    logits = logits_of(SHARES, "multiclass")
    logits[1, 0] = np.nan
    with pytest.raises(PredictionError, match="the logits of 1 of 4 rows are not finite"):
        score(logits, CLASSES, "multiclass")


def test_no_rows_are_refused() -> None:
    with pytest.raises(PredictionError, match="no rows"):
        measure(np.zeros((0, 3), np.float32), np.zeros(0, np.int64), "multiclass")


def by_sklearn(
    logits: np.ndarray, label: Label, weights: np.ndarray, task: Task
) -> dict[str, float]:
    C = logits.shape[1]
    shares, positive = probabilities(logits, task), truth(label, C)
    scored = [c for c in range(C) if (weights * positive[:, c]).any()]
    given: dict[str, Any] = {"sample_weight": weights}
    silent: dict[str, Any] = {"zero_division": 0}
    if task == "multiclass":
        guess = shares.argmax(axis=1)
        accuracy = accuracy_score(label, guess, **given)
        balanced = recall_score(label, guess, labels=scored, average="macro", **given, **silent)
    else:
        guess = shares > 0.5
        accuracy = np.mean([accuracy_score(positive[:, c], guess[:, c], **given) for c in range(C)])
        balanced = np.mean(
            [
                np.mean(
                    [
                        recall_score(positive[:, c], guess[:, c], pos_label=side, **given)
                        for side in (True, False)
                        if (weights * (positive[:, c] == side)).any()
                    ]
                )
                for c in range(C)
            ]
        )
    area = [roc_auc_score(positive[:, c], shares[:, c], **given) for c in scored]
    precision = [average_precision_score(positive[:, c], shares[:, c], **given) for c in scored]
    return {
        "accuracy": float(accuracy),
        "balanced_accuracy": float(balanced),
        "auroc": float(np.mean(area)),
        "prauc": float(np.mean(precision)),
    }


def test_prauc_of_each_class_is_sklearns_and_their_mean_the_macro_one() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(50, 4)).round(1)
    label = (rng.random((50, 4)) < [0.5, 0.1, 0.3, 0.0]).astype(np.float32)
    found = class_prauc(logits, label, "multilabel")
    expected = [average_precision_score(label[:, c], logits[:, c]) for c in range(3)]
    np.testing.assert_allclose(found[:3], expected, rtol=1e-12)
    assert np.isnan(found[3])
    assert measure(logits, label, "multilabel")["prauc"] == pytest.approx(np.mean(expected))


TASKS: tuple[Task, ...] = ("multiclass", "multilabel")


@pytest.mark.parametrize("score", [measure, with_unit_weights])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("seed", range(3))
def test_scores_equal_scikit_learn_with_ties_and_absent_classes(
    score, task: Task, seed: int
) -> None:
    logits, label = made_up_scores(200, 5, task, seed)
    oracle = by_sklearn(logits, label, np.ones(200), task)
    assert score(logits, label, task) == pytest.approx(oracle, abs=1e-6)


@pytest.mark.parametrize("task", TASKS)
def test_weighted_scores_equal_scikit_learn(task: Task) -> None:
    logits, label = made_up_scores(150, 4, task)
    weights = np.random.default_rng(1).random((5, 150)) * (np.arange(150) % 3 > 0)
    scores = weighted_scores(logits, label, weights, task)
    for row in range(5):
        found = {metric: scores[metric][row] for metric in METRICS}
        assert found == pytest.approx(by_sklearn(logits, label, weights[row], task), abs=1e-9)


@pytest.mark.parametrize("task", TASKS)
def test_whole_weights_repeat_rows(task: Task) -> None:
    logits, label = made_up_scores(40, 6, task)  # so few rows that classes vanish in some
    weights = np.random.default_rng(1).integers(0, 3, (8, 40))
    scores = weighted_scores(logits, label, weights.astype(np.float64), task)
    for row, counts in enumerate(weights):
        repeated = measure(np.repeat(logits, counts, axis=0), np.repeat(label, counts, 0), task)
        assert {m: scores[m][row] for m in METRICS} == pytest.approx(repeated, abs=1e-6)


@pytest.mark.parametrize("task", TASKS)
def test_the_order_of_rows_does_not_matter_to_a_score(task: Task) -> None:
    logits, label = made_up_scores(100, 4, task)
    order = np.random.default_rng(1).permutation(100)
    shuffled = measure(logits[order], label[order], task)
    assert shuffled == pytest.approx(measure(logits, label, task), abs=1e-6)


def test_groups_are_drawn_whole_and_as_many_as_there_are() -> None:
    groups = np.array(["b", "a", "b", "c"], dtype=object)
    weights = resample_weights(groups, 500, seed=0)
    assert np.array_equal(weights[:, 0], weights[:, 2])
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert weights.mean() == pytest.approx(1, abs=0.1)
    order = [3, 1, 0, 2]
    assert np.array_equal(resample_weights(groups[order], 500, seed=0), weights[:, order])


def test_an_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    # two classes at -1/2 and +1/2 with noise of 1: accuracy Phi(1/2), AUROC Phi(1 / sqrt 2)
    normal = NormalDist()
    known = {"accuracy": normal.cdf(0.5), "auroc": normal.cdf(0.5**0.5)}
    rng = np.random.default_rng(0)
    hits = dict.fromkeys(known, 0)
    for number in range(200):
        label = rng.integers(0, 2, 120)
        margin = label - 0.5 + rng.normal(size=120)
        logits = np.stack([np.zeros(120), margin], axis=1).astype(np.float32)
        found = interval_of(logits, label, np.arange(120), "multiclass", seed=number)
        for metric, value in known.items():
            hits[metric] += found[metric].low <= value <= found[metric].high
    assert all(0.88 <= count / 200 <= 0.99 for count in hits.values()), hits


def test_repeating_rows_within_groups_does_not_narrow_an_interval() -> None:
    logits, label = made_up_scores(80, 3, "multiclass")
    logits, label, groups = (np.repeat(part, 4, axis=0) for part in (logits, label, np.arange(80)))
    by_group = interval_of(logits, label, groups, "multiclass")
    by_row = interval_of(logits, label, np.arange(320), "multiclass")
    for metric in METRICS:  # 4 times the rows would halve it
        ratio = (by_group[metric].high - by_group[metric].low) / (
            by_row[metric].high - by_row[metric].low
        )
        assert 1.5 < ratio < 2.7, metric


def test_an_interval_lies_around_its_score_even_where_resampling_is_biased() -> None:
    # 8 positives per class: a positive drawn twice ranks with itself, so the average precision
    # of nearly every resample is higher than that of the rows as they are
    rng = np.random.default_rng(0)
    label = np.arange(1200) % 150
    logits = (rng.normal(size=(1200, 150)) + 0.5 * truth(label, 150)).astype(np.float32)
    score = measure(logits, label, "multiclass")["prauc"]
    weights = resample_weights(np.arange(1200), 200, seed=0)
    raw = np.quantile(weighted_scores(logits, label, weights, "multiclass")["prauc"], 0.025)
    low, high = interval_of(logits, label, np.arange(1200), "multiclass")["prauc"]
    assert raw > score
    assert low < score < high


@pytest.mark.parametrize("name", ["tabular-30", "both-50", "image-70"])
def test_expected_equals_the_mean_over_draws(name: str) -> None:
    scenario, predictions = Scenario.parse(name), made_up()
    found = expected(predictions, scenario, draws=400)
    scores = [
        measure(
            predictions.pick_scenario(scenario.with_values({"seed": seed})),
            predictions.label,
            "multiclass",
        )
        for seed in range(150)
    ]
    for metric in METRICS:  # PRAUC is a mean over other draws
        drawn = [score[metric] for score in scores]
        error = np.std(drawn) / np.sqrt(len(drawn))
        assert abs(found[metric] - np.mean(drawn)) < 4 * error


def test_an_interval_under_a_scenario_holds_the_chance_of_masks_too() -> None:
    # whole rows are right and image-only rows wrong for half of the samples, and the other way
    # round for the rest: any draw moves the accuracy, while each state on its own is half right
    first = (np.arange(400) < 200)[:, None]
    right, wrong = np.array([[1, 0], [0, 1]], dtype=np.float32)
    predictions = changed(
        made_up(400, C=2, gaps=0.0),
        groups=np.full(400, "one group", dtype=object),  # so that resampling changes nothing
        label=np.zeros(400, dtype=np.int64),
        logits={
            "both": np.where(first, right, wrong),
            "image": np.where(first, wrong, right),
            "tabular": np.where(first, right, wrong),
        },
    )
    points = curves(predictions, [Scenario.parse("tabular-50")], metrics=["accuracy"])
    assert points[0].value == pytest.approx(0.5)
    [found] = intervals_around(points, predictions)
    assert 0.02 < found.high - found.low < 0.2


def test_an_interval_repeats_and_follows_its_seed() -> None:
    predictions = made_up()
    points = curves(predictions, [BOTH_50])
    first = intervals_around(points, predictions)
    assert intervals_around(points, predictions) == first
    assert intervals_around(points, predictions, seed=1) != first
    for wide, narrow in zip(first, intervals_around(points, predictions, level=0.5), strict=True):
        assert wide.low < narrow.low < narrow.high < wide.high


def test_summarise_names_every_number() -> None:
    predictions = made_up()
    found = summarise(predictions, BOTH_50)
    numbers = [f"{metric}{end}" for metric in METRICS for end in ("", "_low", "_high")]
    names = ["n", "classes_scored", *numbers]
    assert set(found) == {f"{part}/{name}" for part in ("scenario", *STATES) for name in names}
    assert all(type(value) is float and np.isfinite(value) for value in found.values())
    for part in ("scenario", *STATES):
        for metric in METRICS:
            assert found[f"{part}/{metric}_low"] < found[f"{part}/{metric}"]
            assert found[f"{part}/{metric}"] < found[f"{part}/{metric}_high"]
    means = expected(predictions, BOTH_50)
    assert {metric: found[f"scenario/{metric}"] for metric in METRICS} == means


def test_summarise_counts_each_state_over_the_rows_that_can_be_in_it() -> None:
    predictions = made_up()
    found = summarise(predictions, BOTH_50)
    has_image, has_table = predictions.present.T
    assert found["scenario/n"] == 120
    assert found["both/n"] == (has_image & has_table).sum() < 120
    assert found["image/n"] == has_image.sum()
    rows = np.flatnonzero(has_image)
    alone = measure(predictions.logits["image"][rows], predictions.label[rows], "multiclass")
    assert {metric: found[f"image/{metric}"] for metric in METRICS} == alone


def test_summarise_leaves_out_what_does_not_exist() -> None:
    predictions = made_up()
    images = predictions.take(np.flatnonzero(~predictions.present[:, 1]))
    found = summarise(images, BOTH_50)
    assert (found["both/n"], found["tabular/n"]) == (0, 0)
    assert "both/accuracy" not in found
    for metric in METRICS:
        assert found[f"scenario/{metric}"] == pytest.approx(found[f"image/{metric}"], abs=1e-6)
    one_class = summarise(predictions.take(np.flatnonzero(predictions.label == 0)), BOTH_50)
    assert one_class["scenario/classes_scored"] == 1
    assert "scenario/auroc" not in one_class and "scenario/auroc_low" not in one_class


def test_an_interval_over_groups_and_draws_is_wider_than_that_over_draws() -> None:
    predictions = made_up(400)
    points = curves(predictions, NINE)
    around = intervals_around(points, predictions)
    for point, both in zip(points, around, strict=True):
        assert both.low < point.low < point.value < point.high < both.high
    alone = intervals_around(curves(predictions, [BOTH_50]), predictions)
    among = [both for p, both in zip(points, around, strict=True) if p.scenario == "both-50"]
    assert len(among) == len(METRICS)
    for one, other in zip(among, alone, strict=True):  # a scenario has the draws it has alone
        assert one == pytest.approx(other, abs=1e-12)


def test_summarise_wants_one_split() -> None:
    predictions = made_up()
    split = np.where(np.arange(120) < 60, "val", "test").astype(object)
    several = changed(predictions, split=split)
    with pytest.raises(PredictionError, match=r"one split, got \['test', 'val'\]"):
        summarise(several, BOTH_50)


def test_the_order_of_rows_does_not_matter_to_a_summary() -> None:
    predictions = made_up()
    shuffled = predictions.take(np.random.default_rng(1).permutation(120))
    assert summarise(shuffled, BOTH_50) == pytest.approx(summarise(predictions, BOTH_50), abs=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_a_paired_difference_is_that_of_the_means_over_seeds(metric: Metric) -> None:
    a, b, c = (with_noise(made_up(), noise, seed) for noise, seed in ((0, 1), (1, 2), (2, 3)))
    found = paired_difference([a, b], [c], BOTH_50, metric, draws=5, resamples=200)
    scores = [expected(run, BOTH_50, draws=5)[metric] for run in (a, b, c)]
    assert found.difference == pytest.approx((scores[0] + scores[1]) / 2 - scores[2])
    assert found.low < found.difference < found.high


def test_a_model_does_not_differ_from_itself_in_another_order() -> None:
    predictions = made_up()
    shuffled = predictions.take(np.random.default_rng(1).permutation(120))
    for metric in METRICS:
        found = paired_difference([predictions], [shuffled], BOTH_50, metric, draws=3, resamples=50)
        assert found == pytest.approx((0, 0, 0), abs=1e-12)


def test_pairing_narrows_the_interval_of_similar_models() -> None:
    a = made_up(400)
    b = with_noise(a, 0.3, seed=1)
    paired = paired_difference([a], [b], BOTH_50, "accuracy")
    [alone] = intervals_around(curves(a, [BOTH_50], metrics=["accuracy"]), a)
    assert paired.high - paired.low < 0.7 * (alone.high - alone.low)


def test_only_predictions_of_the_same_samples_are_compared() -> None:
    a, fewer = made_up(), made_up().take(np.arange(100))
    with pytest.raises(PredictionError, match="different samples"):
        paired_difference([a], [fewer], BOTH_50, "accuracy")
    other = made_up(seed=0, C=4)
    with pytest.raises(PredictionError, match="labels"):
        paired_difference([a], [other], BOTH_50, "accuracy")


@pytest.mark.parametrize("metric", METRICS)
def test_resampled_scores_begin_with_the_score_and_do_not_depend_on_the_order_of_rows(
    metric: Metric,
) -> None:
    run = made_up()
    scenarios = [BOTH_50, *map(Scenario.parse, ("image-30", "tabular-100", "both-0"))]
    shuffled = run.take(np.random.default_rng(1).permutation(120))
    settings: dict[str, Any] = {"draws": 5, "resamples": 50}
    a, b = resampled_scores(iter([run, shuffled]), scenarios, metric, **settings)
    assert a.shape == (4, 51)
    for scenario, own in zip(scenarios, a, strict=True):
        assert own[0] == pytest.approx(expected(run, scenario, draws=5)[metric])
    np.testing.assert_allclose(a, b, atol=1e-12)


def test_p_values_by_hand() -> None:
    zero = np.zeros(5)
    gap = np.array([0.196, 0.3, 0.1, 0.3, 0.1])  # the resamples spread by 0.1: 1.96 of them
    assert p_value(gap, zero) == pytest.approx(0.05, abs=1e-4)
    assert p_value(zero, gap) == p_value(gap, zero)
    assert p_value(zero, zero) == 1  # the same model
    assert p_value(zero + 0.1, zero) == 0  # better by as much in every resample
    assert np.isnan(p_value(zero + np.nan, zero))
    assert p_value(np.array([0.196, np.nan, 0.1, 0.3, 0.1, 0.3]), np.zeros(6)) < 0.06


def test_p_values_of_models_that_do_not_differ_are_uniform() -> None:
    found = []
    for seed in range(40):
        a = made_up(100, seed=seed)
        sides = [with_noise(a, 1.0, seed=10 * seed + side) for side in (1, 2)]
        scores = list(resampled_scores(sides, [BOTH_50], "accuracy", resamples=50))
        found.append(p_value(scores[0][0], scores[1][0]))
    assert 0.35 < np.mean(found) < 0.65
    assert np.mean(np.array(found) < 0.1) < 0.25
