"""A look-alike of DVM-CAR: seven tables with their literal headers, and pictures of cars.

A car model is a combination of a shared factor (seen in picture and table), an image-only and a
table-only factor. Neither modality alone suffices; the two together nearly do.
"""

import colorsys
import math
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw
from pydantic import Field, model_validator

from dfpl.data.twins import Row, TwinOptions, begun, write_csv
from dfpl.fields import ConfigError

VERSION = 1  # raise it when the same options give other files
SPREAD = 0.22  # of a factor around its level, in steps from level to level
MAKERS = (("Abarth", 2), ("Kia", 43), ("Volvo", 96))
NAMES = {
    "Abarth": ("124 Spider", "500", "595", "695"),
    "Kia": ("Cee'd", "Rio", "Sportage", "Picanto"),
    "Volvo": ("V50", "XC90", "S60", "V70"),
}
COLORS = {
    "Black": (35, 35, 38),
    "Blue": (50, 80, 170),
    "Green": (45, 120, 65),
    "Grey": (120, 120, 125),
    "Red": (185, 45, 40),
    "Silver": (185, 188, 192),
    "White": (235, 235, 232),
}
BODIES = ("Saloon", "Hatchback", "Estate", "MPV", "SUV", "Pickup", "Minibus", "Panel Van")
FUELS = ("Petrol", "Diesel", "Hybrid  Petrol/Electric Plug-in")  # with two spaces, as in DVM
GEARBOXES = ("Manual", "Automatic", "Semi-Automatic")
YEARS = range(2008, 2019)
UNPRICED = 1996  # a registration year that the price table does not know
ADVERT_COLUMNS = ["Maker", " Genmodel", " Genmodel_ID", "Adv_ID", "Adv_year", "Adv_month", "Color"]
ADVERT_COLUMNS += ["Reg_year", "Bodytype", "Runned_Miles", "Engin_size", "Gearbox", "Fuel_type"]
ADVERT_COLUMNS += ["Price", "Seat_num", "Door_num"]
EXTRA_COLUMNS = ["Engine_power", "Annual_Tax", "Wheelbase", "Height", "Width", "Length"]
EXTRA_COLUMNS += ["Average_mpg", "Top_speed"]
HEADERS = {
    "Ad_table.csv": ADVERT_COLUMNS,
    "Ad_table (extra).csv": [*ADVERT_COLUMNS, *EXTRA_COLUMNS],
    "Basic_table.csv": ["Automaker", "Automaker_ID", "Genmodel", "Genmodel_ID"],
    "Image_table.csv": [
        *("Genmodel_ID", " Image_ID", " Image_name", " Predicted_viewpoint", " Quality_check"),
    ],
    "Price_table.csv": ["Maker", " Genmodel", " Genmodel_ID", " Year", " Entry_price"],
    "Sales_table.csv": ["Maker", "Genmodel ", "Genmodel_ID ", *map(str, range(2020, 2000, -1))],
    "Trim_table.csv": [
        *("Genmodel_ID", "Maker", "Genmodel", "Trim", "Year", "Price"),
        *("Gas_emission", "Fuel_type", "Engine_size"),
    ],
}
FACTORS = ["id", "shared", "image_only", "table_only", "model"]
PLACES = {
    "resized_DVM": ("tables_V2.0", "resized_DVM"),
    "Confirmed_fronts": ("tables_V2.0", "Confirmed_fronts"),
    "kaggle": ("tables/tables", "resized_DVM_clean/resized_DVM_clean"),
}
Pixels = UInt8[np.ndarray, "H W 3"]


class Options(TwinOptions):
    """How large a look-alike of DVM-CAR is, and in which of its three layouts it lies."""

    models: Annotated[int, Field(ge=6, le=512)] = 8
    """Car models with all their adverts; one more has a quarter as many and falls under the
    threshold of 100 adverts."""
    adverts: Annotated[int, Field(ge=12)] = 120
    """Adverts per model; a tenth of them is dropped again by the recipe."""
    pixels: Annotated[int, Field(ge=16)] = 48
    """Height and width of the pictures (about 300 in the real data)."""
    layout: Literal["resized_DVM", "Confirmed_fronts", "kaggle"] = "resized_DVM"
    """Folders of the pictures: all views, the subset of front views, or the Kaggle copy."""
    lost: Annotated[int, Field(ge=0)] = 0
    """Adverts whose first picture is listed but not on disk; packing them needs
    bad_file = treat_as_missing."""

    @model_validator(mode="after")
    def _enough_adverts_to_lose(self) -> "Options":
        if self.lost > len(_complete(self)):
            raise ConfigError(
                f"lost must be at most {len(_complete(self))} with adverts = {self.adverts}, "
                f"got {self.lost}"
            )
        return self


