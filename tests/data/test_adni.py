"""ADNI: which scan belongs to which visit, what cells mean, and every message, on a look-alike."""

import csv
import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dfpl.data.checks import problems_of
from dfpl.data.packed import DataError
from dfpl.data.preparing import prepare
from dfpl.data.raw import RawSamples, Report
from dfpl.data.sources import adni
from dfpl.data.sources._adni_scans import Visit, Visits, month_of, parse, parse_dates
from dfpl.data.sources._adni_table import diagnoses, numbers
from dfpl.data.twins import adni as twin
from dfpl.data.volumes import read_volume
from dfpl.fields import ConfigError

SIZE = twin.Options(size=12, pixels=16)
OPTIONS = adni.Options(image_size=16)
Rows = list[dict[str, str]]


@pytest.fixture(scope="module")
def ida(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ida") / "raw"
    twin.write(root, SIZE)
    return root


@pytest.fixture(scope="module")
def bids(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bids") / "raw"
    twin.write(root, SIZE.with_values({"layout": "bids"}))
    return root


@pytest.fixture(scope="module")
def samples(ida: Path) -> RawSamples:
    return adni.read(ida, OPTIONS)


@pytest.fixture
def copy(ida: Path, tmp_path: Path) -> Path:
    """The twin with tables of its own, to be spoilt."""
    for path in ida.glob("*.csv"):
        shutil.copy(path, tmp_path)
    (tmp_path / "ADNI").symlink_to(ida / "ADNI")
    return tmp_path


def edit(root: Path, change: Callable[[Rows], Rows | None], table: str = "ADNIMERGE.csv") -> None:
    path = root / table
    with path.open(newline="") as stream:
        reader = csv.DictReader(stream)
        names, rows = list(reader.fieldnames or []), list(reader)
    rows = change(rows) or rows
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, names)
        writer.writeheader()
        writer.writerows(rows)


def row_of(rows: Rows, visit: str) -> dict[str, str]:
    return next(row for row in rows if f"{row['PTID']}_{row['VISCODE']}" == visit)


def ptid(number: int) -> str:
    return f"99{number % 10}_S_{number:04d}"


def cell(samples: RawSamples, visit: str, name: str) -> Any:
    table = samples.numeric if name in samples.numeric else samples.category
    return table.loc[samples.id == visit, name].item()


def scan(samples: RawSamples, visit: str) -> Path:
    return Path(samples.image[samples.id == visit].item())


def reasons(samples: RawSamples) -> dict[str, str]:
    return dict(zip(samples.dropped["id"], samples.dropped["reason"], strict=True))


def counts(report: Report) -> dict[str, tuple[int | str, int | str | None]]:
    return {what: (found, expected) for what, found, expected in report.counts}


def problems(root: Path, **values: Any) -> list[str]:
    return adni.check(root, OPTIONS.with_values(values)).problems


def test_the_default_columns_are_43_in_the_order_of_the_spec(samples: RawSamples) -> None:
    assert len(adni.DEFAULT) == len(set(adni.DEFAULT)) == 43
    assert samples.category.columns.tolist() == [
        *("PTGENDER", "PTETHCAT", "PTRACCAT", "PTMARRY", "APOE4")
    ]
    assert samples.numeric.columns.tolist() == [
        *("AGE", "PTEDUCAT", "FDG", "PIB", "AV45", "ABETA", "TAU", "PTAU"),
        *("CDRSB", "ADAS11", "ADAS13", "ADASQ4", "MMSE"),
        *("RAVLT_immediate", "RAVLT_learning", "RAVLT_forgetting", "RAVLT_perc_forgetting"),
        *("LDELTOTAL", "DIGITSCOR", "TRABSCOR", "FAQ", "MOCA"),
        *("EcogPtMem", "EcogPtLang", "EcogPtVisspat", "EcogPtPlan", "EcogPtOrgan"),
        *("EcogPtDivatt", "EcogPtTotal", "EcogSPMem", "EcogSPLang", "EcogSPVisspat"),
        *("EcogSPPlan", "EcogSPOrgan", "EcogSPDivatt", "EcogSPTotal"),
        *("mPACCdigit", "mPACCtrailsB"),
    ]


def test_a_sample_is_a_visit_with_its_subject_as_group(samples: RawSamples) -> None:
    assert samples.name == "adni" and samples.image_kind == "volume" and samples.split is None
    assert samples.id.is_unique
    assert samples.id[:3].tolist() == ["990_S_0000_bl", "990_S_0000_m06", "990_S_0000_m12"]
    assert all(
        name.startswith(group) for name, group in zip(samples.id, samples.group, strict=True)
    )
    assert samples.label[:3].tolist() == ["MCI", "Dementia", "Dementia"]
    assert all(Path(path).is_file() for path in samples.image)


def test_both_layouts_give_the_same_samples(bids: Path, samples: RawSamples) -> None:
    other = adni.read(bids, OPTIONS)
    pd.testing.assert_series_equal(other.id, samples.id)
    pd.testing.assert_series_equal(other.label, samples.label)
    pd.testing.assert_frame_equal(other.numeric, samples.numeric)
    pd.testing.assert_frame_equal(other.category, samples.category)
    for name, path in zip(other.id, other.image, strict=True):
        month = month_of(name.rsplit("_", 1)[1])
        assert name[:10].replace("_", "") in path and f"ses-M{month:03d}" in path


def test_every_visit_is_kept_or_dropped_once_and_scans_without_visit_are_told(
    ida: Path, samples: RawSamples
) -> None:
    table = pd.read_csv(ida / "ADNIMERGE.csv")
    visits = (table["PTID"] + "_" + table["VISCODE"]).tolist()
    (extra,) = [name for name in samples.dropped["id"] if name.endswith(".nii")]
    assert sorted([*samples.id, *samples.dropped["id"]]) == sorted([*visits, extra])
    assert reasons(samples) == {
        f"{ptid(1)}_m06": "no diagnosis at the visit (DX is empty)",
        f"{ptid(6)}_m06": "no scan of the visit",
        extra: "scan without a visit within 180 days",
    }
    assert f"ADNI_{ptid(7)}_MR_" in extra


def test_a_scan_of_a_visit_without_diagnosis_does_not_move_to_its_neighbour(copy: Path) -> None:
    def forget(rows: Rows) -> None:
        row_of(rows, f"{ptid(4)}_m0").update(EXAMDATE="")
        row_of(rows, f"{ptid(4)}_m06").update(DX="", IMAGEUID="")
        row_of(rows, f"{ptid(4)}_m12").update(IMAGEUID="")

    edit(copy, forget)
    shutil.copytree(copy / "ADNI" / ptid(4), copy / "own" / ptid(4))
    (copy / "ADNI").unlink()
    sorted((copy / "own").rglob("*.nii"))[-1].unlink()  # that of m12
    found = adni.read(copy, OPTIONS.with_values({"join_days": 300}))
    assert found.id.tolist() == [f"{ptid(4)}_m0"]
    assert reasons(found)[f"{ptid(4)}_m12"] == "no scan of the visit"


def test_odd_visit_codes_keep_their_text_and_find_their_session(bids: Path) -> None:
    found = adni.read(bids, OPTIONS)
    assert "ses-M000" in scan(found, f"{ptid(4)}_m0").name
    assert "ses-M012" in scan(found, f"{ptid(5)}_y1").name


@pytest.mark.parametrize(
    ("code", "month"),
    [("bl", 0), ("m0", 0), ("m06", 6), ("m120", 120), ("y1", 12), ("sc", 0), ("f", None)],
)
def test_months_of_visit_codes(code: str, month: int | None) -> None:
    assert month_of(code) == month


DAY: Any = pd.Timestamp("2010-01-01")


def visits() -> Visits:
    """Days 0, 100 and 400 of one subject; the second has image 7, the third no date."""
    days = [DAY, DAY + pd.Timedelta(days=100), None, DAY]
    return Visits(["a", "a", "a", "b"], [None, 7, None, None], days, [0, 3, 12, None])


def found(
    *,
    subject: str = "a",
    image: int | None = None,
    day: int | None = None,
    month: int | None = None,
) -> Visit | str:
    date = None if day is None else DAY + pd.Timedelta(days=day)
    return visits().of(adni.Scan("p", subject, "n", image, date, month), 60)


def test_the_image_number_goes_before_the_date_and_the_nearest_date_before_others() -> None:
    assert found(image=7, day=-10) == Visit(1, "IMAGEUID", 110)
    assert found(image=8, day=-10) == Visit(0, "date", 10)
    assert found(image=8, day=51) == Visit(1, "date", 49)
    assert found(image=8, day=50) == Visit(0, "date", 50)
    assert found(subject="b", image=7, day=0) == Visit(3, "date", 0)
    assert found(month=12) == Visit(2, "session", 0)


def test_a_scan_without_a_visit_says_why() -> None:
    assert found(image=8, day=161) == "scan without a visit within 60 days"
    assert found(image=8) == "scan without a date in its path or a collection table"
    assert found(month=6) == "scan without a visit of its month"
    assert found(subject="c") == "scan of a subject that is not in ADNIMERGE"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (
            "ADNI/990_S_0001/MPR__N3/2006-11-08_15_19_42.0/I403/ADNI_990_S_0001_MR_N3_S2_I403.nii",
            ("990_S_0001", "I403", 403, "2006-11-08", None),
        ),
        (
            "ADNI/990_S_10001/S2/2006-11-08_15_19_42.0/I403/scan.nii.gz",
            ("990_S_10001", "I403", 403, "2006-11-08", None),
        ),
        ("sub-ADNI990S0001_ses-M006_T1w.nii.gz", ("990_S_0001", "T1w", None, "", 6)),
        ("sub-ADNI990S0001_ses-M06_run-02_T1w.nii", ("990_S_0001", "run-02", None, "", 6)),
        ("I500.nii", ("991_S_0002", "I500", 500, "2007-01-02", None)),
        ("991_S_0002/brain.nii", ("991_S_0002", "brain", None, "", None)),
        ("2006-13-08_15_19_42.0/ADNI_990_S_0001_I9.nii", ("990_S_0001", "I9", 9, "", None)),
        ("I600.nii", None),
        ("brain.nii", None),
    ],
)
def test_what_a_path_says(path: str, expected: tuple[Any, ...] | None) -> None:
    listed: Any = {500: ("991_S_0002", pd.Timestamp("2007-01-02"))}
    scan = parse(f"/raw/{path}", "/raw", listed)
    assert (scan is None) == (expected is None)
    if scan is not None and expected is not None:
        assert (scan.subject, scan.name, scan.image) == expected[:3]
        assert (f"{scan.date:%Y-%m-%d}" if scan.date else "", scan.month) == expected[3:]


