"""Starts a few processes of one process group, for tests of what is computed by many workers."""

import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dfpl.data.batch import Batch
from dfpl.distributed import use_global_statistics
from dfpl.method import Method, objective
from dfpl.step import learning

# imported once, by the server from which all workers are forked: each start then takes no time
PRELOADED = ["dfpl.train", "dfpl.model", "torchmetrics", "monai.networks.nets.resnet"]
Found = dict[str, dict[str, Tensor]]


def start(work: Callable[[int, Path], None], workers: int, folder: Path) -> None:
    """Call `work(rank, folder)` in `workers` processes at once; fails if one of them does."""
    multiprocessing.set_forkserver_preload(PRELOADED)
    mp.start_processes(  # pyright: ignore[reportPrivateImportUsage]
        _join, (work, workers, folder), nprocs=workers, start_method="forkserver"
    )


def _join(rank: int, work: Callable[[int, Path], None], workers: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=workers)
    work(rank, folder)
    dist.destroy_process_group()


def alone(method: Method) -> Method:
    return method


def together(method: nn.Module) -> DistributedDataParallel:
    return DistributedDataParallel(use_global_statistics(method))


def step(method: Method, shard: Batch, wrap: Callable[[Method], Any]) -> Found:
    """Terms, gradients and buffers after one forward and backward pass in training mode.

    Without the terms that have a limit: those tell how far something is from solved, and differ
    by their whole size when it is solved to the last digits.

    Without oneDNN, in one process as in many: its gradient of a convolution's weight was seen
    9e-6 off, where the others are far below 1e-5.
    """
    method.train()
    # kept: without the wrapper nobody would average the gradients
    model = wrap(method) if learning(method) else method
    with without_onednn():
        terms = method.losses(model(shard), shard)
        if learning(method):
            objective(method, terms).backward()
    return {
        "terms": {n: term.detach() for n, term in terms.items() if method.limit(n) == inf},
        "gradients": {n: p.grad for n, p in method.named_parameters() if p.grad is not None},
        "buffers": dict(method.named_buffers()),
    }


@contextmanager
def without_onednn() -> Iterator[None]:
    torch.backends.mkldnn.enabled = False
    try:
        yield
    finally:
        torch.backends.mkldnn.enabled = True


def take(batch: Batch, rows: list[int]) -> Batch:
    return Batch(*(values[torch.tensor(rows, dtype=torch.long)] for values in batch))


def assert_same(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor], tolerance: float
) -> None:
    """Each tensor differs by no more than a share of its largest entry, or of 1e-3."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        scale = value.abs().amax().item() if value.numel() else 0.0
        torch.testing.assert_close(
            found[name],
            value,
            rtol=0,
            atol=tolerance * max(scale, 1e-3),
            msg=lambda text, name=name: f"{name}: {text}",
        )