def write(out: Path, options: Options) -> None:
    """Write a look-alike of raw DVM-CAR below `out`; nothing is done where it is there already.

    The true factors go to `factors.csv`: for each advert the values as drawn, around whole levels,
    and its model.
    """
    with begun(out, options, VERSION) as needed:
        if needed:
            _write(out, options)


def _write(out: Path, size: Options) -> None:
    tables: dict[str, list[Row]] = {name: [] for name in HEADERS}
    factors: list[Row] = []
    for model in _models(size):
        _describe_model(model, tables)
        for number in range(model.adverts):
            advert = _draw_advert(model, number, size)
            factors.append(dict(zip(FACTORS, (advert.id, *advert.factors, model.id), strict=True)))
            _describe_advert(advert, tables)
            _write_pictures(out / PLACES[size.layout][1], advert, size, tables["Image_table.csv"])
    for name, rows in tables.items():
        write_csv(out / PLACES[size.layout][0] / name, HEADERS[name], rows)
    write_csv(out / "factors.csv", FACTORS, factors)


class _Model(NamedTuple):
    """A car model: its names, its levels of the three factors, and the number of levels."""

    maker: str
    name: str
    id: str
    levels: tuple[int, int, int]
    counts: tuple[int, int, int]
    adverts: int
    place: int


class _Advert(NamedTuple):
    """One advert: its table row, the factors as drawn, and what its pictures need."""

    model: _Model
    number: int
    id: str
    factors: tuple[float, float, float]
    row: Row
    rng: np.random.Generator