def test_dates_of_both_spellings() -> None:
    days = parse_dates(["2006-11-08", "11/8/2006", "11/08/2006", "2006", "", None, "8.11.2006"])
    assert days == [pd.Timestamp("2006-11-08")] * 3 + [None] * 4


def test_flat_scans_find_subject_and_day_in_the_collection_table(
    ida: Path, samples: RawSamples, tmp_path: Path
) -> None:
    for path in ida.glob("*.csv"):
        shutil.copy(path, tmp_path)
    for path in ida.rglob("*.nii"):
        (tmp_path / f"{path.parent.name}.nii").symlink_to(path)
    edit(tmp_path, lambda rows: [{**row, "IMAGEUID": ""} for row in rows])
    flat = adni.read(tmp_path, OPTIONS)
    assert flat.id.tolist() == samples.id.tolist()
    assert adni.check(tmp_path, OPTIONS).counts[:2] == [
        ("visits in ADNIMERGE.csv", len(pd.read_csv(ida / "ADNIMERGE.csv")), None),
        ("images in collection tables", len(list(ida.rglob("*.nii"))), None),
    ]


def test_of_two_scans_of_a_visit_that_of_the_table_is_taken(ida: Path, copy: Path) -> None:
    visit = f"{ptid(9)}_bl"
    table: Any = pd.read_csv(ida / "ADNIMERGE.csv")
    uid = table["IMAGEUID"][table["PTID"] + "_" + table["VISCODE"] == visit].item()
    first, second = int(uid), int(uid) + 1
    assert f"_I{first}.nii" in scan(adni.read(ida, OPTIONS), visit).name
    edit(copy, lambda rows: row_of(rows, visit).update(IMAGEUID=f"{second}.0"))
    assert f"_I{second}.nii" in scan(adni.read(copy, OPTIONS), visit).name
    edit(copy, lambda rows: row_of(rows, visit).update(IMAGEUID=""))
    assert f"_I{second}.nii" in scan(adni.read(copy, OPTIONS), visit).name  # numbered last


