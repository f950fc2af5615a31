"""Kills parts of a small study at random times, and compares what is left with an undisturbed one.

Run       python tests/benchmarks/chaos.py --kills 10 --seed 0
Makes     runs/benchmarks/chaos.json, .md: per kill what was hit and when, how it went on, how many
          epochs were trained again; and whether the records are those of the undisturbed study

The studies run on two nodes of a cluster on this machine: one process per trial, slots of two
ranks that span both nodes, and two workers of Ray Train. Victims of kill -9 are the driver (the
same command is started again), the process of a trial, a rank, a Train worker, and the raylet of
the second node (a new node takes its place).
Nothing that Ray's timing decides has a say in the study: no halving, random points, one thread.
"""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from math import isclose
from pathlib import Path
from typing import Any

import tyro
from bench import Row, publish
from chaos_study import NOTED
from ray.cluster_utils import Cluster

sys.path.insert(0, str(Path(__file__).parents[1]))
from samples import save_packed

from dfpl.study.connection import RAY_ENVIRONMENT
from dfpl.study.records import Record, RecordStore

HERE = Path(__file__).parent
LIMIT_S = 600.0
"""A study that takes longer hangs."""
TITLES = {"trial": "ImplicitFunc", "rank": "ray::Rank", "worker": "RayTrainWorker"}
VICTIMS = {
    "inline": ("driver", "trial", "raylet"),
    "slot": ("driver", "trial", "rank", "raylet"),
    "train": ("driver", "trial", "worker", "raylet"),
}


@dataclass(frozen=True)
class Settings:
    kills: int = 10
    seed: int = 0
    kills_per_study: int = 4
    trials: int = 6
    """Per search; there are two."""
    epochs: int = 8
    samples: int = 80
    launchers: tuple[str, ...] = ("inline", "slot", "train")

    @property
    def total(self) -> int:
        """Epochs of a study."""
        return 2 * self.trials * self.epochs


