"""Volumes: orientation, proportions, greys and guards, on NIfTI files made by hand."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from dfpl.data import volumes
from dfpl.data.packed import DataError
from dfpl.data.volumes import read_volume, resampling

RNG = np.random.default_rng(0)


def save(
    path: Path, voxels: np.ndarray, voxel: Sequence[float] = (1, 1, 1), affine: Any = None
) -> Path:
    affine = np.diag([*voxel, 1.0]) if affine is None else np.asarray(affine, dtype=float)
    nibabel.save(nibabel.Nifti1Image(voxels, affine), path)
    return path


def patch_header(path: Path, field: str, value: Any) -> Path:
    """Write one field of the header, whatever it does to the file."""
    content = path.read_bytes()
    header: Any = nibabel.Nifti1Header(content[:348])
    header[field] = value
    path.write_bytes(header.binaryblock + content[348:])
    return path


def sphere(shape: tuple[int, ...], voxel: tuple[float, ...], radius: float) -> np.ndarray:
    """1 within `radius` mm of the middle, else 0."""
    axes = [(np.arange(n) - (n - 1) / 2) * v for n, v in zip(shape, voxel, strict=True)]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    return (x**2 + y**2 + z**2 <= radius**2).astype(np.float32)


def refused(path: Path) -> str:
    with pytest.raises(DataError) as error:
        read_volume(path, 8)
    text = str(error.value)
    assert text.startswith(f"{path}: ")
    return text.removeprefix(f"{path}: ")


def test_greys_between_the_percentiles_of_the_foreground_fill_0_to_255(tmp_path: Path) -> None:
    # foreground 1 to 1000 (background 0): percentiles 0.5 and 99.5 lie at 1 + 0.005 * 999 = 5.995
    # and 1 + 0.995 * 999 = 995.005, so 500 becomes (500 - 5.995) / 989.01 * 255 = 127.37
    voxels = np.zeros(11**3, dtype=np.float32)
    voxels[:1000] = np.arange(1, 1001)
    found = read_volume(save(tmp_path / "a.nii", voxels.reshape(11, 11, 11)), 11).ravel()
    assert found.dtype == np.uint8
    assert found[[0, 4, 499, 994, 995, 999]].tolist() == [0, 0, 127, 255, 255, 255]
    assert found[1000:].tolist() == [0] * 331


def test_one_hot_voxel_does_not_darken_the_rest(tmp_path: Path) -> None:
    voxels = RNG.uniform(1, 2, (16, 16, 16)).astype(np.float32)
    plain = read_volume(save(tmp_path / "a.nii", voxels), 16)
    voxels[3, 3, 3] = 1e6
    hot = read_volume(save(tmp_path / "b.nii", voxels), 16)
    assert np.abs(plain.astype(int) - hot).mean() < 1


def test_a_mask_of_one_grey_stands_out_from_its_background(tmp_path: Path) -> None:
    voxels = sphere((8, 8, 8), (1, 1, 1), 3)
    found = read_volume(save(tmp_path / "a.nii", voxels), 8)
    assert np.array_equal(found, 255 * voxels.astype(np.uint8))


@pytest.mark.parametrize("side", [slice(None), slice(1, None, 2)])
def test_of_a_large_volume_some_voxels_give_the_percentiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: slice
) -> None:
    voxels = np.zeros((32, 32, 32), dtype=np.float32)
    voxels[side, side, side] = RNG.uniform(1, 2, voxels[side, side, side].shape)
    path = save(tmp_path / "a.nii", voxels)
    plain = read_volume(path, 32)
    monkeypatch.setattr(volumes, "ENOUGH", 16**3)  # every second voxel a side
    assert np.abs(read_volume(path, 32).astype(int) - plain).max() <= 1


def test_every_orientation_of_a_file_gives_the_same_cube(tmp_path: Path) -> None:
    voxels = RNG.uniform(0, 1, (10, 12, 14)).astype(np.float32)
    base = np.diag([2.0, 1.5, 1.0, 1.0])
    upright = read_volume(save(tmp_path / "a.nii", voxels, affine=base), 16)
    for order in itertools.permutations(range(3)):
        for flips in itertools.product((1, -1), repeat=3):
            turned, affine = voxels.transpose(order), np.zeros((4, 4))
            for axis, flip in enumerate(flips):
                turned = np.flip(turned, axis) if flip < 0 else turned
                affine[order[axis], axis] = flip * base[order[axis], order[axis]]
            affine[3, 3] = 1
            found = read_volume(save(tmp_path / "b.nii", turned, affine=affine), 16)
            assert np.array_equal(found, upright), (order, flips)


def test_axes_run_to_the_right_to_the_front_and_up(tmp_path: Path) -> None:
    voxels = np.zeros((4, 4, 4), dtype=np.float32)
    voxels[0, 1, 3] = 1  # in a file whose first axis runs to the left
    found = read_volume(save(tmp_path / "a.nii", voxels, affine=np.diag([-1, 1, 1, 1])), 4)
    assert np.argwhere(found == 255).tolist() == [[3, 1, 3]]


def test_an_oblique_affine_counts_as_the_nearest_axes(tmp_path: Path) -> None:
    voxels = RNG.uniform(0, 1, (8, 8, 8)).astype(np.float32)
    turn = np.deg2rad(10)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    oblique = read_volume(save(tmp_path / "a.nii", voxels, affine=affine), 8)
    assert np.array_equal(oblique, read_volume(save(tmp_path / "b.nii", voxels), 8))


@pytest.mark.parametrize(
    ("shape", "voxel"),
    [
        ((48, 48, 48), (1.0, 1.0, 1.0)),
        ((48, 24, 96), (1.0, 2.0, 0.5)),
        ((40, 30, 20), (1.0, 1.2, 2.4)),
    ],
)
def test_a_sphere_stays_a_sphere_whatever_the_voxels(
    tmp_path: Path, shape: tuple[int, ...], voxel: tuple[float, ...]
) -> None:
    found = read_volume(save(tmp_path / "a.nii", sphere(shape, voxel, 14), voxel), 32)
    longest = max(n * v for n, v in zip(shape, voxel, strict=True))
    radius = 14 * 32 / longest  # in voxels of the cube
    inside = np.argwhere(found > 127)
    extents = np.ptp(inside, axis=0) + 1
    assert np.abs(extents - 2 * radius).max() <= 2
    assert abs(len(inside) / (4 / 3 * np.pi * radius**3) - 1) < 0.06
    assert np.abs(inside.mean(axis=0) - 15.5).max() < 0.05


def test_the_longest_side_fills_the_cube_and_background_the_rest(tmp_path: Path) -> None:
    # 16 x 8 x 4 mm: at 1 mm the cube holds 16, 8 and 4 voxels of it, in its middle
    voxels = RNG.uniform(5, 6, (16, 8, 2)).astype(np.float32)
    voxels[0, 0, 0] = 0
    found = read_volume(save(tmp_path / "a.nii", voxels, (1, 1, 2)), 16)
    filled = np.argwhere(found)
    assert filled.min(axis=0).tolist() == [0, 4, 6]
    assert filled.max(axis=0).tolist() == [15, 11, 9]


def test_a_volume_of_the_size_asked_for_is_not_resampled(tmp_path: Path) -> None:
    voxels = RNG.uniform(0, 1, (12, 12, 12)).astype(np.float32)
    low, high = np.percentile(voxels[voxels > voxels.min()], (0.5, 99.5))
    expected = ((voxels.clip(low, high) - low) / (high - low) * 255).round()
    found = read_volume(save(tmp_path / "a.nii", voxels), 12)
    assert np.abs(found - expected).max() <= 1


def test_weights_by_hand() -> None:
    assert np.array_equal(resampling(3, 3, 1.0), np.eye(3))
    # half as many: x_0 = 0.5, triangle of half-width 2 over voxels 0 to 3: 3/4, 3/4, 1/4, 0
    half = resampling(4, 2, 2.0)
    assert np.allclose(half, np.array([[3, 3, 1, 0], [0, 1, 3, 3]]) / 7)
    # twice as many: x = -0.25, 0.25, 0.75, 1.25; beyond the outer middles the outer voxel
    assert np.allclose(resampling(2, 4, 0.5), [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])
    # four new voxels for two old ones of the same size: one of background on each side
    assert np.array_equal(resampling(2, 4, 1.0), [[0, 0], [1, 0], [0, 1], [0, 0]])


def test_shrinking_averages_instead_of_picking(tmp_path: Path) -> None:
    # a board of 0 and 1 voxel by voxel has no place in a cube of a quarter of its size: it is grey
    board = (np.indices((32, 32, 32)).sum(axis=0) % 2).astype(np.float32)
    inner = read_volume(save(tmp_path / "a.nii", board), 8)[1:-1, 1:-1, 1:-1]
    assert np.abs(inner.astype(int) - 127.5).max() < 2


def test_integers_with_a_slope_are_what_the_slope_makes_of_them(tmp_path: Path) -> None:
    greys = RNG.integers(0, 1000, (8, 8, 8)).astype(np.int16)
    plain = read_volume(save(tmp_path / "a.nii", 0.25 * greys.astype(np.float32) - 100), 8)
    scaled = patch_header(save(tmp_path / "b.nii", greys), "scl_slope", 0.25)
    patch_header(scaled, "scl_inter", -100)
    stored: Any = nibabel.load(scaled)
    assert np.array_equal(stored.dataobj.get_unscaled(), greys)
    assert np.array_equal(read_volume(scaled, 8), plain)


def test_a_fourth_axis_of_one_is_none(tmp_path: Path) -> None:
    voxels = RNG.uniform(0, 1, (8, 8, 8)).astype(np.float32)
    four = read_volume(save(tmp_path / "a.nii", voxels[..., None]), 8)
    assert np.array_equal(four, read_volume(save(tmp_path / "b.nii", voxels), 8))


def test_a_packed_file_is_read_as_the_plain_one(tmp_path: Path) -> None:
    voxels = RNG.uniform(0, 1, (8, 8, 8)).astype(np.float32)
    packed = read_volume(save(tmp_path / "a.nii.gz", voxels), 8)
    assert np.array_equal(packed, read_volume(save(tmp_path / "b.nii", voxels), 8))


def test_voxels_that_are_no_number_are_background(tmp_path: Path) -> None:
    voxels = 5 + sphere((8, 8, 8), (1, 1, 1), 3) * RNG.uniform(1, 2, (8, 8, 8))
    outside = voxels == 5
    plain = read_volume(save(tmp_path / "a.nii", voxels.astype(np.float32)), 8)
    voxels[0], voxels[outside & (np.indices(voxels.shape)[1] == 2)] = np.nan, np.nan
    holed = read_volume(save(tmp_path / "b.nii", voxels.astype(np.float32)), 8)
    assert np.array_equal(holed, plain)


@pytest.mark.parametrize(
    ("voxels", "reason"),
    [
        (np.full((4, 4, 4), 7.0), "all its voxels are 7; it shows nothing"),
        (np.full((4, 4, 4), np.nan), "none of its voxels is a number"),
        (np.array([1.0, np.inf] * 4).reshape(2, 2, 2), "it has infinite voxels"),
        (np.ones((4, 4, 4), dtype=np.complex64), "its voxels are no real numbers but complex64"),
        (np.zeros((4, 4)), "its shape is 4 x 4; a volume has 3 axes"),
        (np.zeros((4, 4, 1)), "its shape is 4 x 4 x 1; a volume has 3 axes, of 2 voxels or more"),
        (np.zeros((4, 4, 4, 2)), "its shape is 4 x 4 x 4 x 2; a volume has 3 axes"),
        (np.zeros((4, 4, 4, 1, 1)), "its shape is 4 x 4 x 4 x 1 x 1; a volume has 3 axes"),
    ],
)
def test_what_is_no_volume_is_refused(tmp_path: Path, voxels: np.ndarray, reason: str) -> None:
    assert refused(save(tmp_path / "a.nii", voxels)).startswith(reason)


def test_colours_are_refused(tmp_path: Path) -> None:
    colours = np.zeros((4, 4, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    assert "its voxels are no real numbers" in refused(save(tmp_path / "a.nii", colours))


def test_a_surface_is_no_volume(tmp_path: Path) -> None:
    nibabel.save(nibabel.GiftiImage(), tmp_path / "a.gii")  # pyright: ignore
    assert refused(tmp_path / "a.gii") == "it is no NIfTI volume but a GiftiImage"


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return save(tmp_path / "good.nii", RNG.uniform(0, 1, (8, 8, 8)).astype(np.float32))


def test_a_header_of_too_many_voxels_is_refused_undecoded(good: Path) -> None:
    path = patch_header(good, "dim", [3, 1024, 1024, 1024, 1, 1, 1, 1])
    assert refused(path) == "it is too large, refused undecoded: 1024 x 1024 x 1024 voxels"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ([np.nan, 0, 0, 0], "its affine is not finite"),
        ([0, 0, 0, 0], "its voxels measure 0 x 1 x 1 mm"),
        ([1e4, 0, 0, 0], "its voxels measure 10000 x 1 x 1 mm"),
    ],
)
def test_an_affine_without_orientation_is_refused(
    good: Path, row: list[float], reason: str
) -> None:
    assert refused(patch_header(good, "srow_x", row)).startswith(reason)


def test_two_axes_in_one_direction_are_refused(good: Path) -> None:
    patch_header(good, "srow_x", [1, 1, 0, 0])
    assert "its affine maps two axes onto one" in refused(patch_header(good, "srow_y", [0] * 4))


@pytest.mark.parametrize("length", [0, 100, 400, 1000])
def test_a_truncated_file_is_refused(good: Path, length: int) -> None:
    good.write_bytes(good.read_bytes()[:length])
    rules = ("it is truncated or damaged", f"it is no volume that nibabel knows ({length} bytes)")
    assert refused(good).startswith(rules)


@pytest.mark.parametrize("length", [10, 200, 1000])
def test_a_truncated_packed_file_is_refused(tmp_path: Path, length: int) -> None:
    path = save(tmp_path / "a.nii.gz", RNG.uniform(0, 1, (8, 8, 8)).astype(np.float32))
    path.write_bytes(path.read_bytes()[:length])
    rules = ("it is truncated or damaged", f"it is no volume that nibabel knows ({length} bytes)")
    assert refused(path).startswith(rules)


def test_a_damaged_packed_file_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", RNG.uniform(0, 1, (8, 8, 8)).astype(np.float32))
    content = bytearray(path.read_bytes())
    content[800:900] = b"\xff" * 100
    path.write_bytes(bytes(content))
    assert refused(path).startswith("it is truncated or damaged: ")


def test_what_is_not_there_or_no_file_says_so(tmp_path: Path) -> None:
    assert refused(tmp_path / "nowhere.nii") == "there is no such file"
    assert refused(tmp_path) == "it is not a file"
    (tmp_path / "a.nii").write_text("a letter, and no scan at all")
    assert refused(tmp_path / "a.nii") == "it is no volume that nibabel knows (28 bytes)"
