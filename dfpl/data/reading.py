"""From files to the arrays of a packed data set: chunk by chunk, spread out, and resumable.

A kind of file (pictures, volumes, time series) says how one file becomes one row of its arrays.
Chunks of rows are read by processes that write into the mapped arrays, or on the machines of a
cluster, which send the rows back. Each chunk that is done is noted in `done.jsonl` beside the
arrays, by a digest of its rows, paths, sizes and times; where reading goes on after a kill, or
after a bad file was mended, chunks that are noted and unchanged are not read again.
"""

import hashlib
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from os.path import exists, isfile  # those of pathlib raise for a name no file can have
from pathlib import Path
from typing import Any, Protocol, TextIO, runtime_checkable

import numpy as np

from dfpl.data.images import read_image
from dfpl.data.packed import DataError
from dfpl.data.raw import ImageKind, SeriesReader
from dfpl.data.volumes import read_volume

DONE = "done.jsonl"
CHUNK = 64  # files that are read at a time
CHUNK_BYTES = 16_000_000  # or fewer, so that a chunk's rows are no larger
PER_PROCESS = 1024  # files for which it is worth to start another process
TELL_EVERY_S = 10.0

Shape = tuple[int, ...]
Job = tuple[int, str]
"""A row and the file that it is read from."""
Bad = tuple[int, str]
"""A row and what is wrong with its file."""
Spread = Callable[[Callable[[Any], Any], Sequence[Any]], Iterator[tuple[int, Any]]]
"""Calls a function with each argument somewhere, and yields (position, result) as they come."""


@runtime_checkable
class Files(Protocol):
    """Files of one kind. It travels to other processes: plain data."""

    @property
    def what(self) -> str:
        """What they are called in messages."""
        ...

    @property
    def arrays(self) -> dict[str, tuple[Shape, str]]:
        """Names of the arrays that they fill, the shape of a row of each, and its type."""
        ...

    def place(self, path: str) -> Path:
        """Where the file lies."""
        ...

    def read(self, path: str) -> tuple[np.ndarray, ...]:
        """A row of each array. Raises DataError with path and reason."""
        ...


@dataclass(frozen=True)
class ImageFiles:
    """Pictures or volumes, of `size` pixels a side."""

    kind: ImageKind
    size: int
    what: str = "images"

    @property
    def arrays(self) -> dict[str, tuple[Shape, str]]:
        depth = 3 if self.kind == "picture" else self.size
        return {"image": ((self.size, self.size, depth), "uint8")}

    def place(self, path: str) -> Path:
        return Path(path)

    def read(self, path: str) -> tuple[np.ndarray, ...]:
        return ((read_image if self.kind == "picture" else read_volume)(Path(path), self.size),)


@dataclass(frozen=True)
class SeriesFiles:
    """Time series, padded with zeros to the same number of steps."""

    reader: SeriesReader
    what: str = "time series"

    @property
    def arrays(self) -> dict[str, tuple[Shape, str]]:
        shape = (self.reader.steps, len(self.reader.channels))
        return {"series": (shape, "float32"), "length": ((), "int64")}

    def place(self, path: str) -> Path:
        return Path(path.rpartition("#")[0] or path)  # a length may follow

    def read(self, path: str) -> tuple[np.ndarray, ...]:
        found = self.reader.read(Path(path))
        padding = self.reader.steps - len(found)
        return np.pad(found, ((0, padding), (0, 0))), np.array(len(found))


def fill(
    folder: Path, files: Files, jobs: Sequence[Job], num_rows: int, workers: int | Spread | None
) -> dict[int, str]:
    """Fill the arrays of `files` below `folder` from these jobs; return what is wrong with which
    row, sorted.

    `workers`: so many processes (1: this one; None: as many as there are cores and work for), or
    what spreads the chunks over a cluster.
    """
    make_arrays(folder, files, num_rows)
    chunks = _chunks(files, jobs)
    marks = [digest(files, num_rows, chunk) for chunk in chunks]
    noted = set((folder / DONE).read_text().split()) if (folder / DONE).exists() else set()
    waiting = [at for at, mark in enumerate(marks) if mark not in noted]
    bad: dict[int, str] = {}
    there = len(jobs) - sum(len(chunks[at]) for at in waiting)
    with (folder / DONE).open("a") as notes, progress(files.what, len(jobs), there) as advance:
        for place, found in _read(folder, files, [chunks[at] for at in waiting], workers):
            bad |= dict(found)
            if not found:  # one with a bad file is read again
                _put_note(notes, marks[waiting[place]])
            advance(len(chunks[waiting[place]]))
    return dict(sorted(bad.items()))


def _put_note(notes: TextIO, mark: str) -> None:
    notes.write(mark + "\n")
    notes.flush()


def make_arrays(folder: Path, files: Files, num_rows: int) -> None:
    """Make array files of zeros, unless they are there. Raises DataError where the disk cannot
    hold them."""
    wanted = {
        folder / f"{name}.npy": ((num_rows, *shape), np.dtype(kind))
        for name, (shape, kind) in files.arrays.items()
    }
    missing = {path: what for path, what in wanted.items() if _kind_of(path) != what}
    if not missing:
        return
    (folder / DONE).unlink(missing_ok=True)
    need = sum(math.prod(shape) * kind.itemsize for shape, kind in missing.values())
    free = shutil.disk_usage(folder).free
    if need > free:
        raise DataError(
            f"the {files.what} need {need / 1e9:.1f} GB, but {folder.parent} has "
            f"{free / 1e9:.1f} GB free; choose a smaller image_size or another disk"
        )
    for path, (shape, kind) in missing.items():
        np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=shape).flush()


