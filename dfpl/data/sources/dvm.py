"""DVM-CAR: 286 car models from a photograph and the 17 attributes of its advertisement.

Raw files    https://deepvisualmarketing.github.io (figshare 19586296, CC BY-NC 4.0), below RAW:
             tables    Ad_table.csv, Price_table.csv, Image_table.csv, `Ad_table (extra).csv`
                       in RAW, RAW/tables_V2.0, RAW/tables_V2, RAW/tables or RAW/tables/tables
             pictures  resized_DVM/<Brand>/<Model>/<Year>/<Color>/<Image_name>, or
                       Confirmed_fronts/<Brand>/<Year>/<Image_name> for view = front; the Kaggle
                       copy (nested folders, names without apostrophes) is read as well
Recipe       create_dvm_dataset.ipynb of siyi-wind/TIP @ 9258cc25, from paulhager/MMCL-Tabular-
             Imaging; its steps in their order, with its row counts in `STEPS`
Split        40/10/50 as published: 70,565 / 17,642 / 88,207 rows. Drawn again with the authors'
             seed, or taken from their lists (`ids`); the lists' hashes tell whether it is theirs.
             The authors stratify the second cut by labels in another order than the rows', so val
             holds 4 to 32 % of a model; `stratify` = by_model mends that, and is not theirs.
Deviations   Numbers are packed as they are: scaling is fitted later, on the training split alone.
             Jitter of the sizes (whole mm in [-50, 50]) is a function of advert and column, not of
             row order and Python's generator. Three wrong sizes, which the authors list but leave,
             are mended. Sizes that no advert of a model states stay empty. view = front is split
             like all views (theirs: 72/18/10). The paper's 283 classes are a misprint for 286.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Int
from pydantic import Field
from sklearn.model_selection import train_test_split

from dfpl.data import packing
from dfpl.data.packed import SPLITS, DataError, PackedDataset
from dfpl.data.raw import PackOptions, RawSamples, Report

Frame = Any
Column = Any
"""A pandas table and one of its columns: pandas' own types do not tell the two apart."""

CATEGORY = ["Color", "Bodytype", "Gearbox", "Fuel_type"]
SIZES = ["Wheelbase", "Height", "Width", "Length"]
ADVERT = ["Adv_year", "Adv_month", "Reg_year", "Runned_Miles", "Price", "Seat_num", "Door_num"]
NUMERIC = [*SIZES, *ADVERT, "Entry_price", "Engine_size"]
LATE = ["Runned_Miles", "Price", "Engine_size"]  # made numbers after empty cells were dropped

TABLES = {
    "Ad_table.csv": ["Adv_ID", "Genmodel_ID", *CATEGORY, *ADVERT, "Engin_size"],
    "Price_table.csv": ["Genmodel_ID", "Year", "Entry_price"],
    "Image_table.csv": ["Image_ID", "Image_name", "Predicted_viewpoint", "Quality_check"],
    "Ad_table (extra).csv": ["Adv_ID", "Genmodel_ID", *SIZES],
}
TABLE_PLACES = (".", "tables_V2.0", "tables_V2", "tables", "tables/tables")
PICTURE_PLACES = (
    "resized_DVM",
    "resized_DVM_v2/resized_DVM",
    "resized_DVM_v2",
    "resized_DVM_clean/resized_DVM_clean",
    "resized_DVM_clean",
    "Confirmed_fronts",
    "confirmed_fronts_clean/confirmed_fronts_clean",
    "confirmed_fronts_clean",
    ".",
)
STEPS = {
    "adverts in Ad_table.csv": 268_255,
    "with an entry price of their model and year": 224_724,
    "with a picture in Image_table.csv": 209_035,
    "without an empty cell": 184_562,
    "with readable numbers": None,
    "of models with enough adverts": 176_414,
    "with physical sizes": 176_414,
}
"""Adverts left after each step of the recipe, with all views and tables V2.0."""
MODELS = 286
ROWS = {"train": 70_565, "val": 17_642, "test": 88_207}
PUBLISHED = {
    "train": "2b982d653be7756e4e03fbe21010df8d73560300eb8a8ef79257c230ecb858e0",
    "val": "535bee6e5566d0656beec0c2bd6ceb35f362c0ccbbad60ac589c516d0db5ed9a",
    "test": "fcacb9cdeab8c640cfc9ff96ea7406086ee690551527ae6bdc4f79931d996618",
}
"""sha256 of the published ids of each split, sorted and joined by line feeds."""
SET_BY_HAND = (("69_36", "Wheelbase", 2612), ("29_20", "Wheelbase", 2788))
WRONG = (
    ("29_30", "Height", 805, 1805),  # Ford Ranger
    ("59_29", "Wheelbase", 5246, 3106),  # Mercedes
    ("43_9", "Wheelbase", 4065, 2580),  # Kia Rio
)
JITTER, JITTER_SEED = 50, 2022  # mm either way
PROBES = 200
FIGSHARE = "tables_V2.0.zip of figshare 19586296"


