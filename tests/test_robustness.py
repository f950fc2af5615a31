"""Curves over missing rates: exact expectations against all masks, draws against each metric."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from test_metrics import changed, made_up
from test_predictions import FOUR, GAPS

from dfpl import robustness
from dfpl.data.scenario import CURVES, NINE, PATTERNS, Pattern, Scenario
from dfpl.draws import Strata, draw_moves, states_by_nature, states_of_draws
from dfpl.intervals import resample_weights
from dfpl.metrics import METRICS, Probabilities, measure, probabilities, truth, weighted_scores
from dfpl.predictions import STATES, PredictionError, Predictions, num_hidden
from dfpl.ranks import ranks_of_classes
from dfpl.robustness import curves, expectations, scores_of_draws

EXACT = ("accuracy", "balanced_accuracy", "auroc")


def tiny(seed: int, task: str = "multiclass") -> Predictions:
    """Six rows on a coarse grid, so that many are tied; row 1 lacks its table, row 4 its image."""
    rng = np.random.default_rng(seed)
    present = np.ones((6, 2), dtype=bool)
    present[1, 1] = present[4, 0] = False
    needed = {"both": present.all(axis=1), "image": present[:, 0], "tabular": present[:, 1]}
    several = rng.integers(0, 2, (6, 2)).astype(np.float32)
    several[:2, 0] = 0, 1
    return Predictions(
        ids=np.array([f"s{row}" for row in rng.permutation(6)], dtype=object),
        groups=np.array([f"g{row}" for row in range(6)], dtype=object),
        split=np.full(6, "test", dtype=object),
        label=rng.permutation([0, 0, 0, 1, 1, 1]) if task == "multiclass" else several,
        present=present,
        logits={
            state: np.where(rows[:, None], rng.integers(0, 3, (6, 2)), np.nan).astype(np.float32)
            for state, rows in needed.items()
        },
        class_names=("healthy", "ill"),
        task=task,  # type: ignore[arg-type]
    )


def logits_in(predictions: Predictions, states: np.ndarray) -> np.ndarray:
    """The logits of each row in a state of its own."""
    table = np.stack([predictions.logits[state] for state in STATES])
    return table[states, np.arange(len(predictions))]


def all_masks(predictions: Predictions, scenario: Scenario) -> Iterator[np.ndarray]:
    """The states of the rows, for every choice of who loses what that the scenario can make."""
    complete = np.flatnonzero(predictions.exists("both"))
    images, tables = num_hidden(scenario, len(complete))
    for without_image in itertools.combinations(complete, images):
        rest = [row for row in complete if row not in without_image]
        for without_table in itertools.combinations(rest, tables):
            states = states_by_nature(predictions)
            states[list(without_image)] = STATES.index("tabular")
            states[list(without_table)] = STATES.index("image")
            yield states


def scored(predictions: Predictions, logits: np.ndarray, weight: np.ndarray) -> dict[str, float]:
    found = weighted_scores(logits, predictions.label, weight[None], predictions.task)
    return {metric: float(found[metric][0]) for metric in METRICS}


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("percent", [0, 25, 50, 75, 100])
@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
@pytest.mark.parametrize("seed", range(3))
def test_expectations_equal_the_mean_over_all_masks(
    pattern: Pattern, percent: int, task: str, seed: int
) -> None:
    predictions, scenario = tiny(seed, task), Scenario(pattern=pattern, rate=percent / 100)
    for weight in (np.ones(6), np.arange(1.0, 7.0)):
        scores = [
            scored(predictions, logits_in(predictions, states), weight)
            for states in all_masks(predictions, scenario)
        ]
        found = expectations(predictions, [scenario], weights=weight[None])
        for metric in EXACT:
            mean = np.mean([score[metric] for score in scores])
            assert found[metric][0, 0] == pytest.approx(mean, abs=1e-12), metric


@pytest.mark.parametrize(
    ("name", "accuracy"),
    [
        # the states are right for 3/4, 1/4 (image only) and 3/4 (table only) of the four rows;
        # both-50: two stay whole, one loses the image, one the table
        ("both-50", (2 * 3 / 4 + 1 / 4 + 3 / 4) / 4),
        ("tabular-50", (2 * 3 / 4 + 2 * 1 / 4) / 4),  # two stay whole, two keep the image only
        ("image-0", 3 / 4),
        ("tabular-100", 1 / 4),
    ],
)
def test_accuracy_is_expected_by_hand(name: str, accuracy: float) -> None:
    found = expectations(FOUR, [Scenario.parse(name)])
    assert found["accuracy"][0, 0] == pytest.approx(accuracy, abs=1e-12)
    assert found["balanced_accuracy"][0, 0] == pytest.approx(accuracy, abs=1e-12)  # one class


def state_shares(predictions: Predictions, scenario: Scenario) -> np.ndarray:
    """How probable each state is for each row, (N, 3)."""
    strata = Strata.among(predictions)
    shares = np.zeros((3, len(predictions)))
    shares.reshape(-1)[strata.at] = strata.shares(scenario)[strata.of]
    return shares.T


def test_natural_gaps_stay_as_they_are() -> None:
    # three of six rows are complete; tabular-100 hides their tables: rows 1 and 3 are right,
    # row 4 wrong by nature, the complete rows 0, 2, 5 have images wrong, right, right
    found = expectations(GAPS, [Scenario.parse("tabular-100")])
    assert found["accuracy"][0, 0] == pytest.approx(4 / 6, abs=1e-12)
    shares = state_shares(GAPS, Scenario.parse("both-50"))  # round(1.5) = 2 of 3: one of each
    assert np.allclose(shares[[0, 2, 5]], 1 / 3)
    assert shares[[1, 3, 4]].tolist() == [[0, 1, 0], [0, 0, 1], [0, 1, 0]]


def test_auroc_is_expected_pair_by_pair() -> None:
    # one positive, two negatives, image-33: one of the three rows loses its image. The positive
    # has 2 with both and 1 with the table alone, the negatives 0 and 1.5, and 3 and 1 without:
    # hidden positive: beats the first alone, 1/2; hidden first: beats the second alone, 1/2;
    # hidden second: beats both, 1
    both, table = [[0, 2], [0, 0], [0, 1.5]], [[0, 1], [0, 3], [0, 1]]
    logits = {"both": both, "image": both, "tabular": table}
    predictions = changed(
        made_up(3, C=2, gaps=0.0),
        label=np.array([1, 0, 0]),
        logits={state: np.array(rows, dtype=np.float32) for state, rows in logits.items()},
    )
    found = expectations(predictions, [Scenario(pattern="image", rate=1 / 3)])
    assert found["auroc"][0, 0] == pytest.approx((1 / 2 + 1 / 2 + 1) / 3)


def test_pairs_of_rows_are_as_probable_as_among_all_masks() -> None:
    predictions = tiny(0)
    strata = Strata.among(predictions)
    of = np.full((3, 6), -1)
    of.reshape(-1)[strata.at] = strata.of
    scenario = Scenario.parse("both-75")
    masks = list(all_masks(predictions, scenario))
    for i, j in itertools.permutations(range(6), 2):
        for s, t in itertools.product(range(3), repeat=2):
            share = np.mean([states[i] == s and states[j] == t for states in masks])
            known = of[s, i] >= 0 and of[t, j] >= 0
            found = strata.pairs(scenario)[of[s, i], of[t, j]] if known else 0.0
            assert found == pytest.approx(share, abs=1e-12)


@pytest.mark.parametrize("scenario", [NINE[0], NINE[4], NINE[8]], ids=str)
def test_expectations_equal_the_mean_over_many_draws(scenario: Scenario) -> None:
    predictions = made_up(90)
    draws = scores_of_draws(predictions, [scenario], draws=2000, seed=0)
    for metric, found in expectations(predictions, [scenario]).items():
        error = draws[metric].std() / np.sqrt(2000)
        assert abs(draws[metric].mean() - found[0, 0]) < 4 * error, metric


def two_splits(N: int) -> Predictions:
    split = np.where(np.arange(N) % 3 == 0, "val", "test").astype(object)
    return changed(made_up(N), split=split)


@pytest.mark.parametrize("scenario", CURVES, ids=str)
def test_a_draw_hides_as_much_of_each_split_as_the_scenario_does(scenario: Scenario) -> None:
    predictions = two_splits(60)
    for states in states_of_draws(predictions, scenario, 3, seed=0):
        for split in ("val", "test"):
            complete = predictions.exists("both") & (predictions.split == split)
            images, tables = num_hidden(scenario, int(complete.sum()))
            assert (states[complete] == STATES.index("tabular")).sum() == images
            assert (states[complete] == STATES.index("image")).sum() == tables


def test_expectations_of_two_splits_equal_the_mean_over_many_draws() -> None:
    predictions, scenario = two_splits(60), Scenario.parse("both-50")
    draws = scores_of_draws(predictions, [scenario], draws=2000, seed=0)
    for metric, found in expectations(predictions, [scenario]).items():
        error = draws[metric].std() / np.sqrt(2000)
        assert abs(draws[metric].mean() - found[0, 0]) < 4 * error, metric


@pytest.mark.parametrize("name", ["both-30", "image-50", "tabular-70"])
def test_accuracy_is_expected_over_the_draws_of_the_scenario_itself(name: str) -> None:
    predictions, scenario = two_splits(90), Scenario.parse(name)
    drawn = [scenario.with_values({"seed": seed}) for seed in range(400)]
    guesses = np.stack([predictions.pick_scenario(own).argmax(axis=1) for own in drawn])
    scores = (guesses == predictions.label).mean(axis=1)
    found = expectations(predictions, [scenario])["accuracy"][0, 0]
    assert abs(scores.mean() - found) < 4 * scores.std() / np.sqrt(400)


def coarse(predictions: Predictions) -> Predictions:
    """The same with logits on a grid, so that many scores are tied."""
    return changed(predictions, logits={s: np.round(x) for s, x in predictions.logits.items()})


def multilabel(predictions: Predictions) -> Predictions:
    label = (np.random.default_rng(1).random((len(predictions), 3)) < 0.3).astype(np.float32)
    label[:, 2] = 0  # a class without positives
    return changed(predictions, label=label, task="multilabel")


CASES = {
    "gaps": made_up(60),
    "no gaps": made_up(60, gaps=0.0),
    "ties": coarse(made_up(60)),
    "two splits": two_splits(60),
    "several labels": multilabel(made_up(60)),
    "several labels, ties": coarse(multilabel(made_up(60))),
    "an absent class": made_up(60).take(np.flatnonzero(made_up(60).label != 1)),
    "one complete row": made_up(60).take(
        np.concatenate([np.flatnonzero(~made_up(60).exists("both")), [0]])
    ),
    "no complete row": made_up(60).take(np.flatnonzero(~made_up(60).exists("both"))),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("weighted", ["no", "whole", "fractions"])
def test_each_draw_has_the_scores_of_its_rows(case: str, weighted: str) -> None:
    predictions = CASES[case]
    weights = None if weighted == "no" else resample_weights(predictions.groups, 4, seed=0)
    if weights is not None and weighted == "fractions":
        weights *= np.random.default_rng(0).random(weights.shape)
    found = scores_of_draws(predictions, CURVES, draws=4, seed=7, weights=weights)
    for at, scenario in enumerate(CURVES):
        states = states_of_draws(predictions, scenario, 4, seed=7)
        for draw, own in enumerate(states):
            weight = np.ones(len(predictions)) if weights is None else weights[draw]
            expected = scored(predictions, logits_in(predictions, own), weight)
            for metric in METRICS:
                assert found[metric][at, draw] == pytest.approx(
                    expected[metric], abs=1e-12, nan_ok=True
                ), (str(scenario), metric)


def test_average_precision_of_each_draw_is_that_of_scikit_learn() -> None:
    predictions = coarse(made_up(60))
    found = scores_of_draws(predictions, NINE, ["prauc"], draws=3, seed=0)["prauc"]
    positive = truth(predictions.label, 3)
    for at, scenario in enumerate(NINE):
        for draw, states in enumerate(states_of_draws(predictions, scenario, 3, seed=0)):
            shares = probabilities(logits_in(predictions, states), "multiclass")
            precisions = [average_precision_score(positive[:, c], shares[:, c]) for c in range(3)]
            assert found[at, draw] == pytest.approx(np.mean(precisions), abs=1e-12)


def test_sure_predictions_are_ranked_as_everywhere() -> None:
    # the softmax of logits so far apart is 1 for all of them in double precision: all are tied
    predictions = made_up(60)
    sure = {state: 100 * np.round(logits) for state, logits in predictions.logits.items()}
    predictions = changed(predictions, logits=sure)
    found = scores_of_draws(predictions, NINE, draws=2, seed=0)
    for at, scenario in enumerate(NINE):
        for draw, states in enumerate(states_of_draws(predictions, scenario, 2, seed=0)):
            expected = measure(logits_in(predictions, states), predictions.label, "multiclass")
            for metric in METRICS:
                assert found[metric][at, draw] == pytest.approx(expected[metric], abs=1e-6)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_probabilities_come_in_parts_to_the_last_bit(
    task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = (5 * np.random.default_rng(0).normal(size=(301, 37))).astype(np.float32)
    whole = probabilities(logits, task)  # type: ignore[arg-type]
    monkeypatch.setattr("dfpl.metrics.BLOCK", 500)
    parts = Probabilities.of(logits, task)  # type: ignore[arg-type]
    for size in (1, 5, 37):
        found = [parts.of_classes(slice(at, min(at + size, 37))) for at in range(0, 37, size)]
        assert np.array_equal(np.concatenate(found, axis=1), whole)


def test_few_classes_at_a_time_rank_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    predictions = made_up(60, C=7)
    whole = list(ranks_of_classes(predictions))
    monkeypatch.setattr("dfpl.ranks.BLOCK", 2 * 3 * 60)
    for ranks, own in zip(ranks_of_classes(predictions), whole, strict=True):
        assert np.array_equal(ranks.place, own.place)
        assert np.array_equal(ranks.positive, own.positive)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_draws_are_nested_and_depend_on_ids_and_seed_alone(pattern: Pattern) -> None:
    predictions = made_up(60)
    shuffled = predictions.take(np.random.default_rng(1).permutation(60))

    def hidden(given: Predictions, percent: int, draws: int, seed: int = 0) -> list[set[str]]:
        scenario = Scenario(pattern=pattern, rate=percent / 100)
        return [
            set(given.ids[states != states_by_nature(given)].tolist())
            for states in states_of_draws(given, scenario, draws, seed)
        ]

    few, many = hidden(predictions, 30, 3), hidden(predictions, 70, 5)
    assert all(less < more for less, more in zip(few, many, strict=False))
    assert hidden(shuffled, 30, 3) == few
    assert hidden(predictions, 30, 2) == few[:2]
    assert hidden(predictions, 30, 3, seed=1) != few
    moves = draw_moves(predictions, pattern, [0.3, 0.7], 3, 0)
    assert [set(predictions.ids[row[: moves.num_moved[0]]]) for row in moves.row] == few


def test_a_row_is_hidden_as_often_as_the_scenario_says() -> None:
    predictions, scenario = made_up(40), Scenario.parse("both-50")
    states = np.stack(list(states_of_draws(predictions, scenario, 2000, seed=0)))
    shares = np.stack([(states == state).mean(axis=0) for state in range(3)], axis=1)
    np.testing.assert_allclose(shares, state_shares(predictions, scenario), atol=0.05)


def test_points_are_expectations_with_the_interval_of_a_draw() -> None:
    predictions, scenarios = made_up(), [*NINE, Scenario.parse("image-0")]
    points = curves(predictions, scenarios, draws=50)
    assert [point.scenario for point in points[:10]] == [str(s) for s in scenarios]
    assert [point.metric for point in points[::10]] == list(METRICS)
    drawn = scores_of_draws(predictions, scenarios, draws=50, seed=0)
    means = expectations(predictions, scenarios)
    for number, point in enumerate(points):
        draws = drawn[point.metric][number % 10]
        assert (point.low, point.high) == tuple(np.quantile(draws, [0.025, 0.975]))
        value = means[point.metric][number % 10, 0] if point.metric in EXACT else draws.mean()
        assert point.value == value
        assert (point.draws, point.n) == (50, 120)
        if point.rate:
            assert point.low < point.value < point.high
        else:
            assert point.low == pytest.approx(point.high, abs=1e-12)


def test_the_order_of_rows_and_scenarios_does_not_matter_to_a_curve() -> None:
    predictions = made_up()
    shuffled = predictions.take(np.random.default_rng(1).permutation(120))
    points = {(p.scenario, p.metric): p for p in curves(predictions, CURVES, draws=10)}
    for point in curves(shuffled, CURVES[20:2:-3], draws=10):
        own = points[point.scenario, point.metric]
        assert (point.value, point.low, point.high) == pytest.approx(
            (own.value, own.low, own.high), abs=1e-12
        )


def test_a_part_of_the_metrics_is_computed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    predictions = made_up()
    whole = curves(predictions, NINE, draws=5)
    monkeypatch.delattr("dfpl.robustness.ranks_of_classes")
    points = curves(predictions, NINE, metrics=["balanced_accuracy"], draws=5)
    assert points == [point for point in whole if point.metric == "balanced_accuracy"]


def test_nothing_to_score_is_refused() -> None:
    with pytest.raises(PredictionError, match="no rows"):
        curves(made_up().take(np.arange(0)), NINE)
    with pytest.raises(PredictionError, match="draws must be at least 1, got 0"):
        curves(made_up(), NINE, draws=0)


@pytest.mark.parametrize("case", ["gaps", "two splits", "an absent class"])
def test_expected_decisions_of_one_label_are_sums_of_the_shares_of_rows(case: str) -> None:
    predictions = CASES[case]
    weights = resample_weights(predictions.groups, 20, seed=3)
    weights[0, predictions.label == 0] = 0.0  # a resample without a row of a class
    strata = Strata.among(predictions)
    found = robustness._parts_of_one_label(predictions, strata, weights)
    by_row = robustness._parts_of_labels(predictions, strata, weights)
    np.testing.assert_allclose(found, by_row, atol=1e-12)
