"""A look-alike of ADNI: ADNIMERGE.csv with its 116 literal headers, and T1 scans as NIfTI.

Severity is the sum of a shared factor (ventricles, and what is asked in tests), an image-only one
(a bright structure beside them) and a table-only one (daily life, biomarkers); the diagnosis is its
third. Neither modality alone suffices; the two together tell nearly all. Subjects' ids are of
sites that ADNI does not have.
"""

import datetime
import math
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import Field

from dfpl.data.twins import Row, TwinOptions, begun, write_csv
from dfpl.data.twins._adni_heads import write_head

VERSION = 1  # raise it when the same options give other files
PARTS = ("Mem", "Lang", "Visspat", "Plan", "Organ", "Divatt", "Total")
ECOG_PT, ECOG_SP = ([f"Ecog{who}{part}" for part in PARTS] for who in ("Pt", "SP"))
RAVLT = [f"RAVLT_{part}" for part in ("immediate", "learning", "forgetting", "perc_forgetting")]
SCORES = ["CDRSB", "ADAS11", "ADAS13", "ADASQ4", "MMSE", *RAVLT, "LDELTOTAL", "DIGITSCOR"]
SCORES += ["TRABSCOR", "FAQ"]
TRACERS = ["FDG", "PIB", "AV45", "FBB"]
FLUID = {"ABETA": (200.0, 1700.0), "TAU": (80.0, 1300.0), "PTAU": (8.0, 120.0)}
"""Biomarkers, and the range beyond which only `<` or `>` is written."""
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


class _Measure(NamedTuple):
    """mean + slope (factor + noise x standard normal), within [low, high], rounded."""

    factor: int
    """0 shared, 1 image-only, 2 table-only."""
    mean: float
    slope: float
    digits: int | None = 5
    low: float = -math.inf
    high: float = math.inf
    noise: float = 0.35


MEASURES = {
    "CDRSB": _Measure(2, 2.2, 1.5, 2, 0.0, 18.0),
    "ADAS11": _Measure(0, 11.0, 5.0, 2, 0.0, 70.0),
    "ADAS13": _Measure(0, 17.0, 8.0, 2, 0.0, 85.0),
    "ADASQ4": _Measure(0, 5.0, 2.2, None, 0.0, 10.0),
    "MMSE": _Measure(0, 26.0, -2.2, None, 0.0, 30.0),
    "RAVLT_immediate": _Measure(0, 36.0, -10.0, None, 0.0, 75.0),
    "RAVLT_learning": _Measure(0, 4.0, -2.0, None, -5.0, 14.0),
    "RAVLT_forgetting": _Measure(0, 4.0, 2.0, None, -12.0, 15.0),
    "RAVLT_perc_forgetting": _Measure(0, 55.0, 25.0, 4),
    "LDELTOTAL": _Measure(0, 8.0, -4.0, None, 0.0, 25.0),
    "DIGITSCOR": _Measure(0, 38.0, -9.0, None, 0.0, 90.0),
    "TRABSCOR": _Measure(0, 120.0, 45.0, None, 20.0, 300.0),
    "FAQ": _Measure(2, 6.0, 4.0, None, 0.0, 30.0),
    "MOCA": _Measure(0, 23.0, -3.0, None, 0.0, 30.0),
    **{name: _Measure(0, -5.0, -4.0) for name in MPACC},
    **{name: _Measure(2, 1.9, 0.5, 5, 1.0, 4.0, 0.6) for name in (*ECOG_PT, *ECOG_SP)},
    "FDG": _Measure(2, 1.2, -0.12),
    "PIB": _Measure(2, 1.6, 0.3),
    "AV45": _Measure(2, 1.2, 0.2),
    "FBB": _Measure(2, 1.2, 0.2),
    "ABETA": _Measure(2, 1000.0, -350.0, 1),
    "TAU": _Measure(2, 290.0, 80.0, 1),
    "PTAU": _Measure(2, 28.0, 9.0, 1),
    "Ventricles": _Measure(0, 42_000.0, 9_000.0, None),
    "Hippocampus": _Measure(1, 6_700.0, -900.0, None),
    "Entorhinal": _Measure(1, 3_500.0, -500.0, None),
    "Fusiform": _Measure(1, 17_000.0, -1_000.0, None),
    "MidTemp": _Measure(1, 19_500.0, -1_000.0, None),
}
"""Scores of tests tell the shared factor, daily life and biomarkers the table-only one, and
FreeSurfer's volumes what the scan shows."""


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
            seeds = [options.seed, scan.visit.number, scan.image]
            four_axes = scan.visit.number % 60 == 10
            path = out / _path(scan, options.layout)
            write_head(path, scan.visit.factors, options.pixels, seeds, four_axes)
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
    """What is measured at a visit, and the diagnosis."""
    row: Row = {}
    for name, how in MEASURES.items():
        noise = how.noise * rng.standard_normal()
        value = how.mean + how.slope * (factors[how.factor] + noise)
        row[name] = round(min(max(value, how.low), how.high), how.digits)
    row["CDRSB"] = round(2 * row["CDRSB"]) / 2  # a sum of boxes with halves
    row |= {name: _censored(row[name], *FLUID[name]) for name in FLUID}
    severity = sum(factors) / math.sqrt(3)
    row["DX"] = CLASSES[int(severity > -CUT) + int(severity > CUT)]
    row |= {"WholeBrain": int(rng.integers(850_000, 1_150_000))}
    row |= {"ICV": int(rng.integers(1_200_000, 1_850_000))}
    return row | dict.fromkeys(_unmeasured(rng, number), "")


def _censored(value: float, low: float, high: float) -> str:
    if value < low:
        return f"<{low:g}"
    return f">{high:g}" if value > high else str(value)


def _unmeasured(rng: np.random.Generator, number: int) -> list[str]:
    """Columns that stay empty, as often as in the real table or nearly so."""
    empty = ["Entorhinal", "Fusiform", "MidTemp"] if rng.random() < 0.3 else []
    empty += [name for name in ("FDG", "AV45") if rng.random() < 0.5]
    empty += ["PIB", "FBB"] if number % 4 else []
    empty += list(FLUID) if rng.random() < 0.5 else []
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
