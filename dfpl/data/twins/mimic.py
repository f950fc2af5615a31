"""A look-alike of MIMIC-IV and MIMIC-CXR: ICU stays with 25 labels, time series and films.

Six factors per stay: two shared (seen in films and in vital signs), two that only films show, two
that only the table shows. A label is a noisy threshold on the sum of one of each kind, so neither
modality alone suffices. Two levels, of the same persons, measurements and films:

    benchmark   what an extraction writes: data/root/all_stays.csv, data/phenotyping/...
    raw         mimiciv/<version>/{core,hosp,icu}/*.csv(.gz), the definition of phenotypes and the
                lists of test and val subjects; `dfpl.data.extraction` with recipe = repair makes
                the benchmark level of it, but for its outliers, which the benchmark level keeps

Both have mimic-cxr-jpg/2.0.0/. `factors.csv` has the factors of each stay, by stay_id.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from dfpl.data.extraction.cohort import COLUMNS
from dfpl.data.extraction.layout import Column
from dfpl.data.extraction.phenotypes import PHENOTYPES
from dfpl.data.extraction.series import write_series
from dfpl.data.twins import begun
from dfpl.data.twins._mimic_films import write_films, write_text
from dfpl.data.twins._mimic_raw import write_raw
from dfpl.data.twins._mimic_series import draw_series, to_benchmark
from dfpl.data.twins._mimic_stays import (
    ETHNICITIES,
    FACTORS,
    HOUR,
    UNITS,
    Options,
    Stays,
    times,
)

__all__ = ["VERSION", "Options", "write"]

VERSION = 1  # raise it when the same options give other files


def write(out: Path, options: Options) -> None:
    """Write a look-alike of MIMIC below `out`; nothing is done where it is there already."""
    with begun(out, options, VERSION) as needed:
        if not needed:
            return
        stays = Stays(options)
        write_films(out, stays, options)
        if options.level == "raw":
            write_raw(out, stays, options)
        else:
            _write_benchmark(out / "data", stays, options)
        factors = pd.DataFrame(stays.factors, columns=FACTORS)
        factors.insert(0, "id", stays.stay_id)
        write_text(out / "factors.csv", factors.to_csv(index=False, lineterminator="\n"))


def _write_benchmark(data: Path, stays: Stays, options: Options) -> None:
    phenotyping = data / "phenotyping"
    names = [
        f"{subject}_episode{episode}_timeseries.csv"
        for subject, episode in zip(stays.subject_id, stays.episode, strict=True)
    ]
    for folder in ("train", "test"):
        (phenotyping / folder).mkdir(parents=True, exist_ok=True)
    paths = [
        phenotyping / ("test" if split == "test" else "train") / name
        for split, name in zip(stays.split, names, strict=True)
    ]
    for frame in draw_series(stays, options):
        write_series(to_benchmark(frame, stays), paths)
    listed = pd.DataFrame(
        {"stay": names, "period_length": 24 * stays.los, "stay_id": stays.stay_id}
    )
    labels = pd.DataFrame(stays.labels.astype(int), columns=list(PHENOTYPES))
    table = pd.concat([listed, labels], axis=1)
    for split in ("train", "val", "test"):
        rows = table[stays.split == split]
        text = rows.to_csv(index=False, float_format="%.6f", lineterminator="\n")
        write_text(phenotyping / f"{split}_listfile.csv", text)
    text = _all_stays(stays).to_csv(columns=COLUMNS, index=False, lineterminator="\n")
    write_text(data / "root/all_stays.csv", text)


def _all_stays(stays: Stays) -> pd.DataFrame:
    died = stays.died.astype(int)
    death = pd.Series(stays.death)
    last_death: Column = death.groupby(stays.person).transform("max")
    return pd.DataFrame(
        {
            **{name: getattr(stays, name) for name in ("subject_id", "hadm_id", "stay_id", "los")},
            "last_careunit": np.array(UNITS)[stays.unit],
            "intime": times(stays.start),
            "outtime": times(stays.end),
            "admittime": times(stays.start - 5 * HOUR),
            "dischtime": times(stays.end + 24 * HOUR * ~stays.died),
            "deathtime": death,
            "ethnicity": np.array(ETHNICITIES)[stays.ethnicity][stays.person],
            "gender": np.where(stays.male, "M", "F")[stays.person],
            "anchor_age": stays.age[stays.person],
            "dod": last_death.dt.strftime("%Y-%m-%d"),
            "age": stays.age[stays.person],
            **dict.fromkeys(("mortality_inunit", "mortality", "mortality_inhospital"), died),
        }
    )
