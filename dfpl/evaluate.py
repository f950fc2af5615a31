"""One pass over the rows: logits under a scenario, or in all three states, or representations."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32

from dfpl.config import RunConfig
from dfpl.data.batch import Batch
from dfpl.data.loader import Loader
from dfpl.data.packed import Split
from dfpl.distributed import gather_objects, rank, world_size
from dfpl.fields import ConfigError
from dfpl.method import MODALITIES, STATES, Method, Readout, load, names
from dfpl.metrics import probabilities
from dfpl.predictions import Predictions, Task, hashed
from dfpl.probe import Represented
from dfpl.representations import Facts, Part, Shown, write


@torch.no_grad()
def logits_under_scenario(method: Method, loader: Loader) -> Float[np.ndarray, "N C"]:
    """Logits of every row of the loader's view, once, with what is available there."""
    method.eval()
    parts = [
        (positions, method(batch).logits.float().cpu().numpy())
        for positions, batch in loader.in_order((rank(), world_size()))
    ]
    return _assemble(parts, len(loader.view.rows))


@torch.no_grad()
def logits_in_states(method: Method, loader: Loader) -> dict[str, Float[np.ndarray, "N C"]]:
    """Logits of every row in the three states, from one encoder pass.

    A row of NaN marks a state that the sample cannot be in, because it lacks the modality.
    """
    method.eval()
    parts: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {state: [] for state in STATES}
    for positions, batch in loader.in_order((rank(), world_size())):
        for state, logits in method.state_logits(batch).items():
            impossible = torch.tensor(STATES[state], device=logits.device) & ~batch.available
            found = logits.float().masked_fill(impossible.any(dim=1, keepdim=True), torch.nan)
            parts[state].append((positions, found.cpu().numpy()))
    return {state: _assemble(found, len(loader.view.rows)) for state, found in parts.items()}


def predict_split(method: Method, loader: Loader, split: Split) -> Predictions:
    """What the method says of each row, in each state that the loader's view leaves possible.

    Under a scenario, what it hides stays hidden: an affected row is in one state alone.
    """
    view, packed = loader.view, loader.view.packed
    sample = packed.sample.iloc[view.rows]
    return Predictions(
        ids=sample["id"].to_numpy(dtype=object),
        groups=sample["group"].to_numpy(dtype=object),
        split=np.full(len(view.rows), split, dtype=object),
        label=packed.label[view.rows],
        present=view.available,
        logits=logits_in_states(method, loader),
        class_names=tuple(packed.schema.class_names),
        task=packed.schema.task,
    )


@torch.no_grad()
def representations_of(method: Method, loader: Loader) -> dict[str, Float32[np.ndarray, "N _"]]:
    """What the method calls shared and specific, of every row once and in order, by name.

    A row of NaN marks a sample that lacks the modality. Empty where the method has none.
    """
    method.eval()
    parts: dict[str, list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)
    for positions, batch in loader.in_order((rank(), world_size())):
        for name, vectors in method.representations(batch).items():
            absent = ~batch.available[:, MODALITIES.index(name.split()[0])]
            found = vectors.float().masked_fill(absent[:, None], torch.nan)
            parts[name].append((positions, found.cpu().numpy()))
    # a worker may have no rows, hence no names
    told = dict.fromkeys(name for worker in gather_objects(list(parts)) for name in worker)
    return {name: _assemble(parts[name], len(loader.view.rows)) for name in told}


def represent(method: Method, loader: Loader, split: Split) -> Represented:
    """What linear probes read: the representations of the rows that have both modalities.

    Raises ConfigError where the method has none.
    """
    found = representations_of(method, loader)
    if not found:
        base = Method.representations
        having = [name for name in names() if load(name).Model.representations is not base]
        raise ConfigError(
            f"{type(method).__module__.rpartition('.')[2]} has no shared and specific "
            f"representations to probe; those that have: {', '.join(having)}"
        )
    complete = np.flatnonzero(loader.view.available.all(axis=1))
    sample = loader.view.packed.sample.iloc[loader.view.rows[complete]]
    return Represented(
        split=split,
        ids=sample["id"].tolist(),
        groups=sample["group"].to_numpy(dtype=object),
        vectors={name: vectors[complete] for name, vectors in found.items()},
    )


@torch.no_grad()
def save_representations(
    path: Path, run: RunConfig, method: Method, loader: Loader, split: Split
) -> int:
    """Write what the logits of each row are read from, in each state; returns how many rows.

    Of private data ids are hashed. For one process. Raises ConfigError where the method reads its
    logits from no vector.
    """
    method.eval()
    schema = loader.view.packed.schema
    sample = loader.view.packed.sample.iloc[loader.view.rows]
    ids, groups = (sample[name].to_numpy(dtype=object) for name in ("id", "group"))
    if schema.private:
        ids, groups = hashed(ids, groups)
    label = loader.view.packed.label[loader.view.rows]
    facts = Facts(
        method=run.method.name,
        run_id=run.run_id,
        scenario=str(run.scenario),
        dataset=schema.name,
        data_hash=schema.content_hash,
        split=split,
        task=schema.task,
        class_names=schema.class_names,
        rows=list(method.attended()),
    )
    parts = (
        Part(ids[at], groups[at], label[at], _shown_in_states(method, batch, schema.task))
        for at, batch in loader.in_order()
    )
    return write(path, facts, parts)


def _shown_in_states(method: Method, batch: Batch, task: Task) -> dict[str, Shown]:
    """What the logits are read from in each state; NaN for samples that cannot be in it."""
    shown = {}
    for state, needs in STATES.items():
        needed = torch.tensor(needs, device=batch.available.device)
        left = batch.available & needed
        found = method.readout(batch._replace(available=left))
        if found is None:
            name = type(method).__module__.rpartition(".")[2]
            raise ConfigError(
                f"{name} reads its logits from no vector of a sample, so that there is nothing to "
                "save; evaluate it without --save-representations"
            )
        shown[state] = _shown(found, (left == needed).all(dim=1).cpu().numpy(), task)
    return shown


def _shown(found: Readout, possible: Bool[np.ndarray, " B"], task: Task) -> Shown:
    logits, vectors = (x.float().cpu().numpy() for x in (found.logits, found.vectors))
    chances = np.full_like(logits, np.nan)
    chances[possible] = probabilities(logits[possible], task)
    vectors = np.where(possible[:, None], vectors, np.float32(np.nan))
    if found.attention is None:
        return Shown(chances, vectors, None)
    attention = found.attention.half().cpu().numpy()
    return Shown(chances, vectors, np.where(possible[:, None, None], attention, np.float16(np.nan)))


def _assemble(parts: list[tuple[np.ndarray, np.ndarray]], num_rows: int) -> np.ndarray:
    """Put the rows of all workers in order; every row must have come exactly once."""
    everyone = gather_objects(parts)
    positions = np.concatenate([at for worker in everyone for at, _ in worker])
    logits = np.concatenate([values for worker in everyone for _, values in worker])
    assert np.array_equal(np.sort(positions), np.arange(num_rows))
    return logits[np.argsort(positions)]
