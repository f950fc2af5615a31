"""Extraction from raw MIMIC-IV: does its memory grow with the number of events?

Run       python tests/benchmarks/extraction.py
          python tests/benchmarks/extraction.py --out figures.json --compressed
Makes     runs/benchmarks/extraction.json, and a copy at `out`
Shows     for look-alikes of `events` chart events and of `times` as many (the same stays): seconds
          to write it, seconds and rows per second of the extraction, and the peak of resident
          memory of its process, with that of the imports alone beside it. The real chartevents has
          329,499,788 rows.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import tyro
from bench import Row, publish

from dfpl.data.twins import mimic

CHILD = """
import json, re, sys
from pathlib import Path
from dfpl.data.extraction import Options, extract
from dfpl.data.raw import Report

def peak():
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) / 1024

before, report = peak(), Report()
extract(Path(sys.argv[1]), Path(sys.argv[2]), Options(), report)
print(json.dumps({"before": before, "peak": peak(), "counts": report.counts}))
"""
# not ru_maxrss: on Linux a new process begins with that of the one that started it


@dataclass(frozen=True)
class Settings:
    events: int = 1_000_000
    """Chart events of the smaller look-alike, at least."""
    times: int = 4
    """How many times as many the larger one has."""
    stays: int = 2000
    pixels: int = 16
    """Height of the films; the extraction does not read them."""
    compressed: bool = False
    """Tables as .csv.gz."""
    folder: str = ""
    """Where the look-alikes are written, and deleted afterwards; default: a temporary folder."""
    out: str = ""
    """Another file for the figures."""


def measure(settings: Settings) -> list[Row]:
    if settings.folder:
        Path(settings.folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=settings.folder or None) as folder:
        return [_measure(settings, times, Path(folder)) for times in (1, settings.times)]


def _measure(settings: Settings, times: int, folder: Path) -> Row:
    options = mimic.Options(
        size=settings.stays,
        events_per_stay=int(1.1 * settings.events * times / settings.stays),
        level="raw",
        compressed=settings.compressed,
        pixels=settings.pixels,
    )
    raw, out = folder / f"raw{times}", folder / f"out{times}"
    start = time.perf_counter()
    mimic.write(raw, options)
    written = time.perf_counter() - start
    command = [sys.executable, "-c", CHILD, str(raw), str(out)]
    start = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    seconds = time.perf_counter() - start
    child = json.loads(done.stdout)
    counts = {what: number for what, number, _ in child["counts"]}
    rows = sum(number for what, number in counts.items() if what.endswith(": rows"))
    shutil.rmtree(raw)
    shutil.rmtree(out)
    return {
        "chart events": next(n for what, n in counts.items() if what.startswith("chart")),
        "rows": rows,
        "twin, s": written,
        "extraction, s": seconds,
        "rows per s": rows / seconds,
        "peak, MiB": child["peak"],
        "of it imports, MiB": child["before"],
    }


if __name__ == "__main__":
    settings = tyro.cli(Settings, description=__doc__)
    rows = measure(settings)
    growth = rows[1]["peak, MiB"] / rows[0]["peak, MiB"]
    path = publish("extraction", "Extraction from raw MIMIC-IV", rows, settings, growth=growth)
    if settings.out:
        shutil.copy(path, settings.out)
