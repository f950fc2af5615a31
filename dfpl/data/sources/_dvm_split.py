"""The split of DVM-CAR: the published lists, or the calls of the authors; and less training data.

A split is a column of train, val, test by Adv_ID, its training adverts in the authors' order.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pandas as pd

from dfpl.data.packed import SPLITS
from dfpl.data.raw import PackOptions, Report
from dfpl.data.sources._dvm_tables import Column, Frame

PUBLISHED = {
    "train": "2b982d653be7756e4e03fbe21010df8d73560300eb8a8ef79257c230ecb858e0",
    "val": "535bee6e5566d0656beec0c2bd6ceb35f362c0ccbbad60ac589c516d0db5ed9a",
    "test": "fcacb9cdeab8c640cfc9ff96ea7406086ee690551527ae6bdc4f79931d996618",
}
"""sha256 of the published ids of each split, sorted and joined by line feeds."""
SHARE_SEED = 2023
TrainShare = Literal["all", "10%", "1%"]
TENTHS: dict[TrainShare, int] = {"all": 0, "10%": 1, "1%": 2}


def read_lists(folder: Path, report: Report) -> Column | None:
    """The published split of every advert."""
    lists: dict[str, str] = {}
    for split in SPLITS:
        path = folder / f"{split}_ids_dvm_all_views.txt"
        if not path.is_file():
            report.problems.append(
                f"no {path.name} in {folder} (ids = {str(folder)!r}); the lists are in data/ of "
                "paulhager/MMCL-Tabular-Imaging; leave ids empty to draw the split"
            )
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            report.problems.append(f"{path} cannot be read as UTF-8: {error}")
            continue
        names = [name.strip() for name in text.split(",") if name.strip()]
        twice = [name for name in names if name in lists]
        if twice:
            report.problems.append(f"{path} repeats {len(twice)} ids, e.g. {twice[0]!r}")
        if hash_ids(names) != PUBLISHED[split]:
            report.warnings.append(
                f"{path} is not the published list: sha256 {hash_ids(names)} of its {len(names)} "
                f"ids, expected {PUBLISHED[split]}"
            )
        lists.update(dict.fromkeys(names, split))
    return pd.Series(lists, dtype=object)


def hash_ids(ids: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()


def draw_split(
    adverts: Frame, options: PackOptions, stratify: str, report: Report
) -> Column | None:
    """Cut off test, then val, both stratified by model, with the calls of the authors."""
    from sklearn.model_selection import train_test_split

    model = adverts.set_index("Adv_ID")["Genmodel_ID"]
    seed = options.split_seed
    try:
        rest, test = train_test_split(
            model.index.tolist(), test_size=options.test, random_state=seed, stratify=model
        )
        in_table_order = model[model.index.isin(rest)]  # the authors' order, while `rest` is mixed
        strata = in_table_order if stratify == "published" else model[rest]
        share = options.val / (1 - options.test)
        train, val = train_test_split(rest, test_size=share, random_state=seed, stratify=strata)
    except ValueError as error:
        report.problems.append(
            f"{len(adverts)} adverts of {model.nunique()} models cannot be split with "
            f"val = {options.val}, test = {options.test}: {error}"
        )
        return None
    parts = (train, val, test)
    drawn = {name: split for split, part in zip(SPLITS, parts, strict=True) for name in part}
    return pd.Series(drawn, dtype=object)


def draw_train_share(model: Column, share: TrainShare) -> Column:
    """The authors' smaller training splits: the Adv_IDs to keep of `model`, a column of the models
    of the training adverts in the authors' order.

    10 %: the first advert of each model, and of the others as many as make it a tenth of all
    (rounded down), stratified by model where each can get one. 1 %: the same again, from those.
    Raises ValueError where the others hold a model once, which cannot be stratified.
    """
    from sklearn.model_selection import train_test_split

    for _ in range(TENTHS[share]):
        first = ~model.duplicated()
        others, wanted = model[~first], len(model) // 10 - int(first.sum())
        drawn = []
        if wanted > 0:
            strata = others if wanted >= first.sum() else None
            _, drawn = train_test_split(
                others.index.tolist(), test_size=wanted, random_state=SHARE_SEED, stratify=strata
            )
        model = model[first | model.index.isin(drawn)]
    return model.index