def test_of_two_runs_the_first_is_taken(bids: Path) -> None:
    assert "_run-01_" in scan(adni.read(bids, OPTIONS), f"{ptid(9)}_bl").name


def test_all_scans_of_a_visit_are_samples_if_wanted(ida: Path, bids: Path) -> None:
    for root, end in ((ida, "I100091"), (bids, "run-02")):
        every = adni.read(root, OPTIONS.with_values({"scans": "all"}))
        one = adni.read(root, OPTIONS)
        assert len(every) == len(one) + 1 and every.id.is_unique
        assert f"{ptid(9)}_bl_{end}" in set(every.id)
        twice = every.numeric[every.id.str.startswith(f"{ptid(9)}_bl_")]
        assert len(twice) == 2 and twice.iloc[0].equals(twice.iloc[1])


def test_visits_without_a_scan_are_kept_if_wanted(ida: Path, samples: RawSamples) -> None:
    kept = adni.read(ida, OPTIONS.with_values({"unpaired": "keep"}))
    assert len(kept) == len(samples) + 1
    assert kept.image[kept.id == f"{ptid(6)}_m06"].tolist() == [None]
    assert f"{ptid(6)}_m06" not in reasons(kept)
    assert f"{ptid(1)}_m06" in reasons(kept)


def test_the_age_is_that_at_the_visit(ida: Path, samples: RawSamples) -> None:
    table = pd.read_csv(ida / "ADNIMERGE.csv")
    table.index = pd.Index(table["PTID"] + "_" + table["VISCODE"])
    expected = (table["AGE"] + table["Years_bl"]).loc[samples.id.tolist()]
    assert np.allclose(samples.numeric["AGE"], expected)
    three = [cell(samples, f"{ptid(0)}_{code}", "AGE") for code in ("bl", "m06", "m12")]
    assert np.allclose(np.diff(three), 0.5, atol=0.1)


