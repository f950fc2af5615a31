"""The raw tables of a look-alike MIMIC-IV 1.0 or 2.2, with what an extraction has to leave out.

Beside the stays of the cohort there are one with a transfer, one of a minor, an admission with two
stays, and one in which nothing mapped was measured. Every event that must not be kept says 333.
"""

import gzip
import io
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dfpl.data.extraction.layout import Column
from dfpl.data.extraction.phenotypes import DEFINITIONS, PHENOTYPES
from dfpl.data.twins._mimic_events import to_events
from dfpl.data.twins._mimic_films import write_text
from dfpl.data.twins._mimic_series import draw_series
from dfpl.data.twins._mimic_stays import ETHNICITIES, HOUR, UNITS, Options, Stays, times

CODES = (  # of each phenotype in ICD-9 and ICD-10
    *(("5849", "N179"), ("431", "I619"), ("41071", "I214"), ("42731", "I4891"), ("5859", "N189")),
    *(("496", "J449"), ("99811", "T814XXA"), ("4260", "I442"), ("4280", "I509")),
    *(("41401", "I2510"), ("25060", "E1140"), ("25000", "E119"), ("2724", "E785")),
    *(("4019", "I10"), ("2761", "E871"), ("5789", "K922"), ("40390", "I129"), ("5715", "K7469")),
    *(("51889", "J984"), ("4779", "J309"), ("5119", "J90"), ("486", "J189")),
    *(("51881", "J9600"), ("0389", "A419"), ("78551", "R570")),
)
OTHER = ("V5861", "Z7901")  # in no phenotype
NAMESAKE, KIDNEY = "V4511", 4
"""A code of both versions: chronic kidney disease in ICD-9, and, made up, a car accident in 10."""
TABLES = {
    "patients": ["subject_id", "gender", "anchor_age", "anchor_year", "anchor_year_group", "dod"],
    "admissions": [
        *("subject_id", "hadm_id", "admittime", "dischtime", "deathtime", "admission_type"),
        *("admission_location", "discharge_location", "insurance", "language", "marital_status"),
        *("ethnicity", "edregtime", "edouttime", "hospital_expire_flag"),
    ],
    "transfers": [
        *("subject_id", "hadm_id", "transfer_id", "eventtype", "careunit", "intime", "outtime"),
    ],
    "icu/icustays": [
        *("subject_id", "hadm_id", "stay_id", "first_careunit", "last_careunit"),
        *("intime", "outtime", "los"),
    ],
    "icu/chartevents": [
        *("subject_id", "hadm_id", "stay_id", "charttime", "storetime", "itemid"),
        *("value", "valuenum", "valueuom", "warning"),
    ],
    "icu/outputevents": [
        *("subject_id", "hadm_id", "stay_id", "charttime", "storetime", "itemid"),
        *("value", "valueuom"),
    ],
    "hosp/labevents": [
        *("labevent_id", "subject_id", "hadm_id", "specimen_id", "itemid", "charttime"),
        *("storetime", "value", "valuenum", "valueuom", "ref_range_lower", "ref_range_upper"),
        *("flag", "priority", "comments"),
    ],
    "hosp/diagnoses_icd": ["subject_id", "hadm_id", "seq_num", "icd_code", "icd_version"],
    "hosp/d_icd_diagnoses": ["icd_code", "icd_version", "long_title"],
}
ADDED = {  # columns of release 2.2, each before another one
    "admissions": [("admission_location", "admit_provider_id")],
    "icu/chartevents": [("charttime", "caregiver_id")],
    "icu/outputevents": [("charttime", "caregiver_id")],
    "hosp/labevents": [("charttime", "order_provider_id")],
}


def columns_of(table: str, version: str) -> list[str]:
    """The literal header of a table."""
    columns = list(TABLES[table])
    if version == "2.2":
        for before, name in ADDED.get(table, []):
            columns.insert(columns.index(before), name)
        columns = ["race" if name == "ethnicity" else name for name in columns]
    return columns


