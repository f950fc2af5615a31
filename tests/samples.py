"""Small made-up data for the tests: batches, schemas and packed data sets with a learnable rule."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from dfpl import method as methods
from dfpl.config import MethodConfig, RunConfig
from dfpl.data.batch import Batch
from dfpl.data.loader import View
from dfpl.data.packed import PackedDataset, Schema
from dfpl.method import Method

SMALL = {
    "name": "dfpl",
    "width": 16,
    "image_network": "small",
    "tabular_heads": 2,
    "tabular_shared_depth": 1,
    "tabular_branch_depth": 1,
    "num_prototypes": 3,
    "task_loss": "bce",
}
SCHEMA = Schema(
    name="made_up",
    class_names=["a", "b", "c"],
    image_size=32,
    numeric=["length", "weight"],
    category={"colour": ["blue", "red"], "shape": ["flat", "round", "tall"]},
)
_OTHER: dict[str, dict[str, Any]] = {
    "series": {
        "name": "made_up_stays",
        "task": "multilabel",
        "numeric": [],
        "category": {},
        "series": {"rate": "number", "ventilated": "flag"},
        "steps": 4,
    },
    "columns and series": {"series": {"rate": "number", "ventilated": "flag"}, "steps": 4},
    "volumes": {"image_kind": "volume", "image_size": 17},
}
KINDS = {kind: SCHEMA.with_values(values) for kind, values in _OTHER.items()}
"""Kinds of data beside pictures with columns: a table that is a time series alone, as MIMIC's; one
of both; volumes, as ADNI's."""
MIXED = [(1, 1), (1, 0), (0, 1), (1, 1), (0, 1), (1, 0), (1, 1), (1, 1)]
"""Availability (image, table) of a batch in which every state occurs."""


def make_batch(
    available: list[tuple[int, int]], seed: int = 0, num_classes: int = 3, schema: Schema = SCHEMA
) -> Batch:
    """A random batch with this availability; absent inputs are zeros, some cells and steps are
    empty. Of time series, sample i has T - i % 3 steps."""
    generator = torch.Generator().manual_seed(seed)
    B, there = len(available), torch.tensor(available, dtype=torch.bool).view(-1, 2)
    numeric = torch.randn(B, 2, generator=generator)[:, : len(schema.numeric)]
    numeric[::3, :1] = torch.nan
    category = torch.stack([torch.arange(B) % 4, torch.arange(B) % 5], dim=1)
    size = schema.image_size
    shape = (3, size, size) if schema.image_kind == "picture" else (1, size, size, size)
    image = torch.randn(B, *shape, generator=generator)
    batch = Batch(
        image=image * there[:, 0].view(-1, *[1] * len(shape)),
        numeric=torch.where(there[:, 1, None], numeric, 0.0),
        category=torch.where(there[:, 1, None], category, 0)[:, : len(schema.category)],
        available=there,
        label=torch.arange(B) % num_classes,
        **(_series(there[:, 1], schema, generator) if schema.steps else no_series(B)),
    )
    return batch if schema.task == "multiclass" else several_labels(batch)


def _series(
    has_table: torch.Tensor, schema: Schema, generator: torch.Generator
) -> dict[str, torch.Tensor]:
    B, T = len(has_table), schema.steps
    series = torch.randn(B, T, len(schema.series), generator=generator)
    series[..., 1] = (series[..., 1] > 0).float()
    series[::3, 1] = torch.nan
    length = torch.where(has_table, T - torch.arange(B) % 3, 0)
    valid = torch.arange(T) < length[:, None]
    return {"series": torch.where(valid[..., None], series, 0.0), "length": length}


def no_series(B: int) -> dict[str, torch.Tensor]:
    """What a batch holds in place of time series where the data has none."""
    return {"series": torch.zeros(B, 0, 0), "length": torch.zeros(B, dtype=torch.long)}


def several_labels(batch: Batch) -> Batch:
    """The same batch with three labels that may all be true, or none."""
    numbers = torch.arange(3 * len(batch.label)).view(-1, 3)
    return batch._replace(label=(numbers % 5 < 2).float())


