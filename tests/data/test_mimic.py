"""MIMIC: pairs of films and stays, and every message, on a hand-made benchmark of a few stays."""

import csv
import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dfpl.data.episodes import VARIABLES, EpisodeReader
from dfpl.data.packed import DataError
from dfpl.data.raw import RawSamples, Report
from dfpl.data.sources import mimic
from dfpl.data.sources._mimic_films import study_times
from dfpl.data.sources._mimic_lists import LABELS
from dfpl.data.twins.mimic import Options as TwinOptions
from dfpl.data.twins.mimic import write as write_mimic

OPTIONS = mimic.Options(image_size=16)
SIZE = TwinOptions(size=60, pixels=16, events_per_stay=40)
META = "mimic-cxr-2.0.0-metadata.csv"
STAYS = {  # subject, split, hours; every stay begins on 2150-01-01 at 12:00
    "31": ("90000001", "train", 60.0),
    "32": ("90000001", "train", 30.5),
    "33": ("90000002", "train", 100.0),
    "34": ("90000003", "val", 48.0),
    "35": ("90000004", "test", 72.25),
    "36": ("90000005", "test", 20.0),
    "37": ("90000006", "train", 50.0),
}
FILMS = [  # name, subject, view, date, time
    ("early", "90000001", "AP", "21500101", "115959"),
    ("first", "90000001", "AP", "21500101", "120000"),
    ("last", "90000001", "AP", "21500103", "93000.5"),
    ("lateral", "90000001", "LATERAL", "21500103", "110000"),
    ("at48h", "90000002", "AP", "21500103", "120000"),
    ("later", "90000002", "AP", "21500103", "120001"),
    ("frontal", "90000003", "PA", "21500102", "80000"),
    ("night", "90000003", "AP", "21500102", "5.25"),
    ("tied", "90000004", "AP", "21500102", "80000"),
    ("twin", "90000004", "AP", "21500102", "80000"),
    ("after", "90000005", "AP", "21500102", "110000"),
    ("other", "90000009", "AP", "21500102", "80000"),
    ("blank", "90000004", "", "21500102", "90000"),
]
Rows = list[dict[str, str]]