def write_raw(out: Path, stays: Stays, options: Options) -> None:
    """Write all tables, the definition of phenotypes and the lists of subjects below `out`."""
    _Writer(out, options).write(stays)
    groups = [
        f"{name!r}:\n  codes: {[*codes, *([NAMESAKE] if place == KIDNEY else [])]}\n"
        f"  id: {place}\n  type: unknown\n  use_in_benchmark: true\n"
        for place, (name, codes) in enumerate(zip(PHENOTYPES, CODES, strict=True))
    ]
    unused = f"Asthma:\n  codes: {list(OTHER)}\n  id: 25\n  use_in_benchmark: false\n"
    write_text(out / DEFINITIONS, "".join([*groups, unused]))
    persons = dict(zip(stays.subject_id.tolist(), stays.split, strict=True))
    tests = [f"{subject},{int(split == 'test')}\n" for subject, split in persons.items()]
    rest = [(subject, split) for subject, split in persons.items() if split != "test"]
    vals = [f"{subject},{int(split == 'val')}\n" for subject, split in rest]
    write_text(out / "testset_iv.csv", "".join(tests))
    write_text(out / "valset_iv.csv", "".join(vals))


class _Writer:
    """Writes tables of one release, plain or compressed."""

    def __init__(self, out: Path, options: Options) -> None:
        self.options = options
        self.folder = out / "mimiciv" / options.version
        self.ending = ".csv.gz" if options.compressed else ".csv"

    def write(self, stays: Stays) -> None:
        more = _others(stays)
        icustays = pd.concat([_icustays(stays), more], ignore_index=True)
        admissions = pd.concat([_admissions(stays), _admissions_of(more)], ignore_index=True)
        self._table("icu/icustays", icustays)
        self._table("admissions", admissions.assign(race=admissions["ethnicity"]))
        self._table("patients", pd.concat([_patients(stays), _patients_of(more)]))
        self._table(
            "transfers",
            icustays.assign(
                transfer_id=icustays["stay_id"],
                eventtype="admit",
                careunit=icustays["first_careunit"],
            ),
        )
        self._table(
            "icu/outputevents",
            icustays.assign(
                charttime=icustays["intime"],
                storetime=icustays["intime"],
                itemid=226559,
                value=100,
                valueuom="mL",
                caregiver_id=1,
            ),
        )
        self._table("hosp/diagnoses_icd", _diagnoses(stays, more))
        self._table("hosp/d_icd_diagnoses", _titles())
        self._events(stays, more)

    def _path(self, table: str) -> Path:
        persons = "hosp" if self.options.version == "2.2" else "core"
        name = table if "/" in table else f"{persons}/{table}"
        return self.folder / f"{name}{self.ending}"

    def _table(self, table: str, frame: pd.DataFrame) -> None:
        columns = columns_of(table, self.options.version)
        text = frame.reindex(columns=columns).to_csv(index=False, lineterminator="\n")
        write_text(self._path(table), text)

    def _events(self, stays: Stays, more: pd.DataFrame) -> None:
        """Both event tables, chunk by chunk, so that their size has no influence on memory."""
        with ExitStack() as stack:
            streams = {}
            for table in ("icu/chartevents", "hosp/labevents"):
                path = self._path(table)
                path.parent.mkdir(parents=True, exist_ok=True)
                stream: Any = stack.enter_context(path.open("wb"))
                if self.options.compressed:
                    stream = stack.enter_context(
                        gzip.GzipFile("", "wb", compresslevel=1, fileobj=stream, mtime=0)
                    )
                streams[table] = stack.enter_context(
                    io.TextIOWrapper(stream, encoding="utf-8", newline="")
                )
            for place, frame in enumerate(draw_series(stays, self.options)):
                rng = np.random.default_rng([self.options.seed, 3, place])
                for table, events in to_events(frame, stays, more, place == 0, rng).items():
                    columns = columns_of(table, self.options.version)
                    events.reindex(columns=columns).to_csv(
                        streams[table], index=False, header=place == 0, lineterminator="\n"
                    )


def _icustays(stays: Stays) -> pd.DataFrame:
    unit = np.array(UNITS)[stays.unit]
    ids = {name: getattr(stays, name) for name in ("subject_id", "hadm_id", "stay_id", "los")}
    return pd.DataFrame(
        {**ids, "first_careunit": unit, "last_careunit": unit}
        | {"intime": times(stays.start), "outtime": times(stays.end)}
    )


