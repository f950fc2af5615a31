"""Look-alike MIMIC: the literal layout, every irregularity, and a signal that is known."""

import gzip
import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from dfpl.data import twins
from dfpl.data.episodes import VARIABLES, EpisodeReader, episode
from dfpl.data.extraction.phenotypes import PHENOTYPES
from dfpl.data.sources import mimic as source
from dfpl.data.twins._mimic_stays import Stays
from dfpl.data.twins.mimic import Options, write

Frame = Any
SMALL = Options(size=60, events_per_stay=100, pixels=20)
RAW = SMALL.with_values({"level": "raw"})
NEWER = Options(size=20, events_per_stay=40, pixels=16, level="raw", version="2.2", compressed=True)


def written(options: Options, folder: Path) -> Path:
    write(folder, options)
    return folder


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(SMALL, tmp_path_factory.mktemp("twin") / "benchmark")


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(RAW, tmp_path_factory.mktemp("twin") / "raw")


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(NEWER, tmp_path_factory.mktemp("twin") / "newer")


@pytest.fixture(scope="module")
def films(benchmark: Path) -> Frame:
    """The metadata, with hours since the beginning of each stay of the person, and its stay_id."""
    table = pd.read_csv(benchmark / "mimic-cxr-jpg/2.0.0/mimic-cxr-2.0.0-metadata.csv", dtype=str)
    clock = table["StudyTime"].str.split(".").str[0].str.zfill(6)
    table["time"] = pd.to_datetime(table["StudyDate"] + clock, format="%Y%m%d%H%M%S")
    stays = pd.read_csv(benchmark / "data/root/all_stays.csv", dtype={"subject_id": str})
    joined = table.merge(stays[["subject_id", "stay_id", "intime"]])
    joined["hours"] = (joined["time"] - pd.to_datetime(joined["intime"])) / pd.Timedelta(hours=1)
    return joined[joined["hours"].abs() < 200]


@pytest.fixture(scope="module")
def series(benchmark: Path) -> Frame:
    """All time-series files as text, one below the other, with the column `file`."""
    files = (benchmark / "data/phenotyping").glob("*/*_timeseries.csv")
    tables = [
        pd.read_csv(path, dtype=str, keep_default_na=False).assign(file=path.name)
        for path in sorted(files)
    ]
    return pd.concat(tables)


def digests(root: Path) -> dict[str, str]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


def events(root: Path, table: str) -> Frame:
    return pd.read_csv(root / f"mimiciv/1.0/{table}.csv", dtype=str, keep_default_na=False)


def test_it_is_found_and_its_parts_are_not() -> None:
    assert "mimic" in twins.names()
    assert not [name for name in twins.names() if name.startswith("_")]


def test_the_list_files_have_the_literal_header(benchmark: Path) -> None:
    header = ",".join(["stay", "period_length", "stay_id", *PHENOTYPES])
    lines = [
        (benchmark / f"data/phenotyping/{split}_listfile.csv").read_text().splitlines()
        for split in ("train", "val", "test")
    ]
    assert [rows[0] for rows in lines] == [header] * 3
    assert sum(len(rows) - 1 for rows in lines) == 60
    assert all(
        re.match(r"\d+_episode[12]_timeseries\.csv,\d+\.\d{6},3\d{7},[01]", rows[1])
        for rows in lines
    )


def test_val_episodes_lie_in_train(benchmark: Path) -> None:
    folder = benchmark / "data/phenotyping"
    for split, place in (("train", "train"), ("val", "train"), ("test", "test")):
        listed = pd.read_csv(folder / f"{split}_listfile.csv")["stay"]
        assert all((folder / place / name).is_file() for name in listed)
    assert not (folder / "val").exists()


def test_no_subject_is_in_two_splits(benchmark: Path) -> None:
    folder = benchmark / "data/phenotyping"
    subjects = [
        set(pd.read_csv(folder / f"{split}_listfile.csv")["stay"].str.split("_").str[0])
        for split in ("train", "val", "test")
    ]
    assert sum(map(len, subjects)) == len(set().union(*subjects))


def test_time_series_have_hours_and_the_17_variables(series: Frame) -> None:
    assert list(series.columns) == ["Hours", *(v.name for v in VARIABLES), "file"]
    for variable in VARIABLES:
        cells = set(series[variable.name]) - {""}
        assert cells and all(variable.fits(cell) for cell in cells)


