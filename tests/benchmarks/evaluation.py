"""What nine scenarios, the curves and 100 mask draws each cost beside one plain evaluation pass.

Run       python tests/benchmarks/evaluation.py
          python tests/benchmarks/evaluation.py --rows 2003 --network resnet50   (on a GPU)
          python tests/benchmarks/evaluation.py --cases table --rows 88207 --classes 286 --rounds 1
Makes     runs/benchmarks/evaluation_passes.json, evaluation_table.json
Shows     passes: the time of one pass in three states with every scenario and draw looked up, over
          that of a plain pass (complete rows, metrics once), and of the naive way over it: a pass
          of the model per scenario and draw. Of the naive way one pass is run per round, and
          counted as many times as there are scenarios and draws.
          table: what each kind of metric costs once the logits are there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
import tyro
from bench import Row, Spread, publish, ratio, take_turns

from dfpl.config import Metric
from dfpl.data.loader import Loader, View
from dfpl.data.packed import PackedDataset, Schema
from dfpl.data.scenario import Scenario, parse_scenarios
from dfpl.encoders.image import ImageNetwork
from dfpl.evaluate import logits_under_scenario, predict_split
from dfpl.intervals import intervals_around
from dfpl.method import Method, build, place
from dfpl.metrics import measure as measure_metrics
from dfpl.model import Config
from dfpl.predictions import STATES, Predictions
from dfpl.robustness import Point, curves, expectations, scores_of_draws

NUMERIC, CATEGORY = 2, 3  # columns, about as in ham10000
KINDS: tuple[tuple[Metric, ...], ...] = (("accuracy", "balanced_accuracy"), ("auroc", "prauc"))


@dataclass(frozen=True)
class Settings:
    cases: tuple[Literal["passes", "table"], ...] = ("passes", "table")
    rows: int = 1000
    """Rows of the split; ham10000 has 2,003 in its test split, DVM-CAR 88,207."""
    classes: int = 7
    scenarios: str = "all,curves"
    draws: int = 100
    network: ImageNetwork = "resnet18"
    image_size: int = 128
    width: int = 512
    batch_size: int = 64
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    threads: int = 1
    rounds: int = 3


def measure(settings: Settings) -> dict[str, list[Row]]:
    torch.set_num_threads(settings.threads)
    kinds = {"passes": passes, "table": table}
    return {case: kinds[case](settings) for case in settings.cases}


def passes(settings: Settings) -> list[Row]:
    """One row per way to evaluate; the look-ups are also timed alone."""
    scenarios = parse_scenarios(settings.scenarios)
    number = len(scenarios) * settings.draws
    method, loader = made_up_model(settings)
    found = predict_split(method, loader, "test")
    points = look_up(found, settings)
    seconds = take_turns(
        {
            "plain": partial(score_once, method, loader),
            "one pass": lambda: look_up(predict_split(method, loader, "test"), settings),
            "of it look-ups": partial(look_up, found, settings),
            "intervals over groups": partial(intervals_around, points, found, draws=settings.draws),
            "naive": partial(naive, method, loader, scenarios[-1]),
        },
        settings.rounds,
        warmup=0,
    )
    seconds["naive"] = [number * each for each in seconds["naive"]]
    return [
        {
            "way": way,
            "passes": {"plain": 1, "one pass": 1, "naive": number}.get(way, 0),
            "scored": 1 if way == "plain" else number,
            "seconds": Spread.of(own),
            "/ plain": ratio(own, seconds["plain"]),
            "naive / it": ratio(seconds["naive"], own),
        }
        for way, own in seconds.items()
    ]


def score_once(method: Method, loader: Loader) -> dict[str, float]:
    logits, packed = logits_under_scenario(method, loader), loader.view.packed
    return measure_metrics(logits, packed.label[loader.view.rows], packed.schema.task)


def look_up(found: Predictions, settings: Settings) -> list[Point]:
    return curves(found, parse_scenarios(settings.scenarios), draws=settings.draws)


def naive(method: Method, loader: Loader, scenario: Scenario) -> dict[str, float]:
    """Read the data under one draw of one scenario, and run the model."""
    view = View.of(loader.view.packed, "test", scenario)
    hidden = Loader(view, loader.statistics, loader.batch_size, loader.device)
    return score_once(method, hidden)


def table(settings: Settings) -> list[Row]:
    """One row per kind of metric: its expectations, its draws, and its intervals over groups."""
    found, scenarios = made_up_predictions(settings), parse_scenarios(settings.scenarios)
    draws = settings.draws
    cases: dict[str, Callable[[], Any]] = {}
    for metrics in KINDS:
        name, own = " and ".join(metrics), curves(found, scenarios, metrics=metrics, draws=1)
        cases[f"{name}: expected"] = partial(expectations, found, scenarios, metrics)
        cases[f"{name}: {draws} draws"] = partial(
            scores_of_draws, found, scenarios, metrics, draws=draws, seed=0
        )
        cases[f"{name}: {draws} draws on other groups"] = partial(
            intervals_around, own, found, draws=draws
        )
    sizes = {"rows": settings.rows, "classes": settings.classes, "scenarios": len(scenarios)}
    return [
        {"what": what, **sizes, "seconds": Spread.of(own)}
        for what, own in take_turns(cases, settings.rounds, warmup=0).items()
    ]


def made_up_model(settings: Settings) -> tuple[Method, Loader]:
    """An untrained model and noise to classify: what it costs does not depend on what it says."""
    torch.manual_seed(0)
    packed = made_up_data(settings)
    config = Config(image_network=settings.network, width=settings.width)
    device = torch.device(settings.device)
    view = View.of(packed, "test")
    loader = Loader(view, view.statistics(), settings.batch_size, device)
    return place(build(config, packed.schema), device), loader


def made_up_data(settings: Settings) -> PackedDataset:
    rng, N, size = np.random.default_rng(0), settings.rows, settings.image_size
    schema = Schema(
        name="made_up",
        class_names=[f"class {c}" for c in range(settings.classes)],
        image_size=size,
        numeric=[f"number {i}" for i in range(NUMERIC)],
        category={f"category {i}": ["a", "b", "c"] for i in range(CATEGORY)},
    )
    sample = pd.DataFrame({"id": [f"s{i}" for i in range(N)], "split": "test"})
    sample["group"], sample["has_image"], sample["has_table"] = sample["id"], True, True
    return PackedDataset(
        schema=schema,
        image=rng.integers(0, 256, (N, size, size, 3), dtype=np.uint8),
        numeric=rng.normal(size=(N, NUMERIC)).astype(np.float32),
        category=rng.integers(2, 5, (N, CATEGORY)).astype(np.int32),
        label=rng.integers(0, settings.classes, N),
        sample=sample,
    )


def made_up_predictions(settings: Settings) -> Predictions:
    """Logits that know less of the label in one state than in another."""
    rng, N, C = np.random.default_rng(0), settings.rows, settings.classes
    label = rng.integers(0, C, N)
    logits = {}
    for state, strength in zip(STATES, (6.0, 4.5, 3.0), strict=True):
        logits[state] = rng.standard_normal((N, C), dtype=np.float32)
        logits[state][np.arange(N), label] += np.float32(strength)
    ids = np.array([f"s{i}" for i in range(N)], dtype=object)
    return Predictions(
        ids=ids,
        groups=ids,
        split=np.full(N, "test", dtype=object),
        label=label,
        present=np.ones((N, 2), dtype=bool),
        logits=logits,
        class_names=tuple(f"class {c}" for c in range(C)),
        task="multiclass",
    )


def main() -> None:
    settings = tyro.cli(Settings, description=__doc__)
    titles = {"passes": "Ways to evaluate", "table": "Look-ups on a table of logits"}
    for case, rows in measure(settings).items():
        publish(f"evaluation_{case}", titles[case], rows, settings)


if __name__ == "__main__":
    main()
