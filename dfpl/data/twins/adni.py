"""A look-alike of ADNI: ADNIMERGE.csv with its 116 literal headers, and T1 scans as NIfTI.

Severity is the sum of a shared factor (ventricles, and what is asked in tests), an image-only one
(a bright structure beside them) and a table-only one (daily life, biomarkers); the diagnosis is its
third. Neither modality alone suffices; the two together nearly do. Subjects' ids are of sites that
ADNI does not have.
"""

import datetime
import math
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float32
from pydantic import Field

from dfpl.data.twins import Row, TwinOptions, begun, write_csv

VERSION = 1  # raise it when the same options give other files
PARTS = ("Mem", "Lang", "Visspat", "Plan", "Organ", "Divatt", "Total")
ECOG_PT, ECOG_SP = ([f"Ecog{who}{part}" for part in PARTS] for who in ("Pt", "SP"))
RAVLT = [f"RAVLT_{part}" for part in ("immediate", "learning", "forgetting", "perc_forgetting")]
SCORES = ["CDRSB", "ADAS11", "ADAS13", "ADASQ4", "MMSE", *RAVLT, "LDELTOTAL", "DIGITSCOR"]
SCORES += ["TRABSCOR", "FAQ"]
TRACERS, FLUID = ["FDG", "PIB", "AV45", "FBB"], ["ABETA", "TAU", "PTAU"]
MPACC = ["mPACCdigit", "mPACCtrailsB"]
SCANNER = ["FLDSTRENG", "FSVERSION", "IMAGEUID"]
VOLUMES = ["Ventricles", "Hippocampus", "WholeBrain", "Entorhinal", "Fusiform", "MidTemp", "ICV"]
HEADERS = ["RID", "COLPROT", "ORIGPROT", "PTID", "SITE", "VISCODE", "EXAMDATE", "DX_bl", "AGE"]
HEADERS += ["PTGENDER", "PTEDUCAT", "PTETHCAT", "PTRACCAT", "PTMARRY", "APOE4", *TRACERS, *FLUID]
HEADERS += [*SCORES, "MOCA", *ECOG_PT, *ECOG_SP, *SCANNER, *VOLUMES, "DX", *MPACC, "EXAMDATE_bl"]
REPEATED = [*SCORES, *MPACC, *SCANNER, *VOLUMES, "MOCA", *ECOG_PT, *ECOG_SP, *FLUID, *TRACERS]
"""Columns with a twin for the first visit, in the twins' order."""
HEADERS += [f"{name}_BL" if name == "LDELTOTAL" else f"{name}_bl" for name in REPEATED]
HEADERS += ["Years_bl", "Month_bl", "Month", "M", "update_stamp"]
COLLECTION = ["Image Data ID", "Subject", "Group", "Sex", "Age", "Visit", "Modality"]
COLLECTION += ["Description", "Type", "Acq Date", "Format", "Downloaded"]
FACTORS = ["id", "shared", "image_only", "table_only"]
CLASSES = ("CN", "MCI", "Dementia")
CUT = 0.43  # a third of a standard normal lies on each side of -CUT to CUT
DRIFT = 0.25  # of the shared and the table-only factor in a year, at most
MONTHS = (0, 6, 12, 24)
AT_BASELINE = {"CN": ("CN", "SMC"), "MCI": ("EMCI", "LMCI"), "Dementia": ("AD", "AD")}
PROTOCOLS = ("ADNI1", "ADNIGO", "ADNI2", "ADNI3")
SERIES = ("MPR__GradWarp__B1_Correction__N3__Scaled", "MPR-R__GradWarp__B1_Correction__N3__Scaled")
Volume = Float32[np.ndarray, "X Y Z"]


class Options(TwinOptions):
    """How large a look-alike of ADNI is, and in which of its two layouts it lies."""

    size: Annotated[int, Field(ge=12)] = 60
    """Subjects, of 2 to 4 visits each; of 60, each irregularity of the real data has one."""
    pixels: Annotated[int, Field(ge=16)] = 32
    """Edge of the volumes in voxels (170 to 256 in the real data)."""
    layout: Literal["ida", "bids"] = "ida"
    """Folders of the scans: a download of IDA with its collection table, or Clinica's BIDS."""


