"""The driver of a study: a search or a list of runs on Ray, and what it prints."""

import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from ray import tune

from dfpl.compute import Compute
from dfpl.config import RunConfig
from dfpl.data.packed import DataError
from dfpl.data.scenario import Scenario, parse_scenarios
from dfpl.fields import ConfigError, SearchSpace, flatten
from dfpl.memory import estimate
from dfpl.method import load as load_method
from dfpl.smallest import told
from dfpl.storage import StorageError
from dfpl.study.best import export, table
from dfpl.study.closing import open_again
from dfpl.study.connection import RAY_ENVIRONMENT, connect
from dfpl.study.fifo import Fifo
from dfpl.study.halving import SuccessiveHalving
from dfpl.study.launch import Launch
from dfpl.study.listing import Listing
from dfpl.study.lock import driving
from dfpl.study.objective import Block, Objective
from dfpl.study.plan import Plan, Prepared, SearchOptions, SweepOptions, given, prepare
from dfpl.study.progress import Progress, console
from dfpl.study.race import Race
from dfpl.study.records import RecordStore
from dfpl.study.resources import fit_to_cluster
from dfpl.study.searcher import OptunaSearcher, Strategy
from dfpl.study.session import Session
from dfpl.study.stopping import Gate, SignalledError, Stopping, leave
from dfpl.study.suggestion import Suggestion, ended, trial_name
from dfpl.study.tuning import (
    RefereeActor,
    SearchSettings,
    SweepSettings,
    tune_run,
    tune_trial,
)
from dfpl.study.view import View

Trial = Callable[[dict[str, Any], SearchSettings], None]
DRIVER_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # signals are heard by dfpl.study.stopping
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


def main(plan: Plan, argv: Sequence[str] | None = None) -> None:
    """Run a study from the command line; ends the process with 2 on a wrong choice."""
    with complaints_end_with_2():
        study(plan, list(sys.argv[1:] if argv is None else argv))


@contextmanager
def complaints_end_with_2() -> Iterator[None]:
    """Prepare the environment of a study, and turn what a person chose wrongly into a line."""
    for name, value in {**RAY_ENVIRONMENT, **DRIVER_ENVIRONMENT}.items():
        os.environ.setdefault(name, value)
    try:
        yield
    except (ConfigError, DataError, StorageError) as error:
        console.print(f"error: {error}", style="bold red", markup=False)
        sys.exit(2)
    except SignalledError as ended:
        leave(ended.status)
    except KeyboardInterrupt:
        leave(130)


def study(plan: Plan, arguments: list[str]) -> None:
    """Search, then print and export the best configs."""
    ready = prepare(plan, SearchOptions(), arguments)
    space = _space(ready.base.method.name, arguments)
    options: SearchOptions = ready.options
    scenarios = parse_scenarios(options.scenarios)
    objective = Objective(kind=options.objective, share=options.worst_share, seeds=options.seeds)
    facts = {"objective": asdict(objective), "space": json.loads(json.dumps(space))}
    if objective.kind != "each":
        facts["scenarios"] = options.scenarios
    launch = _launch(ready, facts)
    search(ready.base, space, scenarios, objective, options, launch)
    store = launch.store
    console.print(table(store))
    export(store, store.root)
    where = store.root.root
    console.print(
        f"best configs  {where}/best.json   (dfpl train {where}/best.json)\n"
        f"records       {where}/records     (dfpl.study.records.load({where!r}))\n"
        f"Ray's view    {where}/ray\n"
        f"TensorBoard   tensorboard --logdir {where}/ray"
    )


def sweep_main(
    plan: Plan,
    runs: Callable[[RunConfig, Any], list[RunConfig]],
    read_by: str,
    options: SweepOptions | None = None,
    facts: Callable[[RunConfig, Any], dict[str, Any]] | None = None,
) -> None:
    """Train the runs that a study makes of its base run and its options, of its own class where it
    gives one; each run with every seed from --seed on. `facts`, made of the same, is what
    study.json says besides the base run as typed, or, as "base", in its place."""
    with complaints_end_with_2():
        ready = prepare(plan, options or SweepOptions(), sys.argv[1:])
        wanted = [
            run.with_values({"seed": seed})
            for run in runs(ready.base, ready.options)
            for seed in range(ready.base.seed, ready.base.seed + ready.options.seeds)
        ]
        launch = _launch(ready, facts(ready.base, ready.options) if facts else {})
        sweep(plan.name, wanted, launch)
    console.print(f"now: python -m {read_by} {launch.store.root}")