class Options(PackOptions):
    """Which adverts and pictures of DVM-CAR are packed."""

    min_adverts: Annotated[int, Field(ge=10)] = 100
    """Models with fewer adverts are left out."""
    view: Literal["all", "front"] = "all"
    """The first picture listed for an advert, whatever it shows, or the first front view that
    passed the quality check."""
    ids: str = ""
    """Folder with the published {train,val,test}_ids_dvm_all_views.txt; empty: draw the split."""
    stratify: Literal["published", "by_model"] = "published"
    """Cut val from train as the authors did, or with the same share of every model."""
    val: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the adverts in the validation split, where the split is drawn."""
    test: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Share of the adverts in the test split, where the split is drawn."""
    split_seed: Annotated[int, Field(ge=0)] = 2022
    """Seed of the split, where it is drawn."""


def looks_raw(path: Path) -> bool:
    """Whether `path` is a folder of raw DVM-CAR."""
    return _table_folder(path) is not None


def read(raw: Path, options: Options) -> RawSamples:
    """Follow the recipe from the raw tables to samples. Raises DataError with all problems."""
    report = Report()
    samples = _read(raw, options, report)
    if samples is None or report.problems:
        raise DataError("\n".join(report.problems))
    return samples


def check(raw: Path, options: Options) -> Report:
    """Count what every step leaves, next to the published counts, and list all problems."""
    report = Report()
    samples = _read(raw, options, report)
    if samples is None:
        return report
    shared = packing.check(samples, options)
    return Report(
        counts=report.counts + shared.counts,
        problems=report.problems + shared.problems,
        warnings=report.warnings + shared.warnings,
    )


def pack(raw: Path, out: Path, options: Options, workers: int | None = None) -> PackedDataset:
    """Pack the raw data set in `raw` below `out`."""
    return packing.pack(read(raw, options), out, options, workers)


def _read(raw: Path, options: Options, report: Report) -> RawSamples | None:
    """What `read` returns, or None where `report` tells why there is nothing to return."""
    tables = _read_tables(raw, report)
    images = tables.get("Image_table.csv")
    pictures = None if images is None else _find_pictures(raw, options.view, images, report)
    lists = _read_lists(Path(options.ids), report) if options.ids else None
    if report.problems or images is None or pictures is None:
        return None
    steps = _follow_recipe(tables, options, report)
    if lists is not None:
        listed = steps.left["Adv_ID"].isin(lists.index)
        steps.keep("in the published id lists", listed, "in no published id list")
    if steps.left.empty:
        report.problems.append(_nothing_left(options, report))
    if report.problems:
        return None
    if lists is None:
        split = _draw_split(steps.left, options, report)
    else:
        split = steps.left["Adv_ID"].map(lists)
    if split is None:
        return None
    samples = _to_samples(steps, split, pictures, options)
    _compare(samples, options, report)
    _probe(samples.image, report)
    return samples