class _Visit(NamedTuple):
    """A visit: its row of ADNIMERGE, the factors as drawn, and what its scans need."""

    number: int
    """Of the subject."""
    place: int
    """Among the visits of the subject."""
    month: int
    date: datetime.date
    factors: tuple[float, float, float]
    row: Row


class _Scan(NamedTuple):
    """A scan to be drawn, and where it lies."""

    visit: _Visit
    image: int
    month: int
    date: datetime.date
    run: int
    """1 or 2 where the visit has two scans, else 0."""


def write(out: Path, options: Options) -> None:
    """Write a look-alike of raw ADNI below `out`; nothing is done where it is there already.

    The true factors go to `factors.csv`: for each visit the values as drawn, about standard
    normal.
    """
    with begun(out, options, VERSION) as needed:
        if needed:
            _write(out, options)


def _write(out: Path, options: Options) -> None:
    rows: list[Row] = []
    factors: list[Row] = []
    listed: list[Row] = []
    for number in range(options.size):
        visits = _draw_visits(number, options.seed)
        rows += [visit.row for visit in visits]
        for visit in visits:
            name = f"{visit.row['PTID']}_{visit.row['VISCODE']}"
            factors.append(dict(zip(FACTORS, (name, *visit.factors), strict=True)))
        scans = [scan for visit in visits for scan in _scans_of(visit, visits)]
        for scan in scans:
            _save(scan, out / _path(scan, options.layout), options)
        listed += [_listed(scan) for scan in scans]
        if options.layout == "bids":
            _describe_sessions(out / "bids", scans)
    write_csv(out / "ADNIMERGE.csv", HEADERS, rows)
    write_csv(out / "factors.csv", FACTORS, factors)
    if options.layout == "ida":
        write_csv(out / "T1_scans_2_18_2025.csv", COLLECTION, listed)


def _ptid(number: int) -> str:
    return f"99{number % 10}_S_{number:04d}"


def _draw_visits(number: int, seed: int) -> list[_Visit]:
    rng = np.random.default_rng([seed, number])
    person = _draw_person(number, rng)
    base, drift = rng.standard_normal(3), rng.uniform(0, DRIFT, 3) * (1, 0, 1)
    if number % 60 == 0:  # becomes demented after the first visit
        base, drift = np.array([0.05, 0.3, 0.2]), np.array([0.5, 0, 0.5])
    first = datetime.date(2005, 9, 1) + datetime.timedelta(days=int(rng.integers(0, 4000)))
    visits: list[_Visit] = []
    for place in range(3 if number % 60 in (0, 1, 4, 5) else int(rng.integers(2, 5))):
        month = MONTHS[place]
        drawn = base + drift * month / 12 + 0.03 * rng.standard_normal(3)
        shared, image_only, table_only = (round(float(factor), 4) for factor in drawn)
        factors = shared, image_only, table_only
        days = round(365.25 * month / 12) + (int(rng.integers(-15, 16)) if place else 0)
        date = first + datetime.timedelta(days=days)
        row = {**person, **_time(month, days, date, first), **_measure(factors, rng, number)}
        row["VISCODE"] = f"m{month:02d}" if place else "bl"
        row["IMAGEUID"] = f"{_image(number, place) + (0 if place % 2 == 0 else 900_000)}.0"
        row |= _irregularity(number, place)
        visits.append(_Visit(number, place, month, date, factors, row))
    at_first = visits[0].row
    group = AT_BASELINE[at_first["DX"]][int(rng.integers(2))]
    repeated = {f"{name}_bl": at_first[name] for name in REPEATED}
    repeated |= {"LDELTOTAL_BL": at_first["LDELTOTAL"], "DX_bl": group}
    for visit in visits:
        visit.row.update(repeated, EXAMDATE_bl=first.isoformat())
    return visits


