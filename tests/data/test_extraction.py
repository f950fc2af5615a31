"""From raw MIMIC-IV to the benchmark level: filters, units, labels, split, and going on."""

import gzip
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from dfpl.data import extraction
from dfpl.data.extraction import Options, extract, find_raw, phenotypes, series, spill
from dfpl.data.extraction.cohort import read_cohort, split_subjects
from dfpl.data.extraction.phenotypes import DEFINITIONS, PHENOTYPES, read_definition, read_labels
from dfpl.data.extraction.variables import Recipe, cleaned
from dfpl.data.packed import DataError
from dfpl.data.raw import Report
from dfpl.data.twins import mimic as twin
from dfpl.fields import ConfigError

Frame = Any
RECIPES: tuple[Recipe, ...] = ("reproduce", "repair")
PLAIN = twin.Options(size=40, events_per_stay=80, pixels=16)
LAYOUTS = {
    "1.0": {"level": "raw"},
    "2.2": {"level": "raw", "version": "2.2", "compressed": True},
}


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("twin") / "benchmark"
    twin.write(root, PLAIN)
    return root


@pytest.fixture(scope="module")
def raws(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("twin")
    for name, values in LAYOUTS.items():
        twin.write(folder / name, PLAIN.with_values(values))
    return {name: folder / name for name in LAYOUTS}


@pytest.fixture(scope="module")
def extracted(raws: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("extracted")
    for name, raw in raws.items():
        extract(raw, folder / name, Options(), Report())
    return {name: folder / name for name in raws}


def tree(root: Path) -> dict[str, str]:
    """Text of all files but the marker, by their place."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(root)): path.read_text()
        for path in files
        if path.name != "extraction.json"
    }


def found(report: Report) -> dict[str, Any]:
    return {what: number for what, number, _ in report.counts}


@pytest.mark.parametrize("version", LAYOUTS)
def test_the_raw_twin_becomes_the_benchmark_twin(
    benchmark: Path, extracted: dict[str, Path], version: str
) -> None:
    one, other = benchmark / "data/phenotyping", extracted[version] / "data/phenotyping"
    names = {str(path.relative_to(one)) for path in one.rglob("*.csv")}
    assert names == {str(path.relative_to(other)) for path in other.rglob("*.csv")}
    for ending in ("_timeseries.csv", "_listfile.csv"):
        kind = sorted(name for name in names if name.endswith(ending))
        tables = [pd.concat([table_of(folder / name) for name in kind]) for folder in (one, other)]
        numbers = [table.apply(pd.to_numeric, errors="coerce") for table in tables]
        assert np.allclose(*numbers, rtol=0, atol=0.02, equal_nan=True)
        texts = [cells.where(rest.isna(), "") for cells, rest in zip(tables, numbers, strict=True)]
        assert texts[0].equals(texts[1])


def table_of(path: Path) -> Frame:
    """Cells as text; without the outliers that the benchmark level keeps; lists by stay."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False).replace("999999.0", "")
    if path.name.endswith("_listfile.csv"):
        return table.sort_values("stay_id", ignore_index=True)
    return table.assign(file=path.name)


def test_all_stays_has_the_columns_of_the_benchmark(
    benchmark: Path, extracted: dict[str, Path]
) -> None:
    tables = [
        pd.read_csv(root / "data/root/all_stays.csv") for root in (benchmark, extracted["1.0"])
    ]
    assert list(tables[0]) == list(tables[1])
    one, other = (table.set_index("stay_id") for table in tables)
    extra = other.index.difference(one.index)
    assert len(extra) == 1  # nothing was measured in it
    pd.testing.assert_frame_equal(one, other.loc[one.index], check_dtype=False)


def test_both_releases_give_the_same(extracted: dict[str, Path]) -> None:
    assert tree(extracted["1.0"]) == tree(extracted["2.2"])


def test_what_must_not_be_kept_is_not(extracted: dict[str, Path]) -> None:
    folder = extracted["1.0"] / "data/phenotyping"
    assert not [path for path in folder.rglob("*_timeseries.csv") if ",333" in path.read_text()]


ROWS = [  # variable, item, charted, reproduce, repair
    ("Fraction inspired oxygen", 223835, 40.0, 0.4, 0.4),
    ("Fraction inspired oxygen", 223835, 0.4, 0.004, 0.4),
    ("Fraction inspired oxygen", 223835, 1.0, 0.01, 1.0),
    ("Height", 226707, 70.0, 70.0, 177.8),
    ("Height", 226730, 178.0, 178.0, 178.0),
    ("Temperature", 223761, 98.6, 37.0, 37.0),
    ("Temperature", 223762, 98.6, 37.0, 37.0),
    ("Temperature", 223762, 37.0, 37.0, 37.0),
    ("Temperature", 223761, 78.8, 78.8, 26.0),
    ("Temperature", 223761, 37.0, 37.0, np.nan),  # 2.8 degrees Celsius
    ("Weight", 226531, 200.0, 90.7184, 90.7184),
    ("Weight", 226512, 80.0, 80.0, 80.0),
    ("Oxygen saturation", 220277, 0.97, 97.0, 97.0),
    ("Heart Rate", 220045, 999_999.0, 999_999.0, np.nan),
    ("Glucose", 50931, 999_999.0, 999_999.0, np.nan),
    ("Weight", 226512, 999_999.0, 999_999.0, np.nan),
    ("pH", 50820, 7.4, 7.4, 7.4),
    ("pH", 50820, 74.0, 74.0, np.nan),
]


@pytest.mark.parametrize(("name", "item", "value", "reproduce", "repair"), ROWS)
def test_units_by_hand(name: str, item: int, value: float, reproduce: float, repair: float) -> None:
    for recipe, expected in zip(RECIPES, (reproduce, repair), strict=True):
        items, values = np.array([item]), np.array([value])
        assert cleaned(name, items, values, recipe) == pytest.approx([expected], nan_ok=True)


def events(*rows: tuple[int, int, int, str]) -> pa.Table:
    return pa.Table.from_pylist(
        [dict(zip(spill.SCHEMA.names, row, strict=True)) for row in rows], spill.SCHEMA
    )


def test_capillary_refill_is_read_by_repair_alone() -> None:
    table = events(
        (0, 3600, 223951, "Normal <3 Seconds"),
        (0, 7200, 224308, "Abnormal >3 Seconds"),
        (0, 7200, 220045, "80"),
    )
    repaired = series.to_series(table, "repair", Counter())
    assert repaired["Capillary refill rate"].tolist() == ["0.0", "1.0"]
    assert repaired["Hours"].tolist() == [1.0, 2.0]
    reproduced = series.to_series(table, "reproduce", Counter())
    assert reproduced["Hours"].tolist() == [2.0]
    assert reproduced["Capillary refill rate"].isna().all()


def test_the_coma_scale_is_summed_by_repair_alone() -> None:
    table = events(
        (0, 60, 220739, "To Speech"),  # 3
        (0, 60, 223901, "Obeys Commands"),  # 6
        (0, 60, 223900, "Confused"),  # 4
        (0, 120, 220739, "None"),  # 1
        (0, 120, 223901, "Abnormal extension"),  # 2
        (0, 120, 223900, "No Response-ETT"),  # 1
        (0, 180, 220739, "Spontaneously"),
    )
    total = series.to_series(table, "repair", Counter())["Glascow coma scale total"]
    assert total.fillna("").tolist() == ["13", "4", ""]
    assert series.to_series(table, "reproduce", Counter())["Glascow coma scale total"].isna().all()


@pytest.mark.parametrize("recipe", RECIPES)
def test_of_several_values_at_one_moment_the_largest_is_kept(recipe: Recipe) -> None:
    rows = [
        (0, 60, 220045, "90"),
        (0, 60, 220045, "100"),
        (0, 60, 220045, "80"),
        (0, 60, 220739, "None"),
        (0, 60, 220739, "To Speech"),
    ]
    for table in (events(*rows), events(*rows[::-1])):
        found = series.to_series(table, recipe, Counter())
        assert found["Heart Rate"].tolist() == [100.0]
        assert found["Glascow coma scale eye opening"].tolist() == ["To Speech"]


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_is_no_value_is_counted_and_makes_no_row(recipe: Recipe) -> None:
    counts: Counter[str] = Counter()
    table = events((0, 60, 50931, "ERROR"), (0, 60, 220739, "awake"), (0, 120, 50931, "inf"))
    assert series.to_series(table, recipe, counts).empty
    assert counts == {
        "Glucose: without a usable value": 2,
        "Glascow coma scale eye opening: without a usable value": 1,
    }


STAY = {
    **{"subject_id": 1, "hadm_id": 2, "stay_id": 3},
    **{"first_careunit": "A", "last_careunit": "A", "los": 1.0},
    **{"intime": "2150-01-01 10:00:00", "outtime": "2150-01-02 10:00:00"},
}
ADMISSION = {
    **{"subject_id": 1, "hadm_id": 2, "admittime": "2150-01-01 08:00:00"},
    **{"dischtime": "2150-01-05 08:00:00", "deathtime": "", "ethnicity": "WHITE"},
}
PERSON = {"subject_id": 1, "gender": "F", "anchor_age": 50, "dod": ""}
CHART = {
    **{"hadm_id": 2, "stay_id": 3, "charttime": "2150-01-01 11:00:00"},
    **{"itemid": 220045, "value": "80"},
}
LAB = {"hadm_id": 2, "charttime": "2150-01-01 11:00:00", "itemid": 50931, "value": "120"}
DIAGNOSIS = {"hadm_id": 2, "icd_code": "78551", "icd_version": 9}
TITLE = {"icd_code": "78551", "icd_version": 9}
NAMES = {
    **{"core/patients": PERSON, "core/admissions": ADMISSION, "icu/icustays": STAY},
    **{"icu/chartevents": CHART, "hosp/labevents": LAB, "hosp/diagnoses_icd": DIAGNOSIS},
    "hosp/d_icd_diagnoses": TITLE,
}


def make_raw(root: Path, **changes: list[dict[str, Any]]) -> Path:
    """A raw MIMIC-IV of one stay, or with these rows, each told by what differs."""
    for name, row in NAMES.items():
        rows = changes.get(name.partition("/")[2], [{}])
        path = root / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame([{**row, **change} for change in rows]).to_csv(path, index=False)
    lines = [
        f"{name!r}: {{use_in_benchmark: true, codes: ['C{place}']}}"
        for place, name in enumerate(PHENOTYPES)
    ]
    lines[-1] = lines[-1].replace("'C24'", "'78551', 'R570'")
    (root / DEFINITIONS).write_text("\n".join(lines))
    return root


def heart_rates(out: Path) -> list[str]:
    files = (out / "data/phenotyping").rglob("*_timeseries.csv")
    cells = [pd.read_csv(path, dtype=str)["Heart Rate"].dropna() for path in sorted(files)]
    return [cell for column in cells for cell in column]


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({}, True),
        ({"stay_id": ""}, True),  # recovered from the admission
        ({"hadm_id": ""}, False),
        ({"hadm_id": 9}, False),
        ({"stay_id": 9}, False),
        ({"itemid": 220048}, False),
        ({"charttime": "2150-01-01 10:00:00"}, True),
        ({"charttime": "2150-01-01 09:59:59"}, False),
        ({"charttime": "2150-01-02 10:00:00"}, True),  # the length of the stay, to the second
        ({"charttime": "2150-01-02 10:00:01"}, False),
        ({"charttime": ""}, False),
        ({"value": ""}, False),
    ],
)
def test_an_event_is_kept_or_not(tmp_path: Path, change: dict[str, Any], kept: bool) -> None:
    raw = make_raw(
        tmp_path / "raw", chartevents=[{"value": "70", "charttime": "2150-01-01 12:00:00"}, change]
    )
    extract(raw, tmp_path / "out", Options(), Report())
    assert sorted(heart_rates(tmp_path / "out")) == (["70.0", "80.0"] if kept else ["70.0"])


