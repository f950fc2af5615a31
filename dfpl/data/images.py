"""From picture files to the pixels of a packed data set: reading, resizing, writing, progress."""

import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from dfpl.data.packed import DataError
from dfpl.data.raw import PackOptions, RawSamples

PROBED = 20  # pictures that `check` decodes
SHOWN = 20  # bad files that a message lists
CHUNK = 64  # pictures that a worker process reads at a time


def read_image(path: Path, size: int) -> UInt8[np.ndarray, "S S 3"]:
    """Read a picture as RGB of `size` x `size` pixels. Raises DataError with path and reason.

    The whole picture is resized, whatever its shape; it is turned as its EXIF tag says, laid on
    white where it is transparent, and greys of more than 8 bits are stretched from its own
    darkest to its own brightest. A picture over Pillow's limit of pixels is refused undecoded.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                picture.draft("RGB", (2 * size, 2 * size))
                ImageOps.exif_transpose(picture, in_place=True)
                rgb = _as_rgb(picture)
        resized = rgb.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=2.0)
        return np.asarray(resized, dtype=np.uint8)
    except Exception as error:  # damaged files make Pillow raise nearly anything
        raise DataError(f"{path}: {_reason(path, error)}") from None


def _as_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith(("I", "F")):  # convert() would clip them at 255
        grey = np.asarray(picture, dtype=np.float64)
        if not np.isfinite(grey).all():
            raise ValueError("its pixels are not all finite")
        low, high = grey.min(), grey.max()
        scaled = (grey - low) * (255 / max(high - low, 1e-12))
        picture = Image.fromarray(scaled.round().astype(np.uint8))
    if "A" in picture.getbands() or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")


def _reason(path: Path, error: Exception | None) -> str:
    """Why a picture cannot be read; empty if it is a file and nothing went wrong."""
    if not path.exists():
        return "there is no such file"
    if not path.is_file():
        return "it is not a file"
    match error:
        case None:
            return ""
        case UnidentifiedImageError():
            return f"it is no image that Pillow knows ({path.stat().st_size} bytes)"
        case Image.DecompressionBombWarning() | Image.DecompressionBombError():
            return f"it is too large, refused undecoded: {error}"
        case _:
            return f"it is truncated or damaged: {error or type(error).__name__}"


def _probe(ready: RawSamples, options: PackOptions) -> list[tuple[int, str]]:
    jobs = _jobs(ready)
    bad = {row: f"{path}: {why}" for row, path in jobs if (why := _reason(Path(path), None))}
    for at in np.unique(np.linspace(0, len(jobs) - 1, min(PROBED, len(jobs)), dtype=np.int64)):
        row, path = jobs[at]
        try:
            read_image(Path(path), options.image_size)
        except DataError as error:
            bad[row] = str(error)
    return sorted(bad.items())


def _jobs(ready: RawSamples) -> list[tuple[int, str]]:
    """(row, path) of each sample that should have a picture."""
    return [(row, str(path)) for row, path in enumerate(ready.image) if not pd.isna(path)]


def _bad_images(bad: Sequence[str], options: PackOptions) -> str:
    lines = [*bad[:SHOWN], *([f"and {len(bad) - SHOWN} more"] if len(bad) > SHOWN else [])]
    rule = "mend them, or choose bad_image=treat_as_missing to go on without them"
    if options.bad_image == "treat_as_missing":
        rule = "these samples lose the image modality"
    return "\n  ".join([f"{len(bad)} images cannot be read; {rule}:", *lines])


def write_images(target: Path, jobs: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
    """Read pictures into their rows of `target`; return (row, what is wrong) of the bad ones."""
    pixels = np.load(target, mmap_mode="r+")
    bad = []
    for row, path in jobs:
        try:
            pixels[row] = read_image(Path(path), pixels.shape[1])
        except DataError as error:
            bad.append((row, str(error)))
    return bad


def _read_images(target: Path, jobs: list[tuple[int, str]], workers: int) -> dict[int, str]:
    """Fill `target` by `workers` processes; return what is wrong with which row, sorted."""
    chunks = [jobs[start : start + CHUNK] for start in range(0, len(jobs), CHUNK)]
    bad: list[tuple[int, str]] = []
    with _progress(len(jobs)) as advance:
        if workers == 1:
            for chunk in chunks:
                bad += write_images(target, chunk)
                advance(len(chunk))
            return dict(bad)
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            sizes = {pool.submit(write_images, target, chunk): len(chunk) for chunk in chunks}
            try:
                for done in as_completed(sizes):
                    bad += done.result()
                    advance(sizes[done])
            except BrokenProcessPool:
                raise DataError(
                    f"one of {workers} processes that read images was killed, perhaps for want of "
                    "memory; try fewer workers"
                ) from None
            finally:
                pool.shutdown(cancel_futures=True)
    return dict(sorted(bad))


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """Show how many of `total` pictures are read: a bar on a terminal, else a line each 10 s."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(*Progress.get_default_columns(), console=Console(stderr=True)) as bar:
            task = bar.add_task("images", total=total)
            yield lambda count: bar.advance(task, count)
        return
    start = told = time.monotonic()
    done = 0

    def advance(count: int) -> None:
        nonlocal done, told
        done, now = done + count, time.monotonic()
        if now - told >= 10 or done == total:
            told, rate = now, done / max(now - start, 1e-9)
            left = f"{(total - done) / rate:.0f} s left"
            print(f"images: {done} of {total}, {rate:.0f} per second, {left}", file=sys.stderr)

    yield advance
