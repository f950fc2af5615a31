"""Your own data: a table (CSV or Parquet) with one row per sample, and a folder of images.

Raw files    TABLE.csv (UTF-8; separated by comma, semicolon or tab) or TABLE.parquet
             images, named in a column of the table, or <id>.jpg, <id>.jpeg, <id>.png
Columns      each is read as numeric or category, or left out, by the rules of `infer`;
             the options `numeric`, `category` and `exclude` overrule them
Empty cells  nothing, NA, N/A, #N/A, NaN, nan, null, NULL, None, <NA>
"""

import csv
import dataclasses
import difflib
import io
import re
from collections.abc import Callable, Iterable
from os.path import isfile  # that of pathlib raises for a name that no file can have
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from pydantic import Field

from dfpl.data import packing
from dfpl.data.packed import DataError, PackedDataset
from dfpl.data.preparing import category_codes
from dfpl.data.raw import PackOptions, RawSamples, Report, column, nothing_dropped
from dfpl.data.reading import Spread

BLANK = frozenset(["", "NA", "N/A", "#N/A", "NaN", "nan", "null", "NULL", "None", "<NA>"])
ID_NAMES = ("id", "sample_id", "image_id", "case_id", "row_id", "patient_id", "subject_id")
IMAGE_NAMES = ("image", "image_path", "image_file", "img", "file", "filename", "file_name", "path")
SUFFIXES = (".jpg", ".jpeg", ".png")
CHOSEN = "named by the options"
NEARLY = 0.2  # a column with no more cells that are no numbers was perhaps meant to be numeric
FEW = 10  # a column of whole numbers with no more distinct values is a category

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?(?i:inf|infinity)")
WITH_COMMA = re.compile(r"([+-]?[0-9]+),([0-9]+)")
IDENTIFIER = re.compile(r"(^|[_ .-])[uU]?(id|ID|Id)$|[a-z](ID|Id)$")

Kind = Literal["id", "group", "label", "split", "image", "numeric", "category", "left out"]
ROLES: tuple[Kind, ...] = ("id", "group", "label", "split", "image")
LISTS: dict[str, Kind] = {"numeric": "numeric", "category": "category", "exclude": "left out"}


class Options(PackOptions):
    """Which column is what. Lists of columns are separated by commas."""

    dataset: Annotated[str, Field(pattern=r"^[\w.-]*$")] = ""
    """Name of the data set; default: the table's file name, or its folder's where the file is
    called table or data."""
    images: str = ""
    """Folder of the images; default: the folder of the table."""
    label: str = "label"
    """Column of the class."""
    group: str = ""
    """Column of what must not be torn apart by the split (patient, lesion); default: each row is
    on its own."""
    image: str = ""
    """Column of the image's path; default: one called image, image_path, file ..., and if there is
    none, the image called like the id."""
    id: str = ""
    """Column of unique names; default: the first unique one of id, sample_id, image_id ..., and
    if there is none, the number of the row."""
    split: str = ""
    """Column that says train, val or test; default: the split is drawn."""
    numeric: str = ""
    """Columns to read as numbers, whatever they look like."""
    category: str = ""
    """Columns to read as categories, whatever they look like."""
    exclude: str = ""
    """Columns to leave out, for instance those that are known only after the label is."""


class Column(NamedTuple):
    """What a column was taken for, and why."""

    name: str
    kind: Kind
    why: str
    empty: float
    """Share of empty cells."""
    example: str


def read(raw: Path, options: Options) -> RawSamples:
    """Read the table `raw`. Raises DataError for what cannot be read at all, all at once."""
    return _read(raw, options)[-1]


def check(raw: Path, options: Options) -> Report:
    """All counts and problems, and what each column was taken for where that may surprise."""
    frame, columns, samples = _read(raw, options)
    report = packing.check(samples, options)
    used = [(f"column of {c.kind}", c.name, None) for c in columns if c.kind in ROLES]
    return dataclasses.replace(
        report,
        counts=[("name", samples.name, None), *used, *report.counts],
        warnings=[*report.warnings, *_surprises(frame, columns, options)],
    )


def pack(
    raw: Path, out: Path, options: Options, workers: int | Spread | None = None
) -> PackedDataset:
    """Read the table `raw` and its images, and write the packed data set to `out`."""
    return packing.pack(read(raw, options), out, options, workers)


def describe(raw: Path, options: Options) -> list[Column]:
    """What each column of the table was taken for, in the order of the table."""
    frame = read_cells(raw)
    return _describe(frame, _roles(frame, options), options)