def _to_samples(
    steps: "_Steps", split: Column, pictures: "_Pictures", options: Options
) -> RawSamples:
    left = steps.left.reset_index(drop=True)
    paths = [pictures.path(name) for name in left["Image_name"]]
    drawn = f"drawn {options.stratify}, seed {options.split_seed}"
    return RawSamples(
        name="dvm",
        source=f"DVM-CAR, {options.view} views, at least {options.min_adverts} adverts per model, "
        f"split {'from id lists' if options.ids else drawn}",
        id=left["Adv_ID"],
        group=left["Adv_ID"],
        label=left["Genmodel_ID"],
        split=split.reset_index(drop=True),
        image=pd.Series(paths, dtype=object),
        numeric=left[NUMERIC].astype(float),
        category=left[CATEGORY],
        dropped=pd.concat(steps.dropped, ignore_index=True),
    )


def _table_folder(raw: Path) -> Path | None:
    folders = (raw / place for place in TABLE_PLACES)
    return next((folder for folder in folders if (folder / "Ad_table.csv").is_file()), None)


def _read_tables(raw: Path, report: Report) -> dict[str, Frame]:
    """Read the tables that can be read; every other one is a problem."""
    folder = _table_folder(raw)
    if folder is None:
        looked = ", ".join(str(raw / place) for place in TABLE_PLACES)
        there = "" if raw.is_dir() else f"; {raw} is no folder"
        report.problems.append(
            f"no `Ad_table.csv` under {raw} (looked in {looked}){there}. Expected from {FIGSHARE}"
        )
        return {}
    tables = {name: _read_table(folder / name, report) for name in TABLES}
    return {name: table for name, table in tables.items() if table is not None}


def _read_table(path: Path, report: Report) -> Frame | None:
    """Read the needed columns as text, so that a model called 500 stays a name."""
    wanted = TABLES[path.name]
    if not path.is_file():
        report.problems.append(_table_missing(path))
        return None
    try:
        found = pd.read_csv(path, nrows=0).columns.tolist()
        missing = [name for name in wanted if name not in {name.strip() for name in found}]
        if missing:
            report.problems.append(
                f"{path} lacks {', '.join(missing)}; its columns are {found!r} (headers are "
                f"stripped before the check). Expected from {FIGSHARE}"
            )
            return None
        table = pd.read_csv(path, dtype=str, usecols=lambda name: name.strip() in wanted)
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        report.problems.append(f"{path} cannot be read as comma-separated UTF-8: {error}")
        return None
    return table.rename(columns=str.strip)


def _table_missing(path: Path) -> str:
    if "extra" in path.name:
        return (
            f"no `{path.name}` in {path.parent}: needed for {', '.join(SIZES)}; without it only "
            "13 of 17 attributes. It is a file of its own in figshare 19586296 (version 2)"
        )
    return f"no `{path.name}` in {path.parent}. Expected from {FIGSHARE}"


class _Steps:
    """Adverts on their way through the recipe: those left, those dropped and why."""

    def __init__(self, adverts: Frame, report: Report, expected: bool) -> None:
        self.left = adverts
        self.dropped: list[Frame] = []
        self.report = report
        self.expected = STEPS if expected else {}
        self.count("adverts in Ad_table.csv")

    def count(self, step: str) -> None:
        self.report.counts.append((step, len(self.left), self.expected.get(step)))

    def join(self, table: Frame, keys: list[str], step: str, reason: str) -> None:
        """Add the columns of `table`; adverts without a row in it are dropped."""
        joined = self.left.merge(table, how="left", on=keys, indicator="found")
        self.left = joined.drop(columns="found")
        self.keep(step, joined["found"] == "both", reason)

    def keep(self, step: str, rows: Column, reason: str | Column) -> None:
        why = reason if isinstance(reason, str) else reason[~rows]
        self.dropped.append(pd.DataFrame({"id": self.left["Adv_ID"][~rows], "reason": why}))
        self.left = self.left[rows]
        self.count(step)