def _models(size: Options) -> list[_Model]:
    """The combinations of levels that are models, and the rare one, a copy of the first."""
    counts = _level_counts(size.models)
    shared, image_only, _ = counts
    models = []
    for place in range(size.models + 1):
        code = place % size.models
        maker, maker_number = MAKERS[place % len(MAKERS)]
        number = place // len(MAKERS) + 1
        names = NAMES[maker]
        name = names[number - 1] if number <= len(names) else f"Model {number}"
        levels = (code % shared, code // shared % image_only, code // (shared * image_only))
        adverts = size.adverts if place < size.models else size.adverts // 4
        models.append(
            _Model(maker, name, f"{maker_number}_{number}", levels, counts, adverts, place)
        )
    return models


def _level_counts(models: int) -> tuple[int, int, int]:
    """The smallest numbers of levels, near each other, whose combinations suffice."""
    shared = math.ceil(round(models ** (1 / 3), 9))
    image_only = math.ceil(math.sqrt(models / shared))
    return shared, image_only, math.ceil(models / (shared * image_only))


def _draw_advert(model: _Model, number: int, size: Options) -> _Advert:
    rng = np.random.default_rng([size.seed, model.place, number])
    shared, image_only, table_only = (
        round(level + SPREAD * rng.standard_normal(), 4) for level in model.levels
    )
    year = int(rng.choice(YEARS))
    miles = int(rng.gamma(4, 2500) * (2019 - year) / 4)
    worth = _entry_price(model, year) * math.exp(0.1 * rng.standard_normal())
    row = {
        "Maker": model.maker,
        " Genmodel": model.name,
        " Genmodel_ID": model.id,
        "Adv_ID": f"{model.id}$${number + 1}",
        "Adv_year": int(rng.integers(2018, 2021)),
        "Adv_month": int(rng.integers(1, 13)),
        "Color": str(rng.choice(list(COLORS))),
        "Reg_year": float(year),
        "Bodytype": BODIES[min(max(round(shared), 0), len(BODIES) - 1)],
        "Runned_Miles": miles,
        "Engin_size": f"{1.2 + 0.4 * table_only + 0.1 * abs(rng.standard_normal()):.1f}L",
        "Gearbox": str(rng.choice(GEARBOXES, p=[0.6, 0.3, 0.1])),
        "Fuel_type": str(rng.choice(FUELS, p=[0.6, 0.3, 0.1])),
        "Price": int(worth * 0.88 ** (2019 - year)),
        "Seat_num": float(rng.choice([4, 5, 7], p=[0.2, 0.7, 0.1])),
        "Door_num": float(rng.choice([3, 5])),
    }
    row.update(_irregularity(number))
    factors = (shared, image_only, table_only)
    return _Advert(model, number, str(row["Adv_ID"]), factors, row, rng)


def _irregularity(number: int) -> Row:
    """What some adverts of the real data have; most are dropped by the recipe (7 in 60)."""
    match number % 60:
        case 1:
            return {"Color": ""}
        case 3:
            return {"Price": "Uknown"}
        case 4:
            return {"Reg_year": float(UNPRICED)}
        case 6:
            return {"Reg_year": ""}
        case 8:
            return {"Seat_num": ""}
        case 9:
            return {"Runned_Miles": "miles"}
        case 2 | 32:
            return {"Adv_month": 33}
        case 5:
            return {"Fuel_type": FUELS[2]}
        case 11:
            return {"Gearbox": GEARBOXES[2]}
        case _:
            return {}


def _has_pictures(number: int) -> bool:
    return number % 60 != 7


def _entry_price(model: _Model, year: int) -> int:
    """The same for all models of a table-only level: it does not tell the model."""
    return 9000 + 2500 * model.levels[2] + 300 * (year - YEARS[0])


def _sizes(model: _Model) -> Row:
    """The same for all models of a shared level, and near enough for 50 mm of jitter to blur."""
    level = model.levels[0]
    return {
        "Wheelbase": 2500.0 + 40 * level,
        "Height": 1450.0 + 40 * level,
        "Width": 1750.0 + 30 * level,
        "Length": 4100.0 + 50 * level,
    }


def _describe_model(model: _Model, tables: dict[str, list[Row]]) -> None:
    """Add a model's rows to the four tables about models."""
    own = {"Genmodel_ID": model.id, "Maker": model.maker, "Genmodel": model.name}
    spaced = {"Maker": model.maker, " Genmodel": model.name, " Genmodel_ID": model.id}
    maker_id = int(model.id.split("_")[0])
    tables["Basic_table.csv"].append({**own, "Automaker": model.maker, "Automaker_ID": maker_id})
    tables["Sales_table.csv"].append(
        {"Maker": model.maker, "Genmodel ": model.name, "Genmodel_ID ": model.id}
        | {str(year): 100 * (year - 2000) for year in range(2001, 2021)}
    )
    for year in YEARS:
        price = _entry_price(model, year)
        tables["Price_table.csv"].append({**spaced, " Year": year, " Entry_price": price})
        tables["Trim_table.csv"].append(
            {**own, "Trim": "Basic", "Year": year, "Price": price}
            | {"Gas_emission": 120, "Fuel_type": "Petrol", "Engine_size": 1400}
        )


def _describe_advert(advert: _Advert, tables: dict[str, list[Row]]) -> None:
    """Add an advert to both advert tables; some have a size of 0 there, which means empty."""
    tables["Ad_table.csv"].append(advert.row)
    extra = {"Engine_power": 100.0, "Annual_Tax": 145.0, **_sizes(advert.model)}
    if advert.number % 20 == 0:
        extra["Wheelbase"] = 0.0
    if advert.number % 20 == 10:
        extra["Height"] = ""
    tables["Ad_table (extra).csv"].append(
        {**advert.row, **extra, "Average_mpg": "48.7 mpg", "Top_speed": "114 mph"}
    )


def _write_pictures(folder: Path, advert: _Advert, size: Options, rows: list[Row]) -> None:
    """Draw the pictures of an advert and list them; the second of advert 0 is only listed."""
    if not _has_pictures(advert.number):
        return
    model, rng, color = advert.model, advert.rng, advert.row["Color"]
    year = int(advert.row["Reg_year"] or YEARS[0])
    lost_adverts = _complete(size)[: size.lost]
    for place in range(2 if advert.number == 0 else int(rng.integers(1, 5))):
        view = int(rng.choice([0, 0, 45, 90, 135, 180, 225, 270, 315, 360]))
        unread = advert.number == 0 and place == 1
        view = 180 if unread else view
        checked = rng.random() < 0.9 if view == 0 else rng.random() < 0.05
        picture = _draw_car(advert, view, size.pixels)
        number = 10 + 3 * place
        fields = (model.maker, model.name, str(year), color or "Unlisted", model.id)
        name = "$$".join((*fields, str(advert.number + 1), f"image_{number}.jpg"))
        rows.append(
            {"Genmodel_ID": model.id, " Image_ID": f"{advert.id}$${number}", " Image_name": name}
            | {" Predicted_viewpoint": view, " Quality_check": "P" if checked and not view else ""}
        )
        lost = model.place == 0 and place == 0 and advert.number in lost_adverts
        front = view == 0 and checked
        if not (unread or lost) and (size.layout != "Confirmed_fronts" or front):
            path = folder / _picture_path(fields, name, size.layout)
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path, quality=90)


