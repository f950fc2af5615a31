"""The driver of a study: its options, its data, the search on Ray, and what it prints."""

import dataclasses
import hashlib
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import ray
import tyro
from ray import tune

from dfpl.config import AugmentConfig, Metric, OptimConfig, RunConfig
from dfpl.data.packed import DataError, PackedDataset
from dfpl.data.report import columns_table
from dfpl.data.scenario import Scenario, parse_scenarios
from dfpl.data.sources import load as load_source
from dfpl.fields import ConfigError, SearchSpace, flatten
from dfpl.method import load as load_method
from dfpl.storage import Storage, StorageError
from dfpl.study.best import export, table
from dfpl.study.objective import Objective, groups
from dfpl.study.progress import Progress, console
from dfpl.study.records import RecordStore
from dfpl.study.resources import fit_to_cluster
from dfpl.study.searcher import OptunaSearcher
from dfpl.study.tuning import (
    HalvingActor,
    Launch,
    SearchSettings,
    SweepSettings,
    tune_run,
    tune_trial,
)

RAY_ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # one report of a worker per interval
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}
DRIVER_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "5",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options that every study has."""

    data: str = ""
    """Folder of the data, raw or packed, the same path on every node. Empty: look-alike data is
    written and used."""
    scenarios: str = "all"
    """`all` nine of Table I, or a comma-separated list such as `both-50,tabular-70`."""
    objective: Objective = "each"
    """`each`: a best config per scenario. `mean`, `worst`: one config, judged by its mean or its
    worst over the scenarios."""
    trials: int = 32
    """Trials per search (per scenario under `each`); the paper's config is the first of them."""
    epochs: int | None = None
    """Passes over the training split; short for --optim.epochs."""
    workers: int = 1
    """Data-parallel workers per trial."""
    gpus_per_worker: float | None = None
    """GPUs per worker; fractions share one GPU between trials. Default: 1 where there are GPUs."""
    concurrent: int | None = None
    """Trials at once. Default: as many as fit."""
    grace: int | None = None
    """Epochs that every trial may run before ASHA compares it; as many as --epochs switches ASHA
    off. Default: a ninth of the epochs."""
    storage: str = "runs"
    """Folder or URI (s3://, gs://) below which results go, the same on every node."""
    name: str = ""
    """Name of the study's folder. Default: that of the script."""
    checkpoint_every_s: float = 30.0
    """Least seconds between two checkpoints of a run."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a study script says about itself."""

    name: str
    source: str
    """Adapter of the data: the name of a file in `dfpl/data/sources`."""
    base: dict[str, Any]
    """Values of the base run that differ from the defaults, by dotted name."""
    on_twin: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Values of the base run where the look-alike data is used, so that a laptop is enough."""
    method: str = "dfpl"
    raw_option: str = ""
    """Name of a further option that holds the raw data, where --data is for packed data alone."""
    raw_help: str = ""


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


def study(plan: Plan, arguments: list[str]) -> None:
    """Search, then print and export the best configs."""
    options = _parse(plan, arguments)
    scenarios = parse_scenarios(options.study.scenarios)
    _check_numbers(options.study)
    root = Storage(_storage(options.study.storage)) / (options.study.name or plan.name)
    root.prove_writable()
    data, packed = _data(plan, options, root)
    base = _base_run(plan, options, packed, scenarios[0])
    space = _space(plan, arguments)
    store = RecordStore(root)
    _same_study_as_before(store, base, space, options.study)
    connect()
    resources = fit_to_cluster(
        options.study.workers, options.study.gpus_per_worker, options.study.concurrent
    )
    console.print(f"data      {data} ({len(packed)} samples, {packed.schema.num_classes} classes)")
    console.print(f"study     {root}\nresources {resources}")
    launch = Launch(
        store=store,
        data=data,
        resources=resources,
        checkpoint_every_s=options.study.checkpoint_every_s,
    )
    search(base, space, scenarios, options.study, launch)
    console.print(table(store))
    export(store, root)
    where = root.root
    console.print(
        f"best configs  {where}/best.json   (dfpl train {where}/best.json)\n"
        f"records       {where}/records     (dfpl.study.records.load({where!r}))\n"
        f"Ray's view    {where}/ray\n"
        f"TensorBoard   tensorboard --logdir {where}/ray"
    )


def search(
    base: RunConfig,
    space: SearchSpace,
    scenarios: list[Scenario],
    options: Options,
    launch: Launch,
) -> tune.ResultGrid:
    """All trials of a study through Tune. The same call again goes on where it ended."""
    searches = groups(options.objective, scenarios)
    searcher = OptunaSearcher(
        base=base,
        space=space,
        objective=options.objective,
        scenarios=scenarios,
        trials=options.trials,
        store=launch.store,
    )
    settings = SearchSettings(
        **vars(launch),
        base=base,
        objective=options.objective,
        searches=searches,
        halving=_halving(base.optim.epochs, options.grace, launch.store, set(searches)),
    )
    tuning = tune.TuneConfig(
        metric="value",
        mode="max",
        search_alg=searcher,
        num_samples=options.trials * len(searches),
        max_concurrent_trials=launch.resources.concurrent,
        trial_name_creator=_trial_name,
        trial_dirname_creator=_trial_name,
        reuse_actors=launch.resources.launcher == "inline",
    )
    trainable = tune.with_parameters(tune_trial, settings=settings)
    return _tune("ray", trainable, tuning, None, launch, options.trials * len(searches))


def sweep(name: str, runs: list[RunConfig], launch: Launch) -> tune.ResultGrid:
    """Train a list of runs, each whole; finished ones are not repeated. Refuses a run listed
    twice."""
    ids = [run.run_id for run in runs]
    twice = {run_id for run_id in ids if ids.count(run_id) > 1}
    if twice:
        raise ConfigError(f"{name} lists {len(twice)} runs twice, e.g. {min(twice)}")
    settings = SweepSettings(**vars(launch), name=name, runs=runs)
    tuning = tune.TuneConfig(
        metric="value",
        mode="max",
        max_concurrent_trials=launch.resources.concurrent,
        reuse_actors=launch.resources.launcher == "inline",
    )
    trainable = tune.with_parameters(tune_run, settings=settings)
    space = {"run": tune.grid_search(list(range(len(runs))))}
    results = _tune(f"ray_{name}", trainable, tuning, space, launch, len(runs))
    for number, run in enumerate(runs):
        if launch.store.read(run.run_id) is None:
            launch.store.fail(run, name, number, "its process ended without a record")
    return results


def _tune(
    name: str,
    trainable: Any,
    tuning: tune.TuneConfig,
    space: dict[str, Any] | None,
    launch: Launch,
    total: int,
) -> tune.ResultGrid:
    root = launch.store.root
    root.delete_folder(name)  # a view: Tune shows finished trials again
    tuner = tune.Tuner(
        tune.with_resources(trainable, launch.resources.of_trial()),
        param_space=space,
        tune_config=tuning,
        run_config=tune.RunConfig(
            name=name,
            storage_path=root.path if root.is_local else root.root,
            failure_config=tune.FailureConfig(max_failures=2),
            callbacks=[Progress(total)],
            verbose=0,
        ),
    )
    return tuner.fit()


def _halving(epochs: int, grace: int | None, store: RecordStore, searches: set[str]) -> Any:
    """The actor that runs ask; it knows what the finished runs of these searches reached."""
    halving = HalvingActor.remote(epochs=epochs, grace=grace or max(1, epochs // 9))
    for record in store.read_all():
        if record.search in searches:
            for row in store.epochs(record.run_id):
                place = (record.run_id, record.scenario, int(row["epoch"]))
                halving.go_on.remote(*place, row["value"])
    return halving


def _trial_name(trial: Any) -> str:
    return f"{trial.config['search']}-{trial.config['trial']:05d}"


def _parse(plan: Plan, arguments: list[str]) -> Any:
    """Read the options of this study: the common ones, the source's, and the base run's."""
    method = load_method(plan.method).Config
    source = load_source(plan.source).Options
    on_twin = not _given(arguments) & {"data", plan.raw_option}
    base = {**plan.base, **plan.on_twin} if on_twin else plan.base
    raw = [(plan.raw_option, Annotated[str, tyro.conf.arg(help=plan.raw_help)], "")]
    fields: list[tuple[str, Any, Any]] = [
        ("study", tyro.conf.OmitArgPrefixes[Options], Options()),
        *(raw if plan.raw_option else []),
        ("source", tyro.conf.OmitArgPrefixes[source], _with(source(), base, "source.")),
        ("method", method, _with(method(), base, "method.")),
        ("optim", OptimConfig, _with(OptimConfig(), base, "optim.")),
        ("augment", AugmentConfig, _with(AugmentConfig(), base, "augment.")),
        ("metric", Metric, base.get("metric", "accuracy")),
        ("seed", int, 0),
    ]
    cls = dataclasses.make_dataclass(
        "Study",
        [(name, kind, dataclasses.field(default=default)) for name, kind, default in fields],
        frozen=True,
    )
    main_module: ModuleType = sys.modules["__main__"]
    return tyro.cli(cls, args=arguments, description=main_module.__doc__ or "")


def _with(config: Any, values: dict[str, Any], prefix: str) -> Any:
    own = {name.removeprefix(prefix): v for name, v in values.items() if name.startswith(prefix)}
    return config.with_values(own)


def _check_numbers(options: Options) -> None:
    for name in ("trials", "epochs", "workers", "concurrent", "grace"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name} must be at least 1, got {value}")
    if options.checkpoint_every_s < 0:
        raise ConfigError(
            f"--checkpoint-every-s must be 0 or more, got {options.checkpoint_every_s}"
        )


def _storage(text: str) -> str:
    """A relative folder lies below the current one; in a Ray job, which runs in a throw-away copy
    of the working directory, below the home of the user who started the head."""
    if "://" in text or Path(text).expanduser().is_absolute():
        return text
    in_job = "runtime_resources" in os.getcwd()
    place = Path.home() / text if in_job else Path(text).absolute()
    if in_job:
        console.print(f"--storage {text} is relative: in a Ray job that means {place}")
    return str(place)


def _given(arguments: list[str]) -> set[str]:
    """Names of the options that were typed, as the config spells them."""
    return {a[2:].partition("=")[0].replace("-", "_") for a in arguments if a.startswith("--")}


def _data(plan: Plan, options: Any, root: Storage) -> tuple[Path, PackedDataset]:
    """The packed data of the study: as given, packed now, or look-alike."""
    source = load_source(plan.source)
    place = _place_for_packed(root)
    typed = getattr(options, plan.raw_option or "", options.study.data)
    raw = Path(typed).expanduser()
    if options.study.data and PackedDataset.is_packed(Path(options.study.data).expanduser()):
        packed = Path(options.study.data).expanduser().absolute()
        return packed, PackedDataset.load(packed)
    if not typed:
        if options.study.data:
            raise DataError(
                f"--data {options.study.data} is no packed data set (looked for schema.json there)"
            )
        raw = _twin(plan, place)
    key = json.dumps([str(raw.absolute()), options.source.to_dict(), _tables_of(raw)])
    packed = place / f"{plan.source}-{hashlib.blake2b(key.encode(), digest_size=4).hexdigest()}"
    if not PackedDataset.is_packed(packed):
        console.print(f"packing   {raw} into {packed}")
        if hasattr(source, "describe"):
            console.print(columns_table(source.describe(raw, options.source)))
        source.pack(raw.absolute(), packed, options.source)
    return packed, PackedDataset.load(packed)


def _tables_of(raw: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of the tables: an edited table is another data set, packed again."""
    found = [raw] if raw.is_file() else [*raw.glob("*.csv"), *raw.glob("*/*.csv")]
    return sorted((p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in found)


def _place_for_packed(root: Storage) -> Path:
    """Beside the studies where those lie on a file system, else in the user's cache."""
    return Path(root.path).parent / "data" if root.is_local else Path.home() / ".cache/dfpl"


def _twin(plan: Plan, place: Path) -> Path:
    from dfpl.data.sources import twins

    write = getattr(twins, f"write_{plan.source}", None)
    if write is None:
        name = plan.raw_option or "data"
        raise ConfigError(f"--{name} is needed: it says where the data is")
    raw = place / f"{plan.source}_twin"
    console.print(f"no --data: writing and using look-alike data in {raw}; its results say nothing")
    write(raw, twins.TwinOptions())
    return raw


def _base_run(plan: Plan, options: Any, packed: PackedDataset, scenario: Scenario) -> RunConfig:
    """The run that every trial starts from, and whose searched values are the paper's point."""
    optim = options.optim
    if options.study.epochs is not None:
        optim = optim.with_values({"epochs": options.study.epochs})
    return RunConfig.from_dict(
        {
            "dataset": packed.schema.name,
            "data_hash": packed.schema.content_hash,
            "method": options.method.to_dict(),
            "scenario": scenario.to_dict(),
            "optim": optim.to_dict(),
            "augment": options.augment.to_dict(),
            "metric": options.metric,
            "seed": options.seed,
        }
    )


def _space(plan: Plan, arguments: list[str]) -> SearchSpace:
    """The method's search space without what was typed: that is fixed."""
    space = load_method(plan.method).SEARCH_SPACE
    fixed = _given(arguments) & set(space)
    if fixed:
        console.print(f"fixed     {', '.join(sorted(fixed))}: given, so not searched")
    left = {name: wanted for name, wanted in space.items() if name not in fixed}
    if not left:
        raise ConfigError("every searched field was given; train one run with dfpl train instead")
    return left


def _same_study_as_before(
    store: RecordStore, base: RunConfig, space: SearchSpace, options: Options
) -> None:
    """Note what the study is; refuse to mix two studies in one folder."""
    values = {name: v for name, v in base.to_dict().items() if name != "scenario"}
    ranges = json.loads(json.dumps(space))
    now = {"base": values, "objective": options.objective, "space": ranges}
    if options.objective != "each":
        now["scenarios"] = options.scenarios
    if store.root.exists("study.json"):
        before, after = dict(flatten(store.root.read_json("study.json"))), dict(flatten(now))
        names = sorted(n for n in before | after if before.get(n) != after.get(n))
        if names:
            changes = ", ".join(f"{n} was {before.get(n)}, is {after.get(n)}" for n in names)
            raise ConfigError(
                f"{store.root} holds another study ({changes}); give this one its own --name"
            )
    store.root.write_json("study.json", now)


def connect() -> None:
    """Join the cluster that RAY_ADDRESS names, as it does in a Ray job; else start one for this
    process alone. (Ray's own guess would be the last cluster started here, dead or alive.)"""
    if ray.is_initialized():
        return
    try:
        ray.init(
            address=os.environ.get("RAY_ADDRESS", "local"),
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": RAY_ENVIRONMENT},
        )
    except ConnectionError as error:
        raise ConfigError(f"no Ray cluster could be joined or started: {error}") from None