def test_censored_biomarkers_are_numbers(samples: RawSamples) -> None:
    visit = f"{ptid(2)}_bl"
    found = [cell(samples, visit, name) for name in ("ABETA", "TAU", "PTAU")]
    assert found == [1700, 80, 8]


def test_unknown_is_empty(samples: RawSamples) -> None:
    for name in ("PTETHCAT", "PTRACCAT", "PTMARRY"):
        assert pd.isna(cell(samples, f"{ptid(3)}_bl", name))
        assert not pd.isna(cell(samples, f"{ptid(2)}_bl", name))


def test_minus_one_and_four_are_empty_but_for_scores_that_may_be_negative(copy: Path) -> None:
    visit = f"{ptid(11)}_bl"
    codes = {"MOCA": "-1", "FAQ": "-4", "PTEDUCAT": "-4.0", "APOE4": "-1.0", "PTGENDER": "-4"}
    edit(copy, lambda rows: row_of(rows, visit).update(codes))
    found = adni.read(copy, OPTIONS)
    assert all(pd.isna(cell(found, visit, name)) for name in codes)
    assert cell(found, visit, "RAVLT_learning") == -1
    assert cell(found, visit, "RAVLT_forgetting") == -4
    assert not adni.check(copy, OPTIONS).problems


def test_levels_of_a_gene_lose_their_zeros(samples: RawSamples) -> None:
    assert set(samples.category["APOE4"].dropna()) <= {"0", "1", "2"}


def test_cells_that_are_no_numbers_are_empty_and_told_without_their_text() -> None:
    table = pd.DataFrame({"TAU": ["80", "secret", "<8", "", None, "unknown", "secret"]}, dtype=str)
    report = Report()
    assert numbers(table, "TAU", report).dropna().tolist() == [80, 8]
    (told,) = report.warnings
    assert told == "TAU of 2 visits, first in row 3 of ADNIMERGE, is no number and counts as empty"


def test_diagnoses_of_old_and_new_releases() -> None:
    cells = ["CN", "NL", "MCI", "MCI to Dementia", "MCI to NL", "Dementia", "", None, "-4", "AD"]
    found, odd = diagnoses(pd.Series(cells, dtype=str))
    assert [None if pd.isna(label) else label for label in found] == [
        *("CN", "CN", "MCI", "Dementia", "CN", "Dementia", None, None, None, None)
    ]
    assert odd.tolist() == [False] * 9 + [True]