def _complete(size: Options) -> list[int]:
    """Adverts of a model that the recipe keeps, and without anything to mend."""
    return [n for n in range(12, size.adverts) if not _irregularity(n) and _has_pictures(n)]


def _picture_path(fields: tuple[str, ...], name: str, layout: str) -> Path:
    maker, model, year, color, _ = fields
    match layout:
        case "Confirmed_fronts":
            return Path(maker, year, name)
        case "kaggle":
            return Path(*(text.replace("'", "") for text in (maker, model, year, color, name)))
        case _:
            return Path(maker, model, year, color, name)


def _draw_car(advert: _Advert, view: int, pixels: int) -> Image.Image:
    """A car: its shape is the shared factor, the colour of its stripe the image-only one.

    Paint, viewpoint, place, ground and clutter tell nothing about the model.
    """
    rng = advert.rng
    shapes, hues = advert.model.counts[:2]
    shape = advert.factors[0] / max(shapes - 1, 1)
    hue = 0.03 + 0.55 * advert.factors[1] / max(hues - 1, 1)
    scene = rng.integers(90, 200, 3)
    picture = Image.new("RGB", (pixels, pixels), tuple(int(part) for part in scene))
    draw = ImageDraw.Draw(picture)
    _draw_clutter(draw, rng, pixels)
    paint = COLORS.get(advert.row["Color"], (150, 150, 150))
    stripe = tuple(round(255 * part) for part in colorsys.hsv_to_rgb(hue % 1, 0.9, 0.9))
    half = pixels * (0.44 if view % 180 else 0.36)
    lean = pixels * 0.05 * math.sin(math.radians(view))
    middle = pixels * (0.5 + 0.02 * rng.standard_normal())
    floor = pixels * (0.8 + 0.015 * rng.standard_normal())
    waist = floor - pixels * 0.3
    roof = waist - pixels * (0.12 + 0.2 * shape)
    cabin = half * 0.6
    draw.polygon(
        [
            (middle - cabin, waist),
            (middle - 0.8 * cabin + lean, roof),
            (middle + 0.8 * cabin + lean, roof),
            (middle + cabin, waist),
        ],
        fill=tuple(int(0.6 * part) for part in paint),
    )
    draw.rectangle([middle - half, waist, middle + half, floor], fill=paint)
    band = pixels * 0.05
    draw.rectangle([middle - half, waist + band, middle + half, waist + 3 * band], fill=stripe)
    for wheel in (middle - 0.6 * half, middle + 0.6 * half):
        radius = pixels * 0.08
        draw.ellipse(
            [wheel - radius, floor - radius, wheel + radius, floor + radius], fill=(15, 15, 15)
        )
    return Image.fromarray(_noisy(np.asarray(picture), rng))


def _draw_clutter(draw: ImageDraw.ImageDraw, rng: np.random.Generator, pixels: int) -> None:
    for x, y, wide, high in rng.uniform(0, pixels, (4, 4)):
        shade = int(rng.integers(60, 220))
        draw.rectangle([x, y, x + wide / 3, y + high / 3], fill=(shade, shade, shade))


def _noisy(image: Pixels, rng: np.random.Generator) -> Pixels:
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    return np.clip(image + 10 * noise, 0, 255).astype(np.uint8)
