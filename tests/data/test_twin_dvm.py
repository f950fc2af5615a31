"""Look-alike DVM-CAR: the literal layout, every irregularity, and a class signal that is known."""

import csv
import hashlib
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier

from dfpl.data.packed import PackedDataset
from dfpl.data.sources import dvm
from dfpl.data.twins import dvm as twin
from dfpl.data.twins.dvm import Options as TwinOptions
from dfpl.data.twins.dvm import write as write_dvm
from dfpl.fields import ConfigError

SMALL = TwinOptions(models=6, adverts=60, pixels=16)
TINY = TwinOptions(models=6, adverts=12, pixels=16)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("small") / "raw"
    write_dvm(root, SMALL)
    return root


class Default(NamedTuple):
    """The twin of the default size, raw and packed."""

    raw: Path
    packed: PackedDataset


@pytest.fixture(scope="module")
def default(tmp_path_factory: pytest.TempPathFactory) -> Default:
    folder = tmp_path_factory.mktemp("default")
    write_dvm(folder / "raw", TwinOptions())
    options = dvm.Options(image_size=48)
    return Default(folder / "raw", dvm.pack(folder / "raw", folder / "packed", options, workers=1))


def digests(root: Path) -> dict[str, str]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


def table(root: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(root / "tables_V2.0" / name, dtype=str, keep_default_na=False)


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("Basic_table.csv", "Automaker,Automaker_ID,Genmodel,Genmodel_ID"),
        ("Price_table.csv", "Maker, Genmodel, Genmodel_ID, Year, Entry_price"),
        ("Sales_table.csv", "Maker,Genmodel ,Genmodel_ID ,2020,2019,2018,"),
        ("Trim_table.csv", "Genmodel_ID,Maker,Genmodel,Trim,Year,Price,Gas_emission,Fuel_type,"),
        ("Ad_table.csv", "Maker, Genmodel, Genmodel_ID,Adv_ID,Adv_year,Adv_month,Color,Reg_year,"),
        ("Ad_table (extra).csv", "Maker, Genmodel, Genmodel_ID,Adv_ID,Adv_year,Adv_month,Color,"),
        ("Image_table.csv", "Genmodel_ID, Image_ID, Image_name, Predicted_viewpoint,"),
    ],
)
def test_headers_are_the_literal_ones(small: Path, name: str, header: str) -> None:
    assert (small / "tables_V2.0" / name).read_text().startswith(header)


def test_the_tables_have_as_many_columns_as_the_real_ones(small: Path) -> None:
    sizes = {name: table(small, name).shape[1] for name in twin.HEADERS}
    assert sizes == {
        "Ad_table.csv": 16,
        "Ad_table (extra).csv": 24,
        "Basic_table.csv": 4,
        "Image_table.csv": 5,
        "Price_table.csv": 5,
        "Sales_table.csv": 23,
        "Trim_table.csv": 9,
    }


def test_the_irregularities_of_the_real_data_all_occur(small: Path) -> None:
    adverts, extra = table(small, "Ad_table.csv"), table(small, "Ad_table (extra).csv")
    images = table(small, "Image_table.csv")
    assert {"124 Spider", "500", "Cee'd"} <= set(adverts[" Genmodel"])
    assert "Semi-Automatic" in set(adverts["Gearbox"])
    assert "Hybrid  Petrol/Electric Plug-in" in set(adverts["Fuel_type"])
    assert "" in set(adverts["Color"])
    assert "Uknown" in set(adverts["Price"])
    assert "33" in set(adverts["Adv_month"])
    assert {"0.0", "2500.0"} <= set(extra["Wheelbase"])
    assert "360" in set(images[" Predicted_viewpoint"])
    per_advert = images[" Image_ID"].str.rsplit("$$", n=1).str[0].value_counts()
    assert set(per_advert) == {1, 2, 3, 4}
    assert len(adverts) > len(per_advert)
    assert adverts[" Genmodel_ID"].value_counts().min() == 15


def test_pictures_lie_where_their_names_say(small: Path) -> None:
    grammar = re.compile(
        r"resized_DVM/([^/$]+)/([^/$]+)/(\d{4})/([^/$]+)/"
        r"\1\$\$\2\$\$\3\$\$\4\$\$(\d+_\d+)\$\$\d+\$\$image_\d+\.jpg"
    )
    found = [str(path.relative_to(small)) for path in small.rglob("*.jpg")]
    assert found and all(grammar.fullmatch(path) for path in found)


def test_a_listed_picture_is_absent_but_none_that_is_read(small: Path) -> None:
    listed = set(table(small, "Image_table.csv")[" Image_name"])
    there = {path.name for path in small.rglob("*.jpg")}
    assert there < listed and len(listed - there) == 7  # one per model
    samples = dvm.read(small, dvm.Options(min_adverts=30))
    assert all(Path(path).is_file() for path in samples.image)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tiny") / "raw"
    write_dvm(root, TINY)
    return root


