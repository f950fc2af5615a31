"""What a search strategy saves: strategies replayed on learning curves that were trained once.

Run       python tests/benchmarks/replay.py
Makes     runs/benchmarks/replay.json, .md: epochs until the target, and regret after budgets
Data      tests/benchmarks/curves.parquet, made by curves.py: configs x nine scenarios x epochs

Every strategy runs with the study's own searcher, referee and records; only training is replaced
by the curve of the nearest config that its search has not tried. The score of a search at some
moment is the mean over the nine scenarios of the one config that it would then hand out. Nine
searches, one per scenario, hold up to nine best configs, of which the best one has to be found:
each is trained in the eight other scenarios, and that is added to what they spent. The target is
reached within 0.2 points of the best stored config.
"""

import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import tyro
from bench import Row, publish

from dfpl.config import RunConfig
from dfpl.data.scenario import Scenario, parse_scenarios
from dfpl.model import SEARCH_SPACE, Config
from dfpl.study.halving import SuccessiveHalving
from dfpl.study.objective import Kind, Objective
from dfpl.study.race import LEVEL, Race
from dfpl.study.records import Record, RecordStore
from dfpl.study.rounds import Ask, Describing, Referee, Rounds
from dfpl.study.samplers import Sampler, share_of
from dfpl.study.searcher import OptunaSearcher, Strategy
from dfpl.study.space import Point, distributions
from dfpl.study.suggestion import Suggestion

CURVES = Path(__file__).with_name("curves.parquet")
WITHIN = 0.002
SPACE = distributions(SEARCH_SPACE)


@dataclass(frozen=True)
class Settings:
    seeds: int = 20
    """Random seeds of every strategy."""
    budgets: tuple[int, ...] = (81, 162, 324, 648, 1296, 2592, 5184)
    """Epochs after which the regret is told; 81 are one config, whole, in all scenarios."""
    processes: int = 2
    curves: str = str(CURVES)


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A strategy of search by name."""

    name: str
    kind: Kind
    sampler: Sampler = "tpe"
    halving: bool = False
    race: float = 0.0
    transfer: int = 0
    earlier: bool = False
    """Whether it starts from a search in both-50 alone, whose epochs count."""
    prior: float = 0.0


CONTENDERS = [
    Contender(name="random, whole", kind="mean", sampler="random"),
    Contender(name="nine searches", kind="each"),
    Contender(name="nine searches + ASHA", kind="each", halving=True),
    Contender(name="nine searches + ASHA + transfer", kind="each", halving=True, transfer=3),
    Contender(name="one search, whole", kind="mean"),
    Contender(name="one search + ASHA", kind="mean", halving=True),
    Contender(name="one search + racing", kind="mean", race=LEVEL),
    Contender(name="one search + ASHA + racing", kind="mean", halving=True, race=LEVEL),
    Contender(
        name="one search + ASHA + racing + transfer",
        kind="mean",
        halving=True,
        race=LEVEL,
        transfer=3,
        earlier=True,
    ),
    Contender(
        name="one search + ASHA + racing + priors", kind="mean", halving=True, race=LEVEL, prior=2.0
    ),
]


class Curves:
    """The stored learning curves."""

    def __init__(self, path: Path) -> None:
        frame: Any = pd.read_parquet(path)
        wide = frame.pivot_table("accuracy", ["config", "scenario"], "epoch")
        counts = wide.groupby("config").size()
        self.scenarios = parse_scenarios("all")
        self.configs = [int(c) for c in counts.index[counts == len(self.scenarios)]]
        order = [str(scenario) for scenario in self.scenarios]
        self.accuracy = np.stack([wide.loc[c].loc[order].to_numpy() for c in self.configs])
        self.best_so_far = np.maximum.accumulate(self.accuracy, axis=2)  # config, scenario, epoch
        points = frame.drop_duplicates("config").set_index("config").loc[self.configs]
        self.points: list[Point] = [
            {name: row[name] for name in SPACE} for row in points.to_dict("records")
        ]
        for point in self.points:
            point["method.num_prototypes"] = int(point["method.num_prototypes"])
        self.places = np.array([unit(point) for point in self.points])

    @cached_property
    def score(self) -> np.ndarray:
        """The mean over scenarios of each config, trained whole."""
        return self.best_so_far[:, :, -1].mean(axis=1)

    @property
    def epochs(self) -> int:
        return self.accuracy.shape[2]

    def nearest(self, point: Point, used: set[int]) -> int:
        """The config nearest to a point, in shares of the ranges, that is not used."""
        distance = ((self.places - unit(point)) ** 2).sum(axis=1)
        distance[list(used)] = inf
        return int(distance.argmin())


def unit(point: Point) -> np.ndarray:
    return np.array([share_of(SPACE[name], point[name]) for name in SPACE])


class OnCurves(OptunaSearcher):
    """The study's searcher, whose suggestions are moved to stored configs."""

    def __init__(self, curves: Curves, **settings: Any) -> None:
        self.curves = curves
        self.used: dict[str, set[int]] = {}
        super().__init__(**settings)

    def _ask(self, search: Any, point: Point | None) -> optuna.Trial:
        name = search.study.study_name
        used = self.used.setdefault(name, set())
        if point is None:
            drawn = super()._ask(search, None)
            point = dict(drawn.params)
            search.study.tell(drawn, None, optuna.trial.TrialState.FAIL)  # samplers skip it
        config = self.curves.nearest(point, used)
        used.add(config)
        return super()._ask(search, self.curves.points[config])


