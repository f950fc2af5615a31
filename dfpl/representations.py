"""What a trained model read the logits of each row from, in a file for figures.

One Parquet file: `id`, `group`, `label`, and for each state the probabilities of the classes, the
vector that is read and, of methods with one, the attention. Rows are in the order of the data; a
row that cannot be in a state holds NaN there. Attention is kept in half precision (three digits).
A file is written batch by batch, and read one state at a time. Importing this does not import
torch.

N rows, C classes, R representations that attention mixes, E size of the vector.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Float16, Float32, Int, Shaped

from dfpl.data.packed import DataError, Split
from dfpl.fields import Config, ConfigError
from dfpl.predictions import STATES, Label, State, Task, array_of, lists, strings_of

NEEDS = {"both": ("image", "tabular"), "image": ("image",), "tabular": ("tabular",)}
"""The modalities that a state has."""


class Facts(Config):
    """What a file is of."""

    kind: Literal["representations"] = "representations"
    format: Literal[1] = 1
    method: str
    run_id: str
    """Of the training."""
    scenario: str
    """Of the training."""
    dataset: str
    data_hash: str
    """Of the packed data; two files with the same hash and split have the same rows in order."""
    split: Split
    task: Task
    class_names: list[str]
    rows: list[str]
    """Names of what attention mixes, each beginning with its modality where it is of one alone;
    empty: one vector for all classes."""

    def visible(self, state: State) -> list[bool]:
        """Which of `rows` are there in a state."""
        absent = tuple(name for name in NEEDS["both"] if name not in NEEDS[state])
        return [not row.startswith(absent) if absent else True for row in self.rows]


class Shown(NamedTuple):
    """What some rows show in one state."""

    probabilities: Float32[np.ndarray, "N C"]
    vectors: Float32[np.ndarray, "N E"]
    """Where each class has a vector of its own, that of the predicted class."""
    attention: Float16[np.ndarray, "N C R"] | None


class Part(NamedTuple):
    """Some rows in all states, as they are written."""

    ids: Shaped[np.ndarray, " N"]
    groups: Shaped[np.ndarray, " N"]
    label: Label
    shown: dict[str, Shown]
    """By state."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Representations:
    """The rows of a file that can be in one state."""

    facts: Facts
    state: State
    num_rows: int
    """Of the file, in any state."""
    ids: Shaped[np.ndarray, " N"]
    groups: Shaped[np.ndarray, " N"]
    label: Label
    place: Int[np.ndarray, " N"]
    """Each row's number in the file."""
    probabilities: Float[np.ndarray, "N C"]
    vectors: Float[np.ndarray, "N E"]
    attention: Float[np.ndarray, "N C R"] | None

    def __len__(self) -> int:
        return len(self.ids)


def write(path: Path, facts: Facts, parts: Iterable[Part]) -> int:
    """Write the parts one after another; returns the number of rows. The file is there once it is
    whole."""
    partial = path.with_name(f".{path.name}.partial")
    writer, num_rows = None, 0
    try:
        for part in parts:
            table = _table(part).replace_schema_metadata({"dfpl": json.dumps(facts.to_dict())})
            writer = writer or pq.ParquetWriter(partial, table.schema, compression="zstd")
            writer.write_table(table)
            num_rows += len(table)
        if writer is None:
            raise DataError(f"the {facts.split} split has no rows to save")
        writer.close()
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return num_rows


def read(path: Path, state: State) -> Representations:
    """What a file holds of one state. Raises DataError where it is no such file."""
    try:
        file = pq.ParquetFile(path)
        facts = Facts.from_dict(json.loads((file.schema_arrow.metadata or {})[b"dfpl"]))
    except (OSError, pa.ArrowException, KeyError, ConfigError, ValueError) as error:
        raise DataError(
            f"{path} holds no representations ({_first_line(error)}); write some with: dfpl "
            f"evaluate MODEL --data DATA --save-representations {path}"
        ) from None
    attention = [f"attention_{state}"] if facts.rows else []
    columns = ["id", "group", "label", f"probabilities_{state}", f"vectors_{state}", *attention]
    table = file.read(columns)
    found = {name: array_of(table, name) for name in columns[2:]}
    there = np.flatnonzero(~np.isnan(found[f"vectors_{state}"]).any(axis=1))
    mixed = found[attention[0]][there] if attention else None
    return Representations(
        facts=facts,
        state=state,
        num_rows=len(table),
        ids=strings_of(table, "id")[there],
        groups=strings_of(table, "group")[there],
        label=found["label"][there],
        place=there,
        probabilities=found[f"probabilities_{state}"][there],
        vectors=found[f"vectors_{state}"][there],
        attention=None
        if mixed is None
        else mixed.reshape(len(there), len(facts.class_names), len(facts.rows)),
    )


def _table(part: Part) -> pa.Table:
    columns: dict[str, Any] = {
        "id": pa.array(part.ids.tolist(), pa.string()),
        "group": pa.array(part.groups.tolist(), pa.string()),
        "label": pa.array(part.label) if part.label.ndim == 1 else lists(part.label),
    }
    for state in STATES:
        shown = part.shown[state]
        columns[f"probabilities_{state}"] = lists(shown.probabilities)
        columns[f"vectors_{state}"] = lists(shown.vectors)
        if shown.attention is not None:
            flat = shown.attention.reshape(len(part.ids), -1)
            columns[f"attention_{state}"] = lists(flat)
    return pa.table(columns)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
