"""Augmentation of image batches on their device, fixed by (seed, epoch, sample id) alone.

Every random number is a hash of those three and of its purpose, so the same sample gets the same
picture in the same epoch with any worker count, batch size or order.
"""

import hashlib
from collections.abc import Sequence
from math import log

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt64
from torch import Tensor

from dfpl.config import AugmentConfig

NUM_DRAWS = 9  # flip, area, aspect, two of position, angle, brightness, contrast, saturation
GAMMA = 1.5
"""`colour` 0.2 lets the gamma of a volume go from exp(-0.3) to exp(0.3)."""
_GREY = (0.299, 0.587, 0.114)


def sample_keys(ids: Sequence[str]) -> UInt64[np.ndarray, " N"]:
    """A 64-bit number for each id, the same on every machine."""
    digests = [hashlib.blake2b(name.encode(), digest_size=8).digest() for name in ids]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def uniforms(keys: UInt64[np.ndarray, " B"], seed: int, epoch: int) -> Float[np.ndarray, "B 9"]:
    """Numbers in [0, 1) from (sample, seed, epoch, purpose) by two rounds of splitmix64."""
    run = int.from_bytes(hashlib.blake2b(f"{seed}/{epoch}".encode(), digest_size=8).digest())
    purpose = np.arange(NUM_DRAWS, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        mixed = _splitmix(_splitmix(keys ^ np.uint64(run))[:, None] + purpose)
    return ((mixed >> np.uint64(40)) * 2.0**-24).astype(np.float32)


def _splitmix(x: UInt64[np.ndarray, "..."]) -> UInt64[np.ndarray, "..."]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def augment(
    image: Float[Tensor, "B 3 H W"], draws: Float[Tensor, "B 9"], config: AugmentConfig
) -> Float[Tensor, "B 3 H W"]:
    """Flip, crop, rotate and recolour pictures with values in [0, 1]."""
    if config.flip or config.crop < 1 or config.rotation:
        grid = F.affine_grid(_affine(draws, config), list(image.shape), align_corners=False)
        image = F.grid_sample(image, grid, padding_mode="reflection", align_corners=False)
    return _recolour(image, draws[:, 6:9], config.colour) if config.colour else image


def _affine(draws: Float[Tensor, "B 9"], config: AugmentConfig) -> Float[Tensor, "B 2 3"]:
    """Where each output pixel comes from: a random resized crop, rotated, perhaps mirrored."""
    flip, area, aspect, across, down, angle = draws[:, :6].unbind(dim=1)
    side = (config.crop + (1 - config.crop) * area).sqrt()
    stretch = torch.exp((aspect - 0.5) * log(4 / 3)) if config.crop < 1 else torch.ones_like(side)
    wide, high = (side * stretch).clamp(max=1), (side / stretch).clamp(max=1)
    radians = (2 * angle - 1) * config.rotation * torch.pi / 180
    mirrored = torch.where(flip < config.flip, -1.0, 1.0)
    cos, sin = radians.cos(), radians.sin()
    x = torch.stack([mirrored * wide * cos, -high * sin, (2 * across - 1) * (1 - wide)], dim=1)
    y = torch.stack([mirrored * wide * sin, high * cos, (2 * down - 1) * (1 - high)], dim=1)
    return torch.stack([x, y], dim=1)


def _recolour(
    image: Float[Tensor, "B 3 H W"], draws: Float[Tensor, "B 3"], strength: float
) -> Float[Tensor, "B 3 H W"]:
    factors = 1 + (2 * draws - 1) * strength
    brightness, contrast, saturation = factors[:, :, None, None, None].unbind(dim=1)
    image = image * brightness  # a copy, which the rest changes in place
    red, green, blue = (image[:, i : i + 1] * share for i, share in enumerate(_GREY))
    grey = red.add_(green).add_(blue)
    image.sub_(grey).mul_(saturation).add_(grey)
    middle = grey.mean(dim=(2, 3), keepdim=True)
    return image.sub_(middle).mul_(contrast).add_(middle).clamp_(0, 1)


def augment_volume(
    image: Float[Tensor, "B 1 S S S"], draws: Float[Tensor, "B 9"], config: AugmentConfig
) -> Float[Tensor, "B 1 S S S"]:
    """Mirror, scale, rotate and change the contrast of volumes with values in [0, 1].

    The same config means: `flip` along each axis; the middle cube of `crop` of the volume, or
    more, is scaled up; `rotation` about each axis; gamma = exp(g), |g| <= 1.5 `colour`.
    """
    if config.flip or config.crop < 1 or config.rotation:
        grid = F.affine_grid(_affine_3d(draws, config), list(image.shape), align_corners=False)
        image = F.grid_sample(image, grid, padding_mode="border", align_corners=False)
    if not config.colour:
        return image
    gamma = torch.exp((2 * draws[:, 7] - 1) * GAMMA * config.colour)
    return image.clamp(0, 1) ** gamma.view(-1, 1, 1, 1, 1)


def _affine_3d(draws: Float[Tensor, "B 9"], config: AugmentConfig) -> Float[Tensor, "B 3 4"]:
    """Where each output voxel comes from: scaled, mirrored, rotated about each axis."""
    flips, area, angles = draws[:, :3], draws[:, 3], draws[:, 4:7]
    side = (config.crop + (1 - config.crop) * area) ** (1 / 3)
    scale = side[:, None] * torch.where(flips < config.flip, -1.0, 1.0)
    radians = (2 * angles - 1) * config.rotation * torch.pi / 180
    turned = torch.diag_embed(scale)
    for axis in range(3):
        turned = _rotation(radians[:, axis], axis) @ turned
    return F.pad(turned, (0, 1))


def _rotation(radians: Float[Tensor, " B"], axis: int) -> Float[Tensor, "B 3 3"]:
    """Turn in the plane of the two other axes."""
    found = torch.zeros(len(radians), 3, 3, device=radians.device, dtype=radians.dtype)
    first, second = (other for other in range(3) if other != axis)
    found[:, axis, axis] = 1.0
    found[:, first, first] = found[:, second, second] = radians.cos()
    found[:, first, second], found[:, second, first] = -radians.sin(), radians.sin()
    return found
