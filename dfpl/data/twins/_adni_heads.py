"""Scans of ADNI's look-alike: heads of known factors, stored as scanners and converters do."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

Volume = Float32[np.ndarray, "X Y Z"]


def write_head(
    path: Path,
    factors: tuple[float, float, float],
    pixels: int,
    seeds: list[int],
    four_axes: bool,
) -> None:
    """Draw a scan and store it in some orientation, as whole numbers with or without a slope, or
    as floats; with a fourth axis of one if wanted."""
    import nibabel

    rng = np.random.default_rng(seeds)
    voxels, sizes = draw_head(factors, pixels, rng)
    order, flips = rng.permutation(3), rng.choice([-1, 1], 3)
    flipped = tuple(np.flatnonzero(flips < 0).tolist())
    stored = np.flip(voxels.transpose(order), flipped)
    affine = np.eye(4)
    affine[:3, :3] = 0
    affine[order, range(3)] = flips * sizes[order]
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(stored.shape) - 1) / 2)
    kind = str(rng.choice(["whole", "scaled", "float"]))
    if kind == "whole":
        stored = stored.round().astype(np.int16)
    image: Any = nibabel.Nifti1Image(stored[..., None] if four_axes else stored, affine)
    if kind == "scaled":
        image.set_data_dtype(np.int16)  # nibabel finds the slope
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)


def draw_head(
    factors: tuple[float, float, float], pixels: int, rng: np.random.Generator
) -> tuple[Volume, np.ndarray]:
    """A head, and its voxels' sizes in mm; axes run right, front, up.

    Ventricles are wide by the shared factor, and the bright structures below them small by the
    image-only one. Place, size, brightness and noise of the head tell nothing.
    """
    shape = np.array([pixels, pixels, pixels * int(rng.integers(3, 5)) // 4])
    sizes = np.array([196, 220, 190]) * rng.uniform(0.97, 1.03, 3) / shape
    middle = 4 * rng.standard_normal(3)
    axes = [(np.arange(n) - (n - 1) / 2) * v for n, v in zip(shape, sizes, strict=True)]
    x, y, z = np.meshgrid(*(a - m for a, m in zip(axes, middle, strict=True)), indexing="ij")
    place = np.stack([np.abs(x), y, z], axis=-1).astype(np.float32)  # both halves at once
    soft = float(sizes.mean())
    head = rng.uniform(0.95, 1.05)
    grey = 0.55 * _ellipsoid(place, (0.0, 0.0, 0.0), (68 * head, 85 * head, 66 * head), soft)
    wide = float(np.clip(1 + 0.25 * factors[0], 0.2, 2))
    small = float(np.clip(1 - 0.25 * factors[1], 0.2, 2))
    ventricle = _ellipsoid(place, (14.0, 0.0, 14.0), (9 * wide, 26 * wide, 12 * wide), soft)
    bright = _ellipsoid(place, (34.0, -6.0, -22.0), (13 * small, 22 * small, 13 * small), soft)
    grey = grey * (1 - 0.8 * ventricle) + 0.4 * bright
    grey += np.float32(0.04) * rng.standard_normal(grey.shape, dtype=np.float32)
    return np.float32(rng.uniform(300, 1500)) * grey.clip(0), sizes


def _ellipsoid(
    place: Float32[np.ndarray, "X Y Z 3"],
    middle: tuple[float, float, float],
    axes: tuple[float, float, float],
    soft: float,
) -> Volume:
    """1 inside, 0 outside, with an edge of `soft` mm; lengths in mm."""
    scaled = (place - np.array(middle, np.float32)) / np.array(axes, np.float32)
    radius = np.sqrt(np.einsum("xyzc,xyzc->xyz", scaled, scaled))
    return ((1 - radius) * np.float32(min(axes) / soft) + np.float32(0.5)).clip(0, 1)