def _launch(ready: Prepared, facts: dict[str, Any]) -> Launch:
    """Note what the study is, join or start Ray, and say what runs where."""
    store, options = RecordStore(ready.root), ready.options
    if ready.compute != Compute():
        facts = {**facts, "compute": asdict(ready.compute)}
    _same_study_as_before(store, ready.base, facts)
    aside = ThreadPoolExecutor(1)  # its imports take as long as Ray takes to start
    memory = aside.submit(estimate, ready.base, ready.packed.schema, options.workers)
    connect()
    resources = fit_to_cluster(
        options.workers,
        options.gpus_per_worker,
        options.concurrent,
        options.launcher,
        options.hung_after_s,
    )
    packed = ready.packed
    groups = packed.sample["group"].to_numpy()
    console.print(
        f"data      {ready.data} ({len(packed)} samples, {packed.schema.num_classes} classes)\n"
        f"study     {ready.root}\nresources {resources}\n"
        f"memory    {memory.result()}\n"
        f"test      {told(groups[packed.rows('test')], packed.schema.task)}"
    )
    return Launch(
        store=store,
        data=ready.data,
        resources=resources,
        compute=ready.compute,
        checkpoint_every_s=options.checkpoint_every_s,
    )


def search(
    base: RunConfig,
    space: SearchSpace,
    scenarios: list[Scenario],
    objective: Objective,
    options: SearchOptions,
    launch: Launch,
    trial: Trial = tune_trial,
) -> tune.ResultGrid:
    """All trials of a study through Tune. The same call again goes on where it ended.

    `trial` is what a trial's actor does; a simulation gives its own.
    """
    searches = objective.searches(scenarios, base.seed)
    with _in_order(launch.store) as stopping:
        searcher = _searcher(base, space, scenarios, objective, options, launch.store)
        settings = SearchSettings(
            **vars(launch),
            base=base,
            objective=objective,
            searches=searches,
            referee=_referee(base.optim.epochs, objective, options, searches, launch.store),
            rungs=_halving(base.optim.epochs, options).rungs,
        )
        tuning = tune.TuneConfig(
            metric="value",
            mode="max",
            scheduler=Fifo(),
            search_alg=Gate(searcher, stopping),
            num_samples=-1,  # the searcher ends: it may suggest a trial again
            max_concurrent_trials=launch.resources.concurrent,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
            reuse_actors=launch.resources.launcher != "train",
        )
        trainable = tune.with_parameters(trial, settings=settings)
        asked = Session(
            name="search",
            trials=dict.fromkeys(searches, options.trials),
            concurrent=launch.resources.concurrent,
        )
        return _tune("ray", trainable, tuning, launch, asked, stopping)


def _searcher(
    base: RunConfig,
    space: SearchSpace,
    scenarios: list[Scenario],
    objective: Objective,
    options: SearchOptions,
    store: RecordStore,
) -> OptunaSearcher:
    url = options.optuna_storage
    return OptunaSearcher(
        base=base,
        space=space,
        objective=objective,
        scenarios=scenarios,
        trials=options.trials,
        store=store,
        strategy=Strategy(
            sampler=options.sampler,
            transfer=options.transfer,
            transfer_from=options.transfer_from,
            prior_weight=options.prior_weight,
        ),
        view=View(url, store.name, _say) if url else None,
    )


def sweep(name: str, runs: list[RunConfig], launch: Launch) -> tune.ResultGrid:
    """Train a list of runs, each whole; finished ones are not repeated. Refuses a run listed
    twice."""
    ids = [run.run_id for run in runs]
    twice = {run_id for run_id, count in Counter(ids).items() if count > 1}
    if twice:
        raise ConfigError(f"{name} lists {len(twice)} runs twice, e.g. {min(twice)}")
    settings = SweepSettings(**vars(launch), name=name, runs=runs)
    trainable = tune.with_parameters(tune_run, settings=settings)
    asked = Session(
        name=name,
        trials={name: len(runs)},
        runs={name: ids},
        concurrent=launch.resources.concurrent,
    )
    with _in_order(launch.store) as stopping:
        tuning = tune.TuneConfig(
            metric="value",
            mode="max",
            scheduler=Fifo(),
            search_alg=Gate(Listing(name, runs, launch.store), stopping),
            num_samples=-1,
            max_concurrent_trials=launch.resources.concurrent,
            reuse_actors=launch.resources.launcher != "train",
        )
        return _tune(f"ray_{name}", trainable, tuning, launch, asked, stopping)


