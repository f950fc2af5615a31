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
             `train_share` keeps 10 % or 1 % of the training rows, by the authors' rule and seed.
Deviations   Numbers are packed as they are: scaling is fitted later, on the training split alone.
             Jitter of the sizes (whole mm in [-50, 50]) is a function of advert and column, not of
             row order and Python's generator. Three wrong sizes, which the authors list but leave,
             are mended. Sizes that no advert of a model states stay empty. view = front is split
             like all views (theirs: 72/18/10). The paper's 283 classes are a misprint for 286.
"""

from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
from pydantic import Field

from dfpl.data import packing
from dfpl.data.packed import SPLITS, PackedDataset
from dfpl.data.raw import PackOptions, RawSamples, Report
from dfpl.data.reading import Spread
from dfpl.data.sources._dvm_pictures import Pictures, find_pictures, probe_pictures
from dfpl.data.sources._dvm_recipe import STEPS, Steps, follow_recipe
from dfpl.data.sources._dvm_split import (
    PUBLISHED,
    TrainShare,
    draw_split,
    draw_train_share,
    hash_ids,
    read_lists,
)
from dfpl.data.sources._dvm_tables import (
    CATEGORY,
    NUMERIC,
    Column,
    Frame,
    read_tables,
    report_on_tables,
    table_folder,
)

MODELS = 286
ROWS = {"train": 70_565, "val": 17_642, "test": 88_207}
TRAIN_ROWS = {"10%": 7_056, "1%": 705}


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
    train_share: TrainShare = "all"
    """How much of the training split is kept: the authors' low-data variants hold at least one
    advert of every model."""
    val: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the adverts in the validation split, where the split is drawn."""
    test: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Share of the adverts in the test split, where the split is drawn."""
    split_seed: Annotated[int, Field(ge=0)] = 2022
    """Seed of the split, where it is drawn."""


def looks_raw(path: Path) -> bool:
    """Whether `path` is a folder of raw DVM-CAR."""
    return table_folder(path) is not None


def read(raw: Path, options: Options) -> RawSamples:
    """Follow the recipe from the raw tables to samples. Raises DataError with all problems."""
    return packing.read_all(lambda report: _read(raw, read_tables(raw, report), options, report))


def check(raw: Path, options: Options) -> Report:
    """Count what every step leaves, next to the published counts, and list all problems."""
    report = Report()
    tables = read_tables(raw, report)
    samples = _read(raw, tables, options, report)
    found = report + report_on_tables(raw, tables)
    return found if samples is None else found + packing.check(samples, options)


def pack(
    raw: Path, out: Path, options: Options, workers: int | Spread | None = None
) -> PackedDataset:
    """Pack the raw data set in `raw` below `out`."""
    return packing.pack(read(raw, options), out, options, workers)


def _read(
    raw: Path, tables: dict[str, Frame], options: Options, report: Report
) -> RawSamples | None:
    """What `read` returns, or None where `report` tells why there is nothing to return."""
    images = tables.get("Image_table.csv")
    pictures = None if images is None else find_pictures(raw, options.view, images, report)
    lists = read_lists(Path(options.ids), report) if options.ids else None
    if report.problems or images is None or pictures is None:
        return None
    steps = follow_recipe(tables, options.view, options.min_adverts, report)
    if lists is not None:
        listed = steps.left["Adv_ID"].isin(lists.index)
        steps.keep("in the published id lists", listed, "in no published id list")
    if steps.left.empty:
        report.problems.append(_nothing_left(options, report))
    if report.problems:
        return None
    split = lists
    if split is None:
        split = draw_split(steps.left, options, options.stratify, report)
    if split is None or not _keep_train_share(steps, split, options, report):
        return None
    samples = _to_samples(steps, split, pictures, options)
    _compare(samples, options, report)
    probe_pictures(samples.image, report)
    return samples


def _keep_train_share(steps: Steps, split: Column, options: Options, report: Report) -> bool:
    """Drop training adverts outside the share asked for; False where the draw is impossible."""
    if options.train_share == "all":
        return True
    model = steps.left.set_index("Adv_ID")["Genmodel_ID"]
    train = [name for name in split.index[split == "train"] if name in model.index]
    try:
        kept = draw_train_share(model[train], options.train_share)
    except ValueError as error:
        report.problems.append(
            f"{len(train)} training adverts cannot be cut to train_share = {options.train_share}: "
            f"{error}"
        )
        return False
    rows = steps.left["Adv_ID"].isin(kept) | ~steps.left["Adv_ID"].isin(train)
    step = f"in val, test and {options.train_share} of train"
    steps.keep(step, rows, f"training advert outside the {options.train_share} kept")
    return True


def _to_samples(steps: Steps, split: Column, pictures: Pictures, options: Options) -> RawSamples:
    left = steps.left.reset_index(drop=True)
    paths = [pictures.path(name) for name in left["Image_name"]]
    drawn = f"drawn {options.stratify}, seed {options.split_seed}"
    share = "" if options.train_share == "all" else f", {options.train_share} of train"
    return RawSamples(
        name="dvm",
        source=f"DVM-CAR, {options.view} views, at least {options.min_adverts} adverts per model, "
        f"split {'from id lists' if options.ids else drawn}{share}",
        id=left["Adv_ID"],
        group=left["Adv_ID"],
        label=left["Genmodel_ID"],
        split=left["Adv_ID"].map(split),
        image=pd.Series(paths, dtype=object),
        numeric=left[NUMERIC].astype(float),
        category=left[CATEGORY],
        dropped=pd.concat(steps.dropped, ignore_index=True),
    )


def _nothing_left(options: Options, report: Report) -> str:
    steps = ", ".join(f"{found} {what}" for what, found, _ in report.counts)
    return (
        f"no advert is left ({steps}); lower min_adverts = {options.min_adverts} if the models "
        "have fewer adverts"
    )


def _compare(samples: RawSamples, options: Options, report: Report) -> None:
    """Set the totals beside the published ones, and say it where they differ."""
    standard = options.view == "all" and options.min_adverts == 100
    published_shares = bool(options.ids) or (options.test, options.val) == (0.5, 0.1)
    expected = dict(ROWS)
    if options.train_share != "all":
        expected["train"] = TRAIN_ROWS[options.train_share]
    models = samples.label.nunique()
    label = f"models (the published lists have {MODELS}; the paper's 283 is a misprint)"
    report.counts.append((label, models, MODELS if standard else None))
    assert samples.split is not None
    for split in SPLITS:
        ids = samples.id[samples.split == split].tolist()
        told = expected[split] if standard and published_shares else None
        report.counts.append((f"{split} rows", len(ids), told))
        whole = split != "train" or options.train_share == "all"
        if whole and not options.ids and len(ids) == expected[split]:
            _compare_hash(split, ids, report)
    if standard and (len(samples), models) != (sum(expected.values()), MODELS):
        _tell_counts(len(samples), models, sum(expected.values()), report)


def _compare_hash(split: str, ids: list[str], report: Report) -> None:
    if hash_ids(ids) != PUBLISHED[split]:
        report.warnings.append(
            f"the {split} split has the published size and other adverts: sha256 {hash_ids(ids)}, "
            f"expected {PUBLISHED[split]}; give the published lists with ids"
        )


def _tell_counts(rows: int, models: int, expected: int, report: Report) -> None:
    steps = [count for what, count, _ in report.counts if what in STEPS]
    found = " / ".join(f"{count:,}" for count in steps)
    published = " / ".join("?" if count is None else f"{count:,}" for count in STEPS.values())
    report.warnings.append(
        f"{expected:,} rows / {MODELS} models expected with tables V2.0, got {rows:,} / {models}; "
        f"per-step counts {found}, expected {published}"
    )