@pytest.mark.parametrize(
    ("stays", "people", "left"),
    [
        ([{}], [{}], [3]),
        ([{"last_careunit": "B"}, {"hadm_id": 5, "stay_id": 6}], [{}], [6]),
        ([{}, {"stay_id": 4}, {"hadm_id": 5, "stay_id": 6}], [{}], [6]),
        # of two stays of an admission one had a transfer: the other is left alone, and kept
        ([{"last_careunit": "B"}, {"stay_id": 4}], [{}], [4]),
        (
            [{}, {"subject_id": 7, "hadm_id": 5, "stay_id": 6}],
            [{"anchor_age": 17}, {"subject_id": 7, "anchor_age": 18}],
            [6],
        ),
        ([{"los": ""}, {"hadm_id": 5, "stay_id": 6}], [{}], [6]),
    ],
)
def test_the_cohort_by_hand(
    tmp_path: Path, stays: list[dict[str, Any]], people: list[dict[str, Any]], left: list[int]
) -> None:
    admissions = [{}, {"hadm_id": 5, "subject_id": 7 if len(people) == 2 else 1}]
    raw = make_raw(tmp_path, icustays=stays, patients=people, admissions=admissions)
    layout = find_raw(raw)
    assert layout is not None
    assert read_cohort(layout, Report()).stays["stay_id"].tolist() == left


