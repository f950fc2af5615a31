"""Logits in three states: what a scenario picks, and the file."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfpl.data.scenario import NINE, Scenario
from dfpl.predictions import (
    PER_ROW,
    STATES,
    PredictionError,
    Predictions,
    concatenate,
    num_hidden,
)

RIGHT, WRONG, NONE = [1.0, 0.0], [0.0, 1.0], [np.nan, np.nan]  # the label is always class 0
BOTH_50 = Scenario.parse("both-50")


def of_class_zero(both: list, image: list, tabular: list, **changes) -> Predictions:
    """Two classes, one split, every row of class 0 and a group of its own."""
    logits = {"both": both, "image": image, "tabular": tabular}
    logits = {state: np.array(rows, dtype=np.float32) for state, rows in logits.items()}
    N = len(both)
    columns = {
        "ids": np.array([f"s{row}" for row in range(N)], dtype=object),
        "groups": np.array([f"g{row}" for row in range(N)], dtype=object),
        "split": np.full(N, "test", dtype=object),
        "label": np.zeros(N, dtype=np.int64),
        "present": np.stack([~np.isnan(logits[s]).any(axis=1) for s in STATES[1:]], axis=1),
        "logits": logits,
        "class_names": ("healthy", "ill"),
        "task": "multiclass",
    }
    return Predictions(**(columns | changes))


FOUR = of_class_zero(
    both=[RIGHT, RIGHT, RIGHT, WRONG],
    image=[RIGHT, WRONG, WRONG, WRONG],
    tabular=[RIGHT, RIGHT, WRONG, RIGHT],
)
GAPS = of_class_zero(  # rows 1 and 4 have no table, row 3 has no image
    both=[RIGHT, NONE, RIGHT, NONE, NONE, WRONG],
    image=[WRONG, RIGHT, RIGHT, NONE, WRONG, RIGHT],
    tabular=[WRONG, NONE, WRONG, RIGHT, NONE, WRONG],
)


def made_up(N: int, C: int = 3, task: str = "multiclass", seed: int = 0) -> Predictions:
    """Random logits; a tenth of the rows has no table, a tenth no image; two splits."""
    rng = np.random.default_rng(seed)
    lot = rng.random(N)
    present = np.stack([lot > 0.1, lot < 0.9], axis=1)
    needed = {"both": present.all(axis=1), "image": present[:, 0], "tabular": present[:, 1]}
    return Predictions(
        ids=np.array([f"s{row}" for row in rng.permutation(N)], dtype=object),
        groups=np.array([f"g{row // 3}" for row in range(N)], dtype=object),
        split=np.where(np.arange(N) % 3 == 0, "val", "test").astype(object),
        label=rng.integers(0, C, N)
        if task == "multiclass"
        else rng.integers(0, 2, (N, C)).astype(np.float32),
        present=present,
        logits={
            state: np.where(rows[:, None], rng.normal(size=(N, C)), np.nan).astype(np.float32)
            for state, rows in needed.items()
        },
        class_names=tuple(f"class {c}" for c in range(C)),
        task=task,  # type: ignore[arg-type]
    )


def test_the_states_are_those_of_the_methods() -> None:
    from dfpl import method

    assert tuple(method.STATES) == STATES


def test_pick_takes_each_row_from_the_state_it_is_in() -> None:
    available = np.array([[True, True], [True, False], [False, True], [False, True]])
    assert FOUR.pick(available).tolist() == [RIGHT, WRONG, WRONG, RIGHT]


def test_pick_refuses_a_row_without_image_and_table() -> None:
    available = np.array([[True, True], [True, False], [False, True], [False, False]])
    with pytest.raises(PredictionError, match="without image and table"):
        FOUR.pick(available)


def test_pick_refuses_a_modality_that_is_absent_by_nature() -> None:
    with pytest.raises(PredictionError, match="lacks by nature"):
        GAPS.pick(np.ones((6, 2), dtype=bool))


@pytest.mark.parametrize("scenario", NINE, ids=str)
def test_pick_scenario_equals_a_loop_over_rows(scenario: Scenario) -> None:
    predictions = made_up(60)
    picked = predictions.pick_scenario(scenario)
    for split in ("val", "test"):
        rows = [row for row in range(60) if predictions.split[row] == split]
        ids = [predictions.ids[row] for row in rows]
        available = scenario.hide(ids, predictions.present[rows])
        for row, (image, table) in zip(rows, available.tolist(), strict=True):
            state = "both" if image and table else "image" if image else "tabular"
            assert np.array_equal(picked[row], predictions.logits[state][row])


def test_hashed_names_keep_groups_together_and_are_others_each_time() -> None:
    groups = np.array(["p1", "p1", "p2", "p3"], dtype=object)
    given = Predictions(**{**vars(FOUR), "groups": groups})
    one, other = given.without_names(), given.without_names()
    assert one.groups[0] == one.groups[1] and len(set(one.groups)) == 3
    assert len(set(one.ids)) == 4 and not set(one.ids) & set(given.ids)
    assert not set(one.ids) & set(other.ids) and not set(one.groups) & set(other.groups)
    assert one.logits["both"] is given.logits["both"] and one.label is given.label


def test_each_split_meets_the_scenario_on_its_own() -> None:
    predictions = made_up(60)
    rows = predictions.split == "val"
    alone = predictions.of_split("val").pick_scenario(BOTH_50)
    assert np.array_equal(predictions.pick_scenario(BOTH_50)[rows], alone)


@given(st.integers(0, 60), st.sampled_from(["tabular", "image", "both"]), st.floats(0, 1))
def test_num_hidden_counts_what_a_draw_hides(n: int, pattern: str, rate: float) -> None:
    scenario = Scenario(pattern=pattern, rate=rate)  # type: ignore[arg-type]
    hidden = (~scenario.draw([str(row) for row in range(n)])).sum(axis=0)
    assert num_hidden(scenario, n) == tuple(hidden)


def assert_identical(a: Predictions, b: Predictions) -> None:
    assert (a.class_names, a.task) == (b.class_names, b.task)
    for name in PER_ROW:
        assert getattr(a, name).dtype == getattr(b, name).dtype
        assert np.array_equal(getattr(a, name), getattr(b, name))
    for state in STATES:
        assert a.logits[state].dtype == b.logits[state].dtype
        assert a.logits[state].shape == b.logits[state].shape
        assert a.logits[state].tobytes() == b.logits[state].tobytes()


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
@pytest.mark.parametrize("N", [0, 1, 50])
def test_parquet_gives_back_every_bit(task: str, N: int) -> None:
    predictions = made_up(N, C=5, task=task)
    again = Predictions.from_parquet(predictions.to_parquet())
    assert_identical(again, predictions)
    assert again.to_parquet() == predictions.to_parquet()


def test_parquet_keeps_odd_names_and_odd_numbers() -> None:
    odd = of_class_zero(
        both=[[-0.0, 1e-45], [3.4e38, -3.4e38]],
        image=[[0.1, 0.2], [1.0, 2.0]],
        tabular=[[0.1, 0.2], [0.3, 0.4]],
        ids=np.array(["", "Pat. 7/β, \n'x'"], dtype=object),
        class_names=("nein", "größer"),
    )
    assert_identical(Predictions.from_parquet(odd.to_parquet()), odd)


def test_splits_can_share_a_file() -> None:
    predictions = made_up(60)
    parts = [predictions.of_split("val"), predictions.of_split("test")]
    read = Predictions.from_parquet(concatenate(parts).to_parquet())
    for part in parts:
        assert_identical(read.of_split(part.split[0]), part)


def test_parts_with_other_classes_are_not_mixed() -> None:
    with pytest.raises(PredictionError, match="differ in their classes"):
        concatenate([made_up(5, C=3), made_up(5, C=4)])


@pytest.mark.parametrize("data", [b"", b"not parquet", made_up(5).to_parquet()[:-20]])
def test_bytes_without_predictions_are_refused(data: bytes) -> None:
    with pytest.raises(PredictionError, match="hold no predictions"):
        Predictions.from_parquet(data)


def test_in_order_of_wants_the_same_samples() -> None:
    assert FOUR.in_order_of(FOUR.ids[::-1]).ids.tolist() == ["s3", "s2", "s1", "s0"]
    with pytest.raises(PredictionError, match="different samples"):
        FOUR.in_order_of(FOUR.ids[:3])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": np.array([0, 0, 0, 2])}, r"label lies in \[0, 2\], there are 2 classes"),
        ({"task": "multilabel"}, "multilabel needs float32"),
        ({"ids": np.array(["a", "a", "b", "c"], dtype=object)}, "ids occur more than once"),
        ({"class_names": ("a", "b", "c")}, r"not float32 \(4, 3\)"),
        ({"present": np.array([[True, True]] * 3 + [[True, False]])}, "mark them by NaN"),
        ({"logits": {"both": FOUR.logits["both"]}}, r"has the states \['both'\]"),
    ],
)
def test_predictions_that_do_not_fit_together_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(PredictionError, match=message):
        of_class_zero([RIGHT] * 4, [RIGHT] * 4, [RIGHT] * 4, **changes)


def test_logits_that_are_not_finite_are_refused() -> None:
    with pytest.raises(PredictionError, match="1 logits of 'both' are not finite, first row 1"):
        of_class_zero([RIGHT, [np.inf, 0.0]], [RIGHT] * 2, [RIGHT] * 2)


def test_numbers_are_computed_without_torch() -> None:
    modules = "sys, dfpl.metrics, dfpl.intervals, dfpl.predictions"
    code = f"import {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