@contextmanager
def _in_order(store: RecordStore) -> Iterator[Stopping]:
    """Hold the study while it is driven; raises what ended it before its time."""
    stopping = Stopping()
    open_again()
    with driving(store.root, _say, stopping.because), stopping.on_signals(_say):
        if torn := store.set_aside_torn():
            _say(
                f"{len(torn)} files could not be read and are now called .torn, e.g. {torn[0]}: "
                "what they held is made again"
            )
        yield stopping
    stopping.end()


def _tune(
    name: str,
    trainable: Any,
    tuning: tune.TuneConfig,
    launch: Launch,
    asked: Session,
    stopping: Stopping,
) -> tune.ResultGrid:
    root = launch.store.root
    root.delete_folder(name)  # a view: Tune shows finished trials again
    for loud in ("tune", "execution.experiment_state", "experiment.trial"):  # about that view
        logging.getLogger(f"ray.tune.{loud}").setLevel(logging.CRITICAL)
    progress = Progress(asked, root)
    tuner = tune.Tuner(
        tune.with_resources(trainable, launch.resources.of_trial()),
        tune_config=tuning,
        run_config=tune.RunConfig(
            name=name,
            storage_path=root.path if root.is_local else root.root,
            callbacks=[progress, stopping],
            stop=stopping,
            verbose=0,
        ),
    )
    with progress:
        return tuner.fit()


def _halving(epochs: int, options: SearchOptions) -> SuccessiveHalving:
    return SuccessiveHalving(epochs=epochs, grace=options.grace or max(1, epochs // 9))


def _referee(
    epochs: int,
    objective: Objective,
    options: SearchOptions,
    searches: dict[str, list[Block]],
    store: RecordStore,
) -> Any:
    """The actor that trials ask; it knows what the finished ones of these searches reached."""
    halving = _halving(epochs, options)
    names = {name: [block.name for block in blocks] for name, blocks in searches.items()}
    race = Race(objective=objective, blocks=names, level=options.race_level)
    for suggestion in Suggestion.read_all(store.root):
        found = ended(suggestion, objective, store)
        if suggestion.search in searches and found is not None:
            for row in store.epochs(suggestion.run_ids[0]):
                place = (suggestion.run_ids[0], suggestion.blocks[0].partition("/")[0])
                halving.go_on(*place, int(row["epoch"]), row["value"])
            if found.outcome.state == "complete":
                race.note(suggestion.search, suggestion.number, found.met)
    return RefereeActor.remote(halving, race)


def _say(text: str) -> None:
    console.print(text, markup=False)


def _trial_name(trial: Any) -> str:
    return trial_name(trial.config["search"], trial.config["trial"])


def _space(method: str, arguments: list[str]) -> SearchSpace:
    """The method's search space without what was typed: that is fixed."""
    space = load_method(method).SEARCH_SPACE
    if not space:
        raise ConfigError(f"{method} has nothing to search; train it with dfpl train instead")
    fixed = given(arguments) & set(space)
    if fixed:
        console.print(f"fixed     {', '.join(sorted(fixed))}: given, so not searched")
    left = {name: wanted for name, wanted in space.items() if name not in fixed}
    if not left:
        raise ConfigError("every searched field was given; train one run with dfpl train instead")
    return left


def _same_study_as_before(store: RecordStore, base: RunConfig, facts: dict[str, Any]) -> None:
    """Note what the study is; refuse to mix two studies in one folder."""
    now = {"base": base.to_dict(), **facts}
    del now["base"]["scenario"]
    try:
        found = store.root.read_json("study.json")
    except FileNotFoundError:
        found = now
    except ValueError:
        store.root.set_aside("study.json")
        found = now
    before, after = dict(flatten(found)), dict(flatten(now))
    names = sorted(n for n in before | after if before.get(n) != after.get(n))
    if names:
        changes = ", ".join(f"{n} was {before.get(n)}, is {after.get(n)}" for n in names)
        raise ConfigError(
            f"{store.root} holds another study ({changes}); give this one its own --name"
        )
    store.root.write_json("study.json", now)