def _read(raw: Path, options: Options) -> tuple[pd.DataFrame, list[Column], RawSamples]:
    frame = read_cells(raw)
    roles = _roles(frame, options)
    columns = _describe(frame, roles, options)
    numbered = pd.Series([f"row-{number}" for number in range(1, len(frame) + 1)], dtype=str)
    ids = column(frame, roles["id"]) if "id" in roles else numbered
    samples = RawSamples(
        name=options.dataset or _default_name(raw),
        source=f"table {raw.name}, label {roles['label']}",
        id=ids,
        group=column(frame, roles["group"]) if "group" in roles else ids,
        label=category_cells(column(frame, roles["label"])),
        split=column(frame, roles["split"]).str.lower() if "split" in roles else None,
        image=_images(frame, roles, ids, _folders(raw, options)),
        numeric=_numeric(frame, [c.name for c in columns if c.kind == "numeric"]),
        category=_category(frame, [c.name for c in columns if c.kind == "category"]),
        dropped=nothing_dropped(),
    )
    return frame, columns, samples


def _default_name(raw: Path) -> str:
    raw = raw.resolve()
    name = raw.parent.name if raw.stem.lower() in ("table", "data") else raw.stem
    return re.sub(r"[^\w.-]+", "_", name)


def read_cells(raw: Path) -> pd.DataFrame:
    """All cells as stripped text, None where empty; header names stripped, nameless left out.

    Raises DataError for a file that is no table, naming the lines with too few or many cells.
    """
    if not raw.is_file():
        what = "is a folder" if raw.is_dir() else "does not exist"
        raise DataError(f"the table {raw} {what}; give the path of a .csv or .parquet file")
    frame = _read_parquet(raw) if raw.suffix.lower() in (".parquet", ".pq") else _read_csv(raw)
    frame.columns = [str(name).strip() for name in frame.columns]
    twice = sorted(set(frame.columns[frame.columns.duplicated()]) - {""})
    if twice:
        raise DataError(f"{raw} has more than one column {', '.join(map(repr, twice))}")
    texts = {name: column(frame, name).str.strip() for name in frame.columns if name}
    frame = pd.DataFrame({name: cells.mask(cells.isin(BLANK)) for name, cells in texts.items()})
    frame = frame.dropna(how="all").reset_index(drop=True)
    if frame.empty:
        raise DataError(f"{raw} has no rows below its header")
    return frame


def _read_parquet(raw: Path) -> pd.DataFrame:
    try:
        table = pd.read_parquet(raw).reset_index(drop=True)
    except (OSError, ValueError) as error:
        raise DataError(f"{raw} is no Parquet file that can be read: {error}") from None
    for name in table.columns:
        cells = column(table, name)
        table[name] = cells.astype(str).where(cells.notna()).astype("str")
    return table


def _read_csv(raw: Path) -> pd.DataFrame:
    try:
        text = raw.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = f"{error.object[error.start : error.start + 1]!r} at byte {error.start}"
        raise DataError(f"{raw} is not UTF-8 text ({found}); save it as CSV UTF-8") from None
    separator = max(",;\t", key=text.partition("\n")[0].count)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        rows = [(lines.line_num, row) for row in lines if row]
    except csv.Error as error:
        raise DataError(f"{raw}, line {lines.line_num}: {error}") from None
    if not rows:
        raise DataError(f"{raw} is empty; its first line must name the columns")
    header = rows[0][1]
    wrong = [f"line {at} has {len(row)}" for at, row in rows if len(row) != len(header)]
    if wrong:
        raise DataError(
            f"{raw}: the header has {len(header)} cells (separated by {separator!r}), but "
            f"{', '.join(wrong[:5])}" + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        )
    return pd.DataFrame([row for _, row in rows[1:]], columns=header, dtype="str")


def _roles(frame: pd.DataFrame, options: Options) -> dict[str, str]:
    """The column of each role that there is. Raises DataError naming all that do not fit."""
    problems, roles = [], {role: getattr(options, role).strip() for role in ROLES}
    lists = {option: _listed(options, option) for option in LISTS}
    for option, wanted in [*((role, [name]) for role, name in roles.items()), *lists.items()]:
        problems += [_no_column(frame, name, option) for name in wanted if name not in {"", *frame}]
    uses = [name for name in roles.values() if name] + lists["numeric"] + lists["category"]
    uses += lists["exclude"]
    both = sorted({name for name in uses if uses.count(name) > 1} - {roles["id"], ""})
    problems += [f"column {name!r} is given more than one role by the options" for name in both]
    if problems:
        raise DataError("\n".join(problems))
    taken = {*lists["numeric"], *lists["category"], *lists["exclude"], *roles.values()}
    free = [name for name in frame if name not in taken]
    roles["id"] = roles["id"] or _called(frame.filter(free), ID_NAMES, _is_unique)
    roles["image"] = roles["image"] or _called(frame.filter(free), IMAGE_NAMES, lambda _: True)
    return {role: name for role, name in roles.items() if name}