def test_films_lie_where_the_metadata_say(benchmark: Path, films: Frame) -> None:
    root = benchmark / "mimic-cxr-jpg/2.0.0"
    pattern = r"files/p(1\d)/p\1\d{6}/s5\d{7}/([0-9a-f]{8}-){4}[0-9a-f]{8}\.jpg"
    there = {str(path.relative_to(root)) for path in root.rglob("*.jpg")}
    assert all(re.fullmatch(pattern, path) for path in there)
    told = {
        f"files/p{row.subject_id[:2]}/p{row.subject_id}/s{row.study_id}/{row.dicom_id}.jpg"
        for row in films.itertuples()
    }
    assert told == there
    with Image.open(root / min(there)) as picture:
        assert (picture.mode, picture.size) == ("L", (24, 20))


def test_metadata_have_the_literal_columns(benchmark: Path) -> None:
    folder = benchmark / "mimic-cxr-jpg/2.0.0"
    header = (folder / "mimic-cxr-2.0.0-metadata.csv").read_text().splitlines()[0]
    assert header == (
        "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,"
        "StudyDate,StudyTime,ProcedureCodeSequence_CodeMeaning,ViewCodeSequence_CodeMeaning,"
        "PatientOrientationCodeSequence_CodeMeaning"
    )
    header = (folder / "mimic-cxr-2.0.0-split.csv").read_text().splitlines()[0]
    assert header == "dicom_id,study_id,subject_id,split"


def per_stay(films: Frame, view: str, low: float, high: float) -> Frame:
    """How many films of a view each stay has within these hours."""
    chosen = films[(films["ViewPosition"] == view) & films["hours"].between(low, high)]
    return chosen.groupby("stay_id").size().reindex(films["stay_id"].unique(), fill_value=0)


def test_a_stay_has_two_ap_films(films: Frame) -> None:
    assert (per_stay(films, "AP", 0, 48) == 2).sum() == 3


def test_a_stay_has_a_film_before_it_alone(films: Frame) -> None:
    early = per_stay(films, "AP", -30, 0)
    assert ((early == 1) & (films.groupby("stay_id").size() == 1)).sum() == 3


def test_a_stay_has_a_film_after_48_hours_alone(films: Frame) -> None:
    late = per_stay(films, "AP", 48, 100)
    assert ((late == 1) & (films.groupby("stay_id").size() == 1)).sum() == 3


def test_a_stay_has_an_ap_film_and_a_later_one_after_48_hours(films: Frame) -> None:
    assert ((per_stay(films, "AP", 48, 100) == 1) & (per_stay(films, "AP", 0, 48) == 1)).any()


def test_a_stay_has_no_film(films: Frame) -> None:
    assert films["stay_id"].nunique() == 57


def test_a_stay_has_a_lateral_film_alone(films: Frame) -> None:
    lateral = per_stay(films, "LATERAL", 0, 48)
    assert ((lateral == 1) & (films.groupby("stay_id").size() == 1)).sum() == 3


def test_a_stay_has_pa_and_lateral_films_alone(films: Frame) -> None:
    views = films.groupby("stay_id")["ViewPosition"].agg(set)
    assert (views == {"PA", "LATERAL"}).sum() == 3


def test_study_times_lose_their_leading_zeros(films: Frame) -> None:
    assert films["StudyTime"].str.split(".").str[0].str.len().min() < 6


def test_hours_are_irregular_and_cells_empty(series: Frame) -> None:
    hours = series["Hours"].astype(float)
    assert len(set(hours.diff().round(3))) > 100
    assert (series == "").to_numpy().mean() > 0.3


def test_the_coma_scale_is_text(series: Frame) -> None:
    assert {"Oriented", "No Response-ETT"} <= set(series["Glascow coma scale verbal response"])
    assert "None" in set(series["Glascow coma scale eye opening"])
    assert {"15"} <= set(series["Glascow coma scale total"])


def test_stays_are_shorter_than_48_hours(benchmark: Path) -> None:
    lengths = pd.read_csv(benchmark / "data/phenotyping/train_listfile.csv")["period_length"]
    assert {bool(hours > 48) for hours in lengths if hours > 1} == {True, False}


def test_a_stay_has_less_than_an_hour_of_data(series: Frame) -> None:
    last = series["Hours"].astype(float).groupby(series["file"]).max()
    assert (last < 1).sum() == 3


def test_hours_are_slightly_negative(series: Frame) -> None:
    hours = series["Hours"].astype(float)
    assert ((hours < 0) & (hours > -1e-6)).sum() == 3


def test_outliers_are_kept_at_the_benchmark_level(series: Frame) -> None:
    assert "999999.0" in set(series["Glucose"])


def test_a_subject_has_two_episodes(series: Frame) -> None:
    assert series["file"].str.contains("_episode2_").any()


