"""What a trial needs of the cluster, how many run at once, and which launcher runs them."""

from dataclasses import dataclass
from typing import Any, Literal

import ray
from ray import tune

from dfpl.fields import ConfigError

Launcher = Literal["inline", "train"]


@dataclass(frozen=True, kw_only=True)
class Resources:
    """The share of a cluster that one trial takes."""

    workers: int
    """Data-parallel workers per trial."""
    gpus_per_worker: float
    cpus_per_worker: int = 1
    concurrent: int
    """Trials at once."""

    @property
    def launcher(self) -> Launcher:
        """One worker trains inside the trial's own, reused actor; several under Ray Train."""
        return "inline" if self.workers == 1 else "train"

    @property
    def per_worker(self) -> dict[str, int | float]:
        wanted: dict[str, int | float] = {"CPU": self.cpus_per_worker}
        return {**wanted, "GPU": self.gpus_per_worker} if self.gpus_per_worker else wanted

    def of_trial(self) -> dict[str, int | float] | tune.PlacementGroupFactory:
        """What Tune reserves. Under Ray Train the trial is a driver that holds 1 MB (Tune allows
        no empty request): its workers have a placement group of their own, and drivers must not
        starve them."""
        return self.per_worker if self.launcher == "inline" else {"memory": 1e6}

    def __str__(self) -> str:
        gpus = f" and {self.gpus_per_worker:g} GPU" if self.gpus_per_worker else ""
        return (
            f"{self.concurrent} trials at once, each with {self.workers} worker(s) of "
            f"{self.cpus_per_worker} CPU{gpus}, launcher {self.launcher}"
        )


def fit_to_cluster(
    workers: int, gpus_per_worker: float | None, concurrent: int | None
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
        workers=workers, gpus_per_worker=wanted, concurrent=min(concurrent or room, room)
    )
