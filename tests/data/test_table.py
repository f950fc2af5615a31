"""A table and a folder of images: columns are told apart, and what is wrong is named."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dfpl.data import sources
from dfpl.data.packed import DataError
from dfpl.data.sources import table
from dfpl.data.sources.table import (
    Options,
    category_cells,
    check,
    describe,
    infer,
    numeric_cells,
    pack,
    read,
    read_cells,
)
from dfpl.fields import ConfigError

SHARED = Path(__file__).parents[2] / "../shared/data"
HEADER = "image_id,image,lesion_id,label,age,sex"
LINES = [
    f"i{row:02},pictures/{row:02}.png,l{row // 2},{'nv' if row % 4 < 2 else 'mel'},"
    f"{20.5 + row},{'m' if row % 3 else 'f'}"
    for row in range(24)
]


def written(folder: Path, header: str = HEADER, lines: list[str] | None = None) -> Path:
    """A table of 24 lesion photographs, 2 a lesion, and the photographs."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    for row in range(24):
        Image.new("L", (9, 9), row).save(folder / "pictures" / f"{row:02}.png")
    raw = folder / "lesions.csv"
    raw.write_text("\n".join([header, *(LINES if lines is None else lines)]) + "\n")
    return raw


def options(**values: Any) -> Options:
    return Options.from_dict({"image_size": 8, **values})


def cells(*values: str | None) -> pd.Series:
    return pd.Series(values, dtype="str", name="dose")


def test_a_plain_table_is_read_as_one_expects(tmp_path: Path) -> None:
    samples = read(written(tmp_path), options(group="lesion_id"))
    assert samples.name == "lesions"
    assert samples.id.tolist()[:2] == ["i00", "i01"]
    assert samples.group.tolist()[:3] == ["l0", "l0", "l1"]
    assert samples.label.tolist()[:3] == ["nv", "nv", "mel"]
    assert samples.image.tolist()[0] == str(tmp_path / "pictures" / "00.png")
    assert samples.numeric.to_dict("list") == {"age": [20.5 + row for row in range(24)]}
    assert samples.category["sex"].tolist()[:4] == ["f", "m", "m", "f"]
    assert samples.split is None


def test_a_plain_table_is_packed(tmp_path: Path) -> None:
    packed = pack(written(tmp_path), tmp_path / "out", options(group="lesion_id"), workers=1)
    assert packed.schema.class_names == ["mel", "nv"]
    assert packed.schema.category == {"sex": ["f", "m"]}
    assert packed.image[:, 0, 0, 0].tolist() == list(range(24))
    assert packed.problems() == []


def test_the_check_says_which_columns_it_found(tmp_path: Path) -> None:
    report = check(written(tmp_path), options(group="lesion_id"))
    assert report.problems == []
    assert ("column of id", "image_id", None) in report.counts
    assert ("column of image", "image", None) in report.counts
    assert ("column of group", "lesion_id", None) in report.counts


@pytest.mark.parametrize(
    ("values", "kind", "why"),
    [
        (["1.5", "2", None], "numeric", "all filled cells are numbers"),
        ([str(3 * row) for row in range(11)], "numeric", "11 of them differ"),
        ([str(row % 10) for row in range(50)], "category", "it has 10 whole numbers only"),
        (["0", "1.0", "1"], "category", "it has 2 whole numbers only"),
        (["yes", "no"], "category", "it is text with 2 values"),
        (["yes", None], "category", "it is text with 1 values"),
        (["yes", "yes"], "left out", "it is constant ('yes')"),
        ([None, None], "left out", "it is empty"),
        ([f"name {row}" for row in range(11)], "left out", "11 of 11 filled cells differ"),
        ([str(row) for row in range(5, 30)], "left out", "it counts the rows, from 5 to 29"),
        (
            [f"{row}.5" for row in range(9)] + ["<1"],
            "category",
            "1 cells are no numbers, e.g. '<1'",
        ),
        (["1,5", "2", "3,25"], "numeric", "all filled cells are numbers"),
        (["1,500", "2,250"], "category", "it is text with 2 values"),
        (["inf", "1.5"], "numeric", "all filled cells are numbers"),
    ],
)
def test_the_kind_of_a_column(values: list[str | None], kind: str, why: str) -> None:
    found, reason = infer(cells(*values))
    assert found == kind
    assert why in reason


@pytest.mark.parametrize("name", ["id", "patient_id", "Genmodel_ID", "subjectId", "UID"])
def test_a_column_called_like_an_identifier_is_left_out(name: str) -> None:
    assert infer(cells("a", "b", "a").rename(name)) == (
        "left out",
        "it is called like an identifier",
    )