def _others(stays: Stays) -> pd.DataFrame:
    """Stays that are left out: transfer, minor, two of one admission, nothing measured."""
    start = times(stays.start[:1])[0]
    rows = []
    for place in range(5):
        person, admission = min(place, 2) + (place == 4), min(place, 2) + (place == 4)
        intime = start + np.timedelta64(place * 100, "h")
        rows.append(
            {
                "subject_id": 19_990_000 + person,
                "hadm_id": 29_990_000 + admission,
                "stay_id": 39_990_000 + place,
                "first_careunit": UNITS[0],
                "last_careunit": UNITS[place == 0],
                "intime": intime,
                "outtime": intime + np.timedelta64(72, "h"),
                "los": 3.0,
            }
        )
    return pd.DataFrame(rows)


def _admissions(stays: Stays) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "subject_id": stays.subject_id,
            "hadm_id": stays.hadm_id,
            "admittime": times(stays.start - 5 * HOUR),
            "dischtime": times(stays.end + 24 * HOUR * ~stays.died),
            "deathtime": stays.death,
            "admission_type": "EW EMER.",
            "admission_location": "EMERGENCY ROOM",
            "ethnicity": np.array(ETHNICITIES)[stays.ethnicity][stays.person],
            "hospital_expire_flag": stays.died.astype(int),
        }
    )


def _admissions_of(more: pd.DataFrame) -> pd.DataFrame:
    table = more.drop_duplicates("hadm_id")[["subject_id", "hadm_id"]]
    ends = {"admittime": more["intime"].min(), "dischtime": more["outtime"].max()}
    return table.assign(**ends, ethnicity="WHITE", hospital_expire_flag=0)


def _patients(stays: Stays) -> pd.DataFrame:
    first = ~stays.again
    years = pd.Series(times(stays.start[first])).dt.year
    death: Column = pd.Series(stays.death).groupby(stays.person).max()
    return pd.DataFrame(
        {
            "subject_id": stays.subject_id[first],
            "gender": np.where(stays.male, "M", "F"),
            "anchor_age": stays.age,
            "anchor_year": years,
            "anchor_year_group": "2011 - 2013",
            "dod": death.dt.strftime("%Y-%m-%d").to_numpy(),
        }
    )


def _patients_of(more: pd.DataFrame) -> pd.DataFrame:
    table = more.drop_duplicates("subject_id")[["subject_id"]].assign(
        gender="F", anchor_age=50, anchor_year=2150, anchor_year_group="2011 - 2013"
    )
    table.iloc[1, 2] = 17
    return table


def _diagnoses(stays: Stays, more: pd.DataFrame) -> pd.DataFrame:
    """One version per admission; a code in no phenotype comes first."""
    rows = []
    for stay, labels in enumerate(stays.labels):
        version = 9 if stay % 2 else 10
        codes = [OTHER[version == 10]]
        codes += [CODES[place][version == 10] for place in np.flatnonzero(labels)]
        if stay % 7 == 0 and labels[KIDNEY] == (version == 9):
            codes.append(NAMESAKE)
        ids = (int(stays.subject_id[stay]), int(stays.hadm_id[stay]))
        rows += [(*ids, number + 1, code, version) for number, code in enumerate(codes)]
    for subject, admission in more[["subject_id", "hadm_id"]].drop_duplicates().to_numpy():
        rows.append((subject, admission, 1, CODES[0][0], 9))
    return pd.DataFrame(rows, columns=TABLES["hosp/diagnoses_icd"])


def _titles() -> pd.DataFrame:
    pairs = [*zip(PHENOTYPES, CODES, strict=True), ("Long-term use of anticoagulants", OTHER)]
    pairs.append(("Renal dialysis status, and a car passenger", (NAMESAKE, NAMESAKE)))
    rows = [
        (code, version, name)
        for name, codes in pairs
        for code, version in zip(codes, (9, 10), strict=True)
    ]
    return pd.DataFrame(rows, columns=TABLES["hosp/d_icd_diagnoses"])
