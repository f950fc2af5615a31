"""Events of a cohort from tables of hundreds of millions of rows, in bounded memory.

A table is read as a stream of blocks. An event is kept where

    its item is one of those mapped,
    its admission is a stay's of the cohort, and its own stay_id is that stay's or empty,
    -1e-6 < hours since the stay began < length of the stay + 1e-6

(so a laboratory event, which has no stay_id, gets that of its admission; one without an admission
is lost). Kept events wait in memory until there are `BUFFERED`, and are then written to one file,
with a record batch per bucket: bucket = stay's row modulo the number of buckets. A bucket is the
union of its batches in all files, and holds all events of its stays.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
from jaxtyping import Bool, Int64

from dfpl.data.extraction.cohort import Cohort
from dfpl.data.packed import DataError

BLOCK = 4 << 20  # bytes of CSV that are read at a time
BUFFERED = 500_000  # events
SLACK = 1e-6  # hours
SCHEMA = pa.schema(
    [
        ("stay", pa.int32()),  # row in the cohort
        ("seconds", pa.int32()),  # since the stay began
        ("item", pa.int32()),
        ("value", pa.string()),
    ]
)
TYPES = {
    **{name: pa.int64() for name in ("hadm_id", "stay_id", "itemid")},
    "charttime": pa.timestamp("s"),
    "value": pa.string(),
}


def spill(
    table: Path,
    folder: Path,
    cohort: Cohort,
    items: list[int],
    buckets: int,
    advance: Callable[[int], None],
) -> Counter[str]:
    """Write the table's events to `folder` as files `<table>-<number>.arrow`; count what was read.

    `advance` is told bytes of the table as they are read. Files of an attempt that was cut off are
    written again. Raises DataError naming the table and what is wrong.
    """
    wanted = pa.array(items, pa.int64())
    counts: Counter[str] = Counter()
    waiting: list[pa.Table] = []
    number = size = 0
    name = table.name.partition(".")[0]
    for old in folder.glob(f"{name}-*.arrow*"):
        old.unlink()
    for block in _blocks(table, advance):
        counts["rows"] += len(block)
        kept = _kept(
            block.filter(pc.call_function("is_in", [block["itemid"]], pc.SetLookupOptions(wanted))),
            cohort,
            counts,
        )
        waiting.append(kept)
        size += len(kept)
        if size >= BUFFERED:
            _write(pa.concat_tables(waiting), folder / f"{name}-{number:05}.arrow", buckets)
            waiting, size, number = [], 0, number + 1
    if size:
        _write(pa.concat_tables(waiting), folder / f"{name}-{number:05}.arrow", buckets)
    return counts


def read_bucket(folder: Path, bucket: int) -> pa.Table:
    """All events of a bucket, columns as in `SCHEMA`."""
    batches = []
    for path in sorted(folder.glob("*.arrow")):
        with pa.OSFile(str(path)) as stream:
            batches.append(pa.ipc.open_file(stream).get_batch(bucket))
    return pa.Table.from_batches(batches, SCHEMA)


def _blocks(path: Path, advance: Callable[[int], None]) -> Iterator[pa.RecordBatch]:
    """The columns of `TYPES` that the table has, block by block."""
    try:
        with pa.OSFile(str(path)) as raw:
            packed = pa.CompressedInputStream(raw, "gzip") if path.suffix == ".gz" else raw
            lines = pa_csv.open_csv(packed, **_csv_options(path))
            told = 0
            for block in lines:
                here = raw.tell()
                advance(here - told)
                told = here
                yield block
            advance(path.stat().st_size - told)
    except (OSError, pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise DataError(
            f"{path} cannot be read: {_without_cells(error)}; compare it with PhysioNet's "
            "SHA256SUMS.txt and download it again"
        ) from None


def _without_cells(error: Exception) -> str:
    """What is wrong and in which row and column, but not what stands there: that is a patient's."""
    return re.sub(r": invalid value.*|(got \d+): .*", r"\1", str(error), flags=re.DOTALL)


def _csv_options(path: Path) -> dict[str, Any]:
    """A laboratory table has comments over several lines, and no stay_id."""
    columns = [name for name in TYPES if name != "stay_id" or "labevents" not in path.name]
    return {
        "read_options": pa_csv.ReadOptions(block_size=BLOCK),
        "parse_options": pa_csv.ParseOptions(newlines_in_values=True),
        "convert_options": pa_csv.ConvertOptions(
            include_columns=columns,
            column_types=TYPES,
            strings_can_be_null=True,
            null_values=[""],
        ),
    }


def _kept(block: pa.RecordBatch, cohort: Cohort, counts: Counter[str]) -> pa.Table:
    """The events of a block that belong to a stay of the cohort, in the columns of `SCHEMA`."""
    counts["of mapped items"] += len(block)
    admission = _integers(block["hadm_id"])
    counts["without an admission"] += int((admission < 0).sum())
    at = np.searchsorted(cohort.admission, admission).clip(max=len(cohort.admission) - 1)
    there = cohort.admission[at] == admission
    counts["of no stay in the cohort"] += int((~there & (admission >= 0)).sum())
    stay = cohort.order[at]
    if "stay_id" in block.schema.names:
        own = _integers(block["stay_id"])
        counts["whose empty stay_id was recovered"] += int((there & (own < 0)).sum())
        conflict = there & (own >= 0) & (own != cohort.number[stay])
        counts["with a conflicting stay_id"] += int(conflict.sum())
        there &= ~conflict
    seconds = _integers(block["charttime"]) - cohort.start[stay]
    there &= np.asarray(block["charttime"].is_valid()) & np.asarray(block["value"].is_valid())
    inside = _inside(seconds, cohort.hours[stay])
    counts["before or after the stay"] += int((there & ~inside).sum())
    rows = np.flatnonzero(there & inside)
    counts["kept"] += len(rows)
    parts = (stay[rows], seconds[rows], _integers(block["itemid"])[rows])
    arrays = [pa.array(part.astype(np.int32)) for part in parts]
    return pa.Table.from_arrays([*arrays, block["value"].take(pa.array(rows))], schema=SCHEMA)


def _integers(cells: pa.Array) -> Int64[np.ndarray, " N"]:
    """Whole numbers, -1 where the cell is empty."""
    whole = cells.cast(pa.int64()) if pa.types.is_timestamp(cells.type) else cells
    return np.asarray(whole.fill_null(-1).to_numpy(zero_copy_only=False), dtype=np.int64)


def _inside(seconds: Int64[np.ndarray, " N"], hours: np.ndarray) -> Bool[np.ndarray, " N"]:
    return (seconds > -3600 * SLACK) & (seconds < 3600 * (hours + SLACK))


def _write(events: pa.Table, path: Path, buckets: int) -> None:
    """One file with a record batch per bucket, there whole or not at all."""
    bucket = events["stay"].to_numpy() % buckets
    order = np.argsort(bucket, kind="stable")
    events = events.take(pa.array(order)).combine_chunks()
    ends = np.searchsorted(bucket[order], np.arange(buckets), side="right")
    part = path.with_name(f"{path.name}.part")
    with pa.OSFile(str(part), "wb") as stream, pa.ipc.new_file(stream, SCHEMA) as writer:
        start = 0
        for end in ends.tolist():
            found = events.slice(start, end - start).to_batches()
            writer.write_batch(found[0] if found else _nothing())
            start = end
    part.replace(path)


def _nothing() -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in SCHEMA], schema=SCHEMA)
