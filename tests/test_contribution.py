"""What each modality contributes: by hand, and the axioms of Shapley's value."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, recall_score, roc_auc_score

from dfpl.contribution import complete, mean_over_classes, scores_by_class, shapley
from dfpl.intervals import resample_weights
from dfpl.predictions import PredictionError, Predictions


def predictions(task: str = "multiclass", seed: int = 0, N: int = 60) -> Predictions:
    """Logits that lean to the truth, most with both modalities; the first two rows have gaps."""
    rng = np.random.default_rng(seed)
    label = np.arange(N) % 3
    several = (rng.random((N, 3)) < 0.4).astype(np.float32)
    lean = several - 0.5 if task == "multilabel" else np.eye(3, dtype=np.float32)[label]
    names = np.array([f"s{i:02d}" for i in range(N)], dtype=object)
    present = np.ones((N, 2), dtype=bool)
    present[0, 0] = present[1, 1] = False
    logits = {
        state: (strength * lean + rng.normal(size=(N, 3))).astype(np.float32)
        for state, strength in {"both": 2.0, "image": 1.5, "tabular": 0.5}.items()
    }
    logits["both"][:2] = np.nan
    logits["image"][0] = logits["tabular"][1] = np.nan
    return Predictions(
        ids=names,
        groups=names,
        split=np.array(["test"] * N, dtype=object),
        label=several if task == "multilabel" else label,
        present=present,
        logits=logits,
        class_names=("a", "b", "c"),
        task="multilabel" if task == "multilabel" else "multiclass",
    )


def test_by_hand() -> None:
    """v(nothing) = 0.25, v(both) = 0.875, v(image) = 0.75, v(table) = 0.5: all exact in binary."""
    found = shapley(np.array([0.25, 0.875, 0.75, 0.5]))
    assert found.image == (0.5 + 0.375) / 2 == 0.4375
    assert found.tabular == (0.25 + 0.125) / 2 == 0.1875
    assert found.interaction == -0.125


def test_contributions_add_up_and_equal_players_get_the_same() -> None:
    values = np.random.default_rng(0).random((4, 5, 3))
    found = shapley(values)
    np.testing.assert_allclose(found.image + found.tabular, values[1] - values[0])
    swapped = shapley(values[[0, 1, 3, 2]])
    np.testing.assert_array_equal(swapped.image, found.tabular)
    values[3] = values[2]
    np.testing.assert_array_equal(shapley(values).image, shapley(values).tabular)
    values[2] = values[0]
    values[1] = values[3]
    np.testing.assert_array_equal(shapley(values).image, 0.0)  # a player who changes nothing


def test_each_class_as_scikit_learn_scores_it() -> None:
    found = complete(predictions())
    assert len(found) == 58
    once = np.ones((1, 58))
    truth = np.eye(3)[found.label]
    shares = truth.mean(axis=0)
    recalls = scores_by_class(found, "balanced_accuracy", once)[:, 0]
    areas = scores_by_class(found, "auroc", once)[:, 0]
    precisions = scores_by_class(found, "prauc", once)[:, 0]
    for place, state in enumerate(("both", "image", "tabular"), start=1):
        logits = found.logits[state].astype(np.float64)
        scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        chosen = logits.argmax(axis=1)
        for c in range(3):
            recall = recall_score(truth[:, c], chosen == c)
            assert recalls[place, c] == pytest.approx(recall)
            assert areas[place, c] == pytest.approx(roc_auc_score(truth[:, c], scores[:, c]))
            expected = average_precision_score(truth[:, c], scores[:, c])
            assert precisions[place, c] == pytest.approx(expected)
    np.testing.assert_allclose(recalls[0], shares)
    np.testing.assert_allclose(precisions[0], shares)
    np.testing.assert_array_equal(areas[0], 0.5)


def test_several_labels() -> None:
    found = complete(predictions("multilabel"))
    once = np.ones((1, len(found)))
    truth, chosen = found.label > 0.5, found.logits["image"] > 0
    right = (truth == chosen).mean(axis=0)
    p = truth.mean(axis=0)
    accuracy = scores_by_class(found, "accuracy", once)[:, 0]
    np.testing.assert_allclose(accuracy[2], right)
    np.testing.assert_allclose(accuracy[0], p * p + (1 - p) * (1 - p))
    balanced = scores_by_class(found, "balanced_accuracy", once)[:, 0]
    sides = [(chosen & truth).sum(0) / truth.sum(0), (~chosen & ~truth).sum(0) / (~truth).sum(0)]
    np.testing.assert_allclose(balanced[2], np.mean(sides, axis=0))
    np.testing.assert_array_equal(balanced[0], 0.5)


def test_whole_weights_are_repeated_rows() -> None:
    found = complete(predictions())
    weights = resample_weights(found.groups, 3, seed=1)
    scores = scores_by_class(found, "balanced_accuracy", weights)
    rows = np.repeat(np.arange(len(found)), weights[1].astype(int))
    label, chosen = found.label[rows], found.logits["both"][rows].argmax(axis=1)
    expected = [recall_score(label == c, chosen == c) for c in range(3)]
    np.testing.assert_allclose(scores[1, 1], expected)
    np.testing.assert_allclose(scores[0, 1], np.bincount(label) / len(rows))


def test_a_class_without_rows_has_no_score_and_does_not_count_in_the_mean() -> None:
    found = complete(predictions())
    found = found.take(np.flatnonzero(found.label < 2))
    scores = scores_by_class(found, "balanced_accuracy", np.ones((1, len(found))))
    assert np.isnan(scores[:, 0, 2]).all()
    np.testing.assert_allclose(mean_over_classes(scores)[:, 0, 0], scores[:, 0, :2].mean(axis=1))


def test_without_a_complete_sample_nothing_can_be_told() -> None:
    with pytest.raises(PredictionError, match="no sample has an image and a table"):
        complete(predictions().take(np.array([0, 1])))