def _follow_recipe(tables: dict[str, Frame], options: Options, report: Report) -> _Steps:
    standard = options.view == "all" and options.min_adverts == 100
    steps = _Steps(_adverts(tables["Ad_table.csv"]), report, expected=standard)
    _, priced, pictured, full, readable, populated, sized = STEPS
    prices = _prices(tables["Price_table.csv"])
    steps.join(prices, ["Genmodel_ID", "Reg_year"], priced, "no entry price of its model and year")
    images = _first_images(tables["Image_table.csv"], options.view)
    steps.join(images, ["Adv_ID"], pictured, f"no picture listed (view {options.view})")
    twice = steps.left["Adv_ID"][steps.left["Adv_ID"].duplicated()].tolist()
    if twice:
        report.problems.append(
            f"{len(twice)} adverts occur more than once after the joins, e.g. {twice[0]!r}: "
            "Ad_table.csv repeats an Adv_ID, or Price_table.csv a model and year; unpack the "
            "tables again"
        )
    _drop_empty(steps, full, "empty cell in ")
    steps.left = steps.left.assign(**{name: _numbers(steps.left[name]) for name in LATE})
    _drop_empty(steps, readable, "no number in ")
    per_model = steps.left.groupby("Genmodel_ID")["Adv_ID"].transform("size")
    few = f"model with fewer than {options.min_adverts} adverts"
    steps.keep(populated, per_model >= options.min_adverts, few)
    sizes = _sizes(tables["Ad_table (extra).csv"], report)
    steps.join(sizes, ["Adv_ID"], sized, "no row in Ad_table (extra).csv")
    for column in SIZES:
        steps.left[column] += jitter(steps.left["Adv_ID"].tolist(), column)
        empty = int(steps.left[column].isna().sum())
        if empty:
            report.warnings.append(f"{column}: no advert of the model states it, {empty} empty")
    return steps


def _adverts(table: Frame) -> Frame:
    now = [name for name in ADVERT if name not in LATE]
    engine = table["Engin_size"].str.strip().str.removesuffix("L")
    numbers = {name: _numbers(table[name]) for name in now}
    return table.assign(**numbers, Engine_size=engine).drop(columns="Engin_size")


def _prices(table: Frame) -> Frame:
    """Columns Genmodel_ID, Reg_year, Entry_price; a row without a year joins nothing."""
    prices = pd.DataFrame(
        {
            "Genmodel_ID": table["Genmodel_ID"],
            "Reg_year": _numbers(table["Year"]),
            "Entry_price": _numbers(table["Entry_price"]),
        }
    )
    return prices[prices["Reg_year"].notna()]


def _first_images(table: Frame, view: str) -> Frame:
    """The picture of each advert: its first row in the order of the file."""
    if view == "front":
        front = _numbers(table["Predicted_viewpoint"]) == 0
        table = table[(table["Quality_check"] == "P") & front]
    advert = table["Image_ID"].str.rsplit("$$", n=1).str[0]
    found = pd.DataFrame({"Adv_ID": advert, "Image_name": table["Image_name"]})
    return found.dropna(subset="Adv_ID").drop_duplicates("Adv_ID")


def _numbers(column: Column) -> Column:
    return pd.Series(pd.to_numeric(column, errors="coerce"), dtype=float)


def _drop_empty(steps: _Steps, step: str, reason: str) -> None:
    empty = steps.left.isna()
    steps.keep(step, ~empty.any(axis=1), reason + empty.idxmax(axis=1).astype(str))