def _listed(options: Options, option: str) -> list[str]:
    return [name.strip() for name in getattr(options, option).split(",") if name.strip()]


def _no_column(frame: pd.DataFrame, name: str, option: str) -> str:
    close = difflib.get_close_matches(name.lower(), [str(c).lower() for c in frame], n=1)
    meant = [str(c) for c in frame if close and str(c).lower() == close[0]]
    hint = f"; did you mean {meant[0]!r}?" if meant else ""
    there = ", ".join(repr(str(column)) for column in frame)
    return f"there is no column {name!r} (option {option}){hint}; the table has {there}"


def _called(frame: pd.DataFrame, names: Iterable[str], fits: Callable[[pd.Series], bool]) -> str:
    by_name = {str(column).lower(): str(column) for column in frame}
    found = (
        by_name[name] for name in names if name in by_name and fits(column(frame, by_name[name]))
    )
    return next(found, "")


def _is_unique(cells: pd.Series) -> bool:
    return bool(cells.notna().all() and cells.is_unique)


def _describe(frame: pd.DataFrame, roles: dict[str, str], options: Options) -> list[Column]:
    chosen: dict[str, tuple[Kind, str]] = {}
    for kind in LISTS:
        chosen |= {name: (LISTS[kind], CHOSEN) for name in _listed(options, kind)}
    for role in reversed(ROLES):
        if role in roles:
            why = CHOSEN if getattr(options, role) else "called like one"
            chosen[roles[role]] = (role, why)
    columns = []
    for name in map(str, frame.columns):
        cells = column(frame, name)
        kind, why = chosen.get(name) or infer(cells)
        filled = cells.dropna().tolist()
        empty = 1 - len(filled) / len(cells)
        columns.append(Column(name, kind, why, empty, filled[0] if filled else ""))
    return columns


def infer(cells: pd.Series) -> tuple[Literal["numeric", "category", "left out"], str]:
    """Say what a column of text cells is, and why, by the first rule that fits:

    1. left out: it is empty; or one value fills all its cells;
    2. left out: it is called id or ..._id; its whole numbers run without gap or repeat;
    3. numeric: all filled cells are numbers, and some are no whole numbers, or more than 10 differ;
    4. category: all filled cells are numbers, but few;
    5. left out: it is text of which more than 9 in 10 filled cells (and more than 10) differ;
    6. category: any other text.
    """
    filled = cells.dropna()
    distinct = filled.nunique()
    if not distinct:
        return "left out", "it is empty"
    if distinct == 1 and len(filled) == len(cells):
        return "left out", f"it is constant ({filled.iloc[0]!r})"
    if IDENTIFIER.search(str(cells.name)):
        return "left out", "it is called like an identifier"
    numbers, bad = parse_numbers(filled)
    if not bad.any():
        return _infer_numbers(numbers)
    if distinct > max(0.9 * len(filled), FEW):
        return "left out", f"it is text and {distinct} of {len(filled)} filled cells differ"
    if bad.mean() <= NEARLY:
        return "category", f"{bad.sum()} cells are no numbers, e.g. {filled.iloc[bad.argmax()]!r}"
    return "category", f"it is text with {distinct} values"


def _infer_numbers(
    numbers: Float[np.ndarray, " M"],
) -> tuple[Literal["numeric", "category", "left out"], str]:
    finite = np.unique(numbers[np.isfinite(numbers)])
    if (finite % 1).any():
        return "numeric", "all filled cells are numbers"
    if len(finite) > FEW:
        if len(finite) == len(numbers) and (np.diff(finite) == 1).all():
            return "left out", f"it counts the rows, from {finite[0]:.0f} to {finite[-1]:.0f}"
        return "numeric", f"all filled cells are numbers, {len(finite)} of them differ"
    return "category", f"it has {len(finite)} whole numbers only"