def write_table(path: Path, rows: Rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def edit(path: Path, change: Callable[[Rows], Rows | None]) -> None:
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    write_table(path, change(rows) or rows)


def file_of(stay: str) -> str:
    return f"{STAYS[stay][0]}_episode{stay[-1]}_timeseries.csv"


def labels_of(stay: str) -> dict[str, str]:
    """Stay 31 has every first label of four, 32 every second, ..."""
    return {name: str(int(place % 4 == int(stay) % 4)) for place, name in enumerate(LABELS)}


def write_benchmark(root: Path) -> None:
    for stay, (_, split, _) in STAYS.items():
        part = "test" if split == "test" else "train"
        names = [variable.name for variable in VARIABLES]
        write_table(
            root / "phenotyping" / part / file_of(stay),
            [{"Hours": "0.5"} | dict.fromkeys(names, "") | {"Heart Rate": stay}],
        )
    for split in ("train", "val", "test"):
        rows = [
            {"stay": file_of(stay), "period_length": f"{hours:.6f}", "stay_id": stay}
            | labels_of(stay)
            for stay, (_, own, hours) in STAYS.items()
            if own == split
        ]
        write_table(root / f"phenotyping/{split}_listfile.csv", rows)
    rows = [
        {"subject_id": subject, "hadm_id": "2" + stay, "stay_id": stay, "last_careunit": "MICU"}
        | {"intime": "2150-01-01 12:00:00", "outtime": "2150-01-02 10:00:00", "los": "0.9"}
        | {"dischtime": "2150-01-02 10:00:00", "mortality": "1"}
        for stay, (subject, *_) in STAYS.items()
    ]
    rows[1]["intime"] = "2150-01-03 08:00:00"
    write_table(root / "root/all_stays.csv", rows)


def write_films(root: Path) -> None:
    rows = []
    for place, (name, subject, view, date, time) in enumerate(FILMS):
        study = f"5000000{place:x}"
        rows.append(
            {"dicom_id": name, "subject_id": subject, "study_id": study, "ViewPosition": view}
            | {"Rows": "3056", "StudyDate": date, "StudyTime": time}
        )
        path = root / f"files/p90/p{subject}/s{study}/{name}.jpg"
        path.parent.mkdir(parents=True)
        Image.new("RGB", (20, 24), (10 * place, 90, 90)).save(path)
    write_table(root / META, rows)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mimic") / "raw"
    write_benchmark(root)
    write_films(root / "mimic-cxr-jpg/2.0.0")
    return root


@pytest.fixture(scope="module")
def samples(original: Path) -> RawSamples:
    return mimic.read(original, OPTIONS)


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    """A benchmark to be spoilt."""
    return Path(shutil.copytree(original, tmp_path / "raw"))


def films(samples: RawSamples) -> dict[str, str]:
    """The film of each stay."""
    return {
        stay: "" if path is None else Path(path).stem
        for stay, path in zip(samples.id, samples.image, strict=True)
    }


def checked(root: Path, options: mimic.Options = OPTIONS) -> Report:
    """What `check` counts and warns of before what all sources share."""
    report = Report()
    mimic._read(root, options, report)
    return report


def problem(root: Path, options: mimic.Options = OPTIONS) -> str:
    """What `read` refuses to read, which is all that `check` calls a problem."""
    with pytest.raises(DataError) as caught:
        mimic.read(root, options)
    assert mimic.check(root, options).problems == str(caught.value).splitlines()
    return str(caught.value)


def test_there_is_a_sample_for_each_stay_with_a_film(samples: RawSamples) -> None:
    assert samples.id.tolist() == ["31", "32", "33", "34", "35", "36"]
    assert samples.group.tolist() == [STAYS[stay][0] for stay in samples.id]
    assert samples.split is not None
    assert samples.split.tolist() == [STAYS[stay][1] for stay in samples.id]
    assert samples.dropped.to_dict("list") == {
        "id": ["37"],
        "reason": ["no AP film within the window (48h)"],
    }


def test_the_last_ap_film_of_the_first_48_hours_is_the_stays(samples: RawSamples) -> None:
    assert films(samples) == {
        "31": "last",  # not the lateral one after it
        "32": "last",  # began later; a film may belong to two stays
        "33": "at48h",  # not the one a second after
        "34": "night",  # 0:00:05, not the PA film after it
        "35": "twin",  # the later in the file of two of one moment
        "36": "after",  # within 48 hours, after the end of the stay
    }
    assert all(Path(path).is_file() for path in samples.image)


def test_the_film_may_be_chosen_from_the_whole_stay(original: Path) -> None:
    whole = mimic.read(original, OPTIONS.with_values({"window": "stay"}))
    assert films(whole) == {"31": "first", "34": "night", "35": "twin"}


def test_other_views_may_be_taken(original: Path) -> None:
    more = mimic.read(original, OPTIONS.with_values({"views": "AP, LATERAL,PA"}))
    assert films(more)["31"] == "lateral"
    assert films(more)["34"] == "frontal"


def test_stays_without_a_film_may_be_kept(original: Path) -> None:
    kept = mimic.read(original, OPTIONS.with_values({"unpaired": "keep"}))
    assert kept.id.tolist() == ["31", "32", "33", "37", "34", "35", "36"]
    assert kept.image.isna().tolist() == [False, False, False, True, False, False, False]
    assert kept.has_table.all()
    assert kept.dropped.empty


def test_labels_are_those_of_the_list_files(samples: RawSamples) -> None:
    assert samples.labels is not None
    assert samples.labels.columns.tolist() == LABELS
    assert len(LABELS) == 25
    assert sorted(LABELS) == LABELS
    for stay, row in zip(samples.id, samples.labels.to_dict("records"), strict=True):
        assert {name: str(value) for name, value in row.items()} == labels_of(stay)
    assert samples.label.nunique() == 1


def test_labels_in_another_order_are_the_same_labels(copy: Path, samples: RawSamples) -> None:
    def turned(rows: Rows) -> Rows:
        return [dict(sorted(row.items(), reverse=True)) for row in rows]

    edit(copy / "phenotyping/train_listfile.csv", turned)
    again = mimic.read(copy, OPTIONS)
    assert samples.labels is not None and again.labels is not None
    pd.testing.assert_frame_equal(again.labels, samples.labels)


def test_the_table_is_the_time_series_and_nothing_else(samples: RawSamples) -> None:
    assert samples.numeric.shape == samples.category.shape == (6, 0)
    assert samples.has_table.all()
    reader = EpisodeReader(hours=48)
    assert samples.reader == reader
    assert samples.series is not None
    heart = list(reader.channels).index("Heart Rate")
    lengths = {}
    for stay, entry in zip(samples.id, samples.series, strict=True):
        steps = reader.read(Path(entry))
        assert steps[0, heart] == int(stay)
        lengths[stay] = len(steps)
    assert lengths == {"31": 48, "32": 31, "33": 48, "34": 48, "35": 48, "36": 20}


def test_fewer_hours_may_be_read(original: Path) -> None:
    short = mimic.read(original, OPTIONS.with_values({"hours": 24}))
    assert short.reader == EpisodeReader(hours=24)


def test_counts_stand_beside_the_published_ones(original: Path) -> None:
    report = checked(original)
    assert not report.problems
    assert report.counts == [
        ("stays in all_stays.csv", 7, None),
        ("films in the metadata", 13, 377_110),
        ("AP films within the window of a stay", 8, None),
        ("stays with a film", 6, 10_637),
        ("stays in the list files", 7, None),
        ("selected films found", 6, 6),
        ("of them with a film", 6, 10_630),
        ("of them with a time series", 6, 10_630),
        ("train rows", 3, 7_637),
        ("val rows", 1, 857),
        ("test rows", 2, 2_136),
        ("labels", 25, 25),
    ]
    assert report.warnings == [
        "10,630 pairs expected (7,637 / 857 / 2,136), got 6 (3 / 1 / 2)",
    ]


def test_other_choices_are_not_compared_with_the_published_counts(original: Path) -> None:
    report = checked(original, OPTIONS.with_values({"window": "stay"}))
    expected = {what: number for what, _, number in report.counts}
    assert expected["stays with a film"] is None
    assert expected["train rows"] is None
    assert not report.warnings


def test_the_layout_of_drfuse_is_read(copy: Path, samples: RawSamples, tmp_path: Path) -> None:
    (copy / "phenotyping").rename(copy / "ehr")
    for split in ("train", "val", "test"):
        old = copy / f"ehr/{split}_listfile.csv"
        old.rename(old.with_name(f"ehr_list_phenotyping_48h_{split}.csv"))
    (copy / "mimic-cxr-jpg").rename(tmp_path / "films")
    options = OPTIONS.with_values({"cxr": str(tmp_path / "films/2.0.0")})
    assert films(mimic.read(copy, options)) == films(samples)


def test_list_files_may_lie_elsewhere(copy: Path, samples: RawSamples, tmp_path: Path) -> None:
    elsewhere = tmp_path / "lists"
    elsewhere.mkdir()
    for path in (copy / "phenotyping").glob("*_listfile.csv"):
        path.rename(elsewhere / path.name)
    assert films(mimic.read(copy, OPTIONS.with_values({"lists": str(elsewhere)}))) == films(samples)


def test_shrunk_films_and_compressed_metadata_are_read(copy: Path, samples: RawSamples) -> None:
    root = copy / "mimic-cxr-jpg/2.0.0"
    (root / "resized").mkdir()
    for path in sorted((root / "files").rglob("*.jpg")):
        path.rename(root / "resized" / path.name)
    with gzip.open(root / f"{META}.gz", "wb") as stream:
        stream.write((root / META).read_bytes())
    (root / META).unlink()
    again = mimic.read(copy, OPTIONS)
    assert films(again) == films(samples)
    assert {Path(path).parent.name for path in again.image} == {"resized"}


def test_times_of_films_are_read_without_leading_zeros() -> None:
    written = [("21500101", "93000.5"), ("21500101", "5"), ("21501231", "235959.999")]
    wrong = [("21500101", ""), ("21500101", "247000"), ("2150011", "93000"), ("", "1"), ("x", "-1")]
    times = study_times(pd.DataFrame(written + wrong, columns=["StudyDate", "StudyTime"]))
    assert times[:3].astype(str).tolist() == [
        "2150-01-01 09:30:00",
        "2150-01-01 00:00:05",
        "2150-12-31 23:59:59",
    ]
    assert times[3:].isna().all()


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ([], "no root/all_stays.csv and no phenotyping/train_listfile.csv under"),
        (["ICUSTAYS.csv.gz"], "this is MIMIC-III (upper-case ICUSTAYS.csv), MIMIC-IV is needed"),
        (["files/p10/index.html"], "this is MIMIC-CXR, the tables of MIMIC-IV are needed. Films"),
    ],
)
def test_a_wrong_root_is_named_and_what_it_looks_like(
    tmp_path: Path, files: list[str], told: str
) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert told in problem(tmp_path)


