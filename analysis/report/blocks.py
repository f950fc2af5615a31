"""The blocks that sections are made of, as JSON can hold them, and how numbers are written."""

from collections.abc import Iterable, Sequence
from math import isfinite
from typing import Any

import numpy as np

from analysis.confirm import percent

Block = dict[str, Any]
NOTHING = "–"
"""A cell without a value."""
DAY_S, HOUR_S, MINUTE_S = 86400, 3600, 60


def section(name: str, title: str, how: str, blocks: Iterable[Block]) -> Block:
    """`how`: one sentence that says how it is read."""
    return {"id": name, "title": title, "how": how, "blocks": list(blocks)}


def text(words: str) -> Block:
    return {"kind": "text", "text": words}


def facts(rows: Sequence[tuple[str, str]]) -> Block:
    """Names and what they are; those of nothing are left out."""
    return {"kind": "facts", "rows": [[name, value] for name, value in rows if value]}


def code(words: str, title: str = "") -> Block:
    """A command to be copied."""
    return {"kind": "code", "text": words, "title": title}


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    caption: str = "",
    *,
    names: int = 1,
    notes: Sequence[str] = (),
) -> Block:
    """`names`: how many columns hold words; those after them hold numbers."""
    return {
        "kind": "table",
        "caption": caption,
        "columns": list(columns),
        "names": names,
        "rows": [list(row) for row in rows],
        "notes": list(notes),
    }


def chart(kind: str, title: str, **data: Any) -> Block:
    """What report.js draws: `kind` names the function."""
    return {"kind": "chart", "chart": kind, "title": title, "data": data}


def score(numbers: Sequence[float], sign: str = "") -> str:
    """A score and its interval, in percent."""
    value, low, high = numbers
    if not isfinite(value):
        return NOTHING
    if not (isfinite(low) and isfinite(high)):
        return f"{100 * value:{sign}.1f}"
    return percent(numbers, sign)


def percents(values: Any) -> Any:
    """Scores as percent with two digits, in lists as deep as they came; None for NaN."""
    found = np.round(100 * np.asarray(values, dtype=np.float64), 2)
    known = np.array(found, dtype=object)
    known[~np.isfinite(found)] = None
    return known.tolist()


def plain(value: Any) -> Any:
    """A number of four digits, or none, as JSON can hold it."""
    if isinstance(value, float | np.floating):
        return float(f"{value:.4g}") if isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def several(count: int, one: str, many: str = "") -> str:
    """`1 run`, `2 runs`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """`2 d 3 h`, `1 h 5 min`, `4 min 10 s`, `7.5 s`."""
    if seconds < MINUTE_S:
        return f"{seconds:.1f} s"
    for large, small, names in ((DAY_S, HOUR_S, "d h"), (HOUR_S, MINUTE_S, "h min")):
        if seconds >= large:
            first, second = names.split()
            return f"{int(seconds // large)} {first} {int(seconds % large // small)} {second}"
    return f"{int(seconds // MINUTE_S)} min {int(seconds % MINUTE_S)} s"
