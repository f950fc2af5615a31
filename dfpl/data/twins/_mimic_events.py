"""The events of a look-alike MIMIC-IV: its measurements as charted, in their literal units.

Temperatures in both scales, heights in inches, weights in pounds, FiO2 as 40 and as 0.4; some
values as laboratory results, which have no stay_id; items that nothing maps; what is to be dropped.
"""

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64

from dfpl.data.extraction.layout import Frame
from dfpl.data.extraction.variables import (
    CAPILLARY,
    FIO2,
    HEIGHT,
    ITEMS,
    NAMES,
    TOTAL_NAME,
)
from dfpl.data.twins._mimic_series import LEVELS
from dfpl.data.twins._mimic_stays import HOUR, Stays, times

FIRST_CHART_ITEM = 200_000
HEART_RATE, RHYTHM, GLUCOSE_LAB, POUNDS, INCHES, FAHRENHEIT = (
    220045,
    220048,
    50931,
    226531,
    226707,
    223761,
)
UNITS = {"Temperature": "", HEIGHT: "", "Weight": "kg", "Glucose": "mg/dL", "pH": "units"}
UNITS |= {"Heart Rate": "bpm", "Oxygen saturation": "%", "Respiratory rate": "insp/min"}
REFILL = {0.0: "Normal <3 Seconds", 1.0: "Abnormal >3 Seconds"}
NEVER = "333"  # the value of every event that must not be kept


def to_events(
    frame: Frame, stays: Stays, more: Frame, first: bool, rng: np.random.Generator
) -> dict[str, Frame]:
    """The rows of both event tables for a chunk of measurements; the first one has the irregular
    events, too. Rows are ordered by stay, then time."""
    parts = [_of_variable(frame, name, rng) for name in NAMES if name != TOTAL_NAME]
    parts.append(_unmapped(frame, rng))
    events = pd.concat(parts, ignore_index=True)
    at = events["stay"].to_numpy()
    for name in ("subject_id", "hadm_id", "stay_id"):
        events[name] = pd.array(getattr(stays, name)[at], dtype="Int64")
    events["charttime"] = times(stays.start[at] + events["seconds"].to_numpy())
    events.loc[rng.random(len(events)) < 0.01, "stay_id"] = pd.NA  # recovered from the admission
    if first:
        wrong = pd.concat([_wrong(stays), _of_others(more)], ignore_index=True)
        events = pd.concat([events, wrong.astype({n: "Int64" for n in ("hadm_id", "stay_id")})])
    events = events.sort_values(["stay", "charttime", "itemid"], kind="stable")
    events["storetime"] = events["charttime"]
    events["valuenum"] = pd.to_numeric(events["value"], errors="coerce")
    laboratory = events["itemid"].to_numpy() < FIRST_CHART_ITEM
    return {
        "icu/chartevents": events[~laboratory].assign(warning=0, caregiver_id=1),
        "hosp/labevents": _laboratory(events[laboratory]),
    }


def _of_variable(frame: Frame, name: str, rng: np.random.Generator) -> Frame:
    measured = frame[frame[name].notna()]
    items = rng.choice(ITEMS[name], len(measured))
    cells = measured[name].to_numpy()
    if name == CAPILLARY:
        texts = np.array([REFILL[cell] for cell in cells], dtype=object)
    elif name in LEVELS:
        texts = cells
    else:
        texts = _charted(name, items, cells.astype(np.float64), rng)
    return _events(measured, items, texts, UNITS.get(name, ""))


def _charted(
    name: str, items: np.ndarray, values: Float64[np.ndarray, " N"], rng: np.random.Generator
) -> np.ndarray:
    """The numbers as text, in the unit of the item."""
    decimals = "%.6g"
    if name == FIO2:
        values = np.where(rng.random(len(values)) < 0.7, values * 100, values)
    elif name == HEIGHT:
        values, decimals = np.where(items == INCHES, values / 2.54, values), "%.2f"
    elif name == "Temperature":
        values, decimals = np.where(items == FAHRENHEIT, values * 9 / 5 + 32, values), "%.2f"
    elif name == "Weight":
        values, decimals = np.where(items == POUNDS, values / 0.453592, values), "%.2f"
    return np.char.mod(decimals, values).astype(object)


def _events(rows: Frame, items: Any, texts: Any, unit: str) -> Frame:
    table: Frame = rows[["stay", "seconds"]]
    return table.assign(itemid=items, value=texts, valueuom=unit)


def _unmapped(frame: Frame, rng: np.random.Generator) -> Frame:
    """The heart's rhythm, which is no variable, in every tenth row."""
    return _events(frame[rng.random(len(frame)) < 0.1], RHYTHM, "SR (Sinus Rhythm)", "")


def _wrong(stays: Stays) -> Frame:
    """Events of the first stays that are to be left out, and one that loses to a larger one."""
    inside, end = int(stays.seconds[0] // 2), int(stays.seconds[0])
    ids = [(int(stays.subject_id[n]), int(stays.hadm_id[n]), int(stays.stay_id[n])) for n in (0, 1)]
    subject, admission, stay = ids[0]
    plans = [
        (admission, stay, -60, HEART_RATE, NEVER),  # before the stay
        (admission, stay, end + HOUR, HEART_RATE, NEVER),  # after it
        (pd.NA, stay, inside, HEART_RATE, NEVER),  # no admission
        (admission + 1, stay, inside, HEART_RATE, NEVER),  # an admission of nobody
        (admission, ids[1][2], inside, HEART_RATE, NEVER),  # the stay of somebody else
        (admission, stay, inside, RHYTHM, NEVER),
        (admission, pd.NA, inside, GLUCOSE_LAB, "ERROR"),
        (pd.NA, pd.NA, inside, GLUCOSE_LAB, NEVER),
    ]
    rows = pd.DataFrame(plans, columns=["hadm_id", "stay_id", "seconds", "itemid", "value"])
    start = int(stays.start[0])
    moments = times(start + rows["seconds"].to_numpy(np.int64))
    return rows.assign(stay=0, subject_id=subject, charttime=moments, valueuom="bpm")


def _of_others(more: Frame) -> Frame:
    """Events of the stays that are left out; in the last one only the rhythm was charted."""
    items = np.where(more["stay_id"] == more["stay_id"].max(), RHYTHM, HEART_RATE)
    moments = more["intime"] + np.timedelta64(1, "h")
    table: Frame = more[["subject_id", "hadm_id", "stay_id"]]
    return table.assign(
        stay=-1, seconds=HOUR, itemid=items, value=NEVER, charttime=moments, valueuom="bpm"
    )


def _laboratory(events: Frame) -> Frame:
    """As laboratory results: numbered, and some with a comment over two lines."""
    comments = np.where(np.arange(len(events)) % 50 == 0, 'HEMOLYSIS, "SLIGHT"\nREPEATED', "")
    numbers = 100_000 * events["stay"] + events.groupby("stay").cumcount()
    return events.assign(
        labevent_id=numbers, specimen_id=numbers, priority="STAT", comments=comments
    )