def test_a_stay_has_a_transfer(raw: Path) -> None:
    stays = events(raw, "icu/icustays")
    assert (stays["first_careunit"] != stays["last_careunit"]).sum() == 1


def test_a_person_is_a_minor(raw: Path) -> None:
    assert (events(raw, "core/patients")["anchor_age"].astype(int) < 18).sum() == 1


def test_an_admission_has_two_stays(raw: Path) -> None:
    assert events(raw, "icu/icustays")["hadm_id"].value_counts().max() == 2


def test_events_have_no_admission(raw: Path) -> None:
    assert (events(raw, "icu/chartevents")["hadm_id"] == "").any()
    assert (events(raw, "hosp/labevents")["hadm_id"] == "").any()


def test_events_have_no_stay(raw: Path) -> None:
    assert (events(raw, "icu/chartevents")["stay_id"] == "").any()


def test_a_stay_conflicts_with_its_admission(raw: Path) -> None:
    stays = events(raw, "icu/icustays").set_index("stay_id")["hadm_id"]
    chart = events(raw, "icu/chartevents").query("stay_id != '' and hadm_id != ''")
    known = chart["hadm_id"].isin(stays)
    assert (known & (chart["stay_id"].map(stays) != chart["hadm_id"])).any()


def test_a_glucose_is_an_error(raw: Path) -> None:
    lab = events(raw, "hosp/labevents").query("itemid == '50931'")
    assert "ERROR" in set(lab["value"])


def test_oxygen_is_charted_as_fraction_and_percent(raw: Path) -> None:
    oxygen = events(raw, "icu/chartevents").query("itemid == '223835'")["value"].astype(float)
    assert (oxygen <= 1).any() and (oxygen > 20).any()


@pytest.mark.parametrize(
    ("item", "low", "high"), [(223761, 90, 110), (223762, 33, 41), (226707, 50, 90)]
)
def test_units_differ_between_items(raw: Path, item: int, low: float, high: float) -> None:
    chart = events(raw, "icu/chartevents")
    values = chart.loc[chart["itemid"] == str(item), "value"].astype(float)
    assert len(values) and values.between(low, high).all()


def test_outliers_and_unknown_items_occur(raw: Path) -> None:
    both = [events(raw, table) for table in ("icu/chartevents", "hosp/labevents")]
    assert "999999" in {value for table in both for value in table["value"]}
    assert "220048" in set(both[0]["itemid"])


def test_comments_of_the_laboratory_have_two_lines(raw: Path) -> None:
    assert events(raw, "hosp/labevents")["comments"].str.contains("\n").any()


def test_diagnoses_have_both_versions_and_leading_zeros(raw: Path) -> None:
    diagnoses = events(raw, "hosp/diagnoses_icd")
    assert set(diagnoses["icd_version"]) == {"9", "10"}
    assert "0389" in set(diagnoses["icd_code"])
    assert set(diagnoses.query("icd_code == 'V4511'")["icd_version"]) == {"9", "10"}


def test_release_2_has_no_core_and_other_columns(newer: Path) -> None:
    folder = newer / "mimiciv/2.2"
    assert {path.name for path in folder.iterdir()} == {"hosp", "icu"}
    headers = {
        path.name: gzip.decompress(path.read_bytes()).decode().splitlines()[0].split(",")
        for path in folder.rglob("*.csv.gz")
    }
    assert (
        "race" in headers["admissions.csv.gz"]
        and "admit_provider_id" in headers["admissions.csv.gz"]
    )
    assert headers["chartevents.csv.gz"][:5] == [
        *("subject_id", "hadm_id", "stay_id", "caregiver_id", "charttime"),
    ]
    assert "order_provider_id" in headers["labevents.csv.gz"]


def test_release_1_has_the_literal_columns(raw: Path) -> None:
    assert list(events(raw, "icu/chartevents")) == [
        *("subject_id", "hadm_id", "stay_id", "charttime", "storetime", "itemid"),
        *("value", "valuenum", "valueuom", "warning"),
    ]
    assert "ethnicity" in events(raw, "core/admissions")


def test_the_same_options_give_the_same_files(newer: Path, tmp_path: Path) -> None:
    assert digests(written(NEWER, tmp_path / "again")) == digests(newer)


def test_another_seed_gives_other_films_and_events(newer: Path, tmp_path: Path) -> None:
    one = digests(newer)
    other = digests(written(NEWER.with_values({"seed": 1}), tmp_path / "other"))
    table = "mimiciv/2.2/icu/chartevents.csv.gz"
    assert one[table] != other[table]
    films = [digest for path, digest in other.items() if path.endswith(".jpg")]
    assert films and not set(films) & set(one.values())