def _draw_person(number: int, rng: np.random.Generator) -> Row:
    """What stays the same over a subject's visits; nothing of it tells the diagnosis."""
    protocol = PROTOCOLS[int(rng.choice(4, p=[0.35, 0.1, 0.35, 0.2]))]
    return {
        "RID": number,
        "PTID": _ptid(number),
        "SITE": 990 + number % 10,
        "COLPROT": protocol,
        "ORIGPROT": protocol,
        "AGE": round(float(rng.uniform(56, 90)), 1),
        "PTGENDER": str(rng.choice(["Male", "Female"])),
        "PTEDUCAT": int(rng.integers(8, 21)),
        "PTETHCAT": str(rng.choice(["Not Hisp/Latino", "Hisp/Latino"], p=[0.9, 0.1])),
        "PTRACCAT": str(rng.choice(["White", "Black", "Asian"], p=[0.8, 0.12, 0.08])),
        "PTMARRY": str(rng.choice(["Married", "Widowed", "Divorced"], p=[0.7, 0.18, 0.12])),
        "APOE4": float(rng.choice(3, p=[0.5, 0.38, 0.12])),
        "FLDSTRENG": str(rng.choice(["1.5 Tesla MRI", "3 Tesla MRI"])),
        "FSVERSION": "Cross-Sectional FreeSurfer (FreeSurfer Version 4.3)",
        "update_stamp": "2025-02-18 04:20:43.0",
    }


def _time(month: int, days: int, date: datetime.date, first: datetime.date) -> Row:
    return {
        "EXAMDATE": date.isoformat(),
        "Years_bl": round(days / 365.25, 6),
        "Month_bl": round(days / 30.5, 6),
        "Month": month,
        "M": month,
    }


def _measure(factors: tuple[float, float, float], rng: np.random.Generator, number: int) -> Row:
    """What is measured at a visit: scores of tests tell the shared factor, daily life and
    biomarkers the table-only one, and FreeSurfer's volumes what the scan shows."""
    shared, image_only, table_only = factors
    severity = sum(factors) / math.sqrt(3)

    def told(factor: float, mean: float, slope: float, noise: float = 0.35) -> float:
        return mean + slope * (factor + noise * rng.standard_normal())

    def whole(factor: float, mean: float, slope: float, low: int, high: int) -> int:
        return min(max(round(told(factor, mean, slope)), low), high)

    row: Row = {
        "CDRSB": max(0.0, round(2 * told(table_only, 2.2, 1.5)) / 2),
        "ADAS11": max(0.0, round(told(shared, 11, 5), 2)),
        "ADAS13": max(0.0, round(told(shared, 17, 8), 2)),
        "ADASQ4": whole(shared, 5, 2.2, 0, 10),
        "MMSE": whole(shared, 26, -2.2, 0, 30),
        "RAVLT_immediate": whole(shared, 36, -10, 0, 75),
        "RAVLT_learning": whole(shared, 4, -2, -5, 14),
        "RAVLT_forgetting": whole(shared, 4, 2, -12, 15),
        "RAVLT_perc_forgetting": round(told(shared, 55, 25), 4),
        "LDELTOTAL": whole(shared, 8, -4, 0, 25),
        "DIGITSCOR": whole(shared, 38, -9, 0, 90),
        "TRABSCOR": whole(shared, 120, 45, 20, 300),
        "FAQ": whole(table_only, 6, 4, 0, 30),
        "MOCA": whole(shared, 23, -3, 0, 30),
        "mPACCdigit": round(told(shared, -5, -4), 5),
        "mPACCtrailsB": round(told(shared, -5, -4), 5),
        "FDG": round(told(table_only, 1.2, -0.12), 5),
        "PIB": round(told(table_only, 1.6, 0.3), 5),
        "AV45": round(told(table_only, 1.2, 0.2), 5),
        "FBB": round(told(table_only, 1.2, 0.2), 5),
        "ABETA": _censored(told(table_only, 1000, -350), 200, 1700),
        "TAU": _censored(told(table_only, 290, 80), 80, 1300),
        "PTAU": _censored(told(table_only, 28, 9), 8, 120),
        "Ventricles": round(told(shared, 42_000, 9_000, 0.2)),
        "Hippocampus": round(told(image_only, 6_700, -900, 0.2)),
        "Entorhinal": round(told(image_only, 3_500, -500)),
        "Fusiform": round(told(image_only, 17_000, -1_000)),
        "MidTemp": round(told(image_only, 19_500, -1_000)),
        "WholeBrain": round(1_010_000 + 80_000 * rng.standard_normal()),
        "ICV": round(1_530_000 + 120_000 * rng.standard_normal()),
        "DX": CLASSES[int(severity > -CUT) + int(severity > CUT)],
    }
    for name in (*ECOG_PT, *ECOG_SP):
        row[name] = round(min(max(told(table_only, 1.9, 0.5, 0.6), 1.0), 4.0), 5)
    return row | dict.fromkeys(_unmeasured(rng, number), "")