def test_a_raw_folder_is_known_by_its_table(ida: Path, tmp_path: Path) -> None:
    assert adni.looks_raw(ida)
    assert not adni.looks_raw(tmp_path)
    assert not adni.looks_raw(tmp_path / "nowhere")
    (tmp_path / "ADNIMERGE_DICT.csv").touch()
    assert not adni.looks_raw(tmp_path)
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "ADNIMERGE_18Feb2025.csv").touch()
    assert adni.looks_raw(tmp_path)


def test_of_several_releases_the_newest_is_read_and_told(copy: Path) -> None:
    table = copy / "ADNIMERGE.csv"
    for day in ("02Mar2023", "18Feb2025", "30Dec2024"):
        shutil.copy(table, copy / f"ADNIMERGE_{day}.csv")
    table.unlink()
    report = adni.check(copy, OPTIONS)
    assert report.counts[0][0] == "visits in ADNIMERGE_18Feb2025.csv"
    told = "ADNIMERGE_18Feb2025.csv is read, and ADNIMERGE_30Dec2024.csv, ADNIMERGE_02Mar2023.csv"
    assert any(text.startswith(told) for text in report.warnings)


def test_a_missing_table_is_told_beside_those_found(copy: Path) -> None:
    (copy / "ADNIMERGE.csv").rename(copy / "DXSUM_PDXCONV.csv")
    (problem,) = problems(copy)
    assert problem.startswith(f"ADNIMERGE.csv not found in {copy}")
    assert "also accepted: ADNIMERGE_*.csv" in problem
    assert "found DXSUM_PDXCONV.csv" in problem and "that is a different table" in problem


def test_a_wrong_root_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ADNIMERGE\.csv not found in .*/nowhere is no folder"):
        adni.read(tmp_path / "nowhere", OPTIONS)


def test_missing_columns_are_named_with_the_way_out(copy: Path) -> None:
    path = copy / "ADNIMERGE.csv"
    path.write_text(path.read_text().replace("mPACCdigit,", "mPACC1,").replace("FDG,", "FDG2,"))
    (problem,) = problems(copy)
    assert f"{path} lacks FDG, mPACCdigit; your release seems older or newer" in problem
    assert "option columns" in problem
    assert problems(copy, columns="AGE,MMSE,PTGENDER") == []


def test_a_table_without_keys_is_no_adnimerge(copy: Path) -> None:
    path = copy / "ADNIMERGE.csv"
    path.write_text(path.read_text().replace("EXAMDATE,", "VISDATE,"))
    (problem,) = problems(copy)
    assert f"{path} lacks EXAMDATE, so it is no ADNIMERGE; its columns are ['RID', 'COLP" in problem


def test_a_table_that_is_no_text_or_empty_is_a_problem_and_no_crash(copy: Path) -> None:
    path = copy / "ADNIMERGE.csv"
    header = path.read_text().splitlines()[0]
    path.write_bytes(b"\xff\xfe\x00")
    assert "cannot be read as comma-separated UTF-8" in problems(copy)[0]
    path.write_text(header + "\n")
    assert problems(copy) == [f"{path} has no rows"]


def test_columns_that_are_no_features_are_refused_all_at_once(ida: Path) -> None:
    three = problems(ida, columns="AGE,MMSE_bl,LDELTOTAL_BL,DX_bl,DX,PTID,AGE,TAU")
    assert [text.split(" are ")[0].split(" occur ")[0] for text in three] == [
        "option columns: AGE",
        "option columns: MMSE_bl, LDELTOTAL_BL, DX_bl",
        "option columns: PTID, DX" if "PTID, DX" in three[2] else "option columns: DX, PTID",
    ]


def test_scores_that_make_the_diagnosis_are_told(ida: Path) -> None:
    told = [text for text in adni.check(ida, OPTIONS).warnings if "enter the clinical" in text]
    assert told[0].startswith("CDRSB, MMSE, FAQ enter the clinical diagnosis itself")
    without = OPTIONS.with_values({"columns": "AGE,TAU,PTGENDER"})
    assert not any("enter the clinical" in text for text in adni.check(ida, without).warnings)