def make_packed(
    num_samples: int = 60, seed: int = 0, num_classes: int = 3, kind: str = ""
) -> PackedDataset:
    """A data set in which the image's brightness and the table's numbers tell the class. `kind`:
    one of KINDS, of three classes, in place of pictures and columns."""
    schema = KINDS[kind] if kind else SCHEMA
    rng = np.random.default_rng(seed)
    label = np.arange(num_samples) % num_classes
    shape = (num_samples, *schema.image_shape)
    image = rng.integers(0, 80, shape) + 60 * label[:, None, None, None]
    numeric = rng.normal(size=(num_samples, 2)).astype(np.float32)
    numeric[:, 0] += 2 * label
    numeric[::7, 1] = np.nan
    category = rng.integers(2, 4, (num_samples, 2)).astype(np.int32)
    order = rng.permutation(num_samples)
    split = np.array(["train"] * num_samples, dtype=object)
    split[order[: num_samples // 4]] = "val"
    split[order[num_samples // 4 : num_samples // 2]] = "test"
    names = [f"s{i:03d}" for i in range(num_samples)]
    packed = PackedDataset(
        schema=schema.with_values({"class_names": [f"class {c}" for c in range(num_classes)]}),
        image=image.clip(0, 255).astype(np.uint8),
        numeric=numeric[:, : len(schema.numeric)],
        category=category[:, : len(schema.category)],
        label=label.astype(np.int64),
        sample=pd.DataFrame(
            {"id": names, "group": names, "split": split, "has_image": True, "has_table": True}
        ),
        **(_packed_series(label, schema, rng) if schema.steps else {}),
    )
    return packed if schema.task == "multiclass" else _with_several_labels(packed)


def _packed_series(
    label: np.ndarray, schema: Schema, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Series of 1 to T steps, whose first channel is about twice the class."""
    series = rng.normal(size=(len(label), schema.steps, 2)) + 2 * label[:, None, None]
    series[..., 1] = series[..., 1] > 2
    length = rng.integers(1, schema.steps + 1, len(label))
    valid = np.arange(schema.steps) < length[:, None]
    return {
        "series": np.where(valid[..., None], series, 0).astype(np.float32),
        "length": length.astype(np.int64),
    }


def save_packed(folder: Path, **settings: Any) -> PackedDataset:
    return make_packed(**settings).save(folder)


def make_run(packed: PackedDataset, **values: Any) -> RunConfig:
    """A run of DFPL small enough for a test; `values` by dotted name, dots as `__`."""
    run = RunConfig.from_dict(
        {
            "dataset": packed.schema.name,
            "data_hash": packed.schema.content_hash,
            "method": SMALL,
            "scenario": {"pattern": "both", "rate": 0.5},
            "optim": {"batch_size": 16, "epochs": 2, "learning_rate": 1e-3},
        }
    )
    return run.with_values({name.replace("__", "."): v for name, v in values.items()})


ONE_MODALITY = {"forest", "image_only", "router", "table_only"}
"""Methods that read one modality of a complete sample alone, by design."""
DRAWS = {("tip", 0)}
"""Stages that draw random numbers for each place in the global batch, whatever the config."""
HEARS_ZEROS = {"if_mmin"}
"""Methods in which an encoder's answer to a zero input means that the modality is absent."""


def make_config(name: str, **values: Any) -> MethodConfig:
    """A method's config, small enough for a test; `values` without the fields that it lacks."""
    config = methods.load(name).Config
    wanted = {**SMALL, "num_trees": 10, "pretraining": 0.5, **values}
    known = {field: value for field, value in wanted.items() if field in config.model_fields}
    return config.from_dict({**known, "name": name})


def make_method(
    name: str, stage: int, task: str = "multiclass", kind: str = "", **values: Any
) -> Method:
    """A small method for the data of `make_packed`, which it has seen, in a stage of training."""
    torch.manual_seed(0)
    packed = _data(task, kind)
    method = methods.build(make_config(name, **values), packed.schema)
    train = View.of(packed, "train")
    method.prepare(train, train.statistics(), 0)
    method.enter(stage)
    return method


def stages(*names: str) -> list[tuple[str, int]]:
    """Each of these methods, or each there is, with the number of each stage of its training."""
    found = {name: methods.build(make_config(name), SCHEMA) for name in names or methods.names()}
    return [(name, at) for name, method in found.items() for at in range(len(method.stages()))]


@cache
def _data(task: str, kind: str) -> PackedDataset:
    packed = make_packed(kind=kind)
    return packed if task == packed.schema.task or kind else _with_several_labels(packed)


def _with_several_labels(packed: PackedDataset) -> PackedDataset:
    several = packed.label[:, None] == np.arange(packed.schema.num_classes)
    several[::4] ^= True
    schema = packed.schema.with_values({"task": "multilabel"})
    return replace(packed, schema=schema, label=several.astype(np.float32))
