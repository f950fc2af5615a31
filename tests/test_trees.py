"""Trees as tensors: a walk by hand, and scikit-learn's probabilities for everything it grows."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch

from dfpl.forest import ForestConfig, Labels, _boosting, _random_forest, cells
from dfpl.trees import BY_FIT, Tree, Trees, stump

KINDS = {"random_forest": _random_forest, "boosting": _boosting}
SMALL: dict[str, Any] = {"name": "forest", "num_trees": 12}


def by_hand() -> Tree:
    """Column 1 <= 0.5?  yes: 10.  no, or empty: column 0 <= -1?  yes: 20.  no: 30."""
    return Tree(
        feature=np.array([1, -2, 0, -2, -2]),
        threshold=np.array([0.5, -2, -1, -2, -2]),
        left=np.array([1, -1, 3, -1, -1]),
        right=np.array([2, -1, 4, -1, -1]),
        empty_left=np.array([False, False, True, False, False]),
        is_leaf=np.array([False, True, False, True, True]),
        value=np.array([[0.0], [10], [0], [20], [30]]),
        depth=2,
    )


def make_table(rows: int, seed: int = 0, gaps: float = 0.2) -> np.ndarray:
    """Five columns, the last of codes; a share `gaps` of the cells is empty."""
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(rows, 5)).astype(np.float32)
    table[:, 4] = rng.integers(2, 7, rows)
    table[rng.random(table.shape) < gaps] = np.nan
    return table


def make_label(table: np.ndarray, num_classes: int) -> np.ndarray:
    score = np.nan_to_num(table[:, 0]) + np.nan_to_num(table[:, 1] * table[:, 2])
    return np.digitize(score, np.quantile(score, np.linspace(0, 1, num_classes + 1)[1:-1]))


def grow(kind: str, table: np.ndarray, label: Labels, num_classes: int, **values: Any) -> Trees:
    trees = Trees(num_classes)
    config = ForestConfig.from_dict({**SMALL, "kind": kind, **values})
    trees.plant(*KINDS[kind](config, table, label, num_classes, 0))
    return trees


def probabilities(kind: str, trees: Trees, table: np.ndarray, multilabel: bool) -> np.ndarray:
    scores = trees(torch.from_numpy(table))
    if kind == "boosting":
        scores = scores.sigmoid() if multilabel else scores.softmax(dim=1)
    return scores.numpy()


def of_sklearn(kind: str, table: np.ndarray, label: np.ndarray) -> Any:
    """The same forest as `grow` makes, by scikit-learn alone."""
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier

    if kind == "random_forest":
        model = RandomForestClassifier(12, min_samples_leaf=1, random_state=0)
    else:
        model = HistGradientBoostingClassifier(
            max_iter=12,
            min_samples_leaf=1,
            max_features=5**-0.5,
            early_stopping=False,  # pyright: ignore[reportArgumentType]
            random_state=0,
        )
    return model.fit(table, label)


def test_a_walk_by_hand() -> None:
    trees = Trees(1)
    trees.plant([[by_hand(), by_hand(), stump(1)]], np.array([0.25]))
    nan = torch.nan
    table = torch.tensor(
        [[0.0, 0.5], [0.0, 0.6], [-1.0, 7.0], [-0.9, nan], [nan, nan], [nan, 0.0], [-2.0, nan]]
    )
    expected = [10, 30, 20, 30, 20, 10, 20]
    assert trees(table)[:, 0].tolist() == [2 * value + 0.25 for value in expected]


def test_groups_answer_for_outputs_of_their_own() -> None:
    trees = Trees(2)
    trees.plant([[by_hand(), by_hand()], [by_hand(), stump(1)]], np.array([0.0, 100.0]))
    assert trees(torch.tensor([[0.0, 0.0], [0.0, 1.0]])).tolist() == [[20.0, 110.0], [60.0, 130.0]]


def test_before_anything_is_planted_all_scores_are_equal() -> None:
    assert not Trees(3)(torch.randn(4, 2)).any()
    assert Trees(3)(torch.empty(0, 2)).shape == (0, 3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_classes", [2, 4])
@pytest.mark.parametrize("gaps", [0.0, 0.2])
def test_it_says_what_scikit_learn_says(kind: str, num_classes: int, gaps: float) -> None:
    table = make_table(300, gaps=gaps)
    label = make_label(table, num_classes)
    new = make_table(200, seed=1, gaps=gaps)
    found = probabilities(kind, grow(kind, table, label, num_classes), new, False)
    expected = of_sklearn(kind, table, label).predict_proba(new)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    assert (found.argmax(axis=1) == make_label(new, num_classes)).mean() > 1.3 / num_classes


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_cell_where_training_had_none_follows_the_most_samples(kind: str) -> None:
    table, new = make_table(300, gaps=0.0), make_table(100, seed=1, gaps=0.5)
    label = make_label(table, 3)
    model = of_sklearn(kind, table, label)
    if kind == "boosting":
        expected = model.predict_proba(new)
    else:  # the forest itself refuses them, but its trees know
        expected = np.mean([e.tree_.predict(new) for e in model.estimators_], axis=0)
        expected = expected.reshape(100, 3)
    found = probabilities(kind, grow(kind, table, label, 3), new, False)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_values_at_a_threshold_go_where_scikit_learn_sends_them(kind: str) -> None:
    """Numbers of few digits, of which every one is some threshold's neighbour, and thresholds."""
    table = np.round(make_table(300), 1)
    label = make_label(table, 3)
    trees, model = grow(kind, table, label, 3), of_sklearn(kind, table, label)
    edges = trees.threshold[trees.left != trees.right].numpy().astype(np.float32)
    new = np.random.default_rng(0).choice(edges[np.isfinite(edges)], (500, 5))
    found = probabilities(kind, trees, new, False)
    np.testing.assert_allclose(found, model.predict_proba(new), rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_several_labels(kind: str) -> None:
    """One is always true, one never."""
    table, new = make_table(300), make_table(100, seed=1)
    label = np.stack(
        [make_label(table * sign, 2) for sign in (1, -1)] + [np.ones(300), np.zeros(300)], axis=1
    )
    found = probabilities(kind, grow(kind, table, label.astype(np.float32), 4), new, True)
    if kind == "random_forest":
        two = of_sklearn(kind, table, label).predict_proba(new)[:2]
    else:
        two = [of_sklearn(kind, table, label[:, c]).predict_proba(new) for c in range(2)]
    expected = np.stack([two[0][:, 1], two[1][:, 1], np.ones(100), np.zeros(100)], axis=1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_label_that_may_be_true_or_not(kind: str) -> None:
    table = make_table(300)
    label = make_label(table, 2)
    found = probabilities(
        kind, grow(kind, table, label[:, None].astype(np.float32), 1), table, True
    )
    expected = of_sklearn(kind, table, label).predict_proba(table)[:, 1:]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seen", [[1, 3, 4], [1, 3], [3]])
def test_classes_that_no_training_table_has_are_impossible(kind: str, seen: list[int]) -> None:
    table = make_table(300)
    label = np.array(seen)[make_label(table, 3) % len(seen)]
    found = probabilities(kind, grow(kind, table, label, 6), table, False)
    assert found.shape == (300, 6)
    others = [c for c in range(6) if c not in seen]
    assert not found[:, others].any()
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert (found.argmax(axis=1) == label).mean() > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_without_any_cell_is_no_obstacle(kind: str) -> None:
    table = make_table(100)
    table[:, 1] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trees = grow(kind, table, make_label(table, 3), 3)
    assert trees(torch.from_numpy(make_table(10))).isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_grows_the_same_trees(kind: str) -> None:
    table = make_table(300)
    label = make_label(table, 3)
    first, again = (grow(kind, table, label, 3).state_dict() for _ in range(2))
    for name, value in first.items():
        assert torch.equal(value, again[name]), name


def test_fewer_rows_at_a_time_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    table = make_table(300)
    trees = grow("boosting", table, make_label(table, 3), 3)
    expected = trees(torch.from_numpy(table))
    monkeypatch.setattr("dfpl.trees.AT_ONCE", 100)
    assert torch.equal(trees(torch.from_numpy(table)), expected)


def test_equal_leaves_share_their_values() -> None:
    """With one sample per leaf all are pure: there are as many values as classes."""
    table = make_table(300)
    trees = grow("random_forest", table, make_label(table, 4), 4)
    assert trees.values.shape == (4, 4) and len(trees.leaf) > 500


@pytest.mark.parametrize("kind", KINDS)
def test_trees_of_any_size_are_loaded(kind: str) -> None:
    table = make_table(300)
    planted = grow(kind, table, make_label(table, 3), 3)
    fresh = Trees(3)
    fresh.load_state_dict(planted.state_dict())
    for name in (*BY_FIT, "base"):
        assert getattr(fresh, name).dtype == getattr(planted, name).dtype
    assert torch.equal(fresh(torch.from_numpy(table)), planted(torch.from_numpy(table)))
    fresh.load_state_dict(Trees(3).state_dict())  # and back
    assert not fresh(torch.from_numpy(table)).any()


def test_forests_of_other_classes_are_not_loaded() -> None:
    with pytest.raises(RuntimeError, match="size mismatch for base"):
        Trees(4).load_state_dict(Trees(3).state_dict())


def test_empty_cells_and_levels_never_seen_are_missing() -> None:
    found = cells(torch.tensor([[0.5, torch.nan]] * 3), torch.tensor([[0, 5], [1, 2], [2, 3]]))
    nan = np.nan
    expected = [[0.5, nan, nan, 5], [0.5, nan, nan, 2], [0.5, nan, 2, 3]]
    np.testing.assert_array_equal(found.numpy(), np.array(expected, np.float32))