@pytest.mark.parametrize("name", ["grid", "covid", "fluid", "width"])
def test_a_word_that_ends_in_id_is_no_identifier(name: str) -> None:
    assert infer(cells("a", "b", "a").rename(name))[0] == "category"


def test_the_options_overrule_what_is_inferred(tmp_path: Path) -> None:
    chosen = options(numeric="lesion_id", category="age", exclude="sex")
    lines = [line.replace(",l", ",") for line in LINES]
    found = {
        name: (kind, why)
        for name, kind, why, *_ in describe(written(tmp_path, lines=lines), chosen)
    }
    assert found["lesion_id"] == ("numeric", "named by the options")
    assert found["age"] == ("category", "named by the options")
    assert found["sex"] == ("left out", "named by the options")
    assert found["image_id"] == ("id", "called like one")


def test_left_out_columns_and_near_numbers_are_told(tmp_path: Path) -> None:
    lines = [f"{line},CR,,{row if row else '<1'},n{row}" for row, line in enumerate(LINES)]
    raw = written(tmp_path, HEADER + ",device,note,crp,name", lines)
    told = check(raw, options(group="lesion_id")).warnings
    assert told == [
        "column 'device' is left out: it is constant ('CR')",
        "column 'note' is left out: it is empty",
        "column 'crp' is left out: it is text and 24 of 24 filled cells differ",
        "column 'name' is left out: it is text and 24 of 24 filled cells differ",
    ]


def test_a_column_that_looks_like_a_group_is_told(tmp_path: Path) -> None:
    told = "\n".join(check(written(tmp_path), options()).warnings)
    assert "column 'lesion_id' has 12 values in 24 rows" in told
    assert "choose group=lesion_id" in told


def test_misspelt_columns_are_all_told_with_the_nearest_name(tmp_path: Path) -> None:
    raw = written(tmp_path, HEADER.replace("sex", "  sex of  patient "))
    with pytest.raises(DataError) as caught:
        read(raw, options(label="lable", exclude="agee, sex of patient"))
    label, age, sex = str(caught.value).splitlines()
    assert "no column 'lable' (option label); did you mean 'label'?" in label
    assert "no column 'agee' (option exclude); did you mean 'age'?" in age
    assert "did you mean 'sex of  patient'?" in sex
    assert "the table has 'image_id', 'image', 'lesion_id', 'label', 'age'" in label


def test_a_column_cannot_play_two_parts(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="column 'age' is given more than one role"):
        read(written(tmp_path), options(numeric="age", category="age"))
    with pytest.raises(DataError, match="column 'label' is given more than one role"):
        read(written(tmp_path), options(category="label"))


def test_text_in_a_column_chosen_as_numeric_is_told_with_its_row(tmp_path: Path) -> None:
    lines = [LINES[0], LINES[1].replace("21.5", "<21"), *LINES[2:]]
    with pytest.raises(DataError, match=r"'age' is numeric, but 1 cells .* e.g. '<21' in row 2"):
        read(written(tmp_path, lines=lines), options(numeric="age"))


def test_a_byte_order_mark_spaces_semicolons_and_decimal_commas_are_read(tmp_path: Path) -> None:
    raw = written(tmp_path, HEADER.replace(",", " ; "))
    text = raw.read_text().replace(",", ";").replace(".5", ",5")
    raw.write_text("\ufeff" + text.replace("\n", "\r\n"), encoding="utf-8", newline="")
    samples = read(raw, options())
    assert samples.numeric["age"].tolist()[:2] == [20.5, 21.5]
    assert samples.id.tolist()[0] == "i00"


def test_a_parquet_table_reads_like_the_same_csv(tmp_path: Path) -> None:
    raw = written(tmp_path)
    frame = pd.read_csv(raw)
    frame.loc[3, "age"] = np.nan
    frame.to_csv(raw, index=False)
    frame.to_parquet(tmp_path / "lesions.parquet")
    columnar, text = read(tmp_path / "lesions.parquet", options()), read(raw, options())
    pd.testing.assert_frame_equal(columnar.numeric, text.numeric)
    pd.testing.assert_frame_equal(columnar.category, text.category)
    assert columnar.label.tolist() == text.label.tolist()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"a,label\n1,2\n1,2,3\n1\n", "header has 2 cells .* but line 3 has 3, line 4 has 1"),
        (b"a,a,label\n1,2,3\n", "more than one column 'a'"),
        (b"", "is empty; its first line must name the columns"),
        (b"a,label\n,\n", "has no rows below its header"),
        ("a,label\nä,2\n".encode("latin-1"), r"not UTF-8 text \(b'\\xe4' at byte 8\)"),
        (b'a,label\n"x"y,2\n', "line 2"),
    ],
)
def test_what_is_no_table_is_told(tmp_path: Path, content: bytes, told: str) -> None:
    raw = tmp_path / "odd.csv"
    raw.write_bytes(content)
    with pytest.raises(DataError, match=told):
        read_cells(raw)