def head() -> dict[str, Any]:
    """With a dashboard, of which Ray Train's own cleaner asks whether a run still has a driver."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return {"num_cpus": 1, "include_dashboard": True, "dashboard_port": port}


@dataclass
class Nodes:
    """A cluster of two nodes with a CPU each; the driver is on the first."""

    cluster: Any = field(
        default_factory=lambda: Cluster(initialize_head=True, head_node_args=head())
    )

    def __post_init__(self) -> None:
        self.second = self.cluster.add_node(num_cpus=1)

    def kill_second(self) -> None:
        """Kill its raylet, then what else there is of it."""
        os.kill(self.second.all_processes["raylet"][0].process.pid, signal.SIGKILL)
        self.cluster.remove_node(self.second, allow_graceful=False)

    def replace_second(self) -> None:
        self.second = self.cluster.add_node(num_cpus=1)


@dataclass(frozen=True)
class Kill:
    at: int
    """Epochs that were trained by then."""
    delay_s: float
    """And this much later, within an epoch."""
    victim: str


@dataclass
class Study:
    """A study, its command, and what can be seen of it from outside."""

    place: Path
    nodes: Nodes
    settings: Settings
    launcher: str

    def __post_init__(self) -> None:
        self.store = RecordStore(self.place / "study")
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        options = {
            "data": self.place.parent / "data",
            "storage": self.place,
            "name": "study",
            "scenarios": "both-50,image-70",
            "objective": "each",
            "transfer": 0,
            "prior-weight": 0,
            "trials": self.settings.trials,
            "epochs": self.settings.epochs,
            "grace": self.settings.epochs,
            "checkpoint-every-s": 0,
            "launcher": self.launcher,
            "workers": 1 if self.launcher == "inline" else 2,
        }
        command = [sys.executable, str(HERE / "chaos_study.py")]
        with (self.place.parent / f"{self.place.name}.log").open("ab") as log:
            return subprocess.Popen(
                [*command, *(f"--{name}={value}" for name, value in options.items())],
                env={**os.environ, "RAY_ADDRESS": self.nodes.cluster.address},
                stdout=log,
                stderr=log,
            )

    def noted(self) -> list[tuple[float, str, int, str]]:
        """Every trained epoch: when, of which run, its number, and the seconds of its run."""
        found = set()
        for path in (self.place / NOTED).glob("*.txt"):
            for line in path.read_text().splitlines():
                moment, run_id, epoch, seconds = line.split()
                found.add((float(moment), run_id, int(epoch), seconds))
        first: dict[tuple[str, int, str], float] = {}
        for moment, *epoch in sorted(found):  # a run that goes on tells its old epochs again
            first.setdefault((str(epoch[0]), int(epoch[1]), str(epoch[2])), moment)
        return sorted((moment, *epoch) for epoch, moment in first.items())

    def files(self) -> dict[str, tuple[int, bytes]]:
        paths = Path(self.store.root.path, "records").glob("*.json")
        return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}

    def wait(self, epochs: int) -> bool:
        """Wait until so many epochs are trained; False where the study ends before."""
        end = time.monotonic() + LIMIT_S
        while len(self.noted()) < epochs and time.monotonic() < end:
            if self.process.poll() is not None:
                return False
            time.sleep(0.1)
        return True

    def end(self) -> None:
        if self.process.wait(LIMIT_S):
            log = (self.place.parent / f"{self.place.name}.log").read_text()
            raise RuntimeError(f"the study ended with {self.process.returncode}:\n{log[-3000:]}")

    def strike(self, kill: Kill) -> tuple[str, str]:
        """Kill something; returns what it was and how the study is to go on."""
        time.sleep(kill.delay_s)
        if kill.victim == "raylet":
            self.nodes.kill_second()
            self.nodes.replace_second()
            return "raylet", "a new node"
        found = family(TITLES[kill.victim]) if kill.victim in TITLES else []
        if found:
            os.kill(random.choice(found), signal.SIGKILL)
            return kill.victim, "by itself"
        self.process.kill()
        self.process.wait()
        self.process = self.start()
        return "driver", "the same command"


def family(title: str) -> list[int]:
    """Descendants of this process whose title holds this."""
    shown = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True).stdout
    rows = [line.split(maxsplit=2) for line in shown.splitlines()[1:]]
    found = {os.getpid()}
    for _ in range(6):
        found |= {int(pid) for pid, parent, _ in rows if int(parent) in found}
    return [int(pid) for pid, _, name in rows if int(pid) in found and title in name]


def draw(settings: Settings, launcher: str, count: int, rng: random.Random) -> list[Kill]:
    """Kills at random times, whose victims take turns in a random order."""
    moments = sorted(rng.sample(range(1, settings.total - settings.epochs), count))
    victims = [rng.sample(VICTIMS[launcher], k=len(VICTIMS[launcher])) for _ in moments]
    drawn = [victim for turn in victims for victim in turn]
    return [
        Kill(at, rng.uniform(0, 0.5), victim) for at, victim in zip(moments, drawn, strict=False)
    ]


def disturbed(study: Study, kills: list[Kill]) -> list[Row]:
    rows: list[Row] = []
    before: list[dict[str, tuple[int, bytes]]] = []
    times: list[float] = []
    for kill in kills:
        if not study.wait(kill.at):
            break
        before.append(study.files())
        times.append(time.time())
        victim, goes_on = study.strike(kill)
        rows.append(
            {
                "launcher": study.launcher,
                "victim": victim,
                "at epoch": f"{len([e for e in study.noted() if e[0] < times[-1]])} of "
                f"{study.settings.total}",
                "records then": len(before[-1]),
                "goes on": goes_on,
            }
        )
    study.end()
    after = study.files()
    for row, again, files in zip(rows, trained_again(study, times), before, strict=True):
        row["epochs again, per run"] = max(again.values(), default=0)
        row["finished runs touched"] = sum(after.get(name) != was for name, was in files.items())
    return rows


def trained_again(study: Study, times: list[float]) -> list[dict[str, int]]:
    """After each kill, and before the next, the epochs of each run that had been trained before."""
    found: list[dict[str, int]] = [defaultdict(int) for _ in times]
    seen = set()
    for moment, run_id, epoch, _ in study.noted():
        if (run_id, epoch) in seen:
            last = max(place for place, time_ in enumerate(times) if time_ <= moment)
            found[last][run_id] += 1
        seen.add((run_id, epoch))
    return found


def differences(study: Study, reference: Study) -> list[str]:
    """Runs that are lost, or too many, or not those of the undisturbed study, and why."""
    found, wanted = by_id(study), by_id(reference)
    return [
        f"{name}: {found[name].state} {found[name].reason}" if name in found else f"{name}: lost"
        for name in sorted(found.keys() | wanted.keys())
        if name not in found or name not in wanted or not same(found[name], wanted[name])
    ]


def by_id(study: Study) -> dict[str, Record]:
    return {record.run_id: record for record in study.store.read_all()}


def same(one: Record, other: Record) -> bool:
    facts = ("search", "trial", "scenario", "state", "reason", "config", "best_epoch", "epochs")
    return (
        all(getattr(one, name) == getattr(other, name) for name in facts)
        and one.metrics.keys() == other.metrics.keys()
        and all(isclose(x, other.metrics[n], abs_tol=1e-5) for n, x in one.metrics.items())
    )


def bitwise(study: Study, reference: Study) -> bool:
    found, wanted = by_id(study), by_id(reference)
    return all(found[n].metrics == r.metrics for n, r in wanted.items() if n in found)


def measure(settings: Settings) -> list[Row]:
    os.environ.update(RAY_ENVIRONMENT | {"RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"})
    rng = random.Random(settings.seed)
    random.seed(settings.seed)
    nodes, rows = Nodes(), list[Row]()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        save_packed(place / "data", num_samples=settings.samples)
        references: dict[str, Study] = {}
        number = 0
        while len(rows) < settings.kills:
            launcher = settings.launchers[number % len(settings.launchers)]
            if launcher not in references:
                references[launcher] = Study(place / f"whole-{launcher}", nodes, settings, launcher)
                references[launcher].end()
            count = min(settings.kills_per_study, settings.kills - len(rows))
            kills = draw(settings, launcher, count, rng)
            study = Study(place / f"{number}", nodes, settings, launcher)
            found = disturbed(study, kills)
            unlike = differences(study, references[launcher])
            print("\n".join(unlike), flush=True)
            for row in found:
                row["records unlike"] = len(unlike)
                row["bitwise"] = bitwise(study, references[launcher])
                print(json.dumps({"study": number, **row}), flush=True)
            rows += [{"study": number, **row} for row in found]
            number += 1
    nodes.cluster.shutdown()
    return rows


if __name__ == "__main__":
    settings = tyro.cli(Settings, description=__doc__)
    publish("chaos", "A study that is killed again and again", measure(settings), settings)
