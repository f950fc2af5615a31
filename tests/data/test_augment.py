"""Augmentation: by hand where it can be, and the same picture whoever asks for it."""

import numpy as np
import pytest
import torch
from scipy import stats

from dfpl.config import AugmentConfig
from dfpl.data.augment import NUM_DRAWS, augment, sample_keys, uniforms

NOTHING = AugmentConfig(flip=0.0, crop=1.0, rotation=0.0, colour=0.0)
IDS = [f"sample {i}" for i in range(4000)]
FLIP, AREA, ASPECT, ACROSS, DOWN, ANGLE, BRIGHTNESS, CONTRAST, SATURATION = range(NUM_DRAWS)


def pictures(count: int = 3, size: int = 8) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def draws(count: int = 3, **values: float) -> torch.Tensor:
    """Draws that change nothing by themselves, except those given by name."""
    table = torch.full((count, NUM_DRAWS), 0.5)
    for name, value in values.items():
        table[:, globals()[name]] = value
    return table


def test_no_augmentation_returns_the_picture_itself() -> None:
    image = pictures()
    assert torch.equal(augment(image, torch.rand(3, NUM_DRAWS), NOTHING), image)


def test_settings_that_draw_the_middle_return_the_picture() -> None:
    # probability of a flip 1e-9, no crop, an angle of (2 * 0.5 - 1) * 30 = 0, factors of 1
    config = AugmentConfig(flip=1e-9, crop=1.0, rotation=30.0, colour=0.5)
    torch.testing.assert_close(augment(pictures(), draws(), config), pictures())


def test_a_flip_mirrors_left_and_right() -> None:
    image = pictures()
    flipped = augment(image, draws(), NOTHING.with_values({"flip": 1.0}))
    torch.testing.assert_close(flipped, image.flip(3))


def test_the_draw_decides_who_is_flipped() -> None:
    image = pictures(2)
    chances = draws(2)
    chances[:, FLIP] = torch.tensor([0.29, 0.31])
    found = augment(image, chances, NOTHING.with_values({"flip": 0.3}))
    torch.testing.assert_close(found[0], image[0].flip(2))
    torch.testing.assert_close(found[1], image[1])


def test_a_quarter_turn() -> None:
    # angle (2 * 1 - 1) * 90: the output pixel (x, y) comes from (-y, x)
    turned = augment(pictures(), draws(ANGLE=1.0), NOTHING.with_values({"rotation": 90.0}))
    torch.testing.assert_close(turned, pictures().rot90(1, dims=(2, 3)), rtol=1e-4, atol=1e-5)


def test_a_crop_of_a_quarter_of_the_area_shows_the_corner_it_draws() -> None:
    # a picture whose value is its x coordinate: the left half of it spans half the values
    across = ((torch.arange(32) + 0.5) / 32).expand(1, 3, 32, 32).contiguous()
    config = NOTHING.with_values({"crop": 0.25})
    left = augment(across, draws(1, AREA=0.0, ACROSS=0.0), config)[0, 0, 0]
    right = augment(across, draws(1, AREA=0.0, ACROSS=1.0), config)[0, 0, 0]
    expected = (torch.arange(32) + 0.5) / 64
    torch.testing.assert_close(left[1:], expected[1:])  # the first lies beyond a pixel's middle
    torch.testing.assert_close(right[:-1], 0.5 + expected[:-1])


def test_brightness_contrast_and_saturation_by_hand() -> None:
    # one white and one black pixel; draws of 0 give a factor of 1 - 0.2 = 0.8
    image = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2).expand(1, 3, 1, 2)
    config = NOTHING.with_values({"colour": 0.2})
    darker = augment(image, draws(1, BRIGHTNESS=0.0), config)
    torch.testing.assert_close(darker, 0.8 * image)
    flatter = augment(image, draws(1, CONTRAST=0.0), config)  # around the mean of 0.5
    torch.testing.assert_close(flatter[0, 0, 0], torch.tensor([0.9, 0.1]))
    red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)  # grey value 0.299
    paler = augment(red, draws(1, SATURATION=0.0), config)
    expected = torch.tensor([0.299 + 0.8 * 0.701, 0.2 * 0.299, 0.2 * 0.299])
    torch.testing.assert_close(paler.flatten(), expected)


@pytest.mark.parametrize("colour", [0.2, 0.9])
def test_values_stay_in_range(colour: float) -> None:
    config = AugmentConfig(flip=0.5, crop=0.1, rotation=180.0, colour=colour)
    numbers = torch.from_numpy(uniforms(sample_keys(IDS[:200]), 0, 0))
    found = augment(pictures(200), numbers, config)
    assert found.isfinite().all() and found.min() >= 0 and found.max() <= 1


def test_draws_look_uniform_and_independent() -> None:
    numbers = uniforms(sample_keys(IDS), seed=3, epoch=7)
    assert numbers.shape == (4000, NUM_DRAWS) and numbers.min() >= 0 and numbers.max() < 1
    for column in numbers.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-3
    between = np.corrcoef(numbers.T) - np.eye(NUM_DRAWS)
    assert np.abs(between).max() < 5 / np.sqrt(4000)


@pytest.mark.parametrize(("seed", "epoch"), [(1, 0), (0, 1)])
def test_another_seed_or_epoch_draws_others(seed: int, epoch: int) -> None:
    keys = sample_keys(IDS)
    first, other = uniforms(keys, 0, 0), uniforms(keys, seed, epoch)
    assert np.abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.03


def test_seed_and_epoch_are_not_mixed_up() -> None:
    keys = sample_keys(IDS[:10])
    assert not np.array_equal(uniforms(keys, 1, 2), uniforms(keys, 2, 1))
    assert not np.array_equal(uniforms(keys, 1, 12), uniforms(keys, 11, 2))


def test_a_samples_draws_do_not_depend_on_the_others() -> None:
    keys = sample_keys(IDS[:10])
    np.testing.assert_array_equal(uniforms(keys, 0, 0)[3:5], uniforms(keys[3:5], 0, 0))


def test_draws_are_the_same_on_every_machine() -> None:
    assert sample_keys(["s0"]).tolist() == [14523358146774745523]
    numbers = uniforms(sample_keys(["s0"]), 0, 0)[0, :3]
    assert (numbers * 2.0**24).tolist() == [12221550.0, 7042742.0, 3624646.0]
