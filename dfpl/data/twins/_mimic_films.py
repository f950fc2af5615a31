"""The films of a look-alike MIMIC-CXR-JPG: radiograph-like pictures and the lists about them.

The film that the recipe chooses (the last AP one within 48 hours) shows the person's factors: heart
size and haze are the shared ones, place and brightness of an opacity those that only films have.
All other films show factors of nobody.
"""

import gzip
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float64, UInt8
from PIL import Image, ImageDraw

from dfpl.data.twins._mimic_stays import (
    AFTER,
    BEFORE,
    HOUR,
    LATER_AP,
    LATER_LATERAL,
    LATERAL,
    NO_FILM,
    PA,
    TWO_AP,
    Options,
    Stays,
)

FOLDER = "mimic-cxr-jpg/2.0.0"
METADATA = [
    *("dicom_id", "subject_id", "study_id", "PerformedProcedureStepDescription", "ViewPosition"),
    *("Rows", "Columns", "StudyDate", "StudyTime", "ProcedureCodeSequence_CodeMeaning"),
    *("ViewCodeSequence_CodeMeaning", "PatientOrientationCodeSequence_CodeMeaning"),
]
SPLIT = ["dicom_id", "study_id", "subject_id", "split"]
MEANING = {"AP": "antero-posterior", "PA": "postero-anterior", "LATERAL": "lateral"}


class Film(NamedTuple):
    """One film to be drawn."""

    stay: int
    number: int
    view: str
    seconds: int
    """Since the stay began."""
    chosen: bool


def films_of(stay: int, kind: int, rng: np.random.Generator) -> list[Film]:
    """The films of one stay, by its kind; of half of the others also one from the side."""

    def at(low: float, high: float) -> int:
        return int(HOUR * rng.uniform(low, high))

    early, late, after, before = at(1.0, 20.0), at(21.0, 40.0), at(48.5, 90.0), at(-20.0, -0.5)
    plans: dict[int, list[tuple[str, int, bool]]] = {
        TWO_AP: [("AP", early, False), ("AP", late, True)],
        BEFORE: [("AP", before, False)],
        AFTER: [("AP", after, False)],
        NO_FILM: [],
        LATERAL: [("LATERAL", early, False)],
        PA: [("PA", early, False), ("LATERAL", early, False)],
        LATER_LATERAL: [("AP", early, True), ("LATERAL", late, False)],
        LATER_AP: [("AP", early, True), ("AP", after, False)],
    }
    plan = plans.get(kind, [("LATERAL", early, False), ("AP", late, True)][stay % 2 :])
    return [Film(stay, number, *entry) for number, entry in enumerate(plan)]


def write_films(out: Path, stays: Stays, options: Options) -> None:
    """Draw all films below `out`, and write the lists of metadata and of MIMIC-CXR's own split."""
    rows = list(_draw_all(out / FOLDER, stays, options))
    ending = ".csv.gz" if options.compressed else ".csv"
    frame = pd.DataFrame(rows).sort_values(["subject_id", "study_id", "dicom_id"])
    for name, columns in (("metadata", METADATA), ("split", SPLIT)):
        path = out / FOLDER / f"mimic-cxr-2.0.0-{name}{ending}"
        write_text(path, frame.to_csv(columns=columns, index=False, lineterminator="\n"))


def _draw_all(folder: Path, stays: Stays, options: Options) -> Iterator[dict[str, Any]]:
    study = 50_000_000
    for stay, kind in zip(stays.number.tolist(), stays.kind.tolist(), strict=True):
        rng = np.random.default_rng([options.seed, 2, stay])
        for film in films_of(stay, kind, rng):
            study += 7
            name = _dicom_id(options.seed, film)
            subject = int(stays.subject_id[stay])
            path = folder / f"files/p{subject // 1_000_000}/p{subject}/s{study}/{name}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            factors = stays.factors[stay, :4] if film.chosen else rng.standard_normal(4)
            picture = draw_film(factors, film.view, options.pixels, rng)
            Image.fromarray(picture).save(path, quality=90)
            yield {
                **_row(film, stays, rng),
                **{"dicom_id": name, "subject_id": subject, "study_id": study},
                **{"Rows": picture.shape[0], "Columns": picture.shape[1]},
            }


def _row(film: Film, stays: Stays, rng: np.random.Generator) -> dict[str, Any]:
    moment = (stays.start[film.stay] + film.seconds).astype("datetime64[s]").item()
    side = film.view == "LATERAL"
    procedure = "CHEST (PA AND LAT)" if film.view == "PA" else "CHEST (PORTABLE AP)"
    return {
        "PerformedProcedureStepDescription": procedure,
        "ViewPosition": film.view,
        "StudyDate": int(f"{moment:%Y%m%d}"),
        "StudyTime": f"{int(f'{moment:%H%M%S}')}.{rng.integers(1000):03}",
        "ProcedureCodeSequence_CodeMeaning": procedure,
        "ViewCodeSequence_CodeMeaning": MEANING[film.view],
        "PatientOrientationCodeSequence_CodeMeaning": "" if side else "Erect",
        "split": ("train", "validate", "test")[film.stay % 3],
    }


def _dicom_id(seed: int, film: Film) -> str:
    text = f"{seed}/{film.stay}/{film.number}"
    digits = hashlib.blake2b(text.encode(), digest_size=20).hexdigest()
    return "-".join(digits[start : start + 8] for start in range(0, 40, 8))


def draw_film(
    factors: Float64[np.ndarray, " 4"], view: str, pixels: int, rng: np.random.Generator
) -> UInt8[np.ndarray, "H W"]:
    """A thorax with two lungs, a heart and an opacity; noise, place and exposure tell nothing."""
    heart, haze, place, bright = np.tanh(factors / 2)
    high, wide = pixels, pixels * 6 // 5
    picture = Image.new("L", (wide, high), 12)
    draw = ImageDraw.Draw(picture)
    x, y = (
        wide * (0.5 + 0.02 * rng.standard_normal()),
        high * (0.52 + 0.02 * rng.standard_normal()),
    )

    def ellipse(cx: float, cy: float, rx: float, ry: float, shade: float) -> None:
        box = [
            x + wide * (cx - rx),
            y + high * (cy - ry),
            x + wide * (cx + rx),
            y + high * (cy + ry),
        ]
        draw.ellipse(box, fill=int(shade))

    ellipse(0.0, 0.0, 0.46, 0.5, 120.0)
    lung = 60 + 28 * haze
    if view == "LATERAL":
        ellipse(0.0, -0.02, 0.3, 0.4, lung)
        ellipse(-0.1, 0.12, 0.16 + 0.04 * heart, 0.18, 165.0)
    else:
        ellipse(-0.21, -0.03, 0.16, 0.37, lung)
        ellipse(0.21, -0.03, 0.16, 0.37, lung)
        ellipse(0.06, 0.14, 0.15 + 0.06 * heart, 0.15 + 0.06 * heart, 165.0)
    ellipse(-0.22, -0.06 + 0.22 * place, 0.07, 0.08, 150 + 60 * bright)
    exposed = np.asarray(picture, dtype=np.float64) * rng.uniform(0.95, 1.05)
    return (exposed + 6 * rng.standard_normal(exposed.shape)).clip(0, 255).astype(np.uint8)


def write_text(path: Path, text: str) -> None:
    """Write a file, gzipped where its name ends so, and the same every time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = text.encode()
    path.write_bytes(gzip.compress(content, 1, mtime=0) if path.suffix == ".gz" else content)