def _censored(value: float, low: float, high: float) -> str:
    if value < low:
        return f"<{low:g}"
    return f">{high:g}" if value > high else f"{value:.1f}"


def _unmeasured(rng: np.random.Generator, number: int) -> list[str]:
    """Columns that stay empty, as often as in the real table or nearly so."""
    empty = ["Entorhinal", "Fusiform", "MidTemp"] if rng.random() < 0.3 else []
    empty += [name for name in ("FDG", "AV45") if rng.random() < 0.5]
    empty += ["PIB", "FBB"] if number % 4 else []
    empty += FLUID if rng.random() < 0.5 else []
    empty += [*ECOG_PT, *ECOG_SP, "MOCA"] if rng.random() < 0.3 else []
    return empty


def _irregularity(number: int, place: int) -> Row:
    """What some visits of the real data have."""
    match number % 60, place:
        case 1, 1:
            return {"DX": ""}
        case 2, 0:
            return {"ABETA": ">1700", "TAU": "<80", "PTAU": "<8"}
        case 3, _:
            return dict.fromkeys(("PTETHCAT", "PTRACCAT", "PTMARRY"), "Unknown")
        case 4, 0:
            return {"VISCODE": "m0"}
        case 5, 2:
            return {"VISCODE": "y1"}
        case 8, 0:
            return {"IMAGEUID": ""}
        case 11, 0:
            return {"RAVLT_learning": -1, "RAVLT_forgetting": -4}
        case _:
            return {}


def _image(number: int, place: int) -> int:
    return 100_000 + 10 * number + 2 * place


def _scans_of(visit: _Visit, visits: list[_Visit]) -> list[_Scan]:
    """The scans of a visit: one, but at some visits none or two; and some years after the last."""
    rng = np.random.default_rng([visit.number, visit.place])
    acquired = visit.date + datetime.timedelta(days=int(rng.integers(-25, 26)))
    image = _image(visit.number, visit.place)
    one = _Scan(visit, image, visit.month, acquired, 0)
    match visit.number % 60, visit.place:
        case 6, 1:
            return []
        case 9, 0:
            return [one._replace(run=1), one._replace(image=image + 1, run=2)]
        case 7, place if place == len(visits) - 1:
            late = acquired + datetime.timedelta(days=5 * 365)
            return [one, _Scan(visit, image + 1, 84, late, 0)]
        case _:
            return [one]


def _path(scan: _Scan, layout: str) -> Path:
    ptid, image = _ptid(scan.visit.number), scan.image
    if layout == "bids":
        subject, session = f"sub-ADNI{ptid.replace('_', '')}", f"ses-M{scan.month:03d}"
        run = f"_run-0{scan.run}" if scan.run else ""
        name = f"{subject}_{session}{run}_T1w.nii.gz"
        return Path("bids", subject, session, "anat", name)
    series = SERIES[scan.run == 2]
    stored = scan.date + datetime.timedelta(days=100)
    name = f"ADNI_{ptid}_MR_{series}_Br_{stored:%Y%m%d}101500_S{image // 2}_I{image}.nii"
    return Path("ADNI", ptid, series, f"{scan.date}_10_15_00.0", f"I{image}", name)


def _listed(scan: _Scan) -> Row:
    """A row of IDA's collection table."""
    row, day = scan.visit.row, scan.date
    return {
        "Image Data ID": f"I{scan.image}",
        "Subject": row["PTID"],
        "Group": row["DX_bl"],
        "Sex": row["PTGENDER"][0],
        "Age": int(row["AGE"] + scan.month / 12),
        "Visit": f"m{scan.month:02d}" if scan.month else "sc",
        "Modality": "MRI",
        "Description": SERIES[scan.run == 2].replace("__", "; "),
        "Type": "Processed",
        "Acq Date": f"{day.month}/{day.day}/{day.year}",
        "Format": "NiFTI",
        "Downloaded": "2/18/2025",
    }


