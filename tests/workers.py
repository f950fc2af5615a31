"""Starts a few processes of one process group, for tests of what is computed by many workers."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

# imported once, by the server from which all workers are forked: each start then takes no time
PRELOADED = ["dfpl.train", "dfpl.model", "torchmetrics", "monai.networks.nets.resnet"]


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