def test_volumes_of_the_scan_are_no_default_and_told_if_chosen(ida: Path) -> None:
    chosen = OPTIONS.with_values({"columns": "AGE,Hippocampus,Ventricles"})
    assert adni.read(ida, chosen).numeric.columns.tolist() == ["AGE", "Hippocampus", "Ventricles"]
    assert any(
        text.startswith("Ventricles, Hippocampus are measured in the scan")
        for text in adni.check(ida, chosen).warnings
    )
    assert not any("measured in" in text for text in adni.check(ida, OPTIONS).warnings)


def test_scans_of_dicom_are_to_be_converted(copy: Path) -> None:
    (copy / "ADNI").unlink()
    (copy / "ADNI" / ptid(0)).mkdir(parents=True)
    (copy / "ADNI" / ptid(0) / "a.dcm").touch()
    (problem,) = problems(copy)
    assert problem.startswith(f"no *.nii or *.nii.gz of a subject under {copy}")
    assert problem.endswith("found DICOM (*.dcm): convert with dcm2niix or Clinica first")


def test_scans_without_a_subject_are_told(copy: Path) -> None:
    (copy / "brain.nii").touch()
    told = f"1 NIfTI files name no subject, first {copy}/brain.nii"
    assert told in adni.check(copy, OPTIONS).warnings
    (copy / "ADNI").unlink()
    (problem,) = problems(copy)
    assert "of 1 NIfTI files none names its subject" in problem


def test_second_copies_of_a_scan_are_told_and_not_read(copy: Path, samples: RawSamples) -> None:
    shutil.copytree(copy / "ADNI" / ptid(0), copy / "again" / ptid(0))
    report = adni.check(copy, OPTIONS.with_values({"scans": "all"}))
    told = [text for text in report.warnings if "are second copies" in text]
    assert told and told[0].startswith("3 NIfTI files are second copies, first ")
    assert len(adni.read(copy, OPTIONS)) == len(samples)


def test_other_contrasts_and_maps_of_clinica_are_passed_by(bids: Path, tmp_path: Path) -> None:
    shutil.copytree(bids, tmp_path / "raw")
    folder = tmp_path / "raw/bids/sub-ADNI990S0000/ses-M000/anat"
    (folder / "sub-ADNI990S0000_ses-M000_FLAIR.nii.gz").touch()
    (folder / "sub-ADNI990S0000_ses-M000_T1w_dseg.nii.gz").touch()
    report = adni.check(tmp_path / "raw", OPTIONS)
    assert not any("NIfTI files" in text for text in report.warnings)
    assert counts(report)["scans found"] == counts(adni.check(bids, OPTIONS))["scans found"]


def test_a_folder_of_scans_elsewhere(copy: Path, ida: Path, samples: RawSamples) -> None:
    (copy / "ADNI").unlink()
    elsewhere = OPTIONS.with_values({"images": str(ida / "ADNI")})
    assert adni.read(copy, elsewhere).image.tolist() == samples.image.tolist()
    (problem,) = problems(copy, images=str(copy / "nowhere"))
    assert problem == f"there is no folder {copy}/nowhere (option images)"


def test_a_link_that_leads_back_is_walked_once(copy: Path, samples: RawSamples) -> None:
    (copy / "loop").symlink_to(copy)
    assert len(adni.read(copy, OPTIONS)) == len(samples)
    assert not any("second copies" in text for text in adni.check(copy, OPTIONS).warnings)


def test_no_scan_joined_is_told_with_subjects_of_both_sides(copy: Path) -> None:
    edit(copy, lambda rows: [{**row, "PTID": row["PTID"].replace("99", "98", 1)} for row in rows])
    (problem,) = problems(copy)
    assert problem.startswith("0 of ") and "could be joined" in problem
    assert "subjects of scans are e.g. 990_S_0000, 990_S_0010, 991_S_0001" in problem
    assert problem.endswith("those of ADNIMERGE 980_S_0000, 980_S_0010, 981_S_0001")


def test_no_visit_with_a_diagnosis_and_a_scan(copy: Path) -> None:
    edit(copy, lambda rows: [{**row, "DX": ""} for row in rows])
    assert problems(copy) == ["no visit has both a diagnosis and a scan"]


def test_visits_that_occur_twice_are_a_problem(copy: Path) -> None:
    edit(copy, lambda rows: [*rows, rows[0]])
    (problem,) = problems(copy)
    assert problem.startswith("1 visits occur more than once in ADNIMERGE, e.g. 990_S_0000_bl")