def test_an_absent_table_a_folder_and_damaged_parquet_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone.csv does not exist; give the path"):
        read_cells(tmp_path / "gone.csv")
    with pytest.raises(DataError, match="is a folder; give the path"):
        read_cells(tmp_path)
    (tmp_path / "odd.parquet").write_text("no")
    with pytest.raises(DataError, match="no Parquet file that can be read"):
        read_cells(tmp_path / "odd.parquet")


def test_a_column_without_a_name_is_left_out(tmp_path: Path) -> None:
    raw = tmp_path / "indexed.csv"
    pd.DataFrame({"label": ["a", "b"]}, index=[7, 8]).to_csv(raw)
    assert list(read_cells(raw)) == ["label"]


def test_empty_cells_are_told_from_text() -> None:
    numbers = numeric_cells(cells("1", None, ".5", "-2e3", "-inf"))
    np.testing.assert_array_equal(numbers, [1, np.nan, 0.5, -2000, -np.inf])
    for text in ("1_000", "0x1", "1 2", "1,2,3", "nan(1)", "5%", "١"):
        with pytest.raises(DataError, match="column 'dose' is numeric, but 1 cells"):
            numeric_cells(cells("1", text))


def test_whole_numbers_as_levels_and_classes_lose_their_zeros() -> None:
    assert category_cells(cells("1.0", "2", "-3.00", "1.5", "v1.0", "007")).tolist() == [
        "1",
        "2",
        "-3",
        "1.5",
        "v1.0",
        "007",
    ]


def test_labels_may_be_floats_and_absent(tmp_path: Path) -> None:
    lines = [line.replace("nv", "1.0").replace("mel", "0.0") for line in LINES]
    lines[5] = lines[5].replace("1.0,", "NA,")
    packed = pack(written(tmp_path, lines=lines), tmp_path / "out", options())
    assert packed.schema.class_names == ["0", "1"]
    dropped = pd.read_parquet(tmp_path / "out" / "dropped.parquet")
    assert dropped.to_numpy().tolist() == [["i05", "no label"]]


def test_a_given_split_is_kept_and_a_strange_one_told(tmp_path: Path) -> None:
    parts = ["train"] * 12 + ["Val"] * 6 + ["test"] * 6
    lines = [f"{line},{part}" for line, part in zip(LINES, parts, strict=True)]
    raw = written(tmp_path, HEADER + ",fold", lines)
    packed = pack(raw, tmp_path / "out", options(split="fold"))
    assert packed.sample["split"].tolist() == [part.lower() for part in parts]
    raw = written(tmp_path, HEADER + ",fold", [line.replace("Val", "dev") for line in lines])
    assert (
        "a split is one of train, val, test, found 'dev'"
        in check(raw, options(split="fold")).problems
    )


def test_duplicate_ids_are_told_where_the_column_is_named(tmp_path: Path) -> None:
    problems = check(written(tmp_path), options(id="lesion_id")).problems
    assert problems == ["12 ids occur more than once, e.g. 'l0'"]


def test_rows_are_numbered_where_no_column_is_unique(tmp_path: Path) -> None:
    samples = read(written(tmp_path, HEADER.replace("image_id", "code")), options())
    assert samples.id.tolist()[:2] == ["row-1", "row-2"]


def test_images_called_like_the_id_are_found(tmp_path: Path) -> None:
    raw = written(tmp_path, "id,file no,lesion_id,label,age,sex", LINES)
    for row in range(23):
        (tmp_path / "pictures" / f"{row:02}.png").rename(tmp_path / "pictures" / f"i{row:02}.PNG")
    samples = read(raw, options(images=str(tmp_path / "pictures")))
    images = samples.image.tolist()
    assert (images[0], images[23]) == (str(tmp_path / "pictures" / "i00.PNG"), None)
    with pytest.raises(DataError, match=r"no image in .* called like a sample \(looked for i00"):
        read(raw, options())


