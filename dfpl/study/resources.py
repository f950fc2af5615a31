"""What a trial needs of the cluster, how many run at once, and which launcher runs them."""

from dataclasses import dataclass
from typing import Any, Literal

import ray
from ray import tune

from dfpl.fields import ConfigError

Launcher = Literal["inline", "slot", "train"]
"""`inline`: one worker, in the trial's own process, which is used again and again. `slot`: several,
kept from trial to trial. `train`: Ray Train starts them anew for each run."""
Wish = Launcher | Literal["auto"]
HUNG_AFTER_S = 60.0
MOST_DEATHS = 6
"""Times that a run may lose its processes and go on from its checkpoint; then it has failed. On
nodes that are taken away now and then that happens to good runs, too."""
DRIVER: dict[str, int | float] = {"memory": 1e6}


@dataclass(frozen=True, kw_only=True)
class Resources:
    """The share of a cluster that one trial takes."""

    workers: int
    """Data-parallel workers per trial."""
    gpus_per_worker: float
    cpus_per_worker: int = 1
    concurrent: int
    """Trials at once."""
    launcher: Launcher = "inline"
    hung_after_s: float = HUNG_AFTER_S
    """Seconds after which a worker that the others wait for counts as hung."""

    @property
    def per_worker(self) -> dict[str, int | float]:
        wanted: dict[str, int | float] = {"CPU": self.cpus_per_worker}
        return {**wanted, "GPU": self.gpus_per_worker} if self.gpus_per_worker else wanted

    @property
    def backend(self) -> str:
        """How workers talk; NCCL refuses two on one GPU."""
        return "nccl" if self.gpus_per_worker >= 1 else "gloo"

    def of_trial(self) -> dict[str, int | float] | tune.PlacementGroupFactory:
        """What Tune reserves.

        Beside its workers, a trial is a driver that holds 1 MB (Tune allows no empty request).
        Those of a slot have the other bundles of its placement group. Under Ray Train they have a
        placement group of their own, and drivers must not starve them.
        """
        match self.launcher:
            case "inline":
                return self.per_worker
            case "slot":
                workers = [dict(self.per_worker) for _ in range(self.workers)]
                return tune.PlacementGroupFactory([DRIVER, *workers])
            case "train":
                return DRIVER

    def __str__(self) -> str:
        gpus = f" and {self.gpus_per_worker:g} GPU" if self.gpus_per_worker else ""
        return (
            f"{self.concurrent} trials at once, each with {self.workers} worker(s) of "
            f"{self.cpus_per_worker} CPU{gpus}, launcher {self.launcher}"
        )


def choose(launcher: Wish, workers: int) -> Launcher:
    """The launcher of a study: as wished, or that with the least overhead for its workers."""
    if launcher == "inline" and workers > 1:
        raise ConfigError(
            f"--launcher inline is for one worker, not for {workers}; choose slot or train"
        )
    if launcher == "auto":
        return "inline" if workers == 1 else "slot"
    return launcher


def fit_to_cluster(
    workers: int,
    gpus_per_worker: float | None,
    concurrent: int | None,
    launcher: Wish = "auto",
    hung_after_s: float = HUNG_AFTER_S,
) -> Resources:
    """Fit the wish to the cluster that is connected. Raises ConfigError if not one trial fits."""
    for name, value in (("--workers", workers), ("--concurrent", concurrent)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} must be at least 1, got {value}")
    total: dict[str, Any] = ray.cluster_resources()
    cpus, gpus = float(total.get("CPU", 0)), float(total.get("GPU", 0))
    wanted = gpus_per_worker if gpus_per_worker is not None else float(gpus > 0)
    if wanted < 0:
        raise ConfigError(f"--gpus-per-worker must be 0 or more, got {wanted:g}")
    if wanted > 1 and wanted != int(wanted):
        raise ConfigError(f"--gpus-per-worker above 1 must be a whole number, got {wanted:g}")
    room = int(cpus // workers)
    if wanted:
        slots = gpus // wanted if wanted >= 1 else gpus * int(1 / wanted)  # no share spans two
        room = min(room, int(slots // workers))
    if room < 1:
        raise ConfigError(
            f"one trial needs {workers} CPU and {workers * wanted:g} GPU, but the cluster has "
            f"{cpus:g} CPU and {gpus:g} GPU; lower --workers or --gpus-per-worker"
        )
    return Resources(
        workers=workers,
        gpus_per_worker=wanted,
        concurrent=min(concurrent or room, room),
        launcher=choose(launcher, workers),
        hung_after_s=hung_after_s,
    )