def test_episodes_are_numbered_in_time(tmp_path: Path) -> None:
    later = {"hadm_id": 5, "stay_id": 1, "intime": "2151-01-01 10:00:00"}
    raw = make_raw(tmp_path, icustays=[later, {}], admissions=[{}, {"hadm_id": 5}])
    layout = find_raw(raw)
    assert layout is not None
    stays = read_cohort(layout, Report()).stays
    assert stays[["stay_id", "episode"]].to_numpy().tolist() == [[3, 1], [1, 2]]


def test_death_within_the_stay_or_after_it(tmp_path: Path) -> None:
    raw = make_raw(tmp_path, admissions=[{"deathtime": "2150-01-03 00:00:00"}])
    layout = find_raw(raw)
    assert layout is not None
    stay = read_cohort(layout, Report()).stays.iloc[0]
    assert (stay["mortality"], stay["mortality_inhospital"], stay["mortality_inunit"]) == (1, 1, 0)


def labelled(raw: Path, recipe: Recipe, definition: Path | None = None) -> list[str]:
    """The phenotypes of the one stay."""
    layout = find_raw(raw)
    assert layout is not None
    known = read_definition(definition or raw / DEFINITIONS)
    labels = read_labels(layout, read_cohort(layout, Report()), known, recipe)
    assert list(labels.columns) == list(PHENOTYPES)
    return [name for name in PHENOTYPES if labels.iloc[0][name]]