@dataclass
class Replay:
    """One strategy with one seed: after each run, epochs spent and the score so far."""

    curves: Curves
    contender: Contender
    seed: int
    spent: int = 0
    history: list[tuple[int, float]] = field(default_factory=list)
    winners: dict[str, tuple[float, int]] = field(default_factory=dict)
    """By search, the value and the config of its best complete trial."""

    def run(self, folder: Path) -> None:
        contender, curves = self.contender, self.curves
        earlier = ""
        if contender.earlier:
            earlier = str(folder / "earlier")
            first = Contender(name="", kind="each", halving=True)
            trials = list(self._search(first, [Scenario.parse("both-50")], Path(earlier), 16, ""))
            self.winners.clear()
            del trials
        for _ in self._search(
            contender, curves.scenarios, folder / "study", len(curves.configs), earlier
        ):
            taken = list({config for _, config in self.winners.values()})
            if taken:
                scored = (len(curves.scenarios) - 1) * curves.epochs * len(taken)
                cost = self.spent + (scored if contender.kind == "each" else 0)
                self.history.append((cost, float(curves.score[taken].max())))

    def _search(
        self, how: Contender, scenarios: list[Scenario], folder: Path, trials: int, earlier: str
    ) -> Iterator[Suggestion]:
        """Play the trials of a study one after another."""
        objective = Objective(kind=how.kind)
        base = base_run(self.curves, self.seed)
        blocks = objective.searches(scenarios, base.seed)
        store = RecordStore(folder)
        searcher = OnCurves(
            self.curves,
            base=base,
            space=SEARCH_SPACE,
            objective=objective,
            scenarios=scenarios,
            trials=trials,
            store=store,
            strategy=Strategy(
                sampler=how.sampler,
                transfer=how.transfer,
                transfer_from=earlier,
                prior_weight=how.prior,
            ),
        )
        names = {name: [block.name for block in found] for name, found in blocks.items()}
        grace = 1 if how.halving else self.curves.epochs
        judge = Referee(
            SuccessiveHalving(epochs=self.curves.epochs, grace=grace),
            Race(objective=objective, blocks=names, level=how.race),
        )
        while isinstance(searcher.suggest("now"), dict):
            suggestion = searcher.running["now"][0]
            rounds = Rounds(
                base=base,
                objective=objective,
                searches=blocks,
                store=store,
                judge=judge,
                train=partial(self._train, suggestion, store, searcher),
                tell=partial(searcher.on_trial_result, "now"),
            )
            last = rounds.play(suggestion)
            searcher.on_trial_complete("now", last)
            if last["state"] == "complete":
                entry = (last["value"], self._config(suggestion.point))
                best = self.winners.get(suggestion.search, entry)
                self.winners[suggestion.search] = max(best, entry, key=lambda one: one[0])
            yield suggestion

    def _config(self, point: Point) -> int:
        return self.curves.nearest(point, set())

    def _train(
        self,
        suggestion: Suggestion,
        store: RecordStore,
        searcher: OnCurves,
        run: RunConfig,
        ask: Ask,
        describe: Describing,
    ) -> Record:
        """Read a curve epoch by epoch, as far as the referee lets it go."""
        names = [str(scenario) for scenario in self.curves.scenarios]
        curve = self.curves.best_so_far[
            self._config(suggestion.point), names.index(str(run.scenario))
        ]
        done, goes_on = 0, True
        while done < len(curve) and goes_on:
            done += 1
            row = {"epoch": done, "value": float(curve[done - 1])}
            searcher.on_trial_result("now", describe(row))
            goes_on = ask(row)
        self.spent += done
        record = Record(
            run_id=run.run_id,
            study="replay",
            search=suggestion.search,
            trial=suggestion.number,
            scenario=str(run.scenario),
            state="complete" if done == len(curve) else "pruned",
            value=float(curve[done - 1]),
            epochs=done,
            config=run.to_dict(),
        )
        store.save(record, [], None)
        return record