def test_a_root_that_is_no_folder_is_named(tmp_path: Path) -> None:
    assert f"; {tmp_path / 'nowhere'} is no folder" in problem(tmp_path / "nowhere")


def test_all_missing_parts_are_told_at_once(copy: Path) -> None:
    shutil.rmtree(copy / "root")
    (copy / "phenotyping/val_listfile.csv").unlink()
    shutil.rmtree(copy / "mimic-cxr-jpg")
    told = problem(copy).splitlines()
    assert "list files of val are missing under" in told[0]
    assert "expected are phenotyping/{train,val,test}_listfile.csv with header" in told[0]
    assert "no root/all_stays.csv in" in told[1]
    assert f"no {META}(.gz) (looked in {copy}, {copy / 'cxr'}" in told[2]
    assert len(told) == 3


def test_unexpected_labels_are_named(copy: Path) -> None:
    def renamed(rows: Rows) -> Rows:
        return [
            {name.replace("Shock", "Septic shock"): cell for name, cell in row.items()}
            for row in rows
        ]

    edit(copy / "phenotyping/test_listfile.csv", renamed)
    assert (
        "test_listfile.csv: 25 labels found, 25 expected; unexpected: ['Septic shock']; missing: "
        "['Shock']" in problem(copy)
    )


def test_a_list_file_without_its_header_shows_no_row(copy: Path) -> None:
    path = copy / "phenotyping/test_listfile.csv"
    path.write_text(path.read_text().split("\n", 1)[1])
    told = problem(copy)
    assert "test_listfile.csv has no stay/period_length/stay_id" in told
    assert "72.25" not in told


