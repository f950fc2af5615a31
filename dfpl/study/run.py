"""The driver of a study: its options, its data, the search on Ray, and what it prints."""

import dataclasses
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import ray
import tyro
from ray import tune
from rich.console import Console

from dfpl.config import AugmentConfig, Metric, OptimConfig, RunConfig
from dfpl.data.packed import DataError, PackedDataset
from dfpl.data.scenario import Scenario, parse_scenarios
from dfpl.data.sources import load as load_source
from dfpl.fields import ConfigError, flatten
from dfpl.method import load as load_method
from dfpl.storage import Storage, StorageError
from dfpl.study.best import export, table
from dfpl.study.halving import SuccessiveHalving
from dfpl.study.objective import Objective, groups
from dfpl.study.progress import Progress
from dfpl.study.records import RecordStore
from dfpl.study.resources import Resources, plan
from dfpl.study.searcher import OptunaSearcher
from dfpl.study.tuning import HalvingActor, TrialSettings, tune_trial

console = Console(highlight=False, soft_wrap=True)


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
    raw: str = "data"
    """Name of the option that holds the raw data."""


def main(plan: Plan, argv: Sequence[str] | None = None) -> None:
    """Run a study from the command line; ends the process with 2 on a wrong choice."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        study(plan, arguments)
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
    data, packed, twin = _data(plan, options, root)
    base = _base_run(plan, options, packed, scenarios[0], twin, arguments)
    space = _space(plan, arguments)
    store = RecordStore(root)
    _same_study_as_before(store, base, options.study.objective)
    _connect(options.study.storage)
    resources = plan_resources(options.study)
    console.print(f"study     {root}\nresources {resources}")
    search(base, space, scenarios, options.study, store, data, resources)
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
    space: Any,
    scenarios: list[Scenario],
    options: Options,
    store: RecordStore,
    data: Path,
    resources: Resources,
) -> tune.ResultGrid:
    """All trials of a study through Tune. The same call again goes on where it ended."""
    searches = groups(options.objective, scenarios)
    searcher = OptunaSearcher(
        base=base,
        space=space,
        objective=options.objective,
        scenarios=scenarios,
        trials=options.trials,
        store=store,
    )
    halving = HalvingActor.remote(_halving(base.optim.epochs, options.grace))
    for record in store.read_all():
        for row in store.epochs(record.run_id):
            halving.go_on.remote(record.run_id, record.scenario, int(row["epoch"]), row["value"])
    settings = TrialSettings(
        base=base,
        objective=options.objective,
        searches=searches,
        store=store,
        data=data,
        resources=resources,
        halving=halving,
        checkpoint_every_s=options.checkpoint_every_s,
    )
    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(tune_trial, settings=settings), resources.of_trial()
        ),
        tune_config=tune.TuneConfig(
            metric="value",
            mode="max",
            search_alg=searcher,
            num_samples=options.trials * len(searches),
            max_concurrent_trials=resources.concurrent,
            reuse_actors=resources.launcher == "inline",
        ),
        run_config=tune.RunConfig(
            name="ray",
            storage_path=store.root.path if store.root.is_local else store.root.root,
            failure_config=tune.FailureConfig(max_failures=2),
            callbacks=[Progress(store, console, options.trials * len(searches))],
            verbose=0,
        ),
    )
    return tuner.fit()


def _halving(epochs: int, grace: int | None) -> SuccessiveHalving:
    if grace is not None and grace < 1:
        raise ConfigError(f"--grace must be at least 1 epoch, got {grace}")
    return SuccessiveHalving(epochs=epochs, grace=grace or max(1, epochs // 9))


def plan_resources(options: Options) -> Resources:
    """The options' wishes, fitted to the connected cluster."""
    return plan(options.workers, options.gpus_per_worker, options.concurrent)


def _parse(plan: Plan, arguments: list[str]) -> Any:
    """Read the options of this study: the common ones, the source's, and the base run's."""
    method = load_method(plan.method).Config
    fields: list[tuple[str, Any, Any]] = [
        ("study", tyro.conf.OmitArgPrefixes[Options], Options()),
        ("source", tyro.conf.OmitArgPrefixes[_source_options(plan)], _source_options(plan)()),
        ("method", method, _with(method(), plan.base, "method.")),
        ("optim", OptimConfig, _with(OptimConfig(), plan.base, "optim.")),
        ("augment", AugmentConfig, _with(AugmentConfig(), plan.base, "augment.")),
        ("metric", Metric, plan.base.get("metric", "accuracy")),
        ("seed", int, 0),
    ]
    cls = dataclasses.make_dataclass(
        "Study",
        [(name, kind, dataclasses.field(default=default)) for name, kind, default in fields],
        frozen=True,
    )
    main_module: ModuleType = sys.modules["__main__"]
    return tyro.cli(cls, args=arguments, description=main_module.__doc__ or "")


def _source_options(plan: Plan) -> Any:
    return load_source(plan.source).Options


def _with(config: Any, values: dict[str, Any], prefix: str) -> Any:
    own = {name.removeprefix(prefix): v for name, v in values.items() if name.startswith(prefix)}
    return config.with_values(own)


def _check_numbers(options: Options) -> None:
    for name in ("trials", "epochs", "workers", "concurrent"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name} must be at least 1, got {value}")
    if options.checkpoint_every_s < 0:
        raise ConfigError(f"--checkpoint-every-s must be 0 or more, got {options.checkpoint_every_s}")


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