def _sizes(extra: Frame, report: Report) -> Frame:
    """Columns Adv_ID and the four sizes in mm: 0 is empty, and the model's first size fills it."""
    extra = extra.drop_duplicates("Adv_ID")
    sizes = extra[SIZES].apply(_numbers)
    for model, column, value in SET_BY_HAND:
        sizes.loc[extra["Genmodel_ID"] == model, column] = value
    for model, column, wrong, right in WRONG:
        rows = (extra["Genmodel_ID"] == model) & (sizes[column] == wrong)
        sizes.loc[rows, column] = right
    sizes = sizes.where(sizes > 0)
    filled = sizes.fillna(sizes.groupby(extra["Genmodel_ID"]).transform("first"))
    report.counts.append(("sizes filled from the model", int(_gaps(sizes) - _gaps(filled)), None))
    return filled.assign(Adv_ID=extra["Adv_ID"])


def _gaps(table: Frame) -> int:
    return int(table.isna().to_numpy().sum())


def jitter(ids: Sequence[str], column: str) -> Int[np.ndarray, " N"]:
    """Whole millimetres in [-50, 50], drawn for each advert and column, in whatever order."""
    lots = (f"{JITTER_SEED}/{column}/{name}".encode() for name in ids)
    drawn = (int.from_bytes(hashlib.blake2b(lot, digest_size=8).digest()) for lot in lots)
    return np.array([lot % (2 * JITTER + 1) - JITTER for lot in drawn], dtype=np.int64)


class _Pictures(NamedTuple):
    """Where the pictures lie, and in which of the two layouts."""

    root: Path
    fronts: bool

    def path(self, name: str) -> str:
        """The path of a picture; the Kaggle copy took the apostrophes out of folders and files."""
        fields = name.split("$$")
        folders = fields[:1] + fields[2:3] if self.fronts else fields[:4]
        path = self.root.joinpath(*folders, name)
        if "'" in name and not path.exists():
            plain = self.root / str(path.relative_to(self.root)).replace("'", "")
            path = plain if plain.exists() else path
        return str(path)


def _find_pictures(raw: Path, view: str, images: Frame, report: Report) -> _Pictures | None:
    makers = sorted(images["Image_name"].dropna().str.split("$$", regex=False).str[0].unique())
    found = [
        _Pictures(raw / place, fronts)
        for place in PICTURE_PLACES
        if (fronts := _has_fronts_layout(raw / place, makers)) is not None
    ]
    usable = [pictures for pictures in found if view == "front" or not pictures.fronts]
    if usable:
        return min(usable, key=lambda pictures: pictures.fronts)
    instead = ""
    if found:
        instead = (
            f"; found the Confirmed_fronts layout (`<Brand>/<Year>`) in {found[0].root}: this is "
            "the fronts subset, set view = front or point at resized_DVM"
        )
    looked = ", ".join(str(raw / place) for place in PICTURE_PLACES)
    report.problems.append(
        f"no `<Brand>/<Model>/<Year>/<Color>/` folders under {raw} (looked in {looked}){instead}. "
        "Expected from resized_DVM_v2.zip of figshare 19586296"
    )
    return None


def _has_fronts_layout(root: Path, makers: list[str]) -> bool | None:
    """True: pictures lie in <Brand>/<Year>; False: deeper; None: this folder has no pictures."""
    brands = (root / maker for maker in makers if (root / maker).is_dir())
    for folder in (inner for brand in brands for inner in sorted(brand.iterdir())):
        for entry in folder.iterdir() if folder.is_dir() else ():
            if entry.is_dir():
                return False
            if entry.suffix.lower() in (".jpg", ".jpeg"):
                return True
    return None


def _read_lists(folder: Path, report: Report) -> Column | None:
    """The published split of every advert, by Adv_ID."""
    lists: dict[str, str] = {}
    for split in SPLITS:
        path = folder / f"{split}_ids_dvm_all_views.txt"
        if not path.is_file():
            report.problems.append(
                f"no {path.name} in {folder} (ids = {str(folder)!r}); the lists are in data/ of "
                "paulhager/MMCL-Tabular-Imaging; leave ids empty to draw the split"
            )
            continue
        names = [name.strip() for name in path.read_text().split(",") if name.strip()]
        twice = [name for name in names if name in lists]
        if twice:
            report.problems.append(f"{path} repeats {len(twice)} ids, e.g. {twice[0]!r}")
        if _hash(names) != PUBLISHED[split]:
            report.warnings.append(
                f"{path} is not the published list: sha256 {_hash(names)} of its {len(names)} ids, "
                f"expected {PUBLISHED[split]}"
            )
        lists.update(dict.fromkeys(names, split))
    return pd.Series(lists, dtype=object)


