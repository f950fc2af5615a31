"""The command `dfpl`, the outermost layer: it alone knows the analysis. All imports are lazy."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import tyro

if TYPE_CHECKING:
    import torch
    from rich.console import Console, Group

    from dfpl.fields import Row

UNFINISHED = 3
"""Exit code of `dfpl status` where trials have not ended."""
Positional = tyro.conf.Positional
Flat = tyro.conf.OmitArgPrefixes


def best(
    run_dir: Positional[str],
    /,
    *,
    scenario: str = "",
    out: str = "",
) -> None:
    """Print the best configs of a study and what they rest on, and write them as JSON.

    The second table has the whole trials that are as good as the best, as far as validation can
    tell, and what they span of the search range; the third one config for all scenarios.

    Args:
        run_dir: Folder or URI of the study.
        scenario: Export this scenario alone; default: all.
        out: File to write; default: best.json in the study's folder.
    """
    from dfpl.fields import ConfigError
    from dfpl.storage import Storage
    from dfpl.study.best import BEST, exported, table, trials_of
    from dfpl.study.evidence import evidence
    from dfpl.study.records import RecordStore

    store = RecordStore(run_dir)
    if not store.root.exists("study.json"):
        raise ConfigError(f"no study in {store.root} (looked for study.json)")
    searches = trials_of(store)
    _console().print(table(store, searches), *evidence(store, searches))
    target = Path(out).expanduser() if out else None
    folder = Storage(target.parent) if target else store.root
    name = target.name if target else BEST
    content = exported(store, scenario or None, searches)
    folder.write_json(name, content)
    _console().print(f"wrote {len(content['configs'])} config(s) to {folder}/{name}")


def status(run_dir: Positional[str], /, *, follow: bool = False) -> None:
    """Show how far a study is, while it runs or afterwards, from any shell that reads its folder.

    Exit code 0: every trial that was asked for has ended, in whichever state; 3: some have not
    (the picture says whether the study runs); 2: there is no study.

    Args:
        run_dir: Folder or URI of the study.
        follow: Show it again and again, until the study is done or its driver has gone.
    """
    from dfpl.storage import Storage
    from dfpl.study.picture import follow as follow_study
    from dfpl.study.picture import new_console, show
    from dfpl.study.status import Watch

    watch = Watch(Storage(run_dir))
    if follow:
        found = follow_study(watch.look, new_console())
    else:
        found = watch.look()
        show(found, new_console())
    sys.exit(0 if found.finished else UNFINISHED)


def optuna(run_dir: Positional[str], url: Positional[str], /) -> None:
    """Write the records of a study into an Optuna storage, for optuna-dashboard and Optuna's plots.

    A copy to look at: nothing reads it back. Studies of the same name there are replaced.

    Args:
        run_dir: Folder or URI of the study.
        url: The storage, such as sqlite:///trials.db.
    """
    from dfpl.study.records import RecordStore
    from dfpl.study.showing import write
    from dfpl.study.view import shown

    names = write(RecordStore(run_dir), url)
    print(f"wrote {', '.join(names)}")
    print(f"look at it: optuna-dashboard {shown(url)} --host 127.0.0.1")
    print("            (pip install optuna-dashboard)")


def train(
    config: Positional[str],
    /,
    *,
    scenario: str = "",
    trial: int | None = None,
    data: str = "",
    out: str = "model",
    seed: int | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> None:
    """Train an exported config again and save the model; says whether the number is the same.

    Args:
        config: The best.json of a study.
        scenario: Which of its scenarios; needed where it holds several.
        trial: Which of its trials; needed where it holds several, as of a Pareto front.
        data: Folder of the packed data; default: where the study found it.
        out: Folder of the model.
        seed: Another seed than the study's.
        device: Where to train; auto takes a GPU where there is one.
    """
    from dfpl.compute import Compute
    from dfpl.data.packed import PackedDataset
    from dfpl.predict import TrainedModel
    from dfpl.storage import Storage
    from dfpl.study.best import read_export
    from dfpl.train import Runtime, fit

    run, entry = read_export(Path(config).expanduser(), scenario, trial)
    run = run if seed is None else run.with_values({"seed": seed})
    packed = PackedDataset.load(Path(data or entry["data"]).expanduser())
    target = Storage(out)
    target.prove_writable()
    checkpoints = f"checkpoints/{run.run_id}"  # of this run: a cut one of another is not resumed
    runtime = Runtime(
        device=_device(device),
        threads=entry["threads"],
        compute=Compute(**entry.get("compute", {})),
        report=_print_epoch(run.metric),
        checkpoints=target / checkpoints,
    )
    fitted = fit(run, packed, runtime)
    TrainedModel.of(run, packed.schema, fitted).save(target)
    target.delete_folder("checkpoints")
    print(f"val/{run.metric} {fitted.best_value!r} at epoch {fitted.best_epoch}; model in {target}")
    if seed is None:
        same = "the same" if fitted.best_value == entry["value"] else "NOT the same"
        print(f"the study found {entry['value']!r}: {same}")


def evaluate(
    model: Positional[str],
    /,
    *,
    data: str,
    split: Literal["val", "test"] = "test",
    scenarios: str = "",
    draws: int = 100,
    factors: str = "",
    out: str = "",
    save_representations: str = "",
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> None:
    """Score a model under missing-rate scenarios and in each state, with 95 % intervals.

    One pass over the rows serves all scenarios and draws. Of a multi-label task, PRAUC of each
    class follows.

    Args:
        model: Folder of a model.
        data: Folder of the packed data.
        split: Which split.
        scenarios: A list such as both-50,image-70 or all,curves: the nine of Table I, each
            pattern from 10 to 90 %; default: the model's own.
        draws: Draws of who is incomplete: for PRAUC, which is their mean, and for intervals.
        factors: The factors.csv of a look-alike: also report how well linear probes, fitted on
            the train split, read each true factor from shared and specific representations.
        out: Write the predictions (logits in the three states) to this Parquet file; of MIMIC and
            ADNI with salted hashes in place of ids.
        save_representations: Write what each row is classified from, in the three states, to this
            Parquet file, for Figures 5 and 6: probabilities, attention, and a vector (where each
            class has its own, that of the predicted class).
        device: Where to compute.
    """
    from dfpl.data.loader import Loader, View
    from dfpl.data.packed import PackedDataset
    from dfpl.data.scenario import parse_scenarios
    from dfpl.evaluate import predict_split, represent
    from dfpl.evaluate import save_representations as save
    from dfpl.predict import TrainedModel, classes_table, scores_tables
    from dfpl.probe import Factors, probe, probe_report
    from dfpl.storage import Storage

    where = _device(device)
    trained = TrainedModel.load(Storage(model), where)
    packed = PackedDataset.load(Path(data).expanduser())
    trained.refuse_other_data(packed)
    view = View.of(packed, split)
    loader = Loader(view, trained.statistics, trained.run.optim.batch_size, where)
    if save_representations:
        path = Path(save_representations).expanduser()
        num_rows = save(path, trained.run, trained.method, loader, split)
        _console().print(f"wrote what {num_rows} rows are classified from to {path}")
    found = predict_split(trained.method, loader, split)
    probes: list[Group] = []
    if factors:
        learned = Loader(View.of(packed, "train"), trained.statistics, loader.batch_size, where)
        known = Factors.read(Path(factors).expanduser())
        fitted = represent(trained.method, learned, "train")
        scored = represent(trained.method, loader, split)
        probes = [probe_report(probe(fitted, scored, known), fitted, scored)]
    asked = parse_scenarios(scenarios) if scenarios else [trained.run.scenario]
    classes = [classes_table(found)] if found.task == "multilabel" else []
    _console().print(scores_tables(found, asked, draws), *classes, *probes)
    if out:
        found = found.without_names() if packed.schema.private else found
        Path(out).expanduser().write_bytes(found.to_parquet())


def predict(
    model: Positional[str],
    table: Positional[str],
    /,
    *,
    images: str = "",
    image_column: str = "image",
    series_column: str = "series",
    out: str = "",
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> None:
    """Class probabilities for new rows in which the image or the table may be absent.

    Args:
        model: Folder of a model.
        table: CSV with the columns of the training table; an empty image cell or an empty table
            is an absent modality, and so is a column (or a table) that the file lacks whole.
        images: Folder of the pictures, and of other files that are named; default: that of the
            table.
        image_column: Column with the paths of the pictures or volumes.
        series_column: Column with time series, as PATH#HOURS, for a model that reads them.
        out: CSV to write; default: print.
        device: Where to compute.
    """
    from dfpl.data.sources.table import read_cells
    from dfpl.predict import FileColumns, TrainedModel, read_rows
    from dfpl.predict import predict as predict_rows
    from dfpl.storage import Storage

    where = _device(device)
    trained = TrainedModel.load(Storage(model), where)
    path = Path(table).expanduser()
    folder = Path(images).expanduser() if images else None
    named = FileColumns(image=image_column, series=series_column)
    rows = read_rows(path, trained.schema, folder, named)
    found = predict_rows(trained, rows, where)
    cells = read_cells(path)
    features = {*trained.schema.numeric, *trained.schema.category}
    kept = cells[[name for name in cells.columns if name not in features]]
    for column in reversed(kept.columns):
        found.insert(0, str(column), kept[column].tolist())
    text = found.to_csv(index=False)
    if out:
        Path(out).expanduser().write_text(text)
        print(f"wrote {len(found)} predictions to {out}")
    else:
        print(text, end="")


def report(run_dir: Positional[str], /, *, out: str = "") -> None:
    """Write what a folder of runs shows as one HTML file, to look at and to send around.

    It holds no name of a sample, and loads nothing.

    Args:
        run_dir: Folder or URI of a study, a table or another list of runs.
        out: File to write; default: report.html in that folder.
    """
    from dfpl.fields import ConfigError

    try:
        from analysis.report import write
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"dfpl report needs {error.name}, which is not installed: pip install 'dfpl[analysis]'"
        ) from None
    print(f"wrote {write(run_dir, out)}")


def data() -> None:
    """Look-alike data (twin), checking and packing of raw data: dfpl data --help."""


def _check(source: ModuleType) -> Callable[..., None]:
    default = source.Options()

    def check(
        raw: Positional[str],
        /,
        *,
        options: Flat[source.Options] = default,  # pyright: ignore
    ) -> None:
        """List every problem of raw data at once, and counts beside the expected ones.

        Exit code 1 says that training is impossible.

        Args:
            raw: Folder, or table, of the raw data.
        """
        from dfpl.data.report import columns_table, print_report

        path = Path(raw).expanduser()
        if hasattr(source, "describe"):
            _console().print(columns_table(source.describe(path, options)))
        report = source.check(path, options)
        print_report(report, _console())
        sys.exit(1 if report.problems else 0)

    return check


def _pack(source: ModuleType) -> Callable[..., None]:
    default = source.Options()

    def pack(
        raw: Positional[str],
        out: Positional[str],
        /,
        *,
        options: Flat[source.Options] = default,  # pyright: ignore
    ) -> None:
        """Pack raw data into arrays that studies read.

        Args:
            raw: Folder, or table, of the raw data.
            out: Folder to write.
        """
        packed = source.pack(Path(raw).expanduser(), Path(out).expanduser(), options)
        print(f"packed {len(packed)} samples, {packed.schema.num_classes} classes into {out}")

    return pack


def _twin(module: ModuleType) -> Callable[..., None]:
    default = module.Options()

    def twin(
        out: Positional[str],
        /,
        *,
        options: Flat[module.Options] = default,  # pyright: ignore
    ) -> None:
        """Write look-alike raw data in the literal layout of the real one, and its true factors.

        Args:
            out: Folder to write.
        """
        module.write(Path(out).expanduser(), options)
        print(f"wrote look-alike data to {out}; nothing learned from it says anything")

    return twin


def _data_commands() -> tyro.extras.SubcommandApp:
    """`dfpl data twin SOURCE OUT`, `dfpl data check|pack SOURCE RAW ...`."""
    from dfpl.data import sources, twins

    app = tyro.extras.SubcommandApp()
    for name, make, registry in (
        ("twin", _twin, twins),
        ("check", _check, sources),
        ("pack", _pack, sources),
    ):
        of_source = tyro.extras.SubcommandApp()
        for source in registry.names():
            command: Any = make(registry.load(source))
            of_source.command(command, name=source)
        app.command(of_source, name=name)
    return app


def main() -> None:
    """Run a command; a wrong choice or bad data ends with a line and exit code 2."""
    arguments = sys.argv[1:]
    app = tyro.extras.SubcommandApp()
    for command in (status, optuna, best, train, evaluate, predict, report):
        app.command(command)
    below_data: Any = _data_commands() if arguments[:1] == ["data"] else data
    app.command(below_data, name="data")
    try:
        app.cli(args=arguments, prog="dfpl")
    except (ValueError, OSError, ArithmeticError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _device(wanted: str) -> "torch.device":
    import torch

    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(wanted)


def _print_epoch(metric: str) -> "Callable[[Row], bool]":
    def report(row: "Row") -> bool:
        epoch, loss = int(row["epoch"]), row["train/objective"]
        print(f"epoch {epoch:3}  objective {loss:9.4f}  val/{metric} {row[f'val/{metric}']:.4f}")
        return True

    return report


def _console() -> "Console":
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)
