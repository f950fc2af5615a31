"""What was measured in the stays of a look-alike MIMIC, and when: the benchmark's 17 variables.

The two shared factors show in heart rate, respiratory rate, saturation and FiO2, the two that only
the table has in glucose, blood pressure, temperature and pH. All else tells nothing.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from dfpl.data.extraction.layout import Frame
from dfpl.data.extraction.variables import (
    CAPILLARY,
    EYE_NAME,
    FIO2,
    HEIGHT,
    MOTOR_NAME,
    NAMES,
    TOTAL_NAME,
    VERBAL_NAME,
)
from dfpl.data.twins._mimic_stays import HOUR, NEGATIVE, OUTLIER, Options, Stays

CHUNK = 1000  # stays that are drawn at a time
NUMBERS = {  # share of rows that have it, mean, factor and its effect, noise, decimals
    "Diastolic blood pressure": (0.8, 62.0, 4, 4.0, 5.0, 0),
    FIO2: (0.15, 0.5, 1, 0.1, 0.04, 2),
    "Glucose": (0.15, 140.0, 4, 30.0, 12.0, 0),
    "Heart Rate": (0.9, 86.0, 0, 12.0, 5.0, 0),
    HEIGHT: (0.0, 169.0, None, 0.0, 9.0, 0),
    "Mean blood pressure": (0.75, 79.0, 4, 5.0, 5.0, 0),
    "Oxygen saturation": (0.85, 94.0, 1, -2.0, 1.0, 0),
    "Respiratory rate": (0.9, 20.0, 0, 3.0, 2.0, 0),
    "Systolic blood pressure": (0.8, 120.0, 4, 12.0, 8.0, 0),
    "Temperature": (0.25, 37.0, 5, 0.5, 0.2, 1),
    "Weight": (0.02, 80.0, None, 0.0, 12.0, 1),
    "pH": (0.08, 7.38, 5, 0.05, 0.02, 2),
}
LIMITS = {FIO2: (0.21, 1.0), "Oxygen saturation": (60, 100), "Glucose": (30, 900)}
LEVELS = {  # from the worst: 1 point, 2 points, ...
    EYE_NAME: ("None", "To Pain", "To Speech", "Spontaneously"),
    MOTOR_NAME: (
        *("No response", "Abnormal extension", "Abnormal Flexion"),
        *("Flex-withdraws", "Localizes Pain", "Obeys Commands"),
    ),
    VERBAL_NAME: (
        *("No Response-ETT", "Incomprehensible sounds", "Inappropriate Words"),
        *("Confused", "Oriented"),
    ),
}
COMA = 0.2  # share of rows in which the coma scale is charted
REFILL = 0.1
PER_ROW = sum(share for share, *_ in NUMBERS.values()) + 3 * COMA + REFILL
WILD = 999_999.0


def draw_series(stays: Stays, options: Options) -> Iterator[Frame]:
    """Chunk by chunk the columns stay, seconds (since it began) and the 17 variables, as measured:
    numbers, texts, and NaN or None for an empty cell."""
    for start in range(0, stays.size, CHUNK):
        rng = np.random.default_rng([options.seed, 1, start])
        chunk = np.arange(start, min(start + CHUNK, stays.size))
        yield _draw(stays, chunk, max(4, round(options.events_per_stay / PER_ROW)), rng)


def _draw(
    stays: Stays, chunk: Int64[np.ndarray, " N"], count: int, rng: np.random.Generator
) -> Frame:
    seconds = _moments(stays, chunk, count, rng)
    row, _ = np.nonzero(seconds >= 0)
    stay, seconds = chunk[row], seconds[seconds >= 0]
    first = np.r_[True, row[1:] != row[:-1]]
    cells: dict[str, np.ndarray] = {}
    for name, numbers in NUMBERS.items():
        share = numbers[0]
        measured = rng.random(len(stay)) < share
        measured |= first & (name in ("Heart Rate", HEIGHT, "Weight"))
        cells[name] = np.where(measured, _numbers(name, stays.factors[stay], rng), np.nan)
    cells["Glucose"][first & (stays.kind[stay] == OUTLIER)] = WILD
    cells |= _coma_scale(len(stay), rng)
    refill = np.where(rng.random(len(stay)) < 0.8, 0.0, 1.0)
    cells[CAPILLARY] = np.where(rng.random(len(stay)) < REFILL, refill, np.nan)
    frame = pd.DataFrame({"stay": stay, "seconds": seconds} | {name: cells[name] for name in NAMES})
    return frame[frame[NAMES].notna().any(axis=1)]


def _moments(
    stays: Stays, chunk: Int64[np.ndarray, " N"], count: int, rng: np.random.Generator
) -> Int64[np.ndarray, "N R"]:
    """Irregular moments on whole minutes, the first within the first half hour; -1 for none."""
    last = (stays.seconds[chunk] // 60 - 1)[:, None]
    minutes = 1 + np.sort((rng.random((len(chunk), count)) * last).astype(np.int64), axis=1)
    minutes[:, 0] = np.minimum(minutes[:, 0], 1 + rng.integers(0, 30, len(chunk)))
    seconds = 60 * minutes - (stays.start[chunk] % 60)[:, None]
    seconds[np.diff(minutes, axis=1, prepend=-1) == 0] = -1
    seconds[stays.kind[chunk] == NEGATIVE, 0] = 0
    return seconds


def _numbers(
    name: str, factors: Float64[np.ndarray, "N 6"], rng: np.random.Generator
) -> Float64[np.ndarray, " N"]:
    _, mean, factor, effect, noise, decimals = NUMBERS[name]
    values = mean + noise * rng.standard_normal(len(factors))
    if factor is not None:
        values += effect * factors[:, factor]
    low, high = LIMITS.get(name, (0, np.inf))
    return values.clip(low, high).round(decimals)


def _coma_scale(count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The three parts, charted together but for some gaps, and their sum where all are there."""
    charted = rng.random(count) < COMA
    state = rng.normal(0.85, 0.4, count)
    cells, total = {}, np.zeros(count, dtype=np.int64)
    whole = charted.copy()
    for name, levels in LEVELS.items():
        score = state + rng.normal(0, 0.1, count)
        level = (score * len(levels)).astype(np.int64).clip(0, len(levels) - 1)
        there = charted & (rng.random(count) < 0.95)
        cells[name] = np.array(levels, dtype=object)[level]
        cells[name][~there] = None
        total += level + 1
        whole &= there
    cells[TOTAL_NAME] = total.astype(str).astype(object)
    cells[TOTAL_NAME][~whole] = None
    return cells


def to_benchmark(frame: Frame, stays: Stays) -> Frame:
    """The columns stay, Hours and the 17 variables, as the time-series files have them."""
    hours = frame["seconds"].to_numpy() / HOUR
    early = (hours == 0) & (stays.kind[frame["stay"].to_numpy()] == NEGATIVE)
    found = frame[["stay", *NAMES]].copy()
    found.insert(1, "Hours", np.where(early, -5e-7, hours))
    return found