def _kind_of(path: Path) -> tuple[Shape, np.dtype] | None:
    if not exists(path):
        return None
    array = np.load(path, mmap_mode="r")
    return array.shape, array.dtype


def _chunks(files: Files, jobs: Sequence[Job]) -> list[list[Job]]:
    row = sum(math.prod(shape) * np.dtype(kind).itemsize for shape, kind in files.arrays.values())
    size = max(1, min(CHUNK, CHUNK_BYTES // row))
    return [list(jobs[start : start + size]) for start in range(0, len(jobs), size)]


def digest(files: Files, num_rows: int, chunk: Sequence[Job]) -> str:
    """A mark that is another where a row, a path, or a file's size or time is another."""
    facts = [[row, path, *_state_of(files.place(path))] for row, path in chunk]
    text = json.dumps([repr(files), num_rows, facts])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def absent(files: Files, path: str) -> str:
    """Why there is no file; empty if there is one."""
    place = files.place(path)
    if not exists(place):
        return f"{place}: there is no such file"
    return "" if isfile(place) else f"{place}: it is not a file"


def _state_of(path: Path) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # ValueError: a name no file can have
        return (-1, -1)
    return found.st_size, found.st_mtime_ns


def _read(
    folder: Path, files: Files, chunks: list[list[Job]], workers: int | Spread | None
) -> Iterator[tuple[int, list[Bad]]]:
    """Read chunks into the arrays; yield (position, what is wrong) as they are done."""
    if callable(workers):
        arrays = _open(folder, files)
        for place, rows in workers(RowsOf(files), chunks):
            yield place, _put(arrays, files, chunks[place], rows)
        return
    fill_chunk = FillOf(str(folder), files)
    total = sum(map(len, chunks))
    workers = workers or max(1, min(os.cpu_count() or 1, total // PER_PROCESS))
    if workers == 1:
        for place, chunk in enumerate(chunks):
            yield place, fill_chunk(chunk)
        return
    yield from _processes(fill_chunk, chunks, workers)


def _processes(
    function: Callable[[Any], Any], chunks: Sequence[Any], workers: int
) -> Iterator[tuple[int, Any]]:
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        places = {pool.submit(function, chunk): place for place, chunk in enumerate(chunks)}
        try:
            for done in as_completed(places):
                yield places[done], done.result()
        except BrokenProcessPool:
            raise DataError(
                f"one of {workers} processes that read files was killed, perhaps for want of "
                "memory; try fewer workers"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class FillOf:
    """Reads a chunk into mapped arrays; returns what is wrong with which row."""

    folder: str
    files: Files

    def __call__(self, chunk: Sequence[Job]) -> list[Bad]:
        arrays, bad = _open(Path(self.folder), self.files), []
        for row, path in chunk:
            try:
                _store(arrays, row, self.files.read(path))
            except DataError as error:
                bad.append((row, str(error)))
        return bad


@dataclass(frozen=True)
class RowsOf:
    """Reads a chunk where the arrays are not; returns each row's values, or what is wrong."""

    files: Files

    def __call__(self, chunk: Sequence[Job]) -> list[tuple[np.ndarray, ...] | str]:
        found: list[tuple[np.ndarray, ...] | str] = []
        for _, path in chunk:
            try:
                found.append(self.files.read(path))
            except DataError as error:
                found.append(str(error))
        return found


def _put(
    arrays: list[np.ndarray], files: Files, chunk: Sequence[Job], rows: Sequence[Any]
) -> list[Bad]:
    """Store rows that another machine has read. What it could not read is read here before it
    counts as bad: that machine may not see the folder."""
    bad = []
    for (row, path), values in zip(chunk, rows, strict=True):
        try:
            _store(arrays, row, files.read(path) if isinstance(values, str) else values)
        except DataError as error:
            bad.append((row, str(error)))
    return bad


def _open(folder: Path, files: Files) -> list[np.ndarray]:
    return [np.load(folder / f"{name}.npy", mmap_mode="r+") for name in files.arrays]


def _store(arrays: list[np.ndarray], row: int, values: tuple[np.ndarray, ...]) -> None:
    for array, value in zip(arrays, values, strict=True):
        array[row] = value


@contextmanager
def progress(what: str, total: int, there: int = 0) -> Iterator[Callable[[int], None]]:
    """Show how many of `total` files, or whatever it is, are done, `there` of them before: a bar on
    a terminal, else a line each 10 s."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = [*Progress.get_default_columns()[:3], MofNCompleteColumn()]
        columns += [TextColumn("{task.fields[rate]}"), TimeRemainingColumn()]
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(what, total=total, completed=there, rate="")
            start = time.monotonic()

            def shown(count: int) -> None:
                fresh = bar.tasks[0].completed + count - there
                rate = fresh / max(time.monotonic() - start, 1e-9)
                bar.update(task, advance=count, rate=f"{rate:.1f}/s")

            yield shown
        return
    start = told = time.monotonic()
    done = there

    def advance(count: int) -> None:
        nonlocal done, told
        done, now = done + count, time.monotonic()
        if now - told >= TELL_EVERY_S or done == total:
            told, rate = now, (done - there) / max(now - start, 1e-9)
            left = f"{(total - done) / max(rate, 1e-9):.0f} s left"
            print(f"{what}: {done} of {total}, {rate:.1f} per second, {left}", file=sys.stderr)

    yield advance
