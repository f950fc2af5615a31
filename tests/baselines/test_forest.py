"""The forest: what it learns from, what it says without a table, and how it is kept."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from samples import SCHEMA, make_batch, make_packed, make_run

from dfpl.baselines.forest import Config, Model
from dfpl.data.loader import Loader, Statistics, View
from dfpl.data.packed import PackedDataset
from dfpl.data.scenario import Scenario
from dfpl.evaluate import logits_under_scenario
from dfpl.forest import summary
from dfpl.predict import TrainedModel
from dfpl.storage import Storage
from dfpl.train import Runtime, fit
from dfpl.unimodal import LEAST

KINDS = ["random_forest", "boosting"]
PACKED = make_packed(120)
SCENARIO = Scenario(pattern="both", rate=0.5)
CPU = torch.device("cpu")


def grown(packed: PackedDataset, kind: str, scenario: Scenario | None = SCENARIO) -> Model:
    model = Model(Config.from_dict({"kind": kind, "num_trees": 20}), packed.schema)
    train = View.of(packed, "train", scenario)
    model.prepare(train, train.statistics(), seed=0)
    return model.eval()


def logits_of_test_rows(model: Model, packed: PackedDataset) -> np.ndarray:
    statistics = View.of(packed, "train", SCENARIO).statistics()
    return logits_under_scenario(model, Loader(View.of(packed, "test"), statistics, 16, CPU))


def same(first: Model, second: Model) -> bool:
    weights = second.state_dict()
    return all(torch.equal(value, weights[name]) for name, value in first.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_scenario_hides_and_other_splits_hold_changes_nothing(kind: str) -> None:
    spoiled = replace(PACKED, numeric=PACKED.numeric.copy(), category=PACKED.category.copy())
    view = View.of(PACKED, "train", SCENARIO)
    for rows in (view.rows[~view.available[:, 1]], PACKED.rows("val"), PACKED.rows("test")):
        spoiled.numeric[rows] = np.inf
        spoiled.category[rows] = 4
    assert same(grown(spoiled, kind), grown(PACKED, kind))


@pytest.mark.parametrize("kind", KINDS)
def test_it_reads_batches_as_it_read_the_tables_that_it_grew_on(kind: str) -> None:
    """A forest of pure leaves knows its own training samples by heart; a boosted one nearly."""
    train = View.of(PACKED, "train")
    model = grown(PACKED, kind, None)
    found = logits_under_scenario(model, Loader(train, train.statistics(), 16, CPU))
    assert (found.argmax(axis=1) == PACKED.label[train.rows]).mean() > 0.95
    assert (
        logits_of_test_rows(model, PACKED).argmax(axis=1) == PACKED.label[PACKED.rows("test")]
    ).mean() > 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_without_the_table_gets_the_frequencies_of_training(kind: str) -> None:
    packed = make_packed(61)
    model = grown(packed, kind)
    logits = model(make_batch([(1, 0), (1, 1), (1, 0)])).logits
    label = packed.label[packed.rows("train")]
    expected = np.log(np.bincount(label) / len(label))
    np.testing.assert_allclose(logits[[0, 2]], [expected, expected], rtol=1e-6)
    assert not torch.equal(logits[1], logits[0])


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_log_probabilities_and_finite_where_a_leaf_is_sure(kind: str) -> None:
    logits = logits_of_test_rows(grown(PACKED, kind), PACKED).astype(np.float64)
    np.testing.assert_allclose(np.exp(logits).sum(axis=1), 1, rtol=1e-5)
    assert logits.min() >= np.log(LEAST) - 1e-5
    if kind == "random_forest":
        assert logits.min() == pytest.approx(np.log(LEAST))


@pytest.mark.parametrize("kind", KINDS)
def test_several_labels_have_chances_of_their_own(kind: str) -> None:
    several = np.stack([PACKED.label == 0, PACKED.label > 0, PACKED.label == PACKED.label], axis=1)
    schema = PACKED.schema.with_values({"task": "multilabel"})
    packed = replace(PACKED, schema=schema, label=several.astype(np.float32))
    logits = logits_of_test_rows(grown(packed, kind), packed)
    assert np.isfinite(logits).all()
    right = (logits > 0) == several[packed.rows("test")]
    assert (right.mean(axis=0) > [0.65, 0.65, 0.999]).all()


def test_a_level_never_seen_is_an_empty_cell() -> None:
    """Even where the scenario hides all tables that show a level."""
    model, batch = grown(PACKED, "random_forest"), make_batch([(1, 1)] * 4)
    unseen, empty = (batch._replace(category=torch.full((4, 2), code)) for code in (1, 0))
    assert torch.equal(model(unseen).logits, model(empty).logits)


def test_another_seed_grows_other_trees_and_the_same_seed_the_same() -> None:
    train = View.of(PACKED, "train")
    first, same_seed, other = (Model(Config(num_trees=5), PACKED.schema) for _ in range(3))
    for model, seed in ((first, 0), (same_seed, 2**32), (other, 1)):
        model.prepare(train, train.statistics(), seed)
    assert same(first, same_seed) and not torch.equal(
        first.classifier.trees.threshold, other.classifier.trees.threshold[:1]
    )


def test_where_training_has_no_table_all_classes_are_alike() -> None:
    model = grown(PACKED, "random_forest", Scenario(pattern="tabular", rate=1.0))
    logits = logits_of_test_rows(model, PACKED)
    assert np.ptp(logits) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_trained_in_one_epoch_and_kept_without_unpickling(kind: str, tmp_path: Path) -> None:
    run: Any = make_run(PACKED, optim__epochs=9).with_values(
        {"method": {"name": "forest", "kind": kind, "num_trees": 20}}
    )
    fitted = fit(run, PACKED, Runtime())
    assert [row["epoch"] for row in fitted.rows] == [1]
    assert fitted.best_value > 0.5
    TrainedModel.of(run, PACKED.schema, fitted).save(Storage(tmp_path))
    loaded = TrainedModel.load(Storage(tmp_path), CPU)
    view = View.of(PACKED, "test", SCENARIO)
    loader = Loader(view, fitted.statistics, 16, CPU)
    expected = logits_under_scenario(fitted.method, loader)
    np.testing.assert_array_equal(logits_under_scenario(loaded.method, loader), expected)


def test_tables_of_one_kind_of_column_are_read() -> None:
    for schema, columns in (
        (SCHEMA.with_values({"numeric": []}), {"numeric": PACKED.numeric[:, :0]}),
        (SCHEMA.with_values({"category": {}}), {"category": PACKED.category[:, :0]}),
    ):
        packed = replace(PACKED, schema=schema, **columns)
        assert np.isfinite(logits_of_test_rows(grown(packed, "random_forest"), packed)).all()


def test_a_series_is_summed_up_by_its_valid_steps_by_hand() -> None:
    nan = torch.nan
    series = torch.tensor(
        [[[1.0, 0], [4, 1], [-2, 1]], [[5, 1], [nan, nan], [9, 9]], [[7, 7], [7, 7], [7, 7]]]
    )
    found = summary(series, torch.tensor([3, 1, 0]))
    # mean, least, largest and last of both channels
    assert found[0].tolist() == pytest.approx([1, 2 / 3, -2, 0, 4, 1, -2, 1])
    assert found[1].tolist() == [5, 1, 5, 1, 5, 1, 5, 1]
    assert found[2].isnan().all()
    assert summary(torch.zeros(2, 0, 0), torch.zeros(2, dtype=torch.long)).shape == (2, 0)


def test_a_series_without_columns_is_learned_from() -> None:
    packed = make_packed(120, kind="columns and series")
    schema = packed.schema.with_values({"numeric": [], "category": {}})
    nothing = {"numeric": packed.numeric[:, :0], "category": packed.category[:, :0]}
    packed = replace(packed, schema=schema, **nothing)
    logits = logits_of_test_rows(grown(packed, "random_forest", None), packed)
    assert (logits.argmax(axis=1) == packed.label[packed.rows("test")]).mean() > 0.6


def test_no_table_is_read_that_statistics_would_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[np.ndarray] = []
    tables = PackedDataset.tables

    def spy(self: PackedDataset, rows: np.ndarray) -> Any:
        read.append(rows)
        return tables(self, rows)

    train = View.of(PACKED, "train", SCENARIO)
    statistics: Statistics = train.statistics()
    monkeypatch.setattr(PackedDataset, "tables", spy)
    Model(Config(num_trees=2), PACKED.schema).prepare(train, statistics, seed=0)
    (rows,) = read
    np.testing.assert_array_equal(rows, train.rows[train.available[:, 1]])
