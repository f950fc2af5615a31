"""From a scan's file to the voxels of a packed data set: guards, orientation, proportions, greys.

Letters      n: voxels along an axis of the file, v: their size in mm, S: side of the cube
"""

import gzip
import math
import warnings
import zlib
from os.path import exists, isfile  # those of pathlib raise for a name no file can have
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

from dfpl.data.packed import DataError

MOST = 512**3  # voxels of a file; as float32 they are 0.5 GB
PERCENT = (0.5, 99.5)  # of the foreground, the greys that become 0 and 255
ENOUGH = 2**21  # voxels for percentiles; of more, every second or third a side is looked at
FROM_MM, TO_MM = 1e-3, 1e3  # sizes of a voxel that are no mistake of the header

Volume = Float32[np.ndarray, "X Y Z"]


def read_volume(path: Path, size: int) -> UInt8[np.ndarray, "S S S"]:
    """Read a scan as a cube of `size` voxels a side. Raises DataError with path and reason.

    Axes run to the right, to the front and up (closest canonical orientation). The longest side,
    voxels times mm, fills the cube, so that nothing is cut off and proportions stay as they are in
    mm; the rest of the cube is background. What is lost is the absolute size of a head, which a
    crop at a fixed size of voxels would keep, at the price of cutting large fields of view.

    Background is the lowest finite grey. Voxels that are not a number count as background, because
    SPM writes them outside the brain; infinite ones are refused. Greys are clipped to the
    0.5 and 99.5 % percentiles of the foreground (all above background), which become 0 and 255.
    A file that says it has more than 512^3 voxels is refused undecoded.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scan = _open(path)
            return _in_cube(_greys(scan.decode()), scan.voxel, size)
    except Exception as error:  # damaged files make nibabel raise nearly anything
        raise DataError(f"{path}: {_reason(path, error)}") from None


class _Scan(NamedTuple):
    """A file whose header was found good, and how its axes are turned and measured."""

    image: Any
    turn: np.ndarray
    """(3, 2) axis and direction that each axis of the file takes, as nibabel writes it."""
    voxel: tuple[float, ...]
    """v in mm, along the turned axes."""

    def decode(self) -> Volume:
        """The voxels as float32, scaled as the header says, with turned axes."""
        from nibabel.orientations import apply_orientation

        image, path = self.image, self.image.get_filename()
        if path.endswith(".gz"):
            image = image.from_bytes(_unzipped(path, _needed(image)))
        with np.errstate(over="ignore"):
            voxels = image.get_fdata(dtype=np.float32, caching="unchanged")
        voxels = voxels.reshape(voxels.shape[:3])
        return np.array(apply_orientation(voxels, self.turn), order="C")  # a copy to write to


def _needed(image: Any) -> int:
    """Bytes of a NIfTI file as its header has them."""
    proxy = image.dataobj
    return int(proxy.offset) + math.prod(map(int, image.shape)) * proxy.dtype.itemsize


def _unzipped(path: str, length: int) -> bytes:
    """The first `length` bytes; the rest is passed by, up to the check sum at the end of the file.

    nibabel reads no further than the last voxel, and so sees no damage that is valid deflate.
    """
    with gzip.open(path) as stream:
        content = stream.read(length)
        while stream.read(1 << 20):
            pass
    return content


def _open(path: Path) -> _Scan:
    """Read the header. Raises ValueError for what must not or cannot be decoded."""
    import nibabel
    from nibabel.affines import voxel_sizes
    from nibabel.imageglobals import LoggingOutputSuppressor

    with LoggingOutputSuppressor():
        image = nibabel.load(path)
    if not isinstance(image, nibabel.Nifti1Image):  # or Nifti2Image, which is one
        raise ValueError(f"it is no NIfTI volume but a {type(image).__name__}")
    shape, affine = tuple(map(int, image.shape)), np.asarray(image.affine, dtype=np.float64)
    _refuse_shape(shape)
    kind = np.dtype(image.get_data_dtype())
    if kind.kind not in "iuf":
        raise ValueError(f"its voxels are no real numbers but {kind}")
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise ValueError("its affine is not finite, so its orientation is unknown")
    sizes = voxel_sizes(affine)
    if sizes.min() < FROM_MM or sizes.max() > TO_MM:
        raise ValueError(f"its voxels measure {_times(sizes)} mm; {FROM_MM} to {TO_MM} is read")
    turn = nibabel.io_orientation(affine)
    if not np.isfinite(turn).all():
        raise ValueError("its affine maps two axes onto one, so its orientation is unknown")
    order = np.argsort(turn[:, 0])
    return _Scan(image, turn, tuple(float(sizes[axis]) for axis in order))


def _refuse_shape(shape: tuple[int, ...]) -> None:
    three = len(shape) == 3 or (len(shape) == 4 and shape[3] == 1)
    if not three or min(shape[:3]) < 2:
        raise ValueError(f"its shape is {_times(shape)}; a volume has 3 axes, of 2 voxels or more")
    if math.prod(shape) > MOST:
        raise ValueError(f"it is too large, refused undecoded: {_times(shape)} voxels")


def _times(numbers: Any) -> str:
    return " x ".join(f"{number:g}" for number in numbers)


def _greys(voxels: Volume) -> Volume:
    """Greys from 0 (background and below) to 255. Raises ValueError where there is no contrast."""
    if np.isinf(voxels).any():
        raise ValueError("it has infinite voxels")
    absent = np.isnan(voxels)
    if absent.all():
        raise ValueError("none of its voxels is a number")
    background = np.nanmin(voxels)
    voxels[absent] = background
    step = max(1, int((voxels.size / ENOUGH) ** (1 / 3)))
    some = voxels[::step, ::step, ::step]
    some = some if some.max() > background else voxels
    foreground = some[some > background]
    if not foreground.size:
        raise ValueError(f"all its voxels are {background:g}; it shows nothing")
    low, high = np.percentile(foreground, PERCENT)
    if low == high:  # one grey, as in a mask: it stands out from the background
        low = background
    voxels.clip(low, high, out=voxels)
    voxels -= low
    voxels /= high - low
    voxels *= 255
    return voxels


def _in_cube(voxels: Volume, voxel: tuple[float, ...], size: int) -> UInt8[np.ndarray, "S S S"]:
    """Resample to the cube, one axis after another; each goes last and comes back first."""
    sides = [n * v for n, v in zip(voxels.shape, voxel, strict=True)]
    pitch = max(sides) / size
    cube = voxels
    for axis in (2, 1, 0):
        weights = resampling(voxels.shape[axis], size, pitch / voxel[axis])
        cube = np.moveaxis(np.moveaxis(cube, axis, -1) @ weights.T, -1, axis)
    return np.ascontiguousarray(cube).round().clip(0, 255).astype(np.uint8)


def resampling(n: int, size: int, step: float) -> Float32[np.ndarray, "S n"]:
    """Weights of the n voxels of an axis in `size` new ones, `step` old voxels apart, same middle.

        w_kj  ~  max(0, 1 - |x_k - j| / max(1, step)),    x_k = (n - 1)/2 + (k - (S - 1)/2) step

    scaled to sum_j w_kj = 1: linear interpolation where step < 1, and the same triangle as wide as
    a new voxel, against aliasing, where step > 1. New voxels beyond the old ones weigh nothing.
    """
    middle = (n - 1) / 2 + (np.arange(size) - (size - 1) / 2) * step
    apart = np.abs(middle[:, None] - np.arange(n)) / max(1.0, step)
    weights = np.maximum(0, 1 - apart)
    inside = np.abs(middle - (n - 1) / 2) <= n / 2 + 1e-6
    total = weights.sum(axis=1)
    weights[inside] /= total[inside, None]
    weights[~inside] = 0
    return weights.astype(np.float32)


def _reason(path: Path, error: Exception) -> str:
    from nibabel.filebasedimages import ImageFileError

    if not exists(path):
        return "there is no such file"
    if not isfile(path):
        return "it is not a file"
    match error:
        case ImageFileError():
            return f"it is no volume that nibabel knows ({path.stat().st_size} bytes)"
        case EOFError() | OSError() | zlib.error():
            return f"it is truncated or damaged: {error or type(error).__name__}"
        case MemoryError():
            return "it does not fit into memory"
        case _:
            return str(error) or type(error).__name__
