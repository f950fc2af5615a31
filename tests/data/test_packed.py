"""A packed data set: what is saved is what is loaded, and what is damaged says so."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dfpl.data.packed import DataError, PackedDataset, Schema, sample_problems


def made_up(**changes: Any) -> PackedDataset:
    """Six samples: two classes in each split, one sample a group, every cell filled."""
    splits = ["train", "train", "val", "val", "test", "test"]
    packed = PackedDataset(
        schema=Schema(
            name="made_up",
            class_names=["cat", "dog"],
            image_size=2,
            numeric=["weight"],
            category={"colour": ["red"]},
        ),
        image=np.arange(6 * 12, dtype=np.uint8).reshape(6, 2, 2, 3),
        numeric=np.array([[1], [2], [np.nan], [4], [5], [6]], dtype=np.float32),
        category=np.array([[2], [0], [1], [2], [2], [2]], dtype=np.int32),
        label=np.array([0, 1, 0, 1, 0, 1]),
        sample=pd.DataFrame(
            {
                "id": list("abcdef"),
                "group": list("uvwxyz"),
                "split": splits,
                "has_image": [True] * 6,
                "has_table": [True] * 5 + [False],
            }
        ),
    )
    return replace(packed, **changes)


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    packed = made_up()
    loaded = packed.save(tmp_path / "deep" / "folder")
    assert isinstance(loaded.image, np.memmap)
    assert loaded.schema.content_hash == packed.hash() == loaded.hash()
    for name in ("image", "numeric", "category", "label"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(packed, name))
    pd.testing.assert_frame_equal(loaded.sample, packed.sample)
    assert loaded.problems() == []


def test_a_loaded_data_set_can_be_saved_elsewhere_and_in_its_place(tmp_path: Path) -> None:
    loaded = made_up().save(tmp_path / "one")
    again = loaded.save(tmp_path / "one")
    copy = again.save(tmp_path / "two")
    np.testing.assert_array_equal(copy.image, made_up().image)
    assert copy.schema.content_hash == loaded.schema.content_hash


def test_a_save_that_breaks_off_leaves_nothing_that_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = made_up()
    packed.save(tmp_path)
    monkeypatch.setattr(PackedDataset, "hash", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        packed.save(tmp_path)
    with pytest.raises(DataError, match="no packed data set in"):
        PackedDataset.load(tmp_path)


@pytest.mark.parametrize("name", ["image", "numeric", "category", "label"])
def test_the_hash_sees_every_array(name: str) -> None:
    array = getattr(made_up(), name).copy()
    array[3] = 0
    assert made_up(**{name: array}).hash() != made_up().hash()


def test_the_hash_sees_samples_and_facts_but_not_itself() -> None:
    packed = made_up()
    renamed = packed.schema.with_values({"class_names": ["cat", "fox"]})
    hashed = packed.schema.with_values({"content_hash": "0123"})
    assert replace(packed, schema=renamed).hash() != packed.hash()
    assert replace(packed, sample=packed.sample[::-1]).hash() != packed.hash()
    assert replace(packed, schema=hashed).hash() == packed.hash()


def test_rows_of_a_split_and_their_contents() -> None:
    packed = made_up()
    rows = packed.rows("val")
    assert rows.tolist() == [2, 3]
    assert packed.ids(rows) == ["c", "d"]
    assert packed.images(rows)[1, 0, 0].tolist() == [36, 37, 38]
    assert packed.tables(rows)[1].tolist() == [[1], [2]]
    assert packed.present(np.array([5, 0])).tolist() == [[True, False], [True, True]]


@pytest.mark.parametrize(
    ("column", "row", "value", "told"),
    [
        ("id", 1, "a", "1 ids occur more than once, e.g. 'a'"),
        ("id", 1, None, "1 samples have no id, first in row 1"),
        ("group", 2, "u", "1 groups lie in more than one split, e.g. 'u'"),
        ("group", 2, None, "1 samples have no group, first in row 2"),
        ("split", 1, "dev", "a split is one of train, val, test, found 'dev'"),
        ("split", 1, None, "1 samples have no split, first in row 1"),
        ("has_image", 5, False, "1 samples have neither image nor table, e.g. 'f'"),
    ],
)
def test_a_bad_sample_is_named(column: str, row: int, value: Any, told: str) -> None:
    sample = made_up().sample
    sample.loc[row, column] = value
    assert told in sample_problems(sample)


def test_an_empty_split_is_named() -> None:
    sample = made_up().sample.iloc[:4]
    assert sample_problems(sample) == ["the test split is empty"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"label": np.array([0, 1, 0, 0, 0, 1])}, "no sample of class dog in the val split"),
        ({"label": np.array([0, 1, 0, 1, 0, 2])}, "a label is 2, but labels run from 0 to 1"),
        ({"label": np.array([0, 1, 0, 1, 0, -1])}, "a label is -1, but labels run from 0 to 1"),
        (
            {"category": np.array([[2], [0], [1], [2], [3], [2]], dtype=np.int32)},
            "category column 'colour' holds code 3, but codes run from 0 to 2",
        ),
        (
            {"category": np.array([[2], [0], [1], [2], [-1], [2]], dtype=np.int32)},
            "category column 'colour' holds code -1, but codes run from 0 to 2",
        ),
        (
            {"numeric": np.full((6, 1), np.inf, dtype=np.float32)},
            "the numeric columns hold infinities; empty cells are NaN",
        ),
    ],
)
def test_a_bad_array_is_named(changes: dict[str, np.ndarray], told: str) -> None:
    assert made_up(**changes).problems() == [told]


def test_one_class_only_is_a_problem() -> None:
    schema = made_up().schema.with_values({"class_names": ["cat"]})
    packed = made_up(schema=schema, label=np.zeros(6, dtype=np.int64))
    assert "the label has one class only (cat)" in packed.problems()[0]


@pytest.mark.parametrize("name", ["image.npy", "numeric.npy", "sample.parquet", "schema.json"])
def test_a_truncated_file_is_named_as_damage(tmp_path: Path, name: str) -> None:
    made_up().save(tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=f"the packed data set in {tmp_path} is damaged: "):
        PackedDataset.load(tmp_path)


def test_an_absent_array_and_one_of_another_data_set_are_named_as_damage(tmp_path: Path) -> None:
    made_up().save(tmp_path)
    np.save(tmp_path / "label.npy", np.zeros((6, 2), dtype=np.float32))
    with pytest.raises(DataError, match=r"label has shape \(6, 2\), expected \(6,\)"):
        PackedDataset.load(tmp_path)
    (tmp_path / "label.npy").unlink()
    with pytest.raises(DataError, match=r"damaged: .*label\.npy"):
        PackedDataset.load(tmp_path)


def test_another_format_asks_to_pack_again(tmp_path: Path) -> None:
    made_up().save(tmp_path)
    values = json.loads((tmp_path / "schema.json").read_text())
    (tmp_path / "schema.json").write_text(json.dumps({**values, "format": 0}))
    with pytest.raises(DataError, match="has format 0, this version reads 1; pack the raw data"):
        PackedDataset.load(tmp_path)