def _describe_sessions(root: Path, scans: list[_Scan]) -> None:
    """Clinica's list of a subject's sessions."""
    sessions = sorted({scan.month for scan in scans})
    subject = _path(scans[0], "bids").parts[1]
    lines = ["session_id", *(f"ses-M{month:03d}" for month in sessions)]
    (root / subject / f"{subject}_sessions.tsv").write_text("\n".join(lines) + "\n")


def _save(scan: _Scan, path: Path, options: Options) -> None:
    """Draw a scan and store it as scanners and converters do: any orientation, several types."""
    import nibabel

    rng = np.random.default_rng([options.seed, scan.visit.number, scan.image])
    voxels, sizes = _draw_head(scan.visit.factors, options.pixels, rng)
    order, flips = rng.permutation(3), rng.choice([-1, 1], 3)
    stored = np.flip(voxels.transpose(order), tuple(np.flatnonzero(flips < 0).tolist()))
    affine = np.eye(4)
    affine[:3, :3] = 0
    affine[order, range(3)] = flips * sizes[order]
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(stored.shape) - 1) / 2)
    kind = int(rng.integers(3))
    if kind == 0:  # whole numbers as they are; 1: scaled by nibabel, with scl_slope; 2: floats
        stored = stored.round().astype(np.int16)
    if scan.visit.number % 60 == 10:
        stored = stored[..., None]
    image: Any = nibabel.Nifti1Image(stored, affine)
    if kind == 1:
        image.set_data_dtype(np.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)


def _draw_head(
    factors: tuple[float, float, float], pixels: int, rng: np.random.Generator
) -> tuple[Volume, np.ndarray]:
    """A head, and its voxels' sizes in mm; axes run right, front, up.

    Ventricles are wide by the shared factor, and the bright structures below them small by the
    image-only one. Place, size, brightness and noise of the head tell nothing.
    """
    shape = np.array([pixels, pixels, pixels * int(rng.integers(3, 5)) // 4])
    sizes = np.array([196, 220, 190]) * rng.uniform(0.97, 1.03, 3) / shape
    middle = 4 * rng.standard_normal(3)
    axes = [(np.arange(n) - (n - 1) / 2) * v for n, v in zip(shape, sizes, strict=True)]
    x, y, z = np.meshgrid(*(a - m for a, m in zip(axes, middle, strict=True)), indexing="ij")
    place = np.stack([np.abs(x), y, z], axis=-1).astype(np.float32)  # both halves at once
    soft = float(sizes.mean())
    head = rng.uniform(0.95, 1.05)
    grey = 0.55 * _ellipsoid(place, (0, 0, 0), (68 * head, 85 * head, 66 * head), soft)
    wide = float(np.clip(1 + 0.25 * factors[0], 0.2, 2))
    small = float(np.clip(1 - 0.25 * factors[1], 0.2, 2))
    ventricle = _ellipsoid(place, (14, 0, 14), (9 * wide, 26 * wide, 12 * wide), soft)
    bright = _ellipsoid(place, (34, -6, -22), (13 * small, 22 * small, 13 * small), soft)
    grey = grey * (1 - 0.8 * ventricle) + 0.4 * bright
    grey += np.float32(0.04) * rng.standard_normal(grey.shape, dtype=np.float32)
    return np.float32(rng.uniform(300, 1500)) * grey.clip(0), sizes


def _ellipsoid(
    place: Float32[np.ndarray, "X Y Z 3"],
    middle: tuple[float, float, float],
    axes: tuple[float, float, float],
    soft: float,
) -> Volume:
    """1 inside, 0 outside, with an edge of `soft` mm; lengths in mm."""
    scaled = (place - np.array(middle, np.float32)) / np.array(axes, np.float32)
    radius = np.sqrt(np.einsum("xyzc,xyzc->xyz", scaled, scaled))
    return ((1 - radius) * np.float32(min(axes) / soft) + np.float32(0.5)).clip(0, 1)
