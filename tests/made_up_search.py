"""A made-up search: trials with records, and predictions and epochs of whom a report reads."""

from typing import Any

import numpy as np
from samples import make_packed, make_run

from dfpl.config import RunConfig
from dfpl.data.scenario import Scenario
from dfpl.fields import FloatRange, IntRange, SearchSpace
from dfpl.predictions import STATES, Predictions, concatenate
from dfpl.study.objective import Block
from dfpl.study.records import Record, RecordStore
from dfpl.study.suggestion import Suggestion, run_of

BASE = make_run(make_packed(), optim__epochs=8, optim__warmup=0.1)
SPACE: SearchSpace = {
    "method.alpha": FloatRange(0.01, 10.0, log=True),
    "method.delta": FloatRange(0.0, 0.5),
    "method.num_prototypes": IntRange(2, 15),
}
SECRET = "patient-4711-"
"""Begins the name of every sample and group: none of them may be in a report."""
CLASSES = ("a", "b", "c")


def made_up_search(
    store: RecordStore,
    scenarios: list[str],
    trials: int,
    classes: tuple[str, ...] = CLASSES,
    with_files: int | None = None,
    kind: str = "each",
) -> None:
    """In each scenario so many trials, every third stopped after 3 of 8 epochs, the fifth one
    failed; the highest alpha is best. `with_files`: only the best such many of a scenario, and the
    paper's point, keep predictions and epochs."""
    facts = {"base": _base(), "objective": {"kind": kind}, "space": SPACE}
    store.root.write_json("study.json", facts)
    searches = [[name] for name in scenarios] if kind == "each" else [scenarios]
    for place, own in enumerate(searches):
        random = np.random.default_rng(place)
        points = [_point(random, number) for number in range(trials)]
        kept = sorted(range(trials), key=lambda n: -points[n]["method.alpha"])[:with_files]
        for number, point in enumerate(points):
            search = own[0] if kind == "each" else kind
            files = number == 0 or number in kept
            _trial(store, search, number, point, own, classes if files else None)


def _base() -> dict[str, Any]:
    return {name: value for name, value in BASE.to_dict().items() if name != "scenario"}


def _point(random: np.random.Generator, number: int) -> dict[str, Any]:
    """That of trial 0 is the paper's; those that are stopped or fail have a low alpha."""
    if number == 0:
        return {"method.alpha": 1.0, "method.delta": 0.2, "method.num_prototypes": 3}
    whole = state_of(number) == "complete"
    return {
        "method.alpha": float(10 ** random.uniform(-1 if whole else -2, 1 if whole else -1)),
        "method.delta": float(random.uniform(0, 0.5)),
        "method.num_prototypes": int(random.integers(2, 16)),
    }


def state_of(number: int) -> Any:
    if number == 5:
        return "failed"
    return "pruned" if number % 3 == 2 else "complete"


def _trial(
    store: RecordStore,
    search: str,
    number: int,
    point: dict[str, Any],
    scenarios: list[str],
    classes: tuple[str, ...] | None,
) -> None:
    blocks = [Block(Scenario.parse(name), 0) for name in scenarios]
    runs = [run_of(BASE, point, block) for block in blocks]
    Suggestion(
        number=number,
        search=search,
        point=point,
        blocks=[block.name for block in blocks],
        run_ids=[run.run_id for run in runs],
    ).write(store.root)
    state = state_of(number)
    for run in runs[: 1 if state != "complete" else None]:
        record = record_of(run, search, number, point)
        rows = [{"epoch": e, f"val/{run.metric}": _value(point) * e / 8} for e in range(1, 9)]
        found = predictions_of(_value(point), classes) if classes and state == "complete" else None
        store.save(record, list(rows[: record.epochs]) if classes else [], found)


def _value(point: dict[str, Any]) -> float:
    return float(0.6 + 0.15 * np.log10(point["method.alpha"]) - 0.1 * point["method.delta"])


def record_of(run: RunConfig, search: str, number: int, point: dict[str, Any]) -> Record:
    state = state_of(number)
    value, epochs = _value(point), {"complete": 8, "pruned": 3, "failed": 1}[state]
    return Record(
        run_id=run.run_id,
        study="made_up",
        search=search,
        trial=number,
        scenario=str(run.scenario),
        state=state,
        reason={"pruned": "below the median at epoch 3", "failed": "the objective is NaN"}.get(
            state, ""
        ),
        value=None if state == "failed" else value,
        best_epoch=epochs,
        epochs=epochs,
        config=run.to_dict(),
        metrics={f"val/{run.metric}_low": value - 0.05, f"val/{run.metric}_high": value + 0.05},
        seconds=60.0 * epochs,
        data="/data/made_up",
        versions={"python": "3.11.7", "torch": "2.6", "code": "abc", "commit": "1234567"},
        finished_at=f"2026-11-{1 + number % 28:02d}T12:00:00+00:00",
    )


def predictions_of(strength: float, classes: tuple[str, ...] = CLASSES) -> Predictions:
    """Validation and test of 90 rows each, two per group; the image tells more than the table, and
    the first two test rows lack one of them."""
    return concatenate([_split(name, strength, classes) for name in ("val", "test")])


def _split(split: str, strength: float, classes: tuple[str, ...], N: int = 90) -> Predictions:
    random, C = np.random.default_rng(len(split)), len(classes)
    label = np.arange(N) % C
    present = np.ones((N, 2), dtype=bool)
    present[0, 0] = present[1, 1] = False
    lean = {"both": 3.0, "image": 2.5, "tabular": 1.0}
    logits = {
        state: (lean[state] * strength * np.eye(C)[label] + random.normal(size=(N, C))).astype(
            np.float32
        )
        for state in STATES
    }
    logits["both"][:2] = np.nan
    logits["image"][0] = logits["tabular"][1] = np.nan
    return Predictions(
        ids=np.array([f"{SECRET}{split}{i}" for i in range(N)], dtype=object),
        groups=np.array([f"{SECRET}{split}{i // 2}" for i in range(N)], dtype=object),
        split=np.array([split] * N, dtype=object),
        label=label,
        present=present,
        logits=logits,
        class_names=classes,
        task="multiclass",
    )
