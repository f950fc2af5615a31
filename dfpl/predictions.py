"""Logits of every row of a split in the three states; a scenario only picks among them.

N rows, C classes. Features do not depend on the other modality, so one pass over the rows serves
every scenario, every rate and every draw of who is incomplete. Needs neither torch nor ray.
"""

import hashlib
import io
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Float, Int, Shaped

from dfpl.data.scenario import IMAGE, TABULAR, Scenario

State = Literal["both", "image", "tabular"]
STATES: tuple[State, ...] = get_args(State)
"""What a sample can be classified from; the same names as in `dfpl.method.STATES`."""
Task = Literal["multiclass", "multilabel"]
Label = Int[np.ndarray, " N"] | Float[np.ndarray, "N C"]
FORMAT = 1


class Rows(NamedTuple):
    """The samples of predictions, whatever a model says of them; fields as in `Predictions`."""

    ids: Shaped[np.ndarray, " N"]
    groups: Shaped[np.ndarray, " N"]
    split: Shaped[np.ndarray, " N"]
    label: Label
    present: Bool[np.ndarray, "N 2"]


PER_ROW = Rows._fields


class PredictionError(ValueError):
    """Predictions that do not fit together, or bytes that do not hold any."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """What a trained model says of each row in each state that the row can be in."""

    ids: Shaped[np.ndarray, " N"]
    groups: Shaped[np.ndarray, " N"]
    """Patient, lesion, advert, ...: rows of one group are resampled together."""
    split: Shaped[np.ndarray, " N"]
    label: Label
    present: Bool[np.ndarray, "N 2"]
    """Which of (image, table) each sample has by nature."""
    logits: Mapping[str, Float[np.ndarray, "N C"]]
    """By state; a row of NaN where the sample lacks what the state needs."""
    class_names: tuple[str, ...]
    task: Task

    def __post_init__(self) -> None:
        if problems := list(_problems(self)):
            raise PredictionError("; ".join(problems))

    def __len__(self) -> int:
        return len(self.ids)

    def exists(self, state: State) -> Bool[np.ndarray, " N"]:
        """Which rows can be in a state: those that have by nature all that it needs."""
        image, table = self.present[:, IMAGE], self.present[:, TABULAR]
        return {"both": image & table, "image": image, "tabular": table}[state]

    def available(self, scenario: Scenario) -> Bool[np.ndarray, "N 2"]:
        """What each row has under a scenario, which is drawn within each split."""
        available = self.present.copy()
        for split in np.unique(self.split):
            rows = np.flatnonzero(self.split == split)
            available[rows] = scenario.hide(self.ids[rows].tolist(), self.present[rows])
        return available

    def pick(self, available: Bool[np.ndarray, "N 2"]) -> Float[np.ndarray, "N C"]:
        """For each row, the logits of the state that it is in."""
        if (available & ~self.present).any():
            raise PredictionError("available names a modality that the sample lacks by nature")
        if not available.any(axis=1).all():
            raise PredictionError("available leaves a sample without image and table")
        picked = self.logits["both"].copy()
        no_image, no_table = ~available[:, IMAGE], ~available[:, TABULAR]
        picked[no_table] = self.logits["image"][no_table]
        picked[no_image] = self.logits["tabular"][no_image]
        return picked

    def pick_scenario(self, scenario: Scenario) -> Float[np.ndarray, "N C"]:
        """For each row, the logits of the state that a scenario puts it in."""
        return self.pick(self.available(scenario))

    def take(self, rows: Int[np.ndarray, " R"]) -> "Predictions":
        """The predictions of these rows, in this order."""
        return self._with(
            {name: getattr(self, name)[rows] for name in PER_ROW},
            {state: logits[rows] for state, logits in self.logits.items()},
        )

    def of_split(self, split: str) -> "Predictions":
        """The predictions of one split."""
        return self.take(np.flatnonzero(self.split == split))

    def in_order_of(self, ids: Shaped[np.ndarray, " M"]) -> "Predictions":
        """The same rows in the order of `ids`, which must be the same set."""
        if np.array_equal(self.ids, ids):
            return self
        place = {name: row for row, name in enumerate(self.ids.tolist())}
        if set(place) != set(ids.tolist()):
            raise PredictionError("the predictions are of different samples")
        return self.take(np.array([place[name] for name in ids.tolist()], dtype=np.int64))

    @property
    def rows(self) -> Rows:
        return Rows(*(getattr(self, name) for name in PER_ROW))

    def like(self, rows: Rows) -> "Predictions":
        """The same in the order of `rows`, which must be the same samples with the same groups,
        split, labels and modalities; raises PredictionError."""
        own = self.in_order_of(rows.ids)
        if not all(map(np.array_equal, own.rows, rows)):
            raise PredictionError("the predictions differ in groups, split, labels or modalities")
        return own

    def without_names(self) -> "Predictions":
        """The same with ids and groups replaced by hashes with a salt that nobody keeps: rows of
        one group stay together, and nothing leads back to a person. A scenario drawn by such ids
        hides other samples."""
        columns = {name: getattr(self, name) for name in PER_ROW}
        columns["ids"], columns["groups"] = hashed(self.ids, self.groups)
        return self._with(columns, dict(self.logits))

    def _with(self, columns: dict[str, Any], logits: dict[str, Any]) -> "Predictions":
        return Predictions(**columns, logits=logits, class_names=self.class_names, task=self.task)

    def to_parquet(self) -> bytes:
        """Everything as the bytes of one Parquet file: equal predictions give equal bytes."""
        columns = {
            "id": pa.array(self.ids.tolist(), pa.string()),
            "group": pa.array(self.groups.tolist(), pa.string()),
            "split": pa.array(self.split.tolist(), pa.string()),
            "label": pa.array(self.label) if self.label.ndim == 1 else lists(self.label),
            "has_image": pa.array(self.present[:, IMAGE]),
            "has_table": pa.array(self.present[:, TABULAR]),
            **{f"logits_{state}": lists(self.logits[state]) for state in STATES},
        }
        facts = {"format": FORMAT, "task": self.task, "class_names": list(self.class_names)}
        table = pa.table(columns).replace_schema_metadata({"dfpl": json.dumps(facts)})
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd")
        return sink.getvalue()

    @classmethod
    def from_parquet(cls, data: bytes) -> "Predictions":
        """Read what `to_parquet` wrote, bit by bit the same."""
        try:
            table = pq.read_table(io.BytesIO(data), use_threads=False, pre_buffer=False)
            facts = json.loads((table.schema.metadata or {})[b"dfpl"])
        except (pa.ArrowException, KeyError, ValueError) as error:
            raise PredictionError(f"these bytes hold no predictions: {error}") from None
        if (found := facts.get("format")) != FORMAT:
            raise PredictionError(
                f"the predictions have format {found}, this version reads {FORMAT}"
            )
        return cls(
            ids=strings_of(table, "id"),
            groups=strings_of(table, "group"),
            split=strings_of(table, "split"),
            label=array_of(table, "label"),
            present=np.stack([array_of(table, "has_image"), array_of(table, "has_table")], axis=1),
            logits={state: array_of(table, f"logits_{state}") for state in STATES},
            class_names=tuple(facts["class_names"]),
            task=facts["task"],
        )


def concatenate(parts: Sequence[Predictions]) -> Predictions:
    """Several splits of one data set in one object, hence in one file."""
    first = parts[0]
    if any((part.class_names, part.task) != (first.class_names, first.task) for part in parts):
        raise PredictionError("the parts differ in their classes or in their task")
    return first._with(
        {name: np.concatenate([getattr(part, name) for part in parts]) for name in PER_ROW},
        {state: np.concatenate([part.logits[state] for part in parts]) for state in STATES},
    )


def num_hidden(scenario: Scenario, num_complete: int) -> tuple[int, int]:
    """How many images and how many tables `Scenario.draw` hides among complete rows."""
    affected = round(scenario.rate * num_complete)
    match scenario.pattern:
        case "image":
            return affected, 0
        case "tabular":
            return 0, affected
        case "both":
            return affected - affected // 2, affected // 2


def num_in_states(scenario: Scenario, num_complete: int) -> Float[np.ndarray, " 3"]:
    """How many of the complete rows a draw puts into each state."""
    images, tables = num_hidden(scenario, num_complete)
    return np.array([num_complete - images - tables, tables, images], dtype=np.float64)


def correct(logits: Float[np.ndarray, "N C"], label: Label) -> Bool[np.ndarray, "N L"]:
    """Whether the prediction is right: per row (L = 1), or per row and label (L = C).

    One label: the largest logit is the label's. Several: the probability exceeds 0.5 exactly
    where the label holds.
    """
    if label.ndim == 1:
        return (logits.argmax(axis=1) == label)[:, None]
    return (logits > 0) == (label > 0.5)


def hashed(*columns: Shaped[np.ndarray, " N"]) -> list[Shaped[np.ndarray, " N"]]:
    """The names of each column replaced by hashes, all with one salt that nobody keeps: what was
    equal stays so, and nothing leads back to a name."""
    salt = secrets.token_bytes(32)

    def of(text: str) -> str:
        return hashlib.blake2b(text.encode(), key=salt, digest_size=12).hexdigest()

    return [np.array([of(text) for text in own.tolist()], dtype=object) for own in columns]


def _problems(predictions: Predictions) -> Iterator[str]:
    """Yield what does not fit together."""
    N, C = len(predictions.ids), len(predictions.class_names)
    for name in PER_ROW:
        if len(getattr(predictions, name)) != N:
            yield f"{name} has {len(getattr(predictions, name))} rows, ids has {N}"
    if set(predictions.logits) != set(STATES):
        yield f"logits has the states {sorted(predictions.logits)}, not {sorted(STATES)}"
        return
    for state in STATES:
        logits = predictions.logits[state]
        if logits.shape != (N, C) or logits.dtype != np.float32:
            yield f"logits of {state!r} are {logits.dtype} {logits.shape}, not float32 {(N, C)}"
            continue
        exists = predictions.exists(state)
        if (broken := exists & ~np.isfinite(logits).all(axis=1)).any():
            yield f"{broken.sum()} logits of {state!r} are not finite, first row {broken.argmax()}"
        if (invented := ~exists & ~np.isnan(logits).all(axis=1)).any():
            yield (
                f"{invented.sum()} rows have logits of {state!r} though they lack a modality, "
                f"first row {invented.argmax()}; mark them by NaN"
            )
    yield from _label_problems(predictions.label, N, C, predictions.task)
    if len(set(predictions.ids.tolist())) < N:
        yield "ids occur more than once"
    if not predictions.present.any(axis=1).all():
        yield "a sample has neither image nor table"


def _label_problems(label: np.ndarray, N: int, C: int, task: Task) -> Iterator[str]:
    if task == "multilabel":
        if label.shape != (N, C) or label.dtype != np.float32:
            yield f"label is {label.dtype} {label.shape}, multilabel needs float32 {(N, C)}"
        elif not np.isin(label, (0.0, 1.0)).all():
            yield "label of a multilabel task holds values other than 0 and 1"
    elif label.shape != (N,) or label.dtype != np.int64:
        yield f"label is {label.dtype} {label.shape}, multiclass needs int64 {(N,)}"
    elif N and not (label.min() >= 0 and label.max() < C):
        yield f"label lies in [{label.min()}, {label.max()}], there are {C} classes"


def lists(matrix: Float[np.ndarray, "N C"]) -> pa.FixedSizeListArray:
    """A column of fixed-size lists: one for each row of a matrix."""
    flat = pa.array(np.ascontiguousarray(matrix).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, matrix.shape[1])


def strings_of(table: pa.Table, name: str) -> np.ndarray:
    """A column of strings."""
    return np.array(table[name].to_pylist(), dtype=object)


def array_of(table: pa.Table, name: str) -> np.ndarray:
    """A column of numbers, or of fixed-size lists of numbers as a matrix."""
    column: Any = table[name].combine_chunks()
    if pa.types.is_fixed_size_list(column.type):
        flat = column.flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(-1, column.type.list_size).copy()
    return column.to_numpy(zero_copy_only=False).copy()