def test_a_strange_diagnosis_is_a_problem_that_names_its_row_alone(copy: Path) -> None:
    edit(copy, lambda rows: rows[2].update(DX="secret"))
    (problem,) = problems(copy)
    assert problem.startswith("DX of 1 visits, first in row 4 of ADNIMERGE, is none of CN, MCI")
    assert "secret" not in problem


def test_a_row_without_keys_is_dropped(copy: Path) -> None:
    edit(copy, lambda rows: rows[0].update(VISCODE=""))
    assert reasons(adni.read(copy, OPTIONS))["row 2"] == "no PTID or no VISCODE"


def test_all_problems_are_told_at_once(copy: Path) -> None:
    (copy / "ADNI").unlink()
    (copy / "ADNIMERGE.csv").unlink()
    three = problems(copy, columns="DX")
    assert [text.split()[0] for text in three] == ["option", "ADNIMERGE.csv", "no"]
    with pytest.raises(DataError, match=r"(?s)option columns: DX.*not found.*no \*\.nii"):
        adni.read(copy, OPTIONS.with_values({"columns": "DX"}))


def test_a_subject_in_two_splits_is_a_problem(samples: RawSamples) -> None:
    split = pd.Series(np.resize(["train", "val", "test"], len(samples)), dtype=object)
    torn = dataclasses.replace(samples, split=split)
    assert any("990_S_0000" in text for text in problems_of(torn))


def test_subjects_are_never_torn_by_the_drawn_split(samples: RawSamples) -> None:
    ready = prepare(samples, OPTIONS)
    assert ready.split is not None
    pairs = set(zip(ready.group, ready.split, strict=True))
    assert len(pairs) == 12 and {split for _, split in pairs} == {"train", "val", "test"}


def test_counts_stand_beside_those_of_the_paper(ida: Path, samples: RawSamples) -> None:
    report = adni.check(ida, OPTIONS)
    found = counts(report)
    rows = len(pd.read_csv(ida / "ADNIMERGE.csv"))
    scans = len(list(ida.rglob("*.nii")))
    assert found["visits in ADNIMERGE.csv"] == (rows, None)
    assert found["scans found"] == (scans, None)
    joined = [found[f"scans joined to a visit by {how}"][0] for how in ("IMAGEUID", "date")]
    assert sum(map(int, joined)) == scans - 1 and min(map(int, joined)) > 5
    assert found["visits with a diagnosis"] == (rows - 1, None)
    assert found["visits with a diagnosis and a scan"] == (rows - 2, None)
    assert found["of them with several scans"] == (1, None)
    assert found["scans"] == (len(samples), 7_305)
    assert found["subjects"] == (12, 1_913)
    assert found["clinical columns"] == (43, 43)
    assert found["diagnoses"] == (3, 3)
    assert found["train scans"][1] == 5_880 and found["train subjects"][1] == 1_531
    assert found["val scans"][1] == 783 and found["val subjects"][1] == 191
    assert found["test scans"][1] == 642 and found["test subjects"][1] == 191
    assert any(
        text.startswith(f"1,913 subjects / 7,305 scans expected, got 12 / {len(samples)}")
        for text in report.warnings
    )
    changed = counts(adni.check(ida, OPTIONS.with_values({"val": 0.2})))
    assert changed["val scans"][1] is None


def test_options_say_what_they_refuse() -> None:
    with pytest.raises(ConfigError, match="join_days should be greater than or equal to 0"):
        adni.Options.from_dict({"join_days": -1})
    with pytest.raises(ConfigError, match="scans should be 'one' or 'all', got 'some'"):
        adni.Options.from_dict({"scans": "some"})


def test_packed_volumes_tables_and_subjects(ida: Path, tmp_path: Path, samples: RawSamples) -> None:
    packed = adni.pack(ida, tmp_path / "packed", OPTIONS, workers=1)
    assert packed.schema.name == "adni" and packed.schema.private
    assert packed.schema.class_names == ["CN", "Dementia", "MCI"]
    assert packed.sample["id"].tolist() == sorted(samples.id)
    assert packed.image.shape == (len(samples), 16, 16, 16)
    first = read_volume(scan(samples, f"{ptid(0)}_bl"), 16)
    assert np.array_equal(packed.image[0], first)
    assert packed.problems() == []