def test_images_are_found_beside_the_table_and_in_the_folder_of_the_option(tmp_path: Path) -> None:
    raw = written(tmp_path, lines=[line.replace("pictures/", "") for line in LINES])
    assert "24 images cannot be read" in check(raw, options()).problems[0]
    assert check(raw, options(images=str(tmp_path / "pictures"))).problems == []
    raw = written(tmp_path)
    assert check(raw, options(images=str(tmp_path / "pictures"))).problems == []
    with pytest.raises(DataError, match=r"no folder .*/gone \(option images\)"):
        read(raw, options(images=str(tmp_path / "gone")))


def test_a_name_without_suffix_is_looked_up_and_an_absent_one_is_a_bad_image(
    tmp_path: Path,
) -> None:
    lines = [line.replace("pictures/", "").replace(".png", "") for line in LINES]
    lines[4] = lines[4].replace("i04,04", "i04,nowhere")
    raw = written(tmp_path, lines=lines)
    problems = check(raw, options(images=str(tmp_path / "pictures"))).problems
    assert problems[0].startswith("1 images cannot be read")
    assert "nowhere: there is no such file" in problems[0]


def test_the_hash_ignores_the_order_of_rows_and_the_folder(tmp_path: Path) -> None:
    here = pack(written(tmp_path / "a"), tmp_path / "one", options())
    there = pack(written(tmp_path / "b", lines=LINES[::-1]), tmp_path / "two", options())
    assert here.schema.content_hash == there.schema.content_hash


@pytest.mark.parametrize(
    ("file", "name"), [("x/my skin.csv", "my_skin"), ("skin/table.csv", "skin")]
)
def test_the_default_name_of_a_data_set(file: str, name: str, tmp_path: Path) -> None:
    raw = written(tmp_path / "made")
    target = tmp_path / file
    target.parent.mkdir()
    raw.rename(target)
    chosen = options(images=str(tmp_path / "made"))
    assert read(target, chosen).name == name
    assert read(target, chosen.with_values({"dataset": "mine"})).name == "mine"


def test_the_registry_holds_files_that_read() -> None:
    assert "table" in sources.names()
    assert "twins" not in sources.names()
    assert sources.load("table") is table
    with pytest.raises(ConfigError, match=r"no source 'tabel'; did you mean 'table'\?"):
        sources.load("tabel")


@pytest.mark.parametrize("name", sources.names())
def test_every_source_keeps_the_contract(name: str) -> None:
    module = sources.load(name)
    assert issubclass(module.Options, table.PackOptions)
    module.Options()
    for function in ("read", "check", "pack"):
        assert callable(getattr(module, function))


@pytest.fixture
def ham10000_subset(tmp_path: Path) -> Path:
    folder = SHARED / "ham10000"
    if not folder.is_dir():
        pytest.skip("the real data sets are not beside this checkout")
    frame = pd.read_csv(folder / "table.csv")
    lesions = sorted(set(frame["lesion_id"]))[::7]
    some = frame[frame["lesion_id"].isin(lesions)]
    some.to_csv(tmp_path / "ham.csv", index=False)
    return tmp_path / "ham.csv"


@pytest.mark.shared
def test_ham10000_is_packed(ham10000_subset: Path, tmp_path: Path) -> None:
    chosen = options(
        image_size=32, images=str(SHARED / "ham10000"), group="lesion_id", exclude="dx_type"
    )
    packed = pack(ham10000_subset, tmp_path / "out", chosen)
    assert packed.schema.numeric == ["age"]
    assert list(packed.schema.category) == ["sex", "localization"]
    assert len(packed.schema.class_names) == 7
    assert packed.problems() == []
    share = len(packed.rows("test")) / len(packed)
    assert share == pytest.approx(0.2, abs=0.02)


@pytest.mark.shared
def test_the_infinities_of_hannover_are_told_and_limited(tmp_path: Path) -> None:
    raw = SHARED / "hannover_cxr" / "table.csv"
    if not raw.is_file():
        pytest.skip("the real data sets are not beside this checkout")
    future = "icu_admission_offset,icu_release_offset,death_offset"
    chosen = options(image_size=32, group="patient_id", exclude=future)
    problems = check(raw, chosen).problems
    counts = [("crp_val", 2), ("d-dimer_val", 8), ("po2_val", 2)]
    for (name, count), problem in zip(counts, problems, strict=True):
        assert problem.startswith(f"column {name!r} holds {count} infinite numbers")
        assert "infinite=limit" in problem
    packed = pack(raw, tmp_path / "out", chosen.with_values({"infinite": "limit"}))
    assert packed.problems() == []
    crp = packed.numeric[:, packed.schema.numeric.index("crp_val")]
    train = crp[packed.rows("train")]
    assert np.nanmax(crp[np.isfinite(crp)]) >= np.nanmax(train)
    assert packed.present(np.arange(len(packed))).all()