def test_the_same_options_give_the_same_files(tiny: Path, tmp_path: Path) -> None:
    write_dvm(tmp_path / "again", TINY)
    assert digests(tmp_path / "again") == digests(tiny)


def test_another_seed_gives_other_pictures_and_cells(tiny: Path, tmp_path: Path) -> None:
    write_dvm(tmp_path, TINY.with_values({"seed": 1}))
    one, other = digests(tiny), digests(tmp_path)
    assert one["tables_V2.0/Ad_table.csv"] != other["tables_V2.0/Ad_table.csv"]
    pictures = [digest for path, digest in other.items() if path.endswith(".jpg")]
    assert pictures and not set(pictures) & set(one.values())


def test_a_finished_twin_is_left_alone(tmp_path: Path) -> None:
    write_dvm(tmp_path, TINY)
    (tmp_path / "factors.csv").unlink()
    write_dvm(tmp_path, TINY)
    assert not (tmp_path / "factors.csv").exists()


def test_an_interrupted_twin_is_finished(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
        patch.setattr(twin, "write_csv", fail)
        write_dvm(tmp_path, TINY)
    assert not (tmp_path / "twin.json").exists()
    write_dvm(tmp_path, TINY)
    assert digests(tmp_path) == digests(tiny)


def test_a_twin_with_other_options_is_not_overwritten(tiny: Path) -> None:
    before = digests(tiny)
    with pytest.raises(ConfigError, match="holds a twin with other options"):
        write_dvm(tiny, TINY.with_values({"seed": 9}))
    assert digests(tiny) == before


def test_a_folder_of_real_data_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "Ad_table.csv").write_text("real")
    with pytest.raises(ConfigError, match="files that no twin wrote"):
        write_dvm(tmp_path, SMALL)
    assert (tmp_path / "Ad_table.csv").read_text() == "real"


def test_no_more_pictures_are_lost_than_there_are() -> None:
    with pytest.raises(ConfigError, match="lost must be at most"):
        TwinOptions.from_dict({"adverts": 20, "lost": 20})


@pytest.mark.parametrize("count", [6, 7, 8, 9, 12, 27, 60, 286, 512])
def test_every_model_has_its_own_combination_of_levels(count: int) -> None:
    models = twin._models(TwinOptions(models=count))
    assert len({model.levels for model in models}) == count
    assert len({model.id for model in models}) == count + 1
    for dimension in range(3):
        rest = {tuple(np.delete(model.levels, dimension)) for model in models}
        assert len(rest) < count  # without any one of the factors, models are confused


def test_models_of_a_level_share_sizes_and_prices(default: Default) -> None:
    extra, prices = (table(default.raw, n) for n in ("Ad_table (extra).csv", "Price_table.csv"))
    assert len(set(extra["Length"])) == 2
    assert len(set(zip(extra[" Genmodel_ID"], extra["Length"], strict=True))) == 9
    assert len(set(zip(prices[" Year"], prices[" Entry_price"], strict=True))) == 2 * 11


def test_the_factors_are_written_for_every_advert(default: Default) -> None:
    with (default.raw / "factors.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["id", "shared", "image_only", "table_only", "model"]
    assert [row["id"] for row in rows] == table(default.raw, "Ad_table.csv")["Adv_ID"].tolist()
    for model in twin._models(TwinOptions()):
        drawn = [
            [float(row[name]) for name in ("shared", "image_only", "table_only")]
            for row in rows
            if row["model"] == model.id
        ]
        assert np.allclose(np.mean(drawn, axis=0), model.levels, atol=0.15)


def test_the_real_threshold_keeps_every_full_model(default: Default) -> None:
    assert default.packed.schema.num_classes == 8
    assert np.bincount(default.packed.label).tolist() == [106] * 8


def test_neither_modality_suffices_and_together_they_nearly_do(default: Default) -> None:
    packed = default.packed
    blocks = packed.image[:].reshape(len(packed), 12, 4, 12, 4, 3)
    image = blocks.mean(axis=(2, 4)).reshape(len(packed), -1)
    tabular = np.concatenate([packed.numeric, packed.category], axis=1)
    fitted = np.concatenate([packed.rows("train"), packed.rows("val")])
    test = packed.rows("test")

    def accuracy(cells: np.ndarray) -> float:
        forest = RandomForestClassifier(60, random_state=0).set_params(max_features=0.2)
        forest.fit(cells[fitted], packed.label[fitted])
        return float(forest.score(cells[test], packed.label[test]))

    assert 0.35 < accuracy(image) < 0.6
    assert 0.35 < accuracy(tabular) < 0.6
    assert 0.8 < accuracy(np.concatenate([image, tabular], axis=1)) < 0.98
