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