def _hash(ids: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()


def _draw_split(adverts: Frame, options: Options, report: Report) -> Column | None:
    """Cut off test, then val, both stratified by model, with the calls of the authors."""
    model = adverts.set_index("Adv_ID")["Genmodel_ID"]
    seed = options.split_seed
    try:
        rest, test = train_test_split(
            model.index.tolist(), test_size=options.test, random_state=seed, stratify=model
        )
        in_table_order = model[model.index.isin(rest)]  # the authors' order, while `rest` is mixed
        strata = in_table_order if options.stratify == "published" else model[rest]
        share = options.val / (1 - options.test)
        _, val = train_test_split(rest, test_size=share, random_state=seed, stratify=strata)
    except ValueError as error:
        report.problems.append(
            f"{len(adverts)} adverts of {model.nunique()} models cannot be split with "
            f"val = {options.val}, test = {options.test}: {error}"
        )
        return None
    split = pd.Series("train", index=model.index, dtype=object)
    split[test] = "test"
    split[val] = "val"
    return split


def _nothing_left(options: Options, report: Report) -> str:
    steps = ", ".join(f"{found} {what}" for what, found, _ in report.counts)
    return (
        f"no advert is left ({steps}); lower min_adverts = {options.min_adverts} if the models "
        "have fewer adverts"
    )


def _compare(samples: RawSamples, options: Options, report: Report) -> None:
    """Set the totals beside the published ones, and say it where they differ."""
    standard = options.view == "all" and options.min_adverts == 100
    steps = [row for row in report.counts if row[0] in STEPS]
    models = samples.label.nunique()
    label = "models (the published lists have 286; the paper's 283 is a misprint)"
    report.counts.append((label, models, MODELS if standard else None))
    assert samples.split is not None
    for split in SPLITS:
        ids = samples.id[samples.split == split].tolist()
        default = (options.test, options.val) == (0.5, 0.1)
        report.counts.append((f"{split} rows", len(ids), ROWS[split] if default else None))
        if len(ids) == ROWS[split] and not options.ids and _hash(ids) != PUBLISHED[split]:
            report.warnings.append(
                f"the {split} split has the published size and other adverts: sha256 {_hash(ids)}, "
                f"expected {PUBLISHED[split]}; give the published lists with ids"
            )
    if standard and (len(samples.id), models) != (sum(ROWS.values()), MODELS):
        found = " / ".join(f"{count:,}" for _, count, _ in steps)
        published = " / ".join("?" if count is None else f"{count:,}" for count in STEPS.values())
        report.warnings.append(
            f"{sum(ROWS.values()):,} rows / {MODELS} models expected with tables V2.0, got "
            f"{len(samples.id):,} / {models}; per-step counts {found}, expected {published}"
        )


def _probe(paths: Column, report: Report) -> None:
    """Look for some of the pictures; packing looks at each."""
    places = np.unique(np.linspace(0, len(paths) - 1, PROBES).round().astype(int))
    probed = [Path(paths.iloc[place]) for place in places]
    absent = [path for path in probed if not path.is_file()]
    there = len(probed) - len(absent)
    report.counts.append(("pictures found of those probed", there, len(probed)))
    if not absent:
        return
    told = (
        f"of {len(probed)} probed image names {len(absent)} are missing; "
        f"first missing path {absent[0]}"
    )
    if there:
        report.warnings.append(told)
    else:
        report.problems.append(f"{told}; expected 1.45 M files in resized_DVM")