def _surprises(frame: pd.DataFrame, columns: list[Column], options: Options) -> list[str]:
    """What a person may not expect: columns left out, near-numbers, groups torn apart."""
    found = []
    for name, kind, why, *_ in columns:
        filled = column(frame, name).dropna()
        if why == CHOSEN:
            continue
        if kind == "left out":
            found.append(f"column {name!r} is left out: {why}")
        if kind == "category" and 0 < parse_numbers(filled)[1].mean() <= NEARLY:
            found.append(f"column {name!r} is read as a category: {why}; mend or empty them")
        if IDENTIFIER.search(name) and not options.group and not filled.is_unique:
            found.append(
                f"column {name!r} has {filled.nunique()} values in {len(filled)} rows: if rows "
                f"of one value belong together, choose group={name}, or the test is no test"
            )
    return found


def parse_numbers(
    cells: pd.Series,
) -> tuple[Float[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
    """Numbers of text cells (NaN where empty or no number), and which filled ones are none.

    A comma is a decimal comma where no cell of the column has a point and every comma stands
    between digits, unless three digits follow every one: 1,234 may mean a thousand.
    """
    texts = cells.astype(object).where(cells.notna(), None).tolist()
    commas = [text for text in texts if text and "," in text]
    found = [WITH_COMMA.fullmatch(text) for text in commas]
    decimal = (
        not any(text and "." in text for text in texts)
        and all(found)
        and any(match is not None and len(match[2]) != 3 for match in found)
    )
    if decimal:
        texts = [text and text.replace(",", ".") for text in texts]
    is_number = [text is not None and NUMBER.fullmatch(text) is not None for text in texts]
    numbers = [float(text) if ok else np.nan for text, ok in zip(texts, is_number, strict=True)]
    bad = cells.notna().to_numpy() & ~np.array(is_number, dtype=bool)
    return np.array(numbers, dtype=np.float64), bad


def numeric_cells(cells: pd.Series) -> Float[np.ndarray, " N"]:
    """Numbers of text cells, NaN where empty. Raises DataError naming cells that are no numbers."""
    numbers, bad = parse_numbers(cells)
    if bad.any():
        first = int(bad.argmax())
        raise DataError(
            f"column {cells.name!r} is numeric, but {bad.sum()} cells are no numbers, e.g. "
            f"{cells.iloc[first]!r} in row {first + 1}; mend or empty them"
        )
    return numbers


def category_cells(cells: pd.Series) -> pd.Series:
    """Levels of text cells: whole numbers lose their zeros after the point (1.0 is 1)."""
    return cells.str.replace(r"^([+-]?[0-9]+)\.0+$", r"\1", regex=True)


def _numeric(frame: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    columns, problems = {}, []
    for name in names:
        try:
            columns[name] = numeric_cells(column(frame, name))
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n".join(problems))
    return pd.DataFrame(columns, index=frame.index)


def _category(frame: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    columns = {name: category_cells(column(frame, name)) for name in names}
    return pd.DataFrame(columns, index=frame.index)


def _folders(raw: Path, options: Options) -> list[Path]:
    """Where images are looked for: the folder of the option, then that of the table."""
    folder = Path(options.images) if options.images else raw.parent
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder} (option images)")
    return [folder, raw.parent]


def _images(
    frame: pd.DataFrame, roles: dict[str, str], ids: pd.Series, folders: list[Path]
) -> pd.Series:
    """The path of each sample's image, as its column says, or else of the image called like it."""
    if "image" not in roles:
        stems = _stems(folders[0])
        paths = [stems.get(name) for name in ids]
        if not any(paths):
            raise DataError(
                f"no image in {folders[0]} is called like a sample (looked for "
                f"{ids.iloc[0]} with {', '.join(SUFFIXES)}); choose the column image or the "
                "folder images"
            )
        return pd.Series(paths, dtype=object)
    cells = column(frame, roles["image"])
    names = cells.dropna().tolist()
    if not any(Path(name).suffix for name in names):
        stems = _stems(folders[0])
        found = {name: stems.get(name, str(folders[0] / name)) for name in names}
    else:
        probe = names[:: max(1, len(names) // 20)]
        folder = max(folders, key=lambda folder: sum(isfile(folder / name) for name in probe))
        found = {name: str(folder / name) for name in names}
    paths = [None if pd.isna(name) else found[name] for name in cells]
    return pd.Series(paths, dtype=object)


def _stems(folder: Path) -> dict[str, str]:
    """Path of each image in the folder by its name without suffix; .jpg goes before .png."""
    files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES]
    files.sort(key=lambda path: SUFFIXES.index(path.suffix.lower()), reverse=True)
    return {path.stem: str(path) for path in files}


__all__ = [
    "Column",
    "Options",
    "category_cells",
    "category_codes",
    "check",
    "describe",
    "infer",
    "numeric_cells",
    "pack",
    "parse_numbers",
    "read",
    "read_cells",
]