def base_run(curves: Curves, seed: int) -> RunConfig:
    return RunConfig.from_dict(
        {
            "dataset": "curves",
            "data_hash": "0",
            "method": Config().with_values({"width": 32}).to_dict(),
            "scenario": Scenario(pattern="both", rate=0.5).to_dict(),
            "seed": seed,
        }
    ).with_values({"optim.epochs": curves.epochs})


def replay(task: tuple[Path, Contender, int]) -> list[tuple[int, float]]:
    path, contender, seed = task
    shared = Path("/dev/shm")  # small files, forgotten afterwards: faster in memory
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        one = Replay(Curves(path), contender, seed)
        one.run(Path(folder))
    return one.history


def measure(settings: Settings) -> list[Row]:
    path = Path(settings.curves)
    curves = Curves(path)
    tasks = [(path, contender, seed) for contender in CONTENDERS for seed in range(settings.seeds)]
    with ProcessPoolExecutor(settings.processes) as pool:
        histories = list(pool.map(replay, tasks))
    rows, reference = [], np.array([])
    for at, contender in enumerate(CONTENDERS):
        own = histories[at * settings.seeds : (at + 1) * settings.seeds]
        needed = np.array([epochs_to(history, curves.score.max() - WITHIN) for history in own])
        if contender.name == "nine searches":
            reference = needed
        rows.append(row_of(contender.name, needed, own, curves, settings))
    for row, at in zip(rows, range(len(rows)), strict=True):
        own = histories[at * settings.seeds : (at + 1) * settings.seeds]
        needed = np.array([epochs_to(history, curves.score.max() - WITHIN) for history in own])
        row["nine searches / this"] = shown_ratio(reference, needed)
    return rows


def epochs_to(history: list[tuple[int, float]], target: float) -> float:
    """Epochs spent until the score stays at the target or above; infinite if it never does."""
    spent = inf
    for epochs, score in reversed(history):
        if score < target - 1e-9:
            break
        spent = epochs
    return spent


def regret_at(history: list[tuple[int, float]], budget: int, best: float) -> float:
    scores = [score for epochs, score in history if epochs <= budget]
    return 100 * (best - scores[-1]) if scores else 100 * best


def row_of(
    name: str,
    needed: np.ndarray,
    histories: list[list[tuple[int, float]]],
    curves: Curves,
    settings: Settings,
) -> Row:
    row: Row = {"strategy": name, "epochs to target": quartiles(needed)}
    row["reached"] = f"{np.isfinite(needed).mean():.0%}"
    row["epochs for all configs"] = round(float(np.median([h[-1][0] for h in histories])))
    for budget in settings.budgets:
        regrets = np.array([regret_at(h, budget, curves.score.max()) for h in histories])
        row[f"regret at {budget}"] = mean_with_interval(regrets)
    return row


def quartiles(values: np.ndarray) -> str:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75], method="nearest")
    return f"{middle:.0f} [{low:.0f}, {high:.0f}]"


def mean_with_interval(values: np.ndarray) -> str:
    """Mean over seeds and its 95 % interval by bootstrap."""
    draws = np.random.default_rng(0).choice(values, (2000, len(values))).mean(axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return f"{values.mean():.2f} [{low:.2f}, {high:.2f}]"


def shown_ratio(above: np.ndarray, below: np.ndarray) -> str:
    """Ratio of medians over seeds, with its 95 % interval by bootstrap of both."""
    random = np.random.default_rng(0)
    shape = (2000, len(above))
    draws = np.quantile(random.choice(above, shape), 0.5, axis=1, method="nearest")
    draws = draws / np.quantile(random.choice(below, shape), 0.5, axis=1, method="nearest")
    middle = np.median(above) / np.median(below)
    low, high = np.quantile(draws, [0.025, 0.975])
    return f"{middle:.1f} [{low:.1f}, {high:.1f}]"


if __name__ == "__main__":
    settings = tyro.cli(Settings, description=__doc__)
    publish("replay", "Search strategies on stored curves", measure(settings), settings)