@pytest.mark.parametrize(
    ("column", "cell", "rule"),
    [
        ("stay", "stay-1.csv", r"stay is (\d+)_episode\d+_timeseries\.csv"),
        ("period_length", "-3.5", "period_length is a number of hours above 0"),
        ("period_length", "inf", "period_length is a number of hours above 0"),
        ("stay_id", "3.5", "stay_id is a whole number"),
        ("Shock", "2", "a label is 0 or 1"),
        ("Shock", "", "a label is 0 or 1"),
    ],
)
def test_a_row_that_breaks_a_rule_is_named_by_its_line(
    copy: Path, column: str, cell: str, rule: str
) -> None:
    edit(copy / "phenotyping/train_listfile.csv", lambda rows: rows[2].update({column: cell}))
    assert f"train_listfile.csv: 1 rows break the rule that {rule}, first in line 4" in problem(
        copy
    )


def test_a_subject_in_two_splits_is_refused(copy: Path) -> None:
    name = "90000001_episode5_timeseries.csv"
    edit(copy / "phenotyping/test_listfile.csv", lambda rows: rows[0].update(stay=name))
    assert "1 subjects lie in more than one list file, e.g. subject 90000001" in problem(copy)


def test_a_stay_listed_twice_is_refused(copy: Path) -> None:
    edit(copy / "phenotyping/test_listfile.csv", lambda rows: [*rows, rows[0]])
    edit(copy / "root/all_stays.csv", lambda rows: [*rows, rows[3]])
    told = problem(copy)
    assert "the list files repeat 1 stays, e.g. stay_id 35" in told
    assert "all_stays.csv repeats 1 stays, e.g. stay_id 34" in told


def test_a_stay_of_another_subject_is_refused(copy: Path) -> None:
    edit(copy / "root/all_stays.csv", lambda rows: rows[2].update(subject_id="90000007"))
    assert "1 stays belong to another subject in all_stays.csv" in problem(copy)


def test_unreadable_times_of_stays_are_counted_and_not_shown(copy: Path) -> None:
    edit(copy / "root/all_stays.csv", lambda rows: rows[2].update(intime="1.2.2150", outtime=""))
    told = problem(copy)
    assert "intime cannot be read in 1 rows, first in line 4; it is YYYY-MM-DD HH:MM:SS" in told
    assert "outtime cannot be read in 1 rows, first in line 4" in told
    assert "1.2.2150" not in told


def test_unreadable_times_of_films_are_counted_and_not_shown(copy: Path) -> None:
    path = copy / "mimic-cxr-jpg/2.0.0" / META
    edit(path, lambda rows: rows[5].update(StudyTime="noon"))
    told = problem(copy)
    assert "1 films of patients with a stay have no readable time, first in line 7" in told
    assert "noon" not in told
    edit(path, lambda rows: rows[11].update(StudyTime="noon"))
    edit(path, lambda rows: rows[5].update(StudyTime="120001"))
    assert len(mimic.read(copy, OPTIONS)) == 6  # line 13 is of a patient without a stay


