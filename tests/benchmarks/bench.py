"""What all benchmarks share: timing side by side, ratios with their spread, a table and a file.

This machine may be noisy, so times are never compared between two runs: all cases take turns in
every round, and what is quoted is the median over rounds of the ratio within a round.
"""

import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

OUT = Path("runs/benchmarks")
Row = dict[str, Any]


@dataclass(frozen=True)
class Spread:
    """A median over rounds with its quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
        return cls(float(middle), float(low), float(high))

    def __str__(self) -> str:
        return f"{self.median:.3g} [{self.low:.3g}, {self.high:.3g}]"


def take_turns(
    cases: Mapping[str, Callable[[], Any]], rounds: int, warmup: int = 1
) -> dict[str, list[float]]:
    """Seconds of each case in each round; every round calls all of them, in changing order."""
    for _ in range(warmup):
        for call in cases.values():
            call()
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    order = np.random.default_rng(0)
    for _ in range(rounds):
        for name in order.permutation(list(cases)):
            seconds[str(name)].append(time_once(cases[str(name)]))
    return seconds


def time_once(call: Callable[[], Any]) -> float:
    """Seconds of one call, with what it left running on a GPU."""
    wait_for_device()
    start = time.perf_counter()
    call()
    wait_for_device()
    return time.perf_counter() - start


def wait_for_device() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def ratio(above: Sequence[float], below: Sequence[float]) -> Spread:
    """The ratio of two cases, round by round."""
    return Spread.of([a / b for a, b in zip(above, below, strict=True)])


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The slope of log value over log size: 1 is linear growth."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def machine() -> dict[str, Any]:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {
        "device": device,
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} x {len(names)}" if names else platform.processor()


def publish(name: str, title: str, rows: list[Row], settings: Any, **facts: Any) -> Path:
    """Print the rows as a table; write them as Markdown, and with the settings as JSON, to
    runs/benchmarks/NAME.md and .json."""
    console = Console(soft_wrap=True, highlight=False)
    table = Table(title=title, title_justify="left")
    for column in rows[0]:
        table.add_column(column)
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    console.print(table)
    for key, value in facts.items():
        console.print(f"{key}: {_cell(value)}")
    content = {
        "machine": machine(),
        "settings": asdict(settings),
        "rows": [_plain(row) for row in rows],
        **_plain(facts),
    }
    path = OUT / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1))
    path.with_suffix(".md").write_text(_markdown(rows))
    console.print(f"wrote {path}")
    return path


def _markdown(rows: list[Row]) -> str:
    lines = [list(rows[0]), ["---"] * len(rows[0])]
    lines += [[_cell(value) for value in row.values()] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _plain(row: Mapping[str, Any]) -> Row:
    return {k: asdict(v) if isinstance(v, Spread) else v for k, v in row.items()}
