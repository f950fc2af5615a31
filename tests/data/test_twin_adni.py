"""Look-alike ADNI: the literal layouts, every irregularity, and a class signal that is known."""

import hashlib
import re
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dfpl.data.raw import RawSamples
from dfpl.data.sources import adni
from dfpl.data.twins import adni as twin
from dfpl.data.volumes import read_volume
from dfpl.fields import ConfigError

SMALL = twin.Options(size=12, pixels=16)


@pytest.fixture(scope="module")
def ida(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ida") / "raw"
    twin.write(root, SMALL)
    return root


@pytest.fixture(scope="module")
def bids(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bids") / "raw"
    twin.write(root, SMALL.with_values({"layout": "bids"}))
    return root


def table(root: Path) -> Any:
    return pd.read_csv(root / "ADNIMERGE.csv", dtype=str, keep_default_na=False)


def visits(root: Path, number: int) -> Any:
    rows = table(root)
    return rows[rows["RID"] == str(number)].reset_index(drop=True)


def scans(root: Path, number: int) -> list[str]:
    """Names of the files of a subject's scans."""
    names = (f"99{number}_S_{number:04d}", f"sub-ADNI99{number}S{number:04d}_")
    found = [path.name for path in root.rglob("*.nii*")]
    return sorted(name for name in found if any(part in name for part in names))


def digests(root: Path) -> dict[str, str]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


def test_the_table_has_the_116_literal_headers(ida: Path) -> None:
    header = (ida / "ADNIMERGE.csv").read_text().splitlines()[0].split(",")
    assert len(header) == len(set(header)) == 116
    assert header[:9] == [
        *("RID", "COLPROT", "ORIGPROT", "PTID", "SITE", "VISCODE", "EXAMDATE", "DX_bl", "AGE")
    ]
    assert {"LDELTOTAL_BL", "RAVLT_perc_forgetting_bl", "EcogSPDivatt", "mPACCtrailsB"} <= {*header}
    assert "LDELTOTAL_bl" not in header
    assert sum(name.lower().endswith("_bl") for name in header) == 47 + 4  # DX, EXAMDATE, 2 times
    assert set(adni.DEFAULT) < set(header)


def test_scans_of_ida_lie_where_their_names_say(ida: Path) -> None:
    grammar = re.compile(
        r"ADNI/(99\d_S_\d{4})/([^/]+)/\d{4}-\d\d-\d\d_\d\d_\d\d_\d\d\.0/(I\d+)/"
        r"ADNI_\1_MR_\2_Br_\d{14}_S\d+_\3\.nii"
    )
    found = [str(path.relative_to(ida)) for path in ida.rglob("*.nii*")]
    assert found and all(grammar.fullmatch(path) for path in found)


def test_ida_lists_every_scan_in_a_collection_table(ida: Path) -> None:
    (path,) = ida.glob("T1_*.csv")
    listed = pd.read_csv(path, dtype=str)
    assert listed.columns.tolist() == [
        *("Image Data ID", "Subject", "Group", "Sex", "Age", "Visit", "Modality"),
        *("Description", "Type", "Acq Date", "Format", "Downloaded"),
    ]
    assert set(listed["Image Data ID"]) == {path.parent.name for path in ida.rglob("*.nii")}
    for image, day in zip(listed["Image Data ID"], listed["Acq Date"], strict=True):
        (folder,) = ida.glob(f"ADNI/*/*/*/{image}")
        assert pd.to_datetime(day, format="%m/%d/%Y").strftime("%Y-%m-%d") in folder.parent.name


def test_scans_of_bids_lie_where_their_names_say(bids: Path) -> None:
    grammar = re.compile(
        r"bids/(sub-ADNI99\dS\d{4})/(ses-M\d{3})/anat/\1_\2(_run-0[12])?_T1w\.nii\.gz"
    )
    found = [str(path.relative_to(bids)) for path in bids.rglob("*.nii*")]
    assert found and all(grammar.fullmatch(path) for path in found)
    sessions = (bids / "bids/sub-ADNI997S0007/sub-ADNI997S0007_sessions.tsv").read_text()
    assert sessions.startswith("session_id\nses-M000\n") and sessions.endswith("ses-M084\n")


def test_a_diagnosis_is_empty(ida: Path) -> None:
    assert visits(ida, 1)["DX"].tolist()[1] == ""
    assert (table(ida)["DX"] == "").sum() == 1


def test_biomarkers_are_censored(ida: Path) -> None:
    assert visits(ida, 2).loc[0, ["ABETA", "TAU", "PTAU"]].tolist() == [">1700", "<80", "<8"]


def test_demographics_are_unknown(ida: Path) -> None:
    assert set(visits(ida, 3)["PTRACCAT"]) == {"Unknown"}
    assert set(visits(ida, 3)["PTMARRY"]) == set(visits(ida, 3)["PTETHCAT"]) == {"Unknown"}


def test_visit_codes_are_odd(ida: Path) -> None:
    assert visits(ida, 4)["VISCODE"].tolist() == ["m0", "m06", "m12"]
    assert visits(ida, 5)["VISCODE"].tolist() == ["bl", "m06", "y1"]


def test_a_visit_has_no_scan(ida: Path, bids: Path) -> None:
    for root in (ida, bids):
        assert len(scans(root, 6)) == len(visits(root, 6)) - 1
    assert not [name for name in scans(bids, 6) if "ses-M006" in name]


def test_a_scan_has_no_visit(ida: Path, bids: Path) -> None:
    for root in (ida, bids):
        assert len(scans(root, 7)) == len(visits(root, 7)) + 1
    assert scans(bids, 7)[-1].startswith("sub-ADNI997S0007_ses-M084_")


def test_an_image_number_is_empty_and_others_are_of_another_processing(ida: Path) -> None:
    rows = table(ida)
    assert visits(ida, 8)["IMAGEUID"].tolist()[0] == ""
    assert (rows["IMAGEUID"] == "").sum() == 1
    there = {path.parent.name.removeprefix("I") + ".0" for path in ida.rglob("*.nii")}
    share = rows["IMAGEUID"].isin(there).mean()
    assert 0.3 < share < 0.7


def test_a_visit_has_two_scans(ida: Path, bids: Path) -> None:
    for root in (ida, bids):
        assert len(scans(root, 9)) == len(visits(root, 9)) + 1
    assert [name.split("_")[2] for name in scans(bids, 9)[:2]] == ["run-01", "run-02"]


def test_a_file_has_a_fourth_axis(ida: Path) -> None:
    shapes = {
        len(nibabel.load(path).shape)  # pyright: ignore
        for path in ida.rglob("*.nii")
        if "990_S_0010" in path.name
    }
    assert shapes == {4}


def test_scores_are_minus_one_and_minus_four(ida: Path) -> None:
    first = visits(ida, 11).loc[0]
    assert (first["RAVLT_learning"], first["RAVLT_forgetting"]) == ("-1", "-4")


def test_a_diagnosis_changes_over_time_and_what_ends_with_bl_does_not(ida: Path) -> None:
    rows = visits(ida, 0)
    assert rows["DX"].tolist() == ["MCI", "Dementia", "Dementia"]
    assert rows["DX_bl"].nunique() == rows["AGE"].nunique() == rows["MMSE_bl"].nunique() == 1
    assert rows["DX_bl"][0] in ("EMCI", "LMCI")
    assert rows["MMSE_bl"][0] == rows["MMSE"][0]


def test_files_are_stored_in_many_orientations_and_types(ida: Path) -> None:
    images: list[Any] = [nibabel.load(path) for path in ida.rglob("*.nii")]
    codes = {"".join(nibabel.aff2axcodes(image.affine)) for image in images}
    assert len(codes) > 10
    kinds = {
        (str(image.get_data_dtype()), bool(abs(image.dataobj.slope - 1) > 1e-6)) for image in images
    }
    assert kinds == {("int16", False), ("int16", True), ("float32", False)}
    assert all(len(set(image.header.get_zooms()[:3])) == 3 for image in images)


def test_no_subject_is_of_a_site_that_exists(ida: Path) -> None:
    assert set(table(ida)["SITE"].astype(int)) <= set(range(990, 1000))
    assert table(ida)["PTID"].str.fullmatch(r"99\d_S_\d{4}").all()


def test_the_same_options_give_the_same_files(ida: Path, bids: Path, tmp_path: Path) -> None:
    twin.write(tmp_path / "ida", SMALL)
    assert digests(tmp_path / "ida") == digests(ida)
    twin.write(tmp_path / "bids", SMALL.with_values({"layout": "bids"}))
    assert digests(tmp_path / "bids") == digests(bids)


def test_another_seed_gives_other_cells_and_scans(ida: Path, tmp_path: Path) -> None:
    twin.write(tmp_path, SMALL.with_values({"seed": 1}))
    one, other = digests(ida), digests(tmp_path)
    assert one["ADNIMERGE.csv"] != other["ADNIMERGE.csv"]
    assert not {other[path] for path in other if path.endswith(".nii")} & set(one.values())


def test_real_data_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "ADNIMERGE.csv").write_text("real")
    with pytest.raises(ConfigError, match="files that no twin wrote"):
        twin.write(tmp_path, SMALL)
    assert (tmp_path / "ADNIMERGE.csv").read_text() == "real"


@pytest.mark.parametrize("layout", ["ida", "bids"])
def test_factors_are_known_of_every_sample(ida: Path, bids: Path, layout: str) -> None:
    root = {"ida": ida, "bids": bids}[layout]
    factors = pd.read_csv(root / "factors.csv")
    assert factors.columns.tolist() == ["id", "shared", "image_only", "table_only"]
    assert factors["id"].is_unique
    assert factors["id"].tolist() == (table(root)["PTID"] + "_" + table(root)["VISCODE"]).tolist()
    assert set(adni.read(root, adni.Options()).id) < set(factors["id"])


class Signal:
    """A larger look-alike as arrays: what scans, tables and true factors tell of the diagnosis."""

    def __init__(self, raw: Path) -> None:
        self.samples: RawSamples = adni.read(raw, adni.Options())
        cubes = [read_volume(Path(path), 16).ravel() for path in self.samples.image]
        self.image = PCA(30, random_state=0).fit_transform(np.stack(cubes).astype(np.float32))
        numeric = self.samples.numeric
        self.tabular = numeric.fillna(numeric.mean()).to_numpy()
        known = pd.read_csv(raw / "factors.csv").set_index("id").loc[self.samples.id.tolist()]
        self.factors = known

    def accuracy(self, cells: np.ndarray) -> float:
        """Of a linear model, for subjects that it has not seen."""
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
        folds = GroupKFold(5)
        label, group = self.samples.label, self.samples.group
        return float(np.mean(cross_val_score(model, cells, label, groups=group, cv=folds)))


@pytest.fixture(scope="module")
def signal(tmp_path_factory: pytest.TempPathFactory) -> Signal:
    root = tmp_path_factory.mktemp("signal") / "raw"
    twin.write(root, twin.Options(size=150, pixels=16))
    return Signal(root)


def test_classes_are_of_similar_size(signal: Signal) -> None:
    shares = signal.samples.label.value_counts(normalize=True)
    assert set(shares.index) == {"CN", "MCI", "Dementia"}
    assert shares.between(0.25, 0.42).all()


def test_the_sum_of_the_factors_is_the_diagnosis(signal: Signal) -> None:
    severity = signal.factors.sum(axis=1).to_numpy() / np.sqrt(3)
    expected = np.select([severity <= -0.43, severity <= 0.43], ["CN", "MCI"], "Dementia")
    assert (signal.samples.label.to_numpy() == expected).all()


def test_neither_modality_suffices_and_together_they_tell_more(signal: Signal) -> None:
    image, tabular = signal.accuracy(signal.image), signal.accuracy(signal.tabular)
    both = signal.accuracy(np.concatenate([signal.image, signal.tabular], axis=1))
    assert 0.45 < image < 0.68
    assert 0.45 < tabular < 0.68
    assert both > max(image, tabular) + 0.1 and both > 0.72


def test_each_factor_is_seen_where_its_name_says(signal: Signal) -> None:
    def told(cells: np.ndarray, factor: str) -> float:
        """Share of a factor's variance that a linear model finds in unseen subjects."""
        model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(0, 4, 9)))
        folds, group = GroupKFold(5), signal.samples.group
        target = signal.factors[factor].to_numpy()
        return float(np.mean(cross_val_score(model, cells, target, groups=group, cv=folds)))

    assert told(signal.image, "shared") > 0.6 and told(signal.tabular, "shared") > 0.8
    assert told(signal.image, "image_only") > 0.6 and told(signal.tabular, "image_only") < 0.1
    assert told(signal.image, "table_only") < 0.1 and told(signal.tabular, "table_only") > 0.8