def test_metadata_without_a_column_are_refused(copy: Path) -> None:
    def cut(rows: Rows) -> Rows:
        return [
            {name: row[name] for name in row if name[:4] not in ("View", "Stud")} for row in rows
        ]

    edit(copy / "mimic-cxr-jpg/2.0.0" / META, cut)
    assert f"{META} has no ViewPosition/StudyDate/StudyTime; expected are" in problem(copy)


def test_a_table_that_is_no_text_is_refused(copy: Path) -> None:
    (copy / "root/all_stays.csv").write_bytes(b"\xff\xfe\x00")
    (copy / "phenotyping/val_listfile.csv").write_text("")
    (copy / "mimic-cxr-jpg/2.0.0" / META).rename(copy / f"mimic-cxr-jpg/2.0.0/{META}.gz")
    told = problem(copy).splitlines()
    assert all("cannot be read as comma-separated UTF-8" in line for line in told)
    assert [Path(line.split(" cannot")[0]).name for line in told] == [
        "val_listfile.csv",
        "all_stays.csv",
        f"{META}.gz",
    ]


def test_a_view_that_no_film_has_is_refused(original: Path) -> None:
    told = problem(original, OPTIONS.with_values({"views": "ap"}))
    assert "none of 13 films has ViewPosition ap; it is ['AP', 'LATERAL', 'PA']" in told


def test_films_that_are_not_there_are_counted(copy: Path) -> None:
    folder = copy / "mimic-cxr-jpg/2.0.0/files/p90"
    shutil.rmtree(folder / "p90000002")
    report = checked(copy)
    assert ("selected films found", 5, 6) in report.counts
    assert not report.problems
    assert (
        "dicom jpg missing for 1 of 6 selected films; looked in files/pNN/pNNNNNNNN/sNNNNNNNN/ "
        "and resized/" in report.warnings[0]
    )
    assert films(mimic.read(copy, OPTIONS))["33"] == "at48h"
    shutil.rmtree(folder)
    assert "dicom jpg missing for 6 of 6 selected films" in problem(copy)


def test_a_stay_without_its_time_series_is_left_out(copy: Path) -> None:
    (copy / "phenotyping/train" / file_of("33")).unlink()
    report = checked(copy)
    assert ("of them with a time series", 5, 10_630) in report.counts
    assert (
        "time series missing for 1 of 6 stays, which are left out; first missing "
        "90000002_episode3_timeseries.csv (looked in train/ or test/ of" in report.warnings[0]
    )
    dropped = mimic.read(copy, OPTIONS).dropped
    assert dropped[dropped["id"] == "33"]["reason"].tolist() == ["no time-series file"]


def test_no_stay_left_is_a_problem_with_the_counts_of_the_steps(copy: Path) -> None:
    shutil.rmtree(copy / "phenotyping/train")
    shutil.rmtree(copy / "phenotyping/test")
    told = problem(copy)
    assert "no stay is left (7 stays in all_stays.csv, 13 films in the metadata" in told
    assert "time series missing for 6 of 6 stays" in told


