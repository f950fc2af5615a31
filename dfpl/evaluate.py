"""One pass over the rows: logits under a scenario, or in all three states."""

import numpy as np
import torch
from jaxtyping import Float

from dfpl.data.loader import Loader
from dfpl.data.packed import Split
from dfpl.distributed import gather_objects, rank, world_size
from dfpl.method import STATES, Method
from dfpl.predictions import Predictions


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


def _assemble(parts: list[tuple[np.ndarray, np.ndarray]], num_rows: int) -> np.ndarray:
    """Put the rows of all workers in order; every row must have come exactly once."""
    everyone = gather_objects(parts)
    positions = np.concatenate([at for worker in everyone for at, _ in worker])
    logits = np.concatenate([values for worker in everyone for _, values in worker])
    assert np.array_equal(np.sort(positions), np.arange(num_rows))
    return logits[np.argsort(positions)]
