"""What a study says about itself, its command line, and its data made ready; no Ray yet."""

import argparse
import dataclasses
import hashlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

import tyro

from dfpl.compute import Compute
from dfpl.config import AugmentConfig, Metric, OptimConfig, RunConfig
from dfpl.data.packed import DataError, PackedDataset
from dfpl.data.report import columns_table
from dfpl.data.scenario import Scenario, parse_scenarios
from dfpl.data.sources import load as load_source
from dfpl.fields import ConfigError
from dfpl.method import load as load_method
from dfpl.storage import Storage
from dfpl.study.connection import readers
from dfpl.study.objective import Kind
from dfpl.study.progress import console
from dfpl.study.protocol import with_encoders_of
from dfpl.study.race import LEVEL
from dfpl.study.samplers import Sampler


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options that every study has."""

    data: str = ""
    """Folder of the data, raw or packed, the same path on every node. Empty: look-alike data is
    written and used."""
    epochs: int | None = None
    """Passes over the training split; short for --optim.epochs."""
    workers: int = 1
    """Data-parallel workers per trial."""
    gpus_per_worker: float | None = None
    """GPUs per worker; fractions share one GPU between trials. Default: 1 where there are GPUs."""
    concurrent: int | None = None
    """Trials at once. Default: as many as fit."""
    launcher: Literal["auto", "inline", "slot", "train"] = "auto"
    """`inline`: one worker, in a process that is used again for the next trial. `slot`: several,
    kept for the next trial. `train`: Ray Train starts them for each run, for long ones. `auto`:
    inline or slot, by --workers."""
    hung_after_s: float = 60.0
    """Seconds after which a worker that the others wait for is replaced."""
    storage: str = "runs"
    """Folder or URI (s3://, gs://) below which results go, the same on every node."""
    name: str = ""
    """Name of the study's folder. Default: that of the script, and of another --method."""
    checkpoint_every_s: float = 30.0
    """Least seconds between two checkpoints of a run."""


@dataclass(frozen=True, kw_only=True)
class SearchOptions(Options):
    """Options of a search."""

    method: str = "dfpl"
    """Whose hyperparameters are searched: `dfpl`, or the name of a file of dfpl/baselines, which
    then has the script's encoders; its own fields follow as --method.FIELD."""
    scenarios: str = "all"
    """`all` nine of Table I, or a comma-separated list such as `both-50,tabular-70`."""
    objective: Kind = "each"
    """`each`: a best config per scenario. One config for all of them: `mean`, `worst`, or `cvar`,
    the mean of its worst ones. `pareto`: all configs that no other beats both on complete data
    and in its worst scenario."""
    worst_share: float = 1 / 3
    """Share of the scenarios, the worst ones, that `cvar` counts."""
    seeds: int = 1
    """Seeds with which each config is trained in each scenario; their mean counts."""
    trials: int = 32
    """Trials per search (per scenario under `each`); the paper's hyperparameters are the first."""
    grace: int | None = None
    """Epochs that every trial may run before ASHA compares it; as many as --epochs switches ASHA
    off. Default: a ninth of the epochs."""
    race_level: float = LEVEL
    """Under one config for all: chance, at each test, to drop one that would have won, before it
    has met all scenarios; 0 switches racing off."""
    sampler: Sampler = "tpe"
    """Optuna's TPE, Gaussian process, NSGA-II or random sampler, or a shuffled grid."""
    transfer: int = 3
    """Points with which a search starts that were best in the scenarios nearest to its own, of
    this study or --transfer-from; searches are then made one after another. 0: none, all searches
    side by side."""
    transfer_from: str = ""
    """Folder of an earlier study."""
    prior_weight: float = 2.0
    """w: suggestion n is drawn around the paper's hyperparameters with probability w / (w + n);
    0: never."""
    optuna_storage: str = ""
    """An Optuna storage, such as sqlite:///trials.db, in which optuna-dashboard can watch; a view,
    which may be lost."""


@dataclass(frozen=True, kw_only=True)
class SweepOptions(Options):
    """Options of a list of runs, each trained whole."""

    seeds: int = 3
    """Seeds of each config: initial weights, order of samples, augmentation; the same masks."""


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


def table_plan(name: str, base: dict[str, Any]) -> Plan:
    """A study on the user's own table and images."""
    return Plan(
        name=name,
        source="table",
        base=base,
        raw_option="table",
        raw_help="Your table (.csv or .parquet), one row per sample; --data takes it packed.",
    )


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What a study's command line amounts to, with its data packed and its folder writable."""

    options: Any
    """The study's Options, or a subclass."""
    root: Storage
    data: Path
    packed: PackedDataset
    base: RunConfig
    """The run that every other starts from; each of them says its scenario."""
    compute: Compute


def prepare(plan: Plan, default: Options, arguments: list[str]) -> Prepared:
    """Read the options of a study and get its data ready.

    Raises ConfigError, DataError or StorageError for what a person chose wrongly.
    """
    found = parse(plan, default, arguments)
    _check(found.study)
    root = Storage(_storage(found.study.storage)) / (found.study.name or _name(plan, found))
    root.prove_writable()
    data, packed = _data(plan, found, root)
    return Prepared(
        options=found.study,
        root=root,
        data=data,
        packed=packed,
        base=_base_run(found, packed),
        compute=found.compute,
    )


def parse(plan: Plan, options: Options, arguments: list[str]) -> Any:
    """Read the options of this study: the common ones, the source's, and the base run's."""
    name = plan.method
    if isinstance(options, SearchOptions):
        name = _typed_method(arguments, plan.method)
        options = dataclasses.replace(options, method=name)
    source = load_source(plan.source).Options
    on_twin = not given(arguments) & {"data", plan.raw_option}
    base = {**plan.base, **plan.on_twin} if on_twin else plan.base
    method = with_encoders_of(_with(load_method(plan.method).Config(), base, "method."), name)
    raw = [(plan.raw_option, Annotated[str, tyro.conf.arg(help=plan.raw_help)], "")]
    fields: list[tuple[str, Any, Any]] = [
        ("study", tyro.conf.OmitArgPrefixes[type(options)], options),
        ("compute", tyro.conf.OmitArgPrefixes[Compute], Compute()),
        *(raw if plan.raw_option else []),
        ("source", tyro.conf.OmitArgPrefixes[source], _with(source(), base, "source.")),
        ("method", type(method), method),
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


def _typed_method(arguments: list[str], default: str) -> str:
    """The value of --method, read before all else: the other options depend on it."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--method", default=default)
    return parser.parse_known_args(arguments)[0].method


def _name(plan: Plan, found: Any) -> str:
    """Searches of several methods by one script are several studies."""
    method = found.method.name
    return plan.name if method == plan.method else f"{plan.name}_{method}"


def _with(config: Any, values: dict[str, Any], prefix: str) -> Any:
    own = {name.removeprefix(prefix): v for name, v in values.items() if name.startswith(prefix)}
    return config.with_values(own)


def _check(options: Options) -> None:
    """Refuse what is wrong before any work is done."""
    if scenarios := getattr(options, "scenarios", ""):  # empty: the study has its own default
        parse_scenarios(scenarios)
    if isinstance(options, SearchOptions):
        if options.transfer < 0:
            raise ConfigError(f"--transfer must be 0 or more, got {options.transfer}")
        if options.prior_weight < 0:
            raise ConfigError(f"--prior-weight must be 0 or more, got {options.prior_weight}")
        if not 0 <= options.race_level < 0.5:
            raise ConfigError(
                f"--race-level must be 0 or more and below 0.5, got {options.race_level}"
            )
    for name in ("trials", "seeds", "epochs", "workers", "concurrent", "grace"):
        value = getattr(options, name, None)
        if value is not None and value < 1:
            raise ConfigError(f"--{name} must be at least 1, got {value}")
    if options.hung_after_s <= 0:
        raise ConfigError(f"--hung-after-s must be above 0, got {options.hung_after_s}")
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


def given(arguments: list[str]) -> set[str]:
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
        source.pack(raw.absolute(), packed, options.source, readers())
    return packed, PackedDataset.load(packed)


def _tables_of(raw: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of the tables: an edited table is another data set, packed again."""
    found = [raw] if raw.is_file() else [*raw.glob("*.csv"), *raw.glob("*/*.csv")]
    return sorted((p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in found)


def _place_for_packed(root: Storage) -> Path:
    """Beside the studies where those lie on a file system, else in the user's cache."""
    return Path(root.path).parent / "data" if root.is_local else Path.home() / ".cache/dfpl"


def _twin(plan: Plan, place: Path) -> Path:
    from dfpl.data import twins

    if plan.source not in twins.names():
        name = plan.raw_option or "data"
        raise ConfigError(f"--{name} is needed: it says where the data is")
    raw = place / f"{plan.source}_twin"
    console.print(f"no --data: writing and using look-alike data in {raw}; its results say nothing")
    twin = twins.load(plan.source)
    twin.write(raw, twin.Options())
    return raw


def _base_run(options: Any, packed: PackedDataset) -> RunConfig:
    """The run that every trial starts from, and whose searched values are the paper's point."""
    optim = options.optim
    if options.study.epochs is not None:
        optim = optim.with_values({"epochs": options.study.epochs})
    return RunConfig.from_dict(
        {
            "dataset": packed.schema.name,
            "data_hash": packed.schema.content_hash,
            "method": options.method.to_dict(),
            "scenario": Scenario(pattern="both", rate=0.5).to_dict(),
            "optim": optim.to_dict(),
            "augment": options.augment.to_dict(),
            "metric": options.metric,
            "seed": options.seed,
        }
    )