def test_only_what_is_known_in_the_first_hours_is_read(copy: Path, samples: RawSamples) -> None:
    def spoil(rows: Rows) -> None:
        for row in rows:
            row.update(los="99", mortality="0", dischtime="never", hadm_id="7", last_careunit="X")

    edit(copy / "root/all_stays.csv", spoil)
    again = mimic.read(copy, OPTIONS)
    assert films(again) == films(samples)
    assert again.series is not None and samples.series is not None
    names = [[Path(entry).name for entry in part] for part in (again.series, samples.series)]
    assert names[0] == names[1]


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One look-alike in both levels: what an extraction writes, and raw MIMIC-IV."""
    root = tmp_path_factory.mktemp("twins")
    write_mimic(root / "benchmark", SIZE)
    write_mimic(root / "raw", SIZE.with_values({"level": "raw"}))
    return root


def in_order_of_id(samples: RawSamples) -> RawSamples:
    return samples.take(np.argsort(samples.id.to_numpy(dtype=str)))


def test_raw_mimic_iv_is_extracted_first(twins: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ready = in_order_of_id(mimic.read(twins / "benchmark", OPTIONS))
    extracted = in_order_of_id(mimic.read(twins / "raw", OPTIONS))
    told = capsys.readouterr().err
    assert f"{twins}/raw/mimiciv/1.0 is extracted to {twins / 'raw_benchmark'}" in told
    assert len(ready) > 30
    assert films(ready) == films(extracted)
    for name in ("id", "group", "split"):
        assert getattr(ready, name).tolist() == getattr(extracted, name).tolist()
    assert ready.labels is not None and extracted.labels is not None
    pd.testing.assert_frame_equal(ready.labels, extracted.labels)


def test_every_time_series_of_a_look_alike_is_read(twins: Path) -> None:
    samples = mimic.read(twins / "benchmark", OPTIONS)
    assert samples.series is not None
    reader = EpisodeReader(hours=48)
    found = [reader.read(Path(entry)) for entry in samples.series]
    assert all(np.isfinite(steps).all() for steps in found)
    assert {len(steps) for steps in found} >= {1, 21, 48}  # stays of 0.7, 20.5 and many hours
    names = list(reader.channels)
    eyes = [place for place, name in enumerate(names) if name.startswith("Glascow coma scale eye")]
    assert all((steps[:, eyes].sum(axis=1) == 1).all() for steps in found)


def test_a_later_release_than_the_papers_is_warned_of(tmp_path: Path) -> None:
    write_mimic(tmp_path / "raw", SIZE.with_values({"level": "raw", "version": "2.2"}))
    report = checked(tmp_path / "raw", OPTIONS.with_values({"extracted": str(tmp_path / "out")}))
    assert ("benchmark extracted to", str(tmp_path / "out"), None) in report.counts
    assert any("is MIMIC-IV 2 or later (no core/): the paper's" in w for w in report.warnings)
    assert not report.problems


def test_what_an_extraction_lacks_is_a_problem(twins: Path, tmp_path: Path) -> None:
    gone = OPTIONS.with_values({"extracted": str(tmp_path), "phenotypes": str(tmp_path / "x.csv")})
    assert f"phenotypes: no file {tmp_path / 'x.csv'}" in problem(twins / "raw", gone)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/mine.txt").touch()
    taken = OPTIONS.with_values({"extracted": str(tmp_path)})
    assert "holds files that no extraction wrote" in problem(twins / "raw", taken)
    file = OPTIONS.with_values({"extracted": str(tmp_path / "data/mine.txt")})
    assert "cannot be written" in problem(twins / "raw", file)


def test_raw_folders_are_recognised(original: Path, twins: Path, tmp_path: Path) -> None:
    assert mimic.looks_raw(original)
    assert mimic.looks_raw(twins / "raw")
    assert not mimic.looks_raw(tmp_path)
    assert not mimic.looks_raw(tmp_path / "nowhere")


def test_positives_of_every_label_are_counted(original: Path) -> None:
    counts = {what: found for what, found, _ in mimic.check(original, OPTIONS).counts}
    positives = [counts[f"class {name}"] for name in LABELS[:4]]
    assert positives == [  # of stays 32 and 36, 33, 34, 31 and 35
        "2 (1 train, 0 val, 1 test)",
        "1 (1 train, 0 val, 0 test)",
        "1 (0 train, 1 val, 0 test)",
        "2 (1 train, 0 val, 1 test)",
    ]


def test_a_look_alike_is_packed_with_its_series_and_labels(twins: Path, tmp_path: Path) -> None:
    packed = mimic.pack(twins / "benchmark", tmp_path / "packed", OPTIONS, workers=1)
    schema = packed.schema
    reader = EpisodeReader(hours=48)
    assert (schema.task, schema.class_names) == ("multilabel", LABELS) and schema.private
    assert (schema.series, schema.steps) == (reader.channels, 48)
    assert (schema.numeric, schema.category) == ([], {})
    samples = in_order_of_id(mimic.read(twins / "benchmark", OPTIONS))
    assert samples.labels is not None and samples.series is not None
    rows = np.arange(len(packed))
    assert packed.ids(rows) == samples.id.tolist()
    np.testing.assert_array_equal(packed.label, samples.labels.to_numpy(np.float32))
    assert packed.present(rows).all()
    series, length = packed.time_series(rows)
    for steps, valid, entry in zip(series, length, samples.series, strict=True):
        np.testing.assert_array_equal(steps[:valid], reader.read(Path(entry)))
        assert not steps[valid:].any()
    assert length.min() == 1
