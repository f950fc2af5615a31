"""DVM-CAR: every trap of the raw data, through `read`, on a look-alike that holds them all."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dfpl.data.packed import SPLITS, DataError
from dfpl.data.raw import RawSamples, Report
from dfpl.data.sources import _dvm_recipe as recipe
from dfpl.data.sources import dvm
from dfpl.data.sources._dvm_tables import SIZES
from dfpl.data.twins.dvm import Options as TwinOptions
from dfpl.data.twins.dvm import write as write_dvm

OPTIONS = dvm.Options(min_adverts=30, image_size=16)
SIZE = TwinOptions(models=6, adverts=60, pixels=16, lost=1)
LOST = "2_1$$13"
Rows = list[dict[str, str]]


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("twin") / "raw"
    write_dvm(root, SIZE)
    return root


@pytest.fixture(scope="module")
def samples(twin: Path) -> RawSamples:
    return dvm.read(twin, OPTIONS)


@pytest.fixture
def copy(twin: Path, tmp_path: Path) -> Path:
    """The twin with tables of its own, to be spoilt."""
    shutil.copytree(twin / "tables_V2.0", tmp_path / "tables_V2.0")
    (tmp_path / "resized_DVM").symlink_to(twin / "resized_DVM")
    return tmp_path


def edit(root: Path, table: str, change: Callable[[Rows], Rows | None]) -> None:
    path = root / "tables_V2.0" / table
    with path.open(newline="") as stream:
        reader = csv.DictReader(stream)
        names, rows = list(reader.fieldnames or []), list(reader)
    rows = change(rows) or rows
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, names)
        writer.writeheader()
        writer.writerows(rows)


def cell(samples: RawSamples, advert: str, column: str) -> object:
    table = samples.numeric if column in samples.numeric else samples.category
    return table.loc[samples.id == advert, column].item()


def picture(samples: RawSamples, advert: str) -> Path:
    return Path(samples.image[samples.id == advert].item())


def same(one: RawSamples, other: RawSamples) -> None:
    """The same samples, whatever their order."""
    frames = []
    for samples in (one, other):
        parts = [samples.id, samples.label, samples.numeric, samples.category]
        frames.append(pd.concat(parts, axis=1).sort_values("Adv_ID", ignore_index=True))
    pd.testing.assert_frame_equal(*frames)


def test_there_are_the_17_attributes_in_the_order_of_tip(samples: RawSamples) -> None:
    assert samples.category.columns.tolist() == ["Color", "Bodytype", "Gearbox", "Fuel_type"]
    assert samples.numeric.columns.tolist() == [
        *("Wheelbase", "Height", "Width", "Length", "Adv_year", "Adv_month", "Reg_year"),
        *("Runned_Miles", "Price", "Seat_num", "Door_num", "Entry_price", "Engine_size"),
    ]
    assert np.isfinite(samples.numeric.to_numpy()).all()
    assert not samples.category.isna().to_numpy().any()


def test_headers_with_spaces_are_read(twin: Path, samples: RawSamples) -> None:
    header = (twin / "tables_V2.0" / "Image_table.csv").read_text().splitlines()[0]
    assert header == "Genmodel_ID, Image_ID, Image_name, Predicted_viewpoint, Quality_check"
    assert len(samples) == 6 * 53


def test_a_header_with_a_byte_order_mark_is_read(copy: Path, samples: RawSamples) -> None:
    path = copy / "tables_V2.0" / "Ad_table (extra).csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    edit(copy, "Price_table.csv", lambda rows: None)
    same(dvm.read(copy, OPTIONS), samples)


@pytest.mark.parametrize(
    ("model", "folder"), [("2_1", "124 Spider"), ("2_2", "500"), ("43_1", "Cee'd")]
)
def test_odd_model_names_lead_to_their_pictures(
    samples: RawSamples, model: str, folder: str
) -> None:
    paths = [picture(samples, advert) for advert in samples.id[samples.label == model]]
    assert {path.parts[-4] for path in paths} == {folder}
    assert all(path.is_file() for path in paths if not path.name.startswith("Abarth$$124"))


def test_the_kaggle_copy_without_apostrophes_is_read(tmp_path: Path) -> None:
    write_dvm(tmp_path, SIZE.with_values({"layout": "kaggle", "adverts": 24, "lost": 0}))
    names = (tmp_path / "tables/tables/Image_table.csv").read_text()
    samples = dvm.read(tmp_path, OPTIONS.with_values({"min_adverts": 10}))
    assert "Cee'd" in names
    assert all(Path(path).is_file() for path in samples.image)
    assert "Ceed" in picture(samples, "43_1$$21").parts


def test_two_spaces_in_a_fuel_are_kept(samples: RawSamples) -> None:
    assert cell(samples, "2_1$$6", "Fuel_type") == "Hybrid  Petrol/Electric Plug-in"


def test_a_semi_automatic_is_kept(samples: RawSamples) -> None:
    assert cell(samples, "2_1$$12", "Gearbox") == "Semi-Automatic"


def test_a_month_of_33_is_kept(samples: RawSamples) -> None:
    assert cell(samples, "2_1$$3", "Adv_month") == 33


def test_a_category_of_digits_stays_text(copy: Path) -> None:
    edit(copy, "Ad_table.csv", lambda rows: [{**row, "Gearbox": "05"} for row in rows])
    assert set(dvm.read(copy, OPTIONS).category["Gearbox"]) == {"05"}


def test_an_engine_of_2_0L_is_a_number(copy: Path) -> None:
    edit(copy, "Ad_table.csv", lambda rows: rows[20].update(Engin_size="2.0L"))
    assert cell(dvm.read(copy, OPTIONS), "2_1$$21", "Engine_size") == 2.0


@pytest.mark.parametrize(
    ("advert", "reason"),
    [
        ("2_1$$2", "empty cell in Color"),
        ("2_1$$4", "no number in Price"),
        ("2_1$$5", "no entry price of its model and year"),
        ("2_1$$7", "no entry price of its model and year"),
        ("2_1$$8", "no picture listed (view all)"),
        ("2_1$$9", "empty cell in Seat_num"),
        ("2_1$$10", "no number in Runned_Miles"),
        ("2_3$$14", "model with fewer than 30 adverts"),
    ],
)
def test_a_dropped_advert_has_its_reason(samples: RawSamples, advert: str, reason: str) -> None:
    assert advert not in set(samples.id)
    assert samples.dropped.set_index("id").loc[advert, "reason"] == reason


def test_every_advert_is_kept_or_dropped_once(twin: Path, samples: RawSamples) -> None:
    adverts = pd.read_csv(twin / "tables_V2.0/Ad_table.csv")["Adv_ID"].tolist()
    assert sorted([*samples.id, *samples.dropped["id"]]) == sorted(adverts)


def test_an_empty_year_joins_no_empty_year(copy: Path) -> None:
    spoilt = {"Maker": "Abarth", " Genmodel": "124 Spider", " Genmodel_ID": "2_1", " Year": ""}
    edit(copy, "Price_table.csv", lambda rows: [*rows, {**spoilt, " Entry_price": "1"}])
    dropped = dvm.read(copy, OPTIONS).dropped
    reasons = dict(zip(dropped["id"], dropped["reason"], strict=True))
    assert reasons["2_1$$7"] == "no entry price of its model and year"


def test_the_first_row_of_the_image_table_is_the_picture(twin: Path, samples: RawSamples) -> None:
    table = pd.read_csv(twin / "tables_V2.0/Image_table.csv")
    table["Adv_ID"] = table[" Image_ID"].str.split("$$", regex=False).str[:2].str.join("$$")
    first = table.groupby("Adv_ID", sort=False)[" Image_name"].first()
    assert table["Adv_ID"].duplicated().any()
    assert [Path(path).name for path in samples.image] == first[samples.id].tolist()


def test_file_order_decides_which_picture_it_is(copy: Path, samples: RawSamples) -> None:
    edit(copy, "Image_table.csv", lambda rows: rows[::-1])
    turned = dvm.read(copy, OPTIONS)
    assert picture(turned, "2_1$$1") != picture(samples, "2_1$$1")


def test_a_front_view_is_one_that_passed_the_check(twin: Path) -> None:
    front = OPTIONS.with_values({"view": "front", "min_adverts": 10})
    samples = dvm.read(twin, front)
    table = pd.read_csv(twin / "tables_V2.0/Image_table.csv").set_index(" Image_name")
    chosen = table.loc[[Path(path).name for path in samples.image]]
    assert len(samples) > 60
    assert set(chosen[" Predicted_viewpoint"]) == {0}
    assert set(chosen[" Quality_check"]) == {"P"}


def test_a_listed_picture_that_is_not_there_keeps_its_path(samples: RawSamples) -> None:
    absent = samples.id[[not Path(path).exists() for path in samples.image]]
    assert absent.tolist() == [LOST]


def test_a_listed_picture_that_is_not_there_stops_packing(twin: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"2_1\$\$13\$\$image_10\.jpg: there is no such file"):
        dvm.pack(twin, tmp_path / "packed", OPTIONS, workers=1)


def test_a_listed_picture_that_is_not_there_is_treated_as_missing(
    twin: Path, tmp_path: Path
) -> None:
    options = OPTIONS.with_values({"bad_file": "treat_as_missing"})
    packed = dvm.pack(twin, tmp_path / "packed", options, workers=1)
    sample = packed.sample
    assert sample["id"][~sample["has_image"]].tolist() == [LOST]
    assert sample["has_table"].tolist() == [True] * 318
    assert packed.schema.class_names == ["2_1", "2_2", "43_1", "43_2", "96_1", "96_2"]
    assert packed.problems() == []


def test_zero_and_empty_sizes_are_filled_from_the_model(samples: RawSamples) -> None:
    assert abs(float(str(cell(samples, "2_1$$21", "Wheelbase"))) - 2500) <= 50
    assert abs(float(str(cell(samples, "2_1$$11", "Height"))) - 1450) <= 50


def test_known_errors_of_the_sizes_are_mended() -> None:
    rows = [
        ("a$$1", "29_30", "3000", "805", "1800", "5000"),
        ("b$$1", "59_29", "5246", "1500", "1800", "5000"),
        ("c$$1", "43_9", "4065", "1500", "1800", "4065"),
        ("d$$1", "69_36", "0", "1500", "1800", "5000"),
        ("e$$1", "29_20", "", "1500", "1800", "5000"),
        ("f$$1", "1_1", "4065", "0", "805", "5246"),
        ("f$$2", "1_1", "", "1400", "", "5000"),
        ("f$$3", "1_1", "3000", "1300", "", "5000"),
        ("g$$1", "1_2", "0", "1300", "1800", "5000"),
    ]
    extra = pd.DataFrame(rows, columns=["Adv_ID", "Genmodel_ID", *SIZES])
    sizes = recipe.find_sizes(extra.replace("", None), Report()).set_index("Adv_ID")
    wheelbase = sizes["Wheelbase"].tolist()
    assert wheelbase[:-1] == [3000, 3106, 2580, 2612, 2788, 4065, 4065, 3000]
    assert np.isnan(wheelbase[-1])
    assert sizes["Height"].tolist() == [1805, 1500, 1500, 1500, 1500, 1400, 1400, 1300, 1300]
    assert sizes["Width"].tolist() == [1800] * 5 + [805] * 3 + [1800]
    assert sizes["Length"].tolist() == [5000, 5000, 4065, 5000, 5000, 5246, 5000, 5000, 5000]


def test_a_size_that_no_advert_of_a_model_states_stays_empty_and_is_told(copy: Path) -> None:
    def forget(rows: Rows) -> None:
        for row in rows:
            if row[" Genmodel_ID"] == "43_1":
                row["Width"] = "0"

    edit(copy, "Ad_table (extra).csv", forget)
    samples = dvm.read(copy, OPTIONS)
    empty = samples.label[samples.numeric["Width"].isna()]
    assert empty.tolist() == ["43_1"] * 53
    told = "Width: no advert of the model states it, 53 empty"
    assert told in dvm.check(copy, OPTIONS).warnings


def test_jitter_covers_whole_millimetres_up_to_50_either_way() -> None:
    drawn = recipe.jitter([f"1_1$${number}" for number in range(20_000)], "Width")
    assert set(drawn.tolist()) == set(range(-50, 51))
    assert abs(drawn.mean()) < 1


def test_jitter_depends_on_the_advert_and_the_column_alone() -> None:
    ids = ["10_3$$1", "96_9$$353", "2_1$$1"]
    assert recipe.jitter(ids, "Width").tolist() == recipe.jitter(ids[::-1], "Width").tolist()[::-1]
    assert recipe.jitter(ids, "Width").tolist() != recipe.jitter(ids, "Height").tolist()


def test_row_order_of_the_tables_changes_no_cell(copy: Path, samples: RawSamples) -> None:
    for table in ("Ad_table.csv", "Ad_table (extra).csv", "Price_table.csv"):
        edit(copy, table, lambda rows: sorted(rows, key=lambda row: str(row)[::-1]))
    same(dvm.read(copy, OPTIONS), samples)


def test_reading_twice_gives_the_same(twin: Path, samples: RawSamples) -> None:
    again = dvm.read(twin, OPTIONS)
    same(again, samples)
    assert again.split is not None and samples.split is not None
    assert again.split.tolist() == samples.split.tolist()
    assert again.image.tolist() == samples.image.tolist()


def shares(samples: RawSamples) -> pd.DataFrame:
    assert samples.split is not None
    return pd.crosstab(samples.label, samples.split)


def test_the_split_is_40_10_50(samples: RawSamples) -> None:
    per_model = shares(samples)
    assert per_model.sum().to_dict() == {"test": 159, "train": 127, "val": 32}
    assert per_model["test"].between(26, 27).all()


def test_val_is_cut_as_the_authors_cut_it_or_by_model(twin: Path, samples: RawSamples) -> None:
    mended = dvm.read(twin, OPTIONS.with_values({"stratify": "by_model"}))
    assert shares(mended)["val"].between(5, 6).all()
    assert not shares(samples)["val"].between(5, 6).all()
    assert shares(mended)["test"].equals(shares(samples)["test"])


def test_another_seed_and_other_shares_give_another_split(twin: Path) -> None:
    changed = OPTIONS.with_values({"test": 0.2, "val": 0.2})
    assert shares(dvm.read(twin, changed)).sum().to_dict() == {"test": 64, "train": 190, "val": 64}
    reseeded = dvm.read(twin, changed.with_values({"split_seed": 1}))
    first = dvm.read(twin, changed)
    assert first.split is not None and reseeded.split is not None
    assert set(first.id[first.split == "test"]) != set(first.id[reseeded.split == "test"])


@pytest.fixture
def lists(tmp_path: Path, samples: RawSamples) -> Path:
    """Lists in the published form that swap train and test, and leave out the first advert."""
    folder = tmp_path / "lists"
    folder.mkdir()
    for split, other in (("train", "test"), ("val", "val"), ("test", "train")):
        ids = samples.id[(samples.split == other) & (samples.id != samples.id[0])]
        text = "".join(f"{name}," for name in ids)
        (folder / f"{split}_ids_dvm_all_views.txt").write_text(text)
    return folder


def test_id_lists_decide_the_split(twin: Path, samples: RawSamples, lists: Path) -> None:
    listed = dvm.read(twin, OPTIONS.with_values({"ids": str(lists)}))
    assert listed.split is not None and samples.split is not None
    turned = {"train": "test", "val": "val", "test": "train"}
    assert listed.split.tolist() == [turned[split] for split in samples.split[1:]]
    assert listed.dropped.iloc[-1].tolist() == [samples.id[0], "in no published id list"]


def test_id_lists_that_are_not_the_published_ones_are_told(twin: Path, lists: Path) -> None:
    options = OPTIONS.with_values({"ids": str(lists), "bad_file": "treat_as_missing"})
    report = dvm.check(twin, options)
    assert report.problems == []
    told = [text for text in report.warnings if "is not the published list" in text]
    assert len(told) == 3 and dvm.PUBLISHED["train"] in told[0]


def test_a_split_of_the_published_size_with_other_adverts_is_told(
    twin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dvm, "ROWS", {"train": 127, "val": 32, "test": 159})
    told = [text for text in dvm.check(twin, OPTIONS).warnings if "other adverts" in text]
    assert len(told) == 3 and told[1].startswith("the val split has the published size")


def test_absent_and_overlapping_id_lists_are_problems(twin: Path, lists: Path) -> None:
    (lists / "val_ids_dvm_all_views.txt").unlink()
    train = lists / "train_ids_dvm_all_views.txt"
    (lists / "test_ids_dvm_all_views.txt").write_text(train.read_text())
    problems = dvm.check(twin, OPTIONS.with_values({"ids": str(lists)})).problems
    assert "no val_ids_dvm_all_views.txt in" in problems[0]
    assert "test_ids_dvm_all_views.txt repeats" in problems[1]


def test_counts_stand_beside_the_published_ones(twin: Path) -> None:
    report = dvm.check(twin, dvm.Options(min_adverts=100))
    assert report.counts[:6] == [
        ("adverts in Ad_table.csv", 6 * 60 + 15, 268_255),
        ("with an entry price of their model and year", 6 * 58 + 13, 224_724),
        ("with a picture in Image_table.csv", 6 * 57 + 12, 209_035),
        ("without an empty cell", 6 * 55 + 10, 184_562),
        ("with readable numbers", 6 * 53 + 8, None),
        ("of models with enough adverts", 0, 176_414),
    ]
    assert "no advert is left" in report.problems[0]
    assert "lower min_adverts = 100" in report.problems[0]


@pytest.fixture
def merged(copy: Path) -> Path:
    """The twin with its six models made three of 106 usable adverts, over the real threshold."""
    into = {"2_2": "2_1", "43_2": "43_1", "96_2": "96_1"}

    def merge(rows: Rows) -> None:
        for row in rows:
            row[" Genmodel_ID"] = into.get(row[" Genmodel_ID"], row[" Genmodel_ID"])

    edit(copy, "Ad_table.csv", merge)
    return copy


def test_totals_that_differ_from_the_published_ones_are_told_with_all_steps(merged: Path) -> None:
    report = dvm.check(merged, dvm.Options(image_size=16))
    label = "models (the published lists have 286; the paper's 283 is a misprint)"
    assert (label, 3, 286) in report.counts
    assert ("train rows", 127, 70_565) in report.counts
    (told,) = [text for text in report.warnings if "expected with tables V2.0" in text]
    assert told == (
        "176,414 rows / 286 models expected with tables V2.0, got 318 / 3; per-step counts "
        "375 / 361 / 354 / 340 / 326 / 318 / 318, expected "
        "268,255 / 224,724 / 209,035 / 184,562 / ? / 176,414 / 176,414"
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"train_share": "10%"}, [7_056, 17_642, 88_207]),
        ({"train_share": "1%"}, [705, 17_642, 88_207]),
        ({"test": 0.4}, [None] * 3),
        ({"view": "front", "min_adverts": 10}, [None] * 3),
    ],
)
def test_rows_of_a_split_are_compared_where_the_published_options_hold(
    merged: Path, options: dict[str, object], expected: list[int | None]
) -> None:
    report = dvm.check(merged, dvm.Options.from_dict({"image_size": 16, **options}))
    found = {what: published for what, _, published in report.counts}
    assert [found[f"{split} rows"] for split in SPLITS] == expected


def test_a_model_with_just_enough_adverts_is_kept(twin: Path) -> None:
    assert dvm.read(twin, OPTIONS.with_values({"min_adverts": 53})).label.nunique() == 6
    with pytest.raises(DataError, match="no advert is left"):
        dvm.read(twin, OPTIONS.with_values({"min_adverts": 54}))


def test_a_smaller_share_of_train_leaves_val_and_test_alone(
    twin: Path, samples: RawSamples
) -> None:
    tenth, hundredth = (
        dvm.read(twin, OPTIONS.with_values({"train_share": share})) for share in ("10%", "1%")
    )
    assert shares(tenth).sum().to_dict() == {"test": 159, "train": 12, "val": 32}
    assert shares(hundredth)["train"].tolist() == [1] * 6  # a tenth of 12 is less than 6 models
    assert shares(tenth)[["test", "val"]].equals(shares(samples)[["test", "val"]])
    few, more, all_of_it = (set(s.id[s.split == "train"]) for s in (hundredth, tenth, samples))
    assert few < more < all_of_it
    reasons = tenth.dropped.set_index("id")["reason"]
    assert set(reasons[sorted(all_of_it - more)]) == {"training advert outside the 10% kept"}
    assert tenth.source == samples.source + ", 10% of train"


def test_a_smaller_share_of_train_is_drawn_from_the_id_lists(
    twin: Path, samples: RawSamples, lists: Path
) -> None:
    listed = dvm.read(twin, OPTIONS.with_values({"ids": str(lists), "train_share": "1%"}))
    kept = listed.id[listed.split == "train"]
    names = (lists / "train_ids_dvm_all_views.txt").read_text().split(",")[:-1]
    models = dict(zip(samples.id, samples.label, strict=True))
    first = {models[name]: name for name in reversed(names)}
    assert set(first.values()) <= set(kept)  # 159 rows: 15, and then 6, the first of each model
    assert len(kept) == 6


def test_a_share_that_cannot_be_stratified_is_a_problem(
    twin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("too few members")

    monkeypatch.setattr(dvm, "draw_train_share", fail)
    (problem,) = dvm.check(twin, OPTIONS.with_values({"train_share": "10%"})).problems
    assert problem == ("127 training adverts cannot be cut to train_share = 10%: too few members")


def test_id_lists_that_are_no_text_are_a_problem(twin: Path, lists: Path) -> None:
    (lists / "val_ids_dvm_all_views.txt").write_bytes(b"2_1$$1,\xff\xfe")
    (problem,) = dvm.check(twin, OPTIONS.with_values({"ids": str(lists)})).problems
    assert "val_ids_dvm_all_views.txt cannot be read as UTF-8" in problem


def test_other_options_are_not_compared_with_the_published_counts(twin: Path) -> None:
    report = dvm.check(twin, OPTIONS.with_values({"bad_file": "treat_as_missing"}))
    assert report.problems == []
    assert ("of models with enough adverts", 318, None) in report.counts
    assert not any("176,414" in text for text in report.warnings)


def test_a_raw_folder_is_known_by_its_advert_table(twin: Path, tmp_path: Path) -> None:
    assert dvm.looks_raw(twin)
    assert dvm.looks_raw(twin / "tables_V2.0")
    assert not dvm.looks_raw(tmp_path)
    assert not dvm.looks_raw(tmp_path / "nowhere")


def test_a_wrong_root_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        dvm.read(tmp_path / "nowhere", OPTIONS)
    for part in ("no `Ad_table.csv` under", "nowhere/tables/tables", "is no folder", "19586296"):
        assert part in str(error.value)


def test_without_the_extra_table_4_of_17_attributes_are_gone(copy: Path) -> None:
    (copy / "tables_V2.0" / "Ad_table (extra).csv").unlink()
    (problem,) = dvm.check(copy, OPTIONS).problems
    assert "needed for Wheelbase, Height, Width, Length" in problem
    assert "only 13 of 17 attributes" in problem


def test_a_missing_column_is_named_beside_those_found(copy: Path) -> None:
    path = copy / "tables_V2.0" / "Price_table.csv"
    path.write_text(path.read_text().replace(" Entry_price", " Price"))
    (problem,) = dvm.check(copy, OPTIONS).problems
    assert f"{path} lacks Entry_price" in problem
    assert "['Maker', ' Genmodel', ' Genmodel_ID', ' Year', ' Price']" in problem


def test_a_column_that_two_headers_name_is_a_problem(copy: Path) -> None:
    path = copy / "tables_V2.0" / "Price_table.csv"
    path.write_text(path.read_text().replace("Maker,", "Entry_price,", 1))
    (problem,) = dvm.check(copy, OPTIONS).problems
    assert f"{path} has more than one column Entry_price" in problem


def test_rows_longer_than_the_header_are_a_problem_and_shift_no_column(copy: Path) -> None:
    path = copy / "tables_V2.0" / "Ad_table.csv"
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *(f"{row},more" for row in rows)]))
    (problem,) = dvm.check(copy, OPTIONS).problems
    assert f"{path} cannot be read as comma-separated UTF-8" in problem


def test_an_empty_column_drops_its_adverts_and_is_no_crash(copy: Path) -> None:
    edit(copy, "Image_table.csv", lambda rows: [{**row, " Image_ID": ""} for row in rows])
    (problem,) = dvm.check(copy, OPTIONS).problems
    assert "0 with a picture in Image_table.csv" in problem


def test_an_extra_table_without_rows_leaves_no_advert(copy: Path) -> None:
    path = copy / "tables_V2.0" / "Ad_table (extra).csv"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    (problem,) = dvm.check(copy, OPTIONS).problems
    assert "0 with physical sizes" in problem


def test_tables_that_packing_does_not_need_are_told_where_absent_or_wrong(copy: Path) -> None:
    tables = copy / "tables_V2.0"
    (tables / "Basic_table.csv").unlink()
    trim = tables / "Trim_table.csv"
    trim.write_text(trim.read_text().replace("Engine_size", "Engin_size"))
    report = dvm.check(copy, OPTIONS.with_values({"bad_file": "treat_as_missing"}))
    told = [text for text in report.warnings if "(this table is not needed for packing)" in text]
    assert report.problems == []
    assert len(told) == 2
    assert "no `Basic_table.csv` in" in told[0] and "lacks Engine_size" in told[1]


def test_rows_of_all_seven_tables_stand_beside_those_of_tables_v2(twin: Path) -> None:
    rows = [count for count in dvm.check(twin, OPTIONS).counts if count[0].startswith("rows of")]
    pictures = len((twin / "tables_V2.0/Image_table.csv").read_text().splitlines()) - 1
    assert rows == [
        ("rows of Ad_table.csv", 375, 268_255),
        ("rows of Ad_table (extra).csv", 375, 268_255),
        ("rows of Basic_table.csv", 7, 1_011),
        ("rows of Image_table.csv", pictures, 1_451_784),
        ("rows of Price_table.csv", 7 * 11, 6_333),
        ("rows of Sales_table.csv", 7, 772),
        ("rows of Trim_table.csv", 7 * 11, 335_562),
    ]


def test_a_table_that_is_no_text_is_a_problem_and_no_crash(copy: Path) -> None:
    (copy / "tables_V2.0" / "Price_table.csv").write_bytes(b"")
    (copy / "tables_V2.0" / "Ad_table (extra).csv").write_bytes(b"\xff\xfe\x00")
    problems = dvm.check(copy, OPTIONS).problems
    assert len(problems) == 2
    assert all("cannot be read as comma-separated UTF-8" in text for text in problems)


def test_all_problems_are_told_at_once(copy: Path, tmp_path: Path) -> None:
    tables = copy / "tables_V2.0"
    (tables / "Ad_table (extra).csv").unlink()
    (tables / "Price_table.csv").unlink()
    (copy / "resized_DVM").unlink()
    problems = dvm.check(copy, OPTIONS.with_values({"ids": str(tmp_path)})).problems
    assert len(problems) == 2 + 1 + 3
    with pytest.raises(DataError, match=r"(?s)Price_table.*extra.*<Brand>/<Model>.*val_ids"):
        dvm.read(copy, OPTIONS.with_values({"ids": str(tmp_path)}))


def test_a_table_without_rows_leaves_no_advert(copy: Path) -> None:
    path = copy / "tables_V2.0" / "Price_table.csv"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    (problem,) = dvm.check(copy, OPTIONS).problems
    assert "no advert is left (375 adverts in Ad_table.csv, 0 with an entry price" in problem


def test_a_repeated_price_is_a_problem(copy: Path) -> None:
    edit(copy, "Price_table.csv", lambda rows: [*rows, rows[0]])
    (problem,) = dvm.check(copy, OPTIONS).problems
    assert "adverts occur more than once after the joins, e.g. '2_1$$" in problem


def test_the_fronts_subset_is_recognised_and_read(tmp_path: Path) -> None:
    write_dvm(tmp_path, SIZE.with_values({"layout": "Confirmed_fronts", "lost": 0}))
    (problem,) = dvm.check(tmp_path, OPTIONS).problems
    assert "found the Confirmed_fronts layout (`<Brand>/<Year>`)" in problem
    assert "set view = front or point at resized_DVM" in problem
    samples = dvm.read(tmp_path, OPTIONS.with_values({"view": "front", "min_adverts": 10}))
    assert all(Path(path).is_file() for path in samples.image)


def test_beside_all_views_the_fronts_subset_is_not_read(copy: Path) -> None:
    (copy / "Confirmed_fronts/Abarth/2010").mkdir(parents=True)
    (copy / "Confirmed_fronts/Abarth/2010/some.jpg").touch()
    samples = dvm.read(copy, OPTIONS.with_values({"view": "front", "min_adverts": 10}))
    assert {Path(path).relative_to(copy).parts[0] for path in samples.image} == {"resized_DVM"}


def test_pictures_beside_the_tables_without_a_folder_are_found(copy: Path, twin: Path) -> None:
    (copy / "resized_DVM").unlink()
    for brand in (twin / "resized_DVM").iterdir():
        (copy / brand.name).symlink_to(brand)
    assert picture(dvm.read(copy, OPTIONS), "2_1$$1").is_file()


def test_a_folder_without_the_pictures_names_the_first_one_missing(copy: Path) -> None:
    (copy / "resized_DVM").unlink()
    (copy / "resized_DVM/Kia/Rio/2010/Red").mkdir(parents=True)
    (problem,) = dvm.check(copy, OPTIONS).problems[:1]
    assert "of 200 probed image names 200 are missing" in problem
    assert f"first missing path {copy}/resized_DVM/Abarth/124 Spider/20" in problem
    assert (
        "expected 1.45 M files in resized_DVM, e.g. Volvo/V50/2004/Silver/Volvo$$V50$$" in problem
    )


def test_some_absent_pictures_are_a_warning(twin: Path) -> None:
    options = OPTIONS.with_values({"bad_file": "treat_as_missing", "min_adverts": 30})
    report = dvm.check(twin, options)
    assert report.problems == []
    assert any(LOST in text for text in report.warnings)


def test_too_few_adverts_for_a_split_are_a_problem(twin: Path) -> None:
    options = OPTIONS.with_values({"val": 0.01, "test": 0.98})
    (problem,) = dvm.check(twin, options).problems
    assert "318 adverts of 6 models cannot be split with val = 0.01, test = 0.98" in problem
