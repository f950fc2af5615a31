"""A trained model on disk, and its predictions for new rows in which a modality may be absent.

A model folder holds `model.safetensors` (weights) and `model.json` (config, schema, statistics,
scores): nothing in it is ever unpickled.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.console import Group
from rich.table import Table

from dfpl.checkpoint import load_weights, save_weights
from dfpl.config import RunConfig
from dfpl.data.episodes import EpisodeReader
from dfpl.data.loader import Loader, Statistics, View
from dfpl.data.packed import DataError, PackedDataset, Schema
from dfpl.data.preparing import category_codes
from dfpl.data.raw import SeriesReader, column
from dfpl.data.reading import Files, ImageFiles, SeriesFiles
from dfpl.data.scenario import PATTERNS, Scenario
from dfpl.data.sources.table import category_cells, numeric_cells, read_cells
from dfpl.evaluate import logits_under_scenario
from dfpl.fields import unknown_name
from dfpl.intervals import Estimate, intervals_around, summarise_states
from dfpl.method import Method, build, place
from dfpl.metrics import METRICS, class_prauc, num_classes_scored, probabilities, truth
from dfpl.predictions import STATES, Predictions
from dfpl.robustness import curves
from dfpl.storage import Storage
from dfpl.train import Fitted


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """A method with its weights, and all that is needed to feed it."""

    method: Method
    run: RunConfig
    schema: Schema
    statistics: Statistics
    scores: dict[str, float]

    @classmethod
    def of(cls, run: RunConfig, schema: Schema, fitted: Fitted) -> "TrainedModel":
        scores = {"value": fitted.best_value, "best_epoch": float(fitted.best_epoch)}
        return cls(
            method=fitted.method,
            run=run,
            schema=schema,
            statistics=fitted.statistics,
            scores=scores,
        )

    def save(self, folder: Storage) -> None:
        """Write the weights, then the facts, whose presence is the done mark."""
        save_weights(self.method.state_dict(), folder)
        facts = {
            "run": self.run.to_dict(),
            "schema": self.schema.to_dict(),
            "statistics": self.statistics.to_dict(),
            "scores": self.scores,
        }
        folder.write_json("model.json", facts)

    @classmethod
    def load(cls, folder: Storage, device: torch.device) -> "TrainedModel":
        """Read a model folder. Raises DataError where it is none."""
        if not folder.exists("model.json"):
            raise DataError(
                f"no model in {folder} (looked for model.json); make one with: "
                f"dfpl train best.json --out {folder}"
            )
        facts = folder.read_json("model.json")
        run = RunConfig.from_dict(facts["run"])
        schema = Schema.from_dict(facts["schema"])
        method = build(run.method, schema)
        method.load_state_dict(load_weights(folder))
        return cls(
            method=place(method, device).eval(),
            run=run,
            schema=schema,
            statistics=Statistics.from_dict(facts["statistics"]),
            scores=facts["scores"],
        )

    def refuse_other_data(self, packed: PackedDataset) -> None:
        """Columns and classes must be those the model was trained on; the rows may be others."""
        shape = ("image_size", "image_kind", "steps")
        for name in ("class_names", "numeric", "category", "series", *shape):
            own, other = getattr(self.schema, name), getattr(packed.schema, name)
            if isinstance(own, dict):  # the order of the columns counts
                own, other = list(own.items()), list(other.items())
            if own != other:
                raise DataError(f"the model has {name} {own}, the data has {other}")


def scores_tables(found: Predictions, scenarios: list[Scenario], draws: int) -> Group:
    """Scores under each scenario and in each state; then what single draws of a scenario give."""
    scenarios = sorted(scenarios, key=lambda s: (PATTERNS.index(s.pattern), s.rate))
    points = curves(found, scenarios, draws=draws)  # metric by metric
    around = intervals_around(points, found, draws=draws)
    of_draws = [Estimate(point.value, point.low, point.high) for point in points]
    of_both = [Estimate(point.value, *own) for point, own in zip(points, around, strict=True)]
    step, names = len(scenarios), [str(scenario) for scenario in scenarios]
    states = summarise_states(found)
    rows = {name: of_both[at::step] for at, name in enumerate(names)}
    rows |= {state: [_estimate(states, f"{state}/{m}") for m in METRICS] for state in STATES}
    what = f"{len(found)} rows of the {found.split[0]} split, expected over mask draws"
    return Group(
        _table(f"{what}, with 95 % intervals over groups and draws", rows),
        _table(
            f"{what}, with what 95 % of {draws} draws give on these rows",
            {name: of_draws[at::step] for at, name in enumerate(names)},
        ),
    )


def classes_table(found: Predictions) -> Table:
    """PRAUC of each class in each state, beside what chance gives: the share of positives."""
    positive = truth(found.label, len(found.class_names))
    columns = {}
    for state in STATES:
        rows = found.exists(state)
        columns[state] = class_prauc(found.logits[state][rows], found.label[rows], found.task)
    without = len(found.class_names) - num_classes_scored(found.label, len(found.class_names))
    title = f"PRAUC of each class, {len(found)} rows of the {found.split[0]} split"
    note = f"; {without} classes have no positives and are left out of the mean" if without else ""
    shown = Table("class", "positives", "chance", *STATES, title=title + note, title_justify="left")
    for at, name in enumerate(found.class_names):
        count, values = int(positive[:, at].sum()), [column[at] for column in columns.values()]
        cells = [f"{value:.3f}" if count else "-" for value in values]
        shown.add_row(name, str(count), f"{count / len(positive):.3f}", *cells)
    means = [f"{np.nanmean(column):.3f}" for column in columns.values()]
    chance = positive.mean(axis=0)[positive.any(axis=0)].mean()
    shown.add_row("mean", "", f"{chance:.3f}", *means)
    return shown


def _estimate(scores: dict[str, float], name: str) -> Estimate:
    value, low, high = (scores.get(f"{name}{end}", np.nan) for end in ("", "_low", "_high"))
    return Estimate(value, low, high)


def _table(title: str, rows: dict[str, list[Estimate]]) -> Table:
    """A row per scenario or state; a dash where no row or no class can be scored."""
    shown = Table("available", *METRICS, title=title, title_justify="left")
    for name, cells in rows.items():
        shown.add_row(name, *("-" if np.isnan(cell.value) else _cell(cell) for cell in cells))
    return shown


def _cell(estimate: Estimate) -> str:
    return f"{estimate.value:.4f} [{estimate.low:.4f}, {estimate.high:.4f}]"


@dataclass(frozen=True)
class FileColumns:
    """Which columns of a table of new rows name files."""

    image: str = "image"
    series: str = "series"
    """As `<path>#<hours>`: a time-series file and how long the stay has lasted."""


def read_rows(
    path: Path, schema: Schema, folder: Path | None, named: FileColumns = FileColumns()
) -> PackedDataset:
    """Read new rows as they are: an empty image cell or an empty table is an absent modality.

    A file without the image column, or without any column of the table, has none of them. Paths
    are below `folder`; None: where the file lies. Raises DataError for a table that has some of its
    columns but not all, for rows with neither modality and for files that cannot be read: all
    listed.
    """
    cells = read_cells(path)
    columns = [*schema.numeric, *schema.category]
    lacking = [name for name in columns if name not in cells]
    problems: list[str] = []
    if lacking and len(lacking) < len(columns):
        problems += [f"{path.name}: {unknown_name(n, cells.columns)}" for n in lacking]
    has_columns = not lacking
    folder = folder or path.parent
    files = ImageFiles(schema.image_kind, schema.image_size)
    (image,), has_image, bad = _read_files(files, cells, named.image, folder)
    problems += bad
    series: list[np.ndarray] = []
    numeric, category, has_table = _read_table(cells, schema, has_columns)
    if schema.steps:
        files = SeriesFiles(_reader_of(schema))
        series, has_series, bad = _read_files(files, cells, named.series, folder)
        problems, has_table = problems + bad, has_table | has_series
    for at in np.flatnonzero(np.isinf(numeric).any(axis=0)):
        problems.append(f"{path.name}: column {schema.numeric[at]!r} holds infinities; empty them")
    neither = np.flatnonzero(~(has_image | has_table)).tolist()
    if neither and not problems:
        lines = ", ".join(str(row + 2) for row in neither[:10])
        problems.append(
            f"{len(neither)} rows of {path.name} have neither image nor table (lines {lines}); "
            f"the image is read from column {named.image!r}, the table from "
            + ", ".join([*columns, *([named.series] if schema.steps else [])])
        )
    if problems:
        raise DataError("\n".join(problems))
    ids = [str(i) for i in range(len(cells))]
    sample = pd.DataFrame(
        {"id": ids, "group": ids, "split": "test", "has_image": has_image, "has_table": has_table}
    )
    return PackedDataset(
        schema=schema,
        image=image,
        numeric=numeric,
        category=category,
        label=np.zeros(len(cells), dtype=np.int64),
        sample=sample,
        **dict(zip(("series", "length"), series, strict=False)),
    )


def _reader_of(schema: Schema) -> SeriesReader:
    """What reads the files whose channels a model knows. Raises DataError if nothing does."""
    reader = EpisodeReader(hours=schema.steps)
    if dict(reader.channels) != schema.series:
        raise DataError(
            f"the model's time series ({', '.join(list(schema.series)[:3])}, ...) are of no format "
            "that can be read from files; pack the rows and use dfpl evaluate"
        )
    return reader


def _read_files(
    files: Files, cells: pd.DataFrame, column: str, folder: Path
) -> tuple[list[np.ndarray], np.ndarray, list[str]]:
    """A row of each array for each row of the table, which have a file, and what is wrong."""
    paths, problems = _paths(cells, column), []
    arrays = [np.zeros((len(cells), *shape), kind) for shape, kind in files.arrays.values()]
    for row, name in enumerate(paths):
        if name:
            try:
                for array, value in zip(arrays, files.read(str(folder / name)), strict=True):
                    array[row] = value
            except (OSError, ValueError) as error:
                problems.append(f"line {row + 2}: {folder / name}: {error}")
    return arrays, np.array([bool(name) for name in paths], dtype=bool), problems


def _paths(cells: pd.DataFrame, column: str) -> Sequence[str]:
    if column not in cells:
        return [""] * len(cells)
    return [str(cell).strip() if isinstance(cell, str) else "" for cell in cells[column]]


def _read_table(
    cells: pd.DataFrame, schema: Schema, has_columns: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    N = len(cells)
    numeric = np.full((N, len(schema.numeric)), np.nan, dtype=np.float32)
    category = np.zeros((N, len(schema.category)), dtype=np.int32)
    if has_columns:
        for at, name in enumerate(schema.numeric):
            numeric[:, at] = numeric_cells(column(cells, name))
        for at, (name, levels) in enumerate(schema.category.items()):
            category[:, at] = category_codes(category_cells(column(cells, name)), levels)
    filled = np.concatenate([~np.isnan(numeric), category != 0], axis=1).any(axis=1)
    return numeric, category, np.asarray(filled)


def predict(model: TrainedModel, rows: PackedDataset, device: torch.device) -> pd.DataFrame:
    """Class probabilities of each row: columns available, prediction, p(<class>)."""
    view = View.of(rows, "test")
    loader = Loader(view, model.statistics, model.run.optim.batch_size, device)
    logits = logits_under_scenario(model.method, loader)
    chances = probabilities(logits, model.schema.task)
    names = model.schema.class_names
    state: list[Any] = [_state(bool(i), bool(t)) for i, t in view.available]
    found = pd.DataFrame({"available": state})
    if model.schema.task == "multiclass":
        found["prediction"] = [names[c] for c in chances.argmax(axis=1)]
    for c, name in enumerate(names):
        found[f"p({name})"] = chances[:, c]
    return found


def _state(has_image: bool, has_table: bool) -> str:
    return "both" if has_image and has_table else "image" if has_image else "table"
