"""From a picture file to the pixels of a packed data set."""

import warnings
from os.path import exists, isfile  # those of pathlib raise for a name no file can have
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from dfpl.data.packed import DataError


def read_image(path: Path, size: int) -> UInt8[np.ndarray, "S S 3"]:
    """Read a picture as RGB of `size` x `size` pixels. Raises DataError with path and reason.

    The whole picture is resized, whatever its shape; it is turned as its EXIF tag says, laid on
    white where it is transparent, and greys of more than 8 bits are stretched from its own
    darkest to its own brightest. A picture over Pillow's limit of pixels is refused undecoded.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                picture.draft("RGB", (2 * size, 2 * size))
                ImageOps.exif_transpose(picture, in_place=True)
                rgb = _as_rgb(picture)
        resized = rgb.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=2.0)
        return np.asarray(resized, dtype=np.uint8)
    except Exception as error:  # damaged files make Pillow raise nearly anything
        raise DataError(f"{path}: {_reason(path, error)}") from None


def _as_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith(("I", "F")):  # convert() would clip them at 255
        grey = np.asarray(picture, dtype=np.float64)
        if not np.isfinite(grey).all():
            raise ValueError("its pixels are not all finite")
        low, high = grey.min(), grey.max()
        scaled = (grey - low) * (255 / max(high - low, 1e-12))
        picture = Image.fromarray(scaled.round().astype(np.uint8))
    if "A" in picture.getbands() or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")


def _reason(path: Path, error: Exception | None) -> str:
    """Why a picture cannot be read; empty if it is a file and nothing went wrong."""
    if not exists(path):
        return "there is no such file"
    if not isfile(path):
        return "it is not a file"
    match error:
        case None:
            return ""
        case UnidentifiedImageError():
            return f"it is no image that Pillow knows ({path.stat().st_size} bytes)"
        case Image.DecompressionBombWarning() | Image.DecompressionBombError():
            return f"it is too large, refused undecoded: {error}"
        case _:
            return f"it is truncated or damaged: {error or type(error).__name__}"