@pytest.mark.parametrize(
    ("diagnosis", "titles", "reproduce", "repair"),
    [
        ({}, [{}], ["Shock"], ["Shock"]),
        (
            {"icd_code": "R570", "icd_version": 10},
            [{"icd_code": "R570", "icd_version": 10}],
            ["Shock"],
            ["Shock"],
        ),
        # a namesake: the definition's 78551 is the ICD-9 code
        ({"icd_version": 10}, [{}, {"icd_version": 10}], ["Shock"], []),
        ({"icd_code": "C3"}, [{"icd_code": "C3"}], [PHENOTYPES[3]], [PHENOTYPES[3]]),
        ({"icd_code": "OTHER"}, [{"icd_code": "OTHER"}], [], []),
    ],
)
def test_labels_by_hand(
    tmp_path: Path,
    diagnosis: dict[str, Any],
    titles: list[dict[str, Any]],
    reproduce: list[str],
    repair: list[str],
) -> None:
    raw = make_raw(tmp_path, diagnoses_icd=[diagnosis], d_icd_diagnoses=titles)
    assert labelled(raw, "reproduce") == reproduce
    assert labelled(raw, "repair") == repair


def test_a_definition_may_be_a_table_with_versions(tmp_path: Path) -> None:
    raw = make_raw(tmp_path / "raw")
    lines = [f"C{place},9,{name}" for place, name in enumerate(PHENOTYPES)]
    table = tmp_path / "phenotypes.csv"
    table.write_text("\n".join(["icd_code,icd_version,phenotype", *lines, "78551,10,Shock"]))
    assert labelled(raw, "reproduce", table) == ["Shock"]
    assert labelled(raw, "repair", table) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Shock: {use_in_benchmark: true, codes: ['1']}", "must define the 25 phenotypes"),
        ("Shock: {use_in_benchmark: true, codes: [1]}", "code 1 of 'Shock' is no text; quote it"),
        ("[1, 2]", "must hold phenotypes"),
        ("{", "cannot be read as YAML"),
    ],
)
def test_a_wrong_definition_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "definition.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_definition(path)


def test_a_stay_without_diagnosis_or_measurement_is_not_listed(tmp_path: Path) -> None:
    stays = [{}, {"hadm_id": 5, "stay_id": 6}, {"hadm_id": 7, "stay_id": 8}]
    raw = make_raw(
        tmp_path / "raw",
        icustays=stays,
        admissions=[{}, {"hadm_id": 5}, {"hadm_id": 7}],
        chartevents=[{}, {"hadm_id": 5, "stay_id": 6}],
        diagnoses_icd=[{}, {"hadm_id": 7}],
    )
    report = Report()
    extract(raw, tmp_path / "out", Options(), report)
    assert heart_rates(tmp_path / "out") == ["80.0"]
    counts = found(report)
    assert counts["stays without a diagnosis"] == counts["stays without a measurement"] == 1