def test_both_levels_have_the_same_films_and_factors(benchmark: Path, raw: Path) -> None:
    one, other = digests(benchmark), digests(raw)
    shared = [path for path in one if path.endswith(".jpg") or path == "factors.csv"]
    assert len(shared) > 60
    assert all(one[path] == other[path] for path in shared)


def test_factors_are_written_by_the_id_of_the_sample(benchmark: Path) -> None:
    factors = pd.read_csv(benchmark / "factors.csv", dtype={"id": str})
    assert list(factors) == [
        *("id", "shared_0", "shared_1", "image_only_0", "image_only_1"),
        *("table_only_0", "table_only_1"),
    ]
    samples = source.read(benchmark, source.Options(image_size=16))
    assert set(samples.id) < set(factors["id"]) and len(factors) == 60


@pytest.mark.parametrize("seed", range(3))
def test_every_label_occurs_and_is_absent_in_each_split_of_the_default_twin(seed: int) -> None:
    stays = Stays(Options(seed=seed))
    filmed = {split: stays.has_film & (stays.split == split) for split in ("train", "val", "test")}
    for split, rows in filmed.items():
        shares = stays.labels[rows].mean(axis=0)
        assert ((shares > 0) & (shares < 1)).all(), split
    overall = stays.labels.mean(axis=0)
    assert 0.01 < overall.min() < 0.06 and 0.4 < overall.max() < 0.6


class Signal:
    """Films, tables, factors and labels of a larger twin, half of it to fit on."""

    def __init__(self, root: Path) -> None:
        samples = source.read(root, source.Options(image_size=16))
        assert samples.series is not None and samples.labels is not None
        pictures = []
        for path in samples.image:
            with Image.open(path) as picture:
                pictures.append(np.asarray(picture.resize((16, 12)), dtype=float).ravel() / 50)
        self.image = np.array(pictures)
        numbers = [variable.name for variable in VARIABLES if not variable.levels]
        files = (path.rpartition("#")[0] for path in samples.series)
        means = pd.DataFrame([pd.read_csv(file, usecols=numbers).mean() for file in files])
        self.table = ((means - means.mean()) / means.std()).clip(-4, 4).fillna(0).to_numpy()
        factors = pd.read_csv(root / "factors.csv", dtype={"id": str}).set_index("id")
        self.factors = factors.loc[samples.id].to_numpy()
        self.labels = samples.labels.to_numpy()
        self.fitted = np.arange(len(self.image)) % 3 > 0

    def predicted(self, cells: np.ndarray, target: np.ndarray) -> np.ndarray:
        model = Ridge(alpha=30.0).fit(cells[self.fitted], target[self.fitted])
        return model.predict(cells[~self.fitted])


@pytest.fixture(scope="module")
def signal(tmp_path_factory: pytest.TempPathFactory) -> Signal:
    root = tmp_path_factory.mktemp("signal")
    write(root, Options(size=320, events_per_stay=60, pixels=24))
    return Signal(root)


def test_each_modality_shows_its_own_factors_and_the_shared_ones(signal: Signal) -> None:
    for cells, seen in ((signal.image, [0, 1, 2, 3]), (signal.table, [0, 1, 4, 5])):
        found = signal.predicted(cells, signal.factors)
        true = signal.factors[~signal.fitted]
        fit = np.array([np.corrcoef(found[:, n], true[:, n])[0, 1] for n in range(6)])
        unseen = [n for n in range(6) if n not in seen]
        assert fit[seen].min() > 0.5, fit
        assert np.abs(fit[unseen]).max() < 0.3, fit


def test_neither_modality_suffices_and_together_they_tell_more(signal: Signal) -> None:
    def score(cells: np.ndarray) -> float:
        found = signal.predicted(cells, signal.labels)
        return float(roc_auc_score(signal.labels[~signal.fitted], found, average="macro"))

    image, table = score(signal.image), score(signal.table)
    both = score(np.concatenate([signal.image, signal.table], axis=1))
    assert 0.7 < image < 0.91 and 0.7 < table < 0.91, (image, table, both)
    assert both > max(image, table) + 0.03, (image, table, both)


def test_a_listed_series_is_read_as_hourly_steps(benchmark: Path) -> None:
    listed = pd.read_csv(benchmark / "data/phenotyping/train_listfile.csv").iloc[0]
    path = benchmark / "data/phenotyping/train" / str(listed["stay"])
    steps = EpisodeReader().read(Path(episode(path, float(listed["period_length"]))))
    assert steps.shape == (min(int(listed["period_length"] + 1 - 1e-6), 48), 76)
