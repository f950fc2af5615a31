"""Where a picture of DVM-CAR lies: two layouts, and the Kaggle copy without apostrophes."""

from pathlib import Path

import pandas as pd
import pytest

from dfpl.data.raw import Report
from dfpl.data.sources._dvm_pictures import Pictures, find_pictures, probe_pictures

NAME = "Kia$$Cee'd$$2010$$Red$$43_1$$7$$image_3.jpg"
PLAIN = "Kia$$Ceed$$2010$$Red$$43_1$$7$$image_3.jpg"
IMAGES = pd.DataFrame({"Image_name": [None, NAME]})


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.mark.parametrize(
    ("place", "view", "inner"),
    [
        ("resized_DVM", "all", "Kia/Cee'd/2010/Red"),
        ("resized_DVM_v2/resized_DVM", "all", "Kia/Cee'd/2010/Red"),
        ("resized_DVM_clean/resized_DVM_clean", "all", "Kia/Ceed/2010/Red"),
        ("resized_DVM_clean", "front", "Kia/Ceed/2010/Red"),
        ("Confirmed_fronts", "front", "Kia/2010"),
        ("confirmed_fronts_clean/confirmed_fronts_clean", "front", "Kia/2010"),
        (".", "all", "Kia/Cee'd/2010/Red"),
    ],
)
def test_a_picture_is_found_in_every_layout(
    tmp_path: Path, place: str, view: str, inner: str
) -> None:
    there = touch(tmp_path / place / inner / (PLAIN if "clean" in place else NAME))
    report = Report()
    pictures = find_pictures(tmp_path, view, IMAGES, report)
    assert report.problems == []
    assert pictures is not None
    assert Path(pictures.path(NAME)) == there


def test_a_name_with_its_apostrophe_goes_before_the_one_without(tmp_path: Path) -> None:
    literal = touch(tmp_path / "Kia/2010" / NAME)
    touch(tmp_path / "Kia/2010" / PLAIN)
    assert Pictures(tmp_path, fronts=True).path(NAME) == str(literal)


def test_a_picture_that_is_nowhere_is_named_as_the_table_names_it(tmp_path: Path) -> None:
    expected = tmp_path / "Kia/Cee'd/2010/Red" / NAME
    assert Pictures(tmp_path, fronts=False).path(NAME) == str(expected)


def test_all_views_go_before_the_fronts_subset(tmp_path: Path) -> None:
    touch(tmp_path / "Confirmed_fronts/Kia/2010" / NAME)
    touch(tmp_path / "resized_DVM_v2/Kia/Cee'd/2010/Red" / NAME)
    found = find_pictures(tmp_path, "front", IMAGES, Report())
    assert found == Pictures(tmp_path / "resized_DVM_v2", fronts=False)


def test_200_names_are_probed_and_the_first_absent_path_is_told(tmp_path: Path) -> None:
    there = [str(touch(tmp_path / f"{number}.jpg")) for number in range(400)]
    report = Report()
    probe_pictures(pd.Series([*there[:399], str(tmp_path / "gone.jpg")]), report)
    assert report.counts == [("pictures found of those probed", 199, 200)]
    assert report.problems == []
    assert report.warnings == [
        f"of 200 probed image names 1 are missing; first missing path {tmp_path}/gone.jpg"
    ]
