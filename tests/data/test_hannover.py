"""Chest films and laboratory values of the Hannover repository, through the source `table` alone.

dfpl data check table ../shared/data/hannover_cxr/table.csv --group patient_id --infinite limit
    --exclude icu_admission_offset,icu_release_offset,death_offset,projection,modality,width,height

The three offsets define the label or lie in the future. Every film from intensive care is a bedside
one of 640 x 524 pixels, so projection, modality and size nearly tell the label.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dfpl.data.packed import PackedDataset
from dfpl.data.sources import table
from dfpl.predict import read_rows

FOLDER = Path(__file__).parents[3] / "shared/data/hannover_cxr"
RAW = FOLDER / "table.csv"
LEAKS = ["icu_admission_offset", "icu_release_offset", "death_offset"]
NEAR_LEAKS = ["projection", "modality", "width", "height"]
LABORATORY = {
    **{"crp": 0.74, "d-dimer": 0.40, "factor_xii": 0.30, "ldh": 0.55, "lymphocytes": 0.43},
    **{"neutrophils": 0.43, "pco2": 0.72, "po2": 0.72},
}
"""Share of the films with a value, as the data set's README gives it."""
OPTIONS = table.Options(
    group="patient_id", infinite="limit", image_size=32, exclude=",".join([*LEAKS, *NEAR_LEAKS])
)
pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not RAW.is_file(), reason="the real data sets are not beside this checkout"),
]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> PackedDataset:
    return table.pack(RAW, tmp_path_factory.mktemp("hannover") / "out", OPTIONS, workers=1)


def test_the_check_finds_nothing_wrong_and_the_counts_of_the_readme() -> None:
    report = table.check(RAW, OPTIONS)
    assert report.problems == []
    counts = {what: found for what, found, _ in report.counts}
    assert (counts["name"], counts["samples"], counts["groups"]) == ("hannover_cxr", 243, 71)
    assert (counts["with image"], counts["with table"], counts["left out"]) == (243, 243, 0)
    assert str(counts["class icu"]).startswith("150 (")
    assert str(counts["class ward"]).startswith("93 (")
    limited = [text for text in report.warnings if "infinite numbers are replaced" in text]
    assert [text.split(":")[0] for text in limited] == [
        "column 'crp_val'",
        "column 'd-dimer_val'",
        "column 'po2_val'",
    ]


def test_no_column_that_tells_the_label_is_a_feature(packed: PackedDataset) -> None:
    features = {*packed.schema.numeric, *packed.schema.category}
    assert features == {
        *("sex", "admission_offset"),
        *(f"{name}_{what}" for name in LABORATORY for what in ("val", "offset")),
    }


def test_eight_laboratory_values_are_filled_as_the_readme_says(packed: PackedDataset) -> None:
    for name, share in LABORATORY.items():
        column = packed.numeric[:, packed.schema.numeric.index(f"{name}_val")]
        assert np.isfinite(column).mean() == pytest.approx(share, abs=0.006)


def test_it_is_packed_without_problems_and_no_patient_is_torn_apart(packed: PackedDataset) -> None:
    assert packed.problems() == []
    assert len(packed) == 243
    assert packed.schema.class_names == ["icu", "ward"]
    split = dict(zip(packed.sample["group"], packed.sample["split"], strict=True))
    assert packed.sample["split"].tolist() == [split[group] for group in packed.sample["group"]]
    assert len(packed.rows("test")) == pytest.approx(0.2 * 243, abs=4)


def test_grey_films_become_equal_colours(packed: PackedDataset) -> None:
    pixels = packed.images(np.arange(len(packed)))
    assert (pixels == pixels[..., :1]).all()
    assert pixels.std(axis=(1, 2, 3)).min() > 5


def test_new_rows_with_an_absent_modality_are_read(packed: PackedDataset, tmp_path: Path) -> None:
    rows = pd.read_csv(RAW, dtype=str).head(4)
    rows = rows.drop(columns=["label", *LEAKS])
    rows.loc[1, "image"] = None
    rows.loc[2, [*packed.schema.numeric, *packed.schema.category]] = None
    rows.to_csv(tmp_path / "new.csv", index=False)
    found = read_rows(tmp_path / "new.csv", packed.schema, FOLDER)
    assert found.sample["has_image"].tolist() == [True, False, True, True]
    assert found.sample["has_table"].tolist() == [True, True, False, True]
    there = packed.sample["id"].tolist().index(rows.loc[0, "image_id"])
    np.testing.assert_array_equal(found.image[0], packed.image[there])
    np.testing.assert_array_equal(found.numeric[0], packed.numeric[there])
    np.testing.assert_array_equal(found.category[0], packed.category[there])
