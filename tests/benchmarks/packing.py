"""Packing pictures: how near is it to what Pillow takes for the same files?

Run       python tests/benchmarks/packing.py
          python tests/benchmarks/packing.py --pictures 20000 --workers 16
Makes     runs/benchmarks/packing.json
Shows     for JPEG files of the look-alike of DVM-CAR, as large as the real ones: pictures a second
          of packing (starting processes, decoding, resizing, writing into the mapped array), and of
          Pillow in as many processes that are started already: decoding and resizing with the same
          filter, and decoding alone; ratios round by round, and what 176,414 of them would take.
"""

import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

import tyro
from bench import Row, publish, ratio, take_turns
from PIL import Image

from dfpl.data.reading import CHUNK, ImageFiles, fill
from dfpl.data.twins import dvm

REAL = 176_414


@dataclass(frozen=True)
class Settings:
    pictures: int = 2000
    pixels: int = 300
    """Height and width of the files; about 300 in DVM-CAR."""
    size: int = 128
    """Height and width packed."""
    workers: int = 2
    rounds: int = 5


def measure(settings: Settings) -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder, adverts = Path(name), max(12, settings.pictures // 12)
        dvm.write(folder / "raw", dvm.Options(models=6, adverts=adverts, pixels=settings.pixels))
        found = sorted(str(path) for path in (folder / "raw").rglob("*.jpg"))[: settings.pictures]
        with ProcessPoolExecutor(settings.workers, mp_context=get_context("spawn")) as pool:
            cases = {
                "pack": lambda: pack(folder, found, settings),
                "resize": lambda: run_all(pool, found, settings.size),
                "decode": lambda: run_all(pool, found, 0),
            }
            seconds = take_turns(cases, settings.rounds)
    of_one = {name: [s / len(found) for s in times] for name, times in seconds.items()}
    rates = {name: sorted(1 / s for s in times)[len(times) // 2] for name, times in of_one.items()}
    return [
        {
            "files": f"{len(found)} of {settings.pixels} x {settings.pixels}",
            "packed": f"{settings.size} x {settings.size}",
            "processes": settings.workers,
            "packed /s": rates["pack"],
            "Pillow /s": rates["resize"],
            "decoded /s": rates["decode"],
            "packing / Pillow": ratio(of_one["resize"], of_one["pack"]),
            "packing / decoding": ratio(of_one["decode"], of_one["pack"]),
            f"{REAL:,}, min": REAL / rates["pack"] / 60,
        }
    ]


def pack(folder: Path, paths: Sequence[str], settings: Settings) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as part:
        files = ImageFiles("picture", settings.size)
        jobs = list(enumerate(paths))
        assert not fill(Path(part), files, jobs, len(paths), settings.workers)


def run_all(pool: ProcessPoolExecutor, paths: Sequence[str], size: int) -> None:
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    assert sum(pool.map(decode, chunks, repeat(size))) == len(paths)


def decode(paths: Sequence[str], size: int) -> int:
    """Decode files as RGB, resize them unless `size` is 0, and throw them away."""
    for path in paths:
        with Image.open(path) as picture:
            picture.draft("RGB", (2 * size, 2 * size)) if size else None
            rgb = picture.convert("RGB")
        if size:
            rgb.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return len(paths)


if __name__ == "__main__":
    settings = tyro.cli(Settings, description=__doc__)
    publish("packing", "Packing pictures", measure(settings), settings)