def test_a_drawn_split_has_the_shares_of_the_benchmark() -> None:
    subjects = list(range(1000))
    split = split_subjects(subjects, None, None, 0, Report())
    assert Counter(split.values()) == {"train": 720, "val": 80, "test": 200}
    assert split_subjects(subjects[::-1], None, None, 0, Report()) == split
    assert split_subjects(subjects, None, None, 1, Report()) != split


def test_a_split_is_taken_from_lists(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("1,1\n2,0\n3,0\n")
    (tmp_path / "val.csv").write_text("2,1\n1,1\n")
    report = Report()
    split = split_subjects([1, 2, 3], tmp_path / "test.csv", tmp_path / "val.csv", 0, report)
    assert split == {1: "test", 2: "val", 3: "train"}
    assert len(report.warnings) == 1 and "1 of 2 subjects are not listed" in report.warnings[0]


def test_a_list_with_another_line_is_refused(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("1,1\nsubject,2\n")
    with pytest.raises(DataError, match="line 2 is not"):
        split_subjects([1], tmp_path / "test.csv", None, 0, Report())


def test_many_buckets_and_small_files_give_the_same(
    raws: dict[str, Path],
    extracted: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(extraction, "BUCKET", 50_000)
    monkeypatch.setattr(spill, "BUFFERED", 500)
    monkeypatch.setattr(spill, "BLOCK", 1 << 14)
    extract(raws["1.0"], tmp_path, Options(), Report())
    assert tree(tmp_path) == tree(extracted["1.0"])


def test_an_extraction_that_was_cut_off_goes_on(
    raws: dict[str, Path],
    extracted: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(extraction, "BUCKET", 50_000)
    steps: list[int] = []
    read = spill.read_bucket

    def fail_at_the_third(folder: Path, bucket: int) -> pa.Table:
        steps.append(bucket)
        if len(steps) == 3:
            raise KeyboardInterrupt
        return read(folder, bucket)

    monkeypatch.setattr(spill, "read_bucket", fail_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        extract(raws["1.0"], tmp_path, Options(), Report())
    assert not (tmp_path / "data/extraction.json").exists()
    monkeypatch.setattr(spill, "spill", None)  # no table is read again
    report = Report()
    extract(raws["1.0"], tmp_path, Options(), report)
    assert steps[:4] == [0, 1, 2, 2]
    assert tree(tmp_path) == tree(extracted["1.0"])
    assert found(report)["chartevents.csv: kept"] > 1000


def test_a_table_cut_off_while_it_was_read_is_read_again(
    raws: dict[str, Path],
    extracted: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spill, "BUFFERED", 500)
    monkeypatch.setattr(spill, "BLOCK", 1 << 14)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        write = spill._write

        def fail_at_the_third(events: pa.Table, path: Path, buckets: int) -> None:
            if path.name.endswith("00002.arrow"):
                raise KeyboardInterrupt
            write(events, path, buckets)

        patch.setattr(spill, "_write", fail_at_the_third)
        extract(raws["1.0"], tmp_path, Options(), Report())
    assert len(list((tmp_path / "data/.extraction").glob("*.arrow"))) == 2
    extract(raws["1.0"], tmp_path, Options(), Report())
    assert tree(tmp_path) == tree(extracted["1.0"])


def test_a_finished_extraction_is_left_alone_and_tells_its_counts(tmp_path: Path) -> None:
    raw, first, second = make_raw(tmp_path / "raw"), Report(), Report()
    extract(raw, tmp_path / "out", Options(), first)
    (tmp_path / "out/data/root/all_stays.csv").unlink()
    extract(raw, tmp_path / "out", Options(), second)
    assert not (tmp_path / "out/data/root/all_stays.csv").exists()
    assert found(second) == found(first)
    assert not list((tmp_path / "out").rglob("*.arrow"))


def test_other_options_do_not_overwrite(tmp_path: Path) -> None:
    raw = make_raw(tmp_path / "raw")
    extract(raw, tmp_path / "out", Options(), Report())
    with pytest.raises(ConfigError, match="with other options"):
        extract(raw, tmp_path / "out", Options(recipe="reproduce"), Report())
    make_raw(raw, chartevents=[{}, {}])
    with pytest.raises(ConfigError, match="of other files"):
        extract(raw, tmp_path / "out", Options(), Report())


def test_files_of_somebody_else_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out/data").mkdir(parents=True)
    (tmp_path / "out/data/mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="files that no extraction wrote"):
        extract(make_raw(tmp_path / "raw"), tmp_path / "out", Options(), Report())


def test_everything_that_is_missing_is_told_at_once(tmp_path: Path) -> None:
    raw = make_raw(tmp_path / "raw")
    for name in ("core/patients.csv", "hosp/labevents.csv", DEFINITIONS):
        (raw / name).unlink()
    with pytest.raises(DataError) as error:
        extract(raw, tmp_path / "out", Options(testset="nowhere.csv"), Report())
    lines = str(error.value).splitlines()
    assert len(lines) == 4
    assert "core/patients.csv(.gz) not found" in lines[0]
    assert "nyuad-cai/MedFuse" in lines[2] and "nowhere.csv" in lines[3]


@pytest.mark.parametrize(
    ("there", "message"),
    [
        ("ICUSTAYS.csv.gz", "this is MIMIC-III"),
        ("files/p10/x.jpg", "this is MIMIC-CXR"),
        ("other.txt", r"icu/icustays.csv\(.gz\) not found"),
    ],
)
def test_what_is_no_raw_mimic_iv_is_told_apart(tmp_path: Path, there: str, message: str) -> None:
    path = tmp_path / there
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    assert find_raw(tmp_path) is None
    with pytest.raises(DataError, match=message):
        extract(tmp_path, tmp_path / "out", Options(), Report())


@pytest.mark.parametrize(
    "place", [".", "mimiciv/1.0", "mimic-iv-1.0", "physionet.org/files/mimiciv/1.0"]
)
def test_raw_mimic_iv_is_found_in_its_usual_places(tmp_path: Path, place: str) -> None:
    make_raw(tmp_path / place)
    layout = find_raw(tmp_path)
    assert layout is not None and layout.folder == tmp_path / place


def test_a_cut_download_is_told(tmp_path: Path) -> None:
    raw = make_raw(tmp_path / "raw", chartevents=[{}] * 5000)
    path = raw / "icu/chartevents.csv"
    packed = gzip.compress(path.read_bytes())
    path.unlink()
    path.with_name("chartevents.csv.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DataError, match=r"chartevents\.csv\.gz cannot be read.*download it again"):
        extract(raw, tmp_path / "out", Options(), Report())


def test_a_table_without_a_column_is_told(tmp_path: Path) -> None:
    raw = make_raw(tmp_path / "raw")
    for table, column in (("icu/icustays", "los"), ("icu/chartevents", "itemid")):
        path = raw / f"{table}.csv"
        whole = path.read_text()
        path.write_text(whole.replace(column, "other", 1))
        with pytest.raises(DataError, match=f"{path.name}.*{column}"):
            extract(raw, tmp_path / table.replace("/", "_"), Options(), Report())
        path.write_text(whole)


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ("icu/chartevents", "2,3,2150-01-01 11:00:00,secret,80"),
        ("icu/chartevents", "2,3,secret,220045,80"),
        ("icu/chartevents", "2,3,2150-01-01 11:00:00,220045,80,secret"),
        ("icu/icustays", "1,2,3,A,A,1.0,secret,2150-01-02 10:00:00"),
        ("icu/icustays", "1,secret,3,A,A,1.0,2150-01-01 10:00:00,2150-01-02 10:00:00"),
    ],
)
def test_a_wrong_line_is_told_with_its_table_but_without_its_cells(
    tmp_path: Path, table: str, line: str
) -> None:
    raw = make_raw(tmp_path / "raw")
    with (raw / f"{table}.csv").open("a") as stream:
        stream.write(f"{line}\n")
    with pytest.raises(DataError, match=rf"{table}\.csv") as error:
        extract(raw, tmp_path / "out", Options(), Report())
    assert "secret" not in str(error.value)


def test_the_phenotypes_are_in_alphabetical_order() -> None:
    assert len(phenotypes.PHENOTYPES) == 25
    assert list(phenotypes.PHENOTYPES) == sorted(phenotypes.PHENOTYPES)
