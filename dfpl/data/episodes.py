"""The first hours of an ICU stay as hourly bins: time-series files of the MIMIC benchmark.

A file `<subject>_episode<k>_timeseries.csv` has the columns Hours (since the stay began) and the 17
variables, a row for each moment at which something was measured, and an empty cell for what was not
measured then. The rule is that of the benchmark's discretiser (nyuad-cai/MedFuse @ 3f8b54ec,
dorothy-yao/drfuse @ a1489790):

    T = min(length of the stay, 48)          in hours
    steps = int(T + 1 - 1e-6)                1 for half an hour, 48 for 48 hours
    step of a row = int(Hours - 1e-6)        an hour on an edge belongs to the step before it

The last value in a step wins; a step without one repeats the step before it, and is normal before
the first value; a mask tells what was measured. 12 numbers, 47 flags of categories, 17 masks.
Deviation: rows before hour 0 are left out here, too; the benchmark has left them out beforehand.
"""

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from dfpl.data.packed import DataError
from dfpl.data.raw import ChannelKind

SLACK = 1e-6  # hours
LARGEST = float(np.finfo(np.float32).max)
SHOWN = 5  # wrong cells of a file that a message lists


class Variable(NamedTuple):
    """A column of a time-series file: its value before the first, and, of a category, its levels.

    Two spellings of a level are two levels, as in the benchmark.
    """

    name: str
    normal: str
    levels: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Number of its channels, the mask apart."""
        return len(self.levels) or 1

    def fits(self, text: str) -> bool:
        """Whether a filled cell is one of the levels, or a number that float32 holds."""
        if self.levels:
            return text in self.levels
        try:
            return abs(float(text)) <= LARGEST
        except ValueError:
            return False

    def encode(self, text: str) -> Float32[np.ndarray, " W"]:
        """The channels of a cell that fits: one flag raised, or the number."""
        if not self.levels:
            return np.array([text], dtype=np.float64).astype(np.float32)
        return np.array([level == text for level in self.levels], dtype=np.float32)


EYE = ("To Pain", "3 To speech", "1 No Response", "4 Spontaneously", "None", "To Speech")
EYE += ("Spontaneously", "2 To pain")
MOTOR = ("1 No Response", "3 Abnorm flexion", "Abnormal extension", "No response")
MOTOR += ("4 Flex-withdraws", "Localizes Pain", "Flex-withdraws", "Obeys Commands")
MOTOR += ("Abnormal Flexion", "6 Obeys Commands", "5 Localizes Pain", "2 Abnorm extensn")
TOTAL = ("11", "10", "13", "12", "15", "14", "3", "5", "4", "7", "6", "9", "8")
VERBAL = ("1 No Response", "No Response", "Confused", "Inappropriate Words", "Oriented")
VERBAL += ("No Response-ETT", "5 Oriented", "Incomprehensible sounds", "1.0 ET/Trach")
VERBAL += ("4 Confused", "2 Incomp sounds", "3 Inapprop words")
VARIABLES = (
    Variable("Capillary refill rate", "0.0", ("0.0", "1.0")),
    Variable("Diastolic blood pressure", "59"),  # mmHg
    Variable("Fraction inspired oxygen", "0.21"),
    Variable("Glascow coma scale eye opening", "4 Spontaneously", EYE),
    Variable("Glascow coma scale motor response", "6 Obeys Commands", MOTOR),
    Variable("Glascow coma scale total", "15", TOTAL),
    Variable("Glascow coma scale verbal response", "5 Oriented", VERBAL),
    Variable("Glucose", "128"),  # mg/dL
    Variable("Heart Rate", "86"),  # per minute
    Variable("Height", "170"),  # cm
    Variable("Mean blood pressure", "77"),  # mmHg
    Variable("Oxygen saturation", "98"),  # %
    Variable("Respiratory rate", "19"),  # per minute
    Variable("Systolic blood pressure", "118"),  # mmHg
    Variable("Temperature", "36.6"),  # degrees Celsius
    Variable("Weight", "81"),  # kg
    Variable("pH", "7.4"),
)
"""In the order of the discretiser, which is that of the files."""


def episode(path: Path, hours: float) -> str:
    """What `EpisodeReader.read` is given: `<path>#<hours>`, a file and the length of its stay.

    The length is in the list files alone, and the last measured hour is not the end of a stay.
    """
    return f"{path}#{hours}"


@dataclass(frozen=True, kw_only=True)
class EpisodeReader:
    """Reads the first `hours` of a stay as hourly steps (a `SeriesReader`)."""

    hours: int = 48

    @property
    def channels(self) -> dict[str, ChannelKind]:
        """The 59 channels of the variables, then their 17 masks."""
        found: dict[str, ChannelKind] = {}
        for variable in VARIABLES:
            found.update({f"{variable.name} = {level}": "flag" for level in variable.levels})
            if not variable.levels:
                found[variable.name] = "number"
        found.update({f"mask: {variable.name}": "flag" for variable in VARIABLES})
        return found

    @property
    def steps(self) -> int:
        """T: one step an hour."""
        return self.hours

    def read(self, path: Path) -> Float32[np.ndarray, "L Fs"]:
        """The steps of the stay in `<path>#<hours>`.

        Raises DataError naming the file, and line and variable of each cell that breaks a rule,
        but not what the cell holds: that is a patient's.
        """
        file, length = _parted(path)
        end = min(length, float(self.hours))
        cells = _last_cells(file, end, max(int(end + 1 - SLACK), 1))
        values = [
            _filled(variable, column)
            for variable, column in zip(VARIABLES, zip(*cells, strict=True), strict=True)
        ]
        masks = np.array([[bool(cell) for cell in row] for row in cells], dtype=np.float32)
        return np.concatenate([*values, masks], axis=1)


def _parted(path: Path) -> tuple[Path, float]:
    file, _, hours = str(path).rpartition("#")
    try:
        length = float(hours)
    except ValueError:
        length = math.nan
    if not file or not 0 < length < math.inf:
        raise DataError(f"{path}: a time series is given as <path>#<hours>, hours above 0")
    return Path(file), length


def _last_cells(file: Path, end: float, steps: int) -> list[list[str]]:
    """The last filled cell of each step and variable, empty text where there is none."""
    cells = [[""] * len(VARIABLES) for _ in range(steps)]
    wrong: list[str] = []
    before = -math.inf
    for line, hour, row in _rows(file):
        if not before <= hour + SLACK:
            wrong.append(f"line {line}: Hours is no number, or less than in the line before")
            continue
        before = hour
        if hour > end + SLACK:
            break
        if hour <= -SLACK:
            continue
        step = min(max(int(hour - SLACK), 0), steps - 1)
        for place, variable in enumerate(VARIABLES):
            text = row[variable.name]
            if text and not variable.fits(text):
                wrong.append(f"line {line}: {variable.name} is {_rule(variable)}")
            elif text:
                cells[step][place] = text
    if wrong:
        more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise DataError(f"{file}: {'; '.join(wrong[:SHOWN])}{more}")
    return cells


def _rule(variable: Variable) -> str:
    if variable.levels:
        return f"none of its known levels ({', '.join(map(repr, variable.levels))})"
    return "no finite number"


def _rows(file: Path) -> Iterator[tuple[int, float, dict[str, str]]]:
    """Line number, hour (NaN where it is no number) and cells of each row."""
    names = ["Hours", *(variable.name for variable in VARIABLES)]
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            lines = csv.reader(stream)
            header = [name.strip() for name in next(lines, [])]
            missing = [name for name in names if name not in header]
            if missing or len(header) != len(names):
                raise DataError(
                    f"{file} has a header of {len(header)} columns without {missing}; expected "
                    f"are Hours and the 17 variables: {names}"
                )
            for cells in filter(None, lines):
                if len(cells) != len(header):
                    raise DataError(
                        f"{file}: line {lines.line_num} has {len(cells)} cells, the header 18"
                    )
                row = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
                yield lines.line_num, _hour(row["Hours"]), row
    except FileNotFoundError:
        raise DataError(f"{file}: there is no such file") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{file} cannot be read as comma-separated UTF-8: {type(error).__name__}"
        ) from None


def _hour(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _filled(variable: Variable, column: tuple[str, ...]) -> Float32[np.ndarray, "L W"]:
    """The channels of a variable in every step: the latest cell so far, at first the normal one."""
    latest, rows = variable.encode(variable.normal), []
    for text in column:
        latest = variable.encode(text) if text else latest
        rows.append(latest)
    return np.stack(rows)
