"""Linear probes: R^2 by hand and by theory, representations row by row, and refusals by name."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console
from samples import MIXED, make_batch, make_method, make_packed, stages
from sklearn.metrics import r2_score

from dfpl.data.batch import Batch
from dfpl.data.loader import Loader, View
from dfpl.data.packed import DataError, PackedDataset
from dfpl.evaluate import represent, representations_of
from dfpl.fields import ConfigError
from dfpl.intervals import estimate
from dfpl.method import MODALITIES, Method
from dfpl.probe import (
    PENALTIES,
    Factors,
    Probed,
    Represented,
    conclusions,
    predicted,
    probe,
    probe_report,
    r_squared,
)

CPU = torch.device("cpu")
BRANCHED = ("dfpl", "drfuse", "if_mmin", "shaspec", "stil")
STAGES = stages(*BRANCHED)


def packed_with_gaps() -> PackedDataset:
    """60 samples, 15 of the test split, of which the first 5 lack a modality by nature."""
    packed = make_packed(60)
    rows = packed.rows("test")
    sample = packed.sample.copy()
    sample.loc[rows[:2], "has_image"] = False
    sample.loc[rows[2:5], "has_table"] = False
    return replace(packed, sample=sample)


PACKED = packed_with_gaps()
METHOD = make_method("dfpl", 0)


def make_loader(batch_size: int, packed: PackedDataset = PACKED) -> Loader:
    statistics = View.of(packed, "train").statistics()
    return Loader(View.of(packed, "test"), statistics, batch_size, CPU)


def test_r_squared_by_hand() -> None:
    truth, told = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([[0.0], [1.0], [2.0], [1.0]])
    weights = np.array([[1.0, 1, 1, 1], [0, 2, 1, 1], [4, 0, 0, 0]])
    # squares of errors 4, around the mean 1.5: 5; then 4, and 2.75 around the mean 1.75
    expected = [1 - 4 / 5, 1 - 4 / 2.75, np.nan]
    np.testing.assert_allclose(r_squared(truth, told, weights)[:, 0], expected, rtol=1e-12)


def test_r_squared_is_that_of_scikit_learn_and_keeps_its_digits_far_from_0() -> None:
    rng = np.random.default_rng(0)
    truth, told = 1e6 + rng.normal(size=(2, 40, 3))
    weights = rng.integers(0, 4, (5, 40)).astype(np.float64)
    expected = [
        r2_score(truth, told, sample_weight=own, multioutput="raw_values") for own in weights
    ]
    np.testing.assert_allclose(r_squared(truth, told, weights), expected, rtol=1e-7)


def ridge(x: np.ndarray, y: np.ndarray, penalty: float, other: np.ndarray) -> np.ndarray:
    """The normal equations, with an intercept that is not penalised."""
    centre = x.mean(axis=0)
    slope = np.linalg.solve(
        (x - centre).T @ (x - centre) + penalty * np.eye(x.shape[1]),
        (x - centre).T @ (y - y.mean()),
    )
    return y.mean() + (other - centre) @ slope


@pytest.mark.parametrize("width", [3, 30])  # fewer and more than samples
def test_a_prediction_is_ridge_regression_with_the_penalty_that_leaving_one_out_finds(
    width: int,
) -> None:
    rng = np.random.default_rng(1)
    x, other = 5 + 3 * rng.normal(size=(12, width)), 5 + 3 * rng.normal(size=(7, width))
    factors = np.stack([x @ rng.normal(size=width) + rng.normal(size=12), rng.normal(size=12)], 1)
    told = predicted(x, factors, other)
    mean, std = x.mean(axis=0), x.std(axis=0)
    scaled, rest = (x - mean) / std, np.arange(12)
    for column, y in enumerate(factors.T):
        errors = []
        for penalty in 12 * PENALTIES:
            outside = [
                ridge(scaled[rest != i], y[rest != i], penalty, scaled[[i]])[0] - y[i] for i in rest
            ]
            errors.append(np.mean(np.square(outside)))
        best = 12 * PENALTIES[int(np.argmin(errors))]
        expected = ridge(scaled, y, best, (other - mean) / std)
        np.testing.assert_allclose(told[:, column], expected, rtol=1e-6, atol=1e-8)


def test_one_factor_and_a_dead_unit_are_understood() -> None:
    x = np.stack([np.arange(9.0), np.full(9, 7.0)], axis=1).astype(np.float32)
    told = predicted(x, 2 * x[:, :1].astype(np.float64) + 1, x[:4])
    np.testing.assert_allclose(told, [[1], [3], [5], [7]], atol=1e-3)


def represented(split: Any, seed: int, size: int, **vectors: Any) -> Represented:
    names = [f"{split}{i}" for i in range(size)]
    return Represented(split, names, np.array(names, dtype=object), vectors)


def made_up(size: int) -> tuple[Represented, Represented, Factors, np.ndarray]:
    """Three independent factors of variance 1, and representations of which theory says R^2.

    x = A y + s e,  e independent of variance 1: of one factor y_k, with a = column k of A,

        R^2 = a^T (A A^T + s^2 I)^-1 a
    """
    rng = np.random.default_rng(7)
    mixing, noise = rng.normal(size=(6, 2)), 1.5
    parts, tables = [], []
    for split in ("train", "test"):
        y = rng.normal(size=(size, 3))
        told = y[:, :2] @ mixing.T + noise * rng.normal(size=(size, 6))
        names = {"image shared tokens": told, "tabular specific tokens": rng.normal(size=(size, 6))}
        parts.append(represented(split, 0, size, **{k: np.float32(v) for k, v in names.items()}))
        tables.append(pd.DataFrame(y, index=parts[-1].ids))
    table = pd.concat(tables)
    table.columns = ["shared", "image_only", "table_only"]
    covariance = mixing @ mixing.T + noise**2 * np.eye(6)
    expected = np.diag(mixing.T @ np.linalg.solve(covariance, mixing))
    return parts[0], parts[1], Factors(Path("factors.csv"), table), np.append(expected, 0.0)


def test_known_linear_maps_with_noise_give_the_r_squared_that_theory_says() -> None:
    train, test, factors, expected = made_up(8000)
    found = probe(train, test, factors, resamples=200)
    assert [own[:2] for own in found[:3]] == [
        ("image shared tokens", name) for name in ("shared", "image_only", "table_only")
    ]
    for own, value in zip(found[:3], expected, strict=True):
        r2, low, high = estimate(own.scores)
        assert abs(r2 - value) < 0.03 and low < value < high
    assert expected[:2].min() > 0.15  # the factors are told, and not wholly
    assert expected[:2].max() < 0.95


def test_a_representation_that_knows_nothing_has_an_r_squared_of_0() -> None:
    train, test, factors, _ = made_up(400)
    for own in probe(train, test, factors, resamples=200)[3:]:
        r2, low, high = estimate(own.scores)
        assert own.representation == "tabular specific tokens"
        assert abs(r2) < 0.03 and low < 0.01 and -0.05 < low <= high < 0.05


def test_neither_the_order_of_rows_nor_that_of_the_file_matters() -> None:
    train, test, factors, _ = made_up(50)
    rng = np.random.default_rng(0)

    def shuffled(part: Represented) -> Represented:
        order = rng.permutation(len(part.ids))
        return Represented(
            part.split,
            [part.ids[i] for i in order],
            part.groups[order],
            {name: vectors[order] for name, vectors in part.vectors.items()},
        )

    mixed = Factors(factors.path, factors.table.sample(frac=1, random_state=0))
    first = probe(train, test, factors, resamples=20)
    second = probe(shuffled(train), shuffled(test), mixed, resamples=20)
    for a, b in zip(first, second, strict=True):
        assert a[:2] == b[:2]
        np.testing.assert_allclose(a.scores, b.scores, rtol=1e-6)


def test_rows_of_a_group_are_resampled_together() -> None:
    """In pairs of rows that are the same, the scores vary as those of single rows do."""
    train, test, factors, _ = made_up(200)
    twice = Represented(
        "test",
        test.ids * 2,
        np.concatenate([test.groups] * 2),
        {name: np.concatenate([vectors] * 2) for name, vectors in test.vectors.items()},
    )
    once = probe(train, test, factors, resamples=50)
    for a, b in zip(once, probe(train, twice, factors, resamples=50), strict=True):
        np.testing.assert_allclose(a.scores, b.scores, rtol=1e-9)


def scored(name: str, factor: str, *scores: float) -> Probed:
    return Probed(name, factor, np.array(scores))


def test_conclusions_by_hand() -> None:
    """Means over representations and factors; the second number of each is of a resample."""
    found = [
        scored("image shared tokens", "shared_0", 0.8, 0.8),
        scored("image shared tokens", "shared_1", 0.6, 0.6),
        scored("image shared tokens", "image_only", 0.2, 0.2),
        scored("image shared tokens", "table_only", 0.0, 0.0),
        scored("tabular shared tokens", "shared_0", 0.4, 0.4),
        scored("tabular shared tokens", "table_only", 0.4, 0.4),
        scored("tabular shared tokens", "image_only", -0.1, -0.1),
        scored("image specific tokens", "shared_0", 0.9, 0.9),
        scored("image specific tokens", "image_only", 0.5, 0.5),
    ]
    assert list(conclusions(found)) == [
        "'shared' tells MORE of what is shared (R^2 0.60 [0.60, 0.60]) than of what its modality "
        "alone shows (R^2 0.30 [0.30, 0.30]): difference 0.30 [0.30, 0.30]",
        "'specific' tells LESS of what its modality alone shows (R^2 0.50 [0.50, 0.50]) than of "
        "what is shared (R^2 0.90 [0.90, 0.90]): difference -0.40 [-0.40, -0.40]",
        "of what is shared, 'shared' tells LESS than 'specific': difference -0.30 [-0.30, -0.30]",
        "of what its modality alone shows, 'specific' tells MORE than 'shared': difference 0.20 "
        "[0.20, 0.20]",
        "chance is 0; measured, by what only the other modality shows: R^2 -0.05 [-0.05, -0.05], "
        "above 0 only where factors are correlated",
    ]


def test_a_difference_within_chance_is_not_told_as_one() -> None:
    found = [
        scored("image shared tokens", "shared", 0.5, 0.3, 0.7),
        scored("image shared tokens", "image_only", 0.4, 0.4, 0.4),
    ]
    (line,) = conclusions(found)  # nothing is specific, and no factor is of the other modality
    assert "NO MORE AND NO LESS" in line and "difference 0.10 [-0.09, 0.29]" in line


def test_the_report_has_a_row_per_representation_and_says_what_is_probed() -> None:
    train, test, factors, _ = made_up(60)
    console = Console(width=140)
    with console.capture() as capture:
        console.print(probe_report(probe(train, test, factors, resamples=20), train, test))
    text = " ".join(capture.get().split())
    assert "60 complete samples of the test split, in the state both" in text
    assert "fitted on the 60 complete samples of the train split" in text
    assert "image shared tokens" in text and "tabular specific tokens" in text
    assert text.count("tells") == 4 and "chance is 0" in text


def write(folder: Path, **columns: Any) -> Path:
    pd.DataFrame(columns).to_csv(folder / "factors.csv", index=False)
    return folder / "factors.csv"


def test_factors_are_the_columns_named_by_what_shows_them(tmp_path: Path) -> None:
    path = write(
        tmp_path, id=["007", "8"], shared_0=[1, 2], model=["a", "b"], table_only=[0.5, -1e-3]
    )
    factors = Factors.read(path)
    assert factors.names == ["shared_0", "table_only"]
    part = represented("test", 0, 0)
    part = replace(part, ids=["8", "007"])
    np.testing.assert_array_equal(factors.of(part)[0], [[2, -1e-3], [1, 0.5]])


@pytest.mark.parametrize(
    ("columns", "complaints"),
    [
        ({"name": ["a"], "shared": [1]}, ["needs a column id", "it has name, shared"]),
        ({"id": ["a"], "model": ["x"]}, ["begin with shared, image_only, table_only"]),
        (
            {"id": ["a", "a", "b"], "shared": ["1", "x", "y"], "image_only": ["1", "2", "z"]},
            [
                "1 rows repeat an id",
                "'shared' is numeric, but 2 cells are no numbers",
                "'image_only' is numeric, but 1 cells",
            ],
        ),
    ],
)
def test_a_file_that_holds_no_factors_is_refused(
    tmp_path: Path, columns: dict[str, Any], complaints: list[str]
) -> None:
    with pytest.raises(DataError) as error:
        Factors.read(write(tmp_path, **columns))
    for complaint in complaints:
        assert complaint in str(error.value)


def test_samples_without_factors_and_factors_that_say_nothing_are_counted_by_name() -> None:
    train, test, factors, _ = made_up(10)
    table = factors.table.drop(index=test.ids[:3])
    table.loc[train.ids, "shared"] = 1.0
    table.loc[train.ids[:2], "image_only"] = np.nan
    with pytest.raises(DataError) as error:
        probe(train, test, Factors(factors.path, table))
    assert str(error.value).splitlines() == [
        "factors.csv: factor 'shared' does not vary over the 10 complete samples of the train "
        "split, so there is nothing to predict; delete its column",
        "factors.csv: factor 'image_only' is no finite number for 2 of the 10 complete samples of "
        "the train split",
        "factors.csv lacks 3 of the 10 complete samples of the test split, e.g. 'test0'; give the "
        "factors.csv that lies beside the raw data which was packed",
    ]


@torch.no_grad()
def test_dfpl_gives_the_fields_of_its_output() -> None:
    batch = make_batch(MIXED)
    output, found = METHOD.eval()(batch), METHOD.representations(batch)
    assert len(found) == 8
    for modality in MODALITIES:
        for branch in ("shared", "specific"):
            own = getattr(getattr(output, modality), branch)
            assert torch.equal(found[f"{modality} {branch} tokens"], own.token_mean)
            mean = own.prototypes.mean(dim=1)
            assert torch.equal(found[f"{modality} {branch} prototypes"], mean)


def test_without_prototypes_there_are_tokens_alone() -> None:
    off = {"distribution_alignment": False, "semantic_alignment": False, "scale": "global"}
    method = make_method("dfpl", 0, prototypes=False, **off)
    found = method.representations(make_batch(MIXED))
    assert len(found) == 4 and all(name.endswith(" tokens") for name in found)


@torch.no_grad()
@pytest.mark.parametrize("name", ["drfuse", "shaspec", "stil"])
def test_baselines_give_what_they_call_shared_and_specific(name: str) -> None:
    method, batch = make_method(name, 0).eval(), make_batch(MIXED)
    output, found = method(batch), method.representations(batch)
    for modality in MODALITIES:
        own = getattr(output, modality)
        what = "features" if name == "shaspec" else "vectors"
        assert torch.equal(found[f"{modality} shared {what}"], own.shared)
        if name != "stil":
            assert torch.equal(found[f"{modality} specific {what}"], own.specific)


@torch.no_grad()
def test_what_stil_calls_specific_is_what_its_estimator_reads() -> None:
    method, batch = make_method("stil", 0).eval(), make_batch(MIXED)
    output, found = method(batch), method.representations(batch)
    for modality in MODALITIES:
        estimator: Any = getattr(method, modality).estimator
        guess = estimator(found[f"{modality} specific tokens"])
        torch.testing.assert_close(guess, getattr(output, modality).guess)


@torch.no_grad()
def test_if_mmin_gives_the_features_of_its_student() -> None:
    method, batch = make_method("if_mmin", 1).eval(), make_batch(MIXED)
    output, found = method(batch), method.representations(batch)
    for column, modality in enumerate(MODALITIES):
        assert torch.equal(found[f"{modality} shared features"], output.shared[:, column])
        share: Any = method.student
        made = share.share(found[f"{modality} specific features"])
        torch.testing.assert_close(made, found[f"{modality} shared features"])


@torch.no_grad()
@pytest.mark.parametrize(("name", "stage"), STAGES, ids=str)
def test_a_representation_is_of_one_branch_and_sees_its_modality_alone(
    name: str, stage: int
) -> None:
    method, batch = make_method(name, stage).eval(), make_batch([(1, 1)] * 4)
    whole = method.representations(batch)
    assert {tuple(key.split()[:2]) for key in whole} == {
        (modality, branch) for modality in MODALITIES for branch in ("shared", "specific")
    }
    for column, modality in enumerate(MODALITIES):
        available = torch.zeros(4, 2, dtype=torch.bool)
        available[:, column] = True
        taken = _without_the_rest(batch, available)
        for key, vectors in method.representations(taken).items():
            assert vectors.shape == (4, whole[key].shape[1])
            if key.startswith(modality):
                torch.testing.assert_close(vectors, whole[key], rtol=1e-5, atol=1e-6)


def _without_the_rest(batch: Batch, available: torch.Tensor) -> Batch:
    image = batch.image.masked_fill(~available[:, :1, None, None], torch.nan)
    numeric = batch.numeric.masked_fill(~available[:, 1:], torch.nan)
    return batch._replace(image=image, numeric=numeric, available=available)


@pytest.mark.parametrize("batch_size", [1, 4, 1000])
def test_every_row_comes_once_in_order_and_what_is_absent_is_nan(batch_size: int) -> None:
    loader = make_loader(batch_size)
    found = representations_of(METHOD, loader)
    _, batch = next(make_loader(1000).in_order())
    with torch.no_grad():
        expected = METHOD.representations(batch)
    assert list(found) == list(expected)
    for name, vectors in found.items():
        there = loader.view.available[:, MODALITIES.index(name.split()[0])]
        assert vectors.dtype == np.float32 and len(vectors) == 15
        np.testing.assert_array_equal(np.isnan(vectors).all(axis=1), ~there)
        np.testing.assert_allclose(vectors[there], expected[name].numpy()[there], atol=1e-5)


def test_only_complete_samples_are_probed() -> None:
    found = represent(METHOD, make_loader(4), "test")
    rows = PACKED.rows("test")[5:]
    assert found.ids == PACKED.ids(rows) and found.groups.tolist() == found.ids
    assert found.where == "the 10 complete samples of the test split"
    assert all(len(v) == 10 and np.isfinite(v).all() for v in found.vectors.values())


def test_a_method_without_representations_is_told_which_have_them() -> None:
    with pytest.raises(ConfigError) as error:
        represent(make_method("late_fusion", 0), make_loader(4), "test")
    assert str(error.value) == (
        "late_fusion has no shared and specific representations to probe; those that have: "
        + ", ".join(BRANCHED)
    )
    assert Method.representations(METHOD, make_batch(MIXED)) == {}
