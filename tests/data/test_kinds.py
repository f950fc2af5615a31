"""Time series, volumes and several labels, from raw samples to batches on the device."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from raw_samples import LENIENT, SMALL, N, made_up

from dfpl.config import AugmentConfig
from dfpl.data.augment import augment_volume
from dfpl.data.loader import Loader, View
from dfpl.data.packed import DataError, PackedDataset
from dfpl.data.packing import check, pack
from dfpl.data.raw import ChannelKind, RawSamples
from dfpl.data.scenario import Scenario

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Lines:
    """A series is a text file with a number and a flag per line, of 4 lines at most."""

    @property
    def channels(self) -> dict[str, ChannelKind]:
        return {"level": "number", "raised": "flag"}

    @property
    def steps(self) -> int:
        return 4

    def read(self, path: Path) -> np.ndarray:
        try:
            found = np.loadtxt(path, dtype=np.float32, ndmin=2)
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: {error}") from None
        return found


def with_series(folder: Path) -> RawSamples:
    """Sample i has 1 + i % 4 steps with the numbers i, i + 1, ... and the flag 1; no columns, and
    two labels: of the second half, and of none but sample 3."""
    samples = made_up(folder)
    paths = []
    for row in range(N):
        paths.append(folder / f"{row:02}.txt")
        paths[-1].write_text("".join(f"{row + step} 1\n" for step in range(1 + row % 4)))
    rows = np.arange(N)
    return replace(
        samples,
        numeric=samples.numeric[[]],
        category=samples.category[[]],
        labels=pd.DataFrame({"late": rows >= N // 2, "rare": rows == 3}).astype(int),
        split=pd.Series(["train", "train", "val", "test"] * (N // 4), dtype="str"),
        group=samples.id,
        series=pd.Series(map(str, paths), dtype=object),
        reader=Lines(),
    )


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> PackedDataset:
    folder = tmp_path_factory.mktemp("series")
    return pack(with_series(folder / "raw"), folder / "out", SMALL)


def test_series_are_padded_and_several_labels_stay_side_by_side(packed: PackedDataset) -> None:
    assert packed.schema.task == "multilabel" and packed.schema.class_names == ["late", "rare"]
    assert packed.schema.series == {"level": "number", "raised": "flag"}
    series, length = packed.time_series(np.array([0, 5]))
    assert length.tolist() == [1, 2]
    assert series[..., 0].tolist() == [[0, 0, 0, 0], [5, 6, 0, 0]]
    assert packed.label[[2, 3, 23]].tolist() == [[0, 0], [0, 1], [1, 0]]
    assert packed.sample["has_table"].to_numpy().all()


def test_a_label_without_positives_is_told(tmp_path: Path) -> None:
    report = check(with_series(tmp_path), SMALL)
    assert report.problems == []
    told = [line.partition(":")[0] for line in report.warnings if "rare" in line]
    assert told == [f"label 'rare' is the same for all samples of {s}" for s in ("train", "val")]


def test_labels_other_than_0_and_1_and_nothing_to_learn_are_problems(tmp_path: Path) -> None:
    samples = with_series(tmp_path)
    assert samples.labels is not None
    for labels, told in (
        (samples.labels * 2, "label 'late' holds something other than 0 and 1"),
        (samples.labels * 0, "in the training split no label has both 0 and 1"),
    ):
        problems = check(replace(samples, labels=labels), SMALL).problems
        assert any(told in problem for problem in problems)


def test_a_bad_series_stops_packing_or_is_an_absent_table(tmp_path: Path) -> None:
    samples = with_series(tmp_path / "raw")
    (tmp_path / "raw" / "05.txt").write_text("five")
    (tmp_path / "raw" / "06.txt").unlink()
    with pytest.raises(DataError, match="2 time series cannot be read") as caught:
        pack(samples, tmp_path / "out", SMALL)
    assert "05.txt" in str(caught.value) and "06.txt" in str(caught.value)
    found = pack(samples, tmp_path / "out", LENIENT)
    assert found.sample["id"][~found.sample["has_table"]].tolist() == ["s05", "s06"]


def test_means_are_of_valid_steps_of_available_training_tables(packed: PackedDataset) -> None:
    view = View.of(packed, "train", Scenario(pattern="tabular", rate=0.5))
    rows = view.rows[view.available[:, 1]]
    values = [row + step for row in rows.tolist() for step in range(1 + row % 4)]
    found = view.statistics()
    assert found.series_mean == [pytest.approx(np.mean(values), rel=0.01), 0.0]
    assert found.series_std == [pytest.approx(np.std(values), rel=0.01), 1.0]


def test_a_batch_holds_standardised_steps_and_zeros_for_what_is_hidden(
    packed: PackedDataset,
) -> None:
    view = View.of(packed, "train", Scenario(pattern="tabular", rate=0.5))
    statistics = view.statistics()
    loader = Loader(view, statistics, 100, CPU)
    ((_, batch),) = list(loader.in_order())
    there = batch.available[:, 1]
    assert batch.length[there].tolist() == [1 + row % 4 for row in view.rows[there.numpy()]]
    assert not batch.series[~there].any() and not batch.length[~there].any()
    first = (view.rows - statistics.series_mean[0]) / statistics.series_std[0]
    expected = torch.from_numpy(first).float()
    torch.testing.assert_close(batch.series[there, 0, 0], expected[there])
    assert (batch.series[there, 0, 1] == 1).all()


def test_a_number_ten_deviations_away_counts_as_an_error_of_entry(packed: PackedDataset) -> None:
    statistics = View.of(packed, "train").statistics()
    series = np.array([[[9e5, 1], [12, 1], [7, 7], [0, 0]]], dtype=np.float32)
    found = statistics.steps(series, np.array([2]))
    assert found[0, 0].tolist() == [0, 1] and found[0, 1, 0] != 0
    assert not found[0, 2:].any()  # padding


def volume(size: int = 8) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.rand(3, 1, size, size, size)


def draws(**values: Any) -> torch.Tensor:
    """Random numbers in the middle, where nothing but a flip happens; others by position."""
    found = torch.full((3, 9), 0.5)
    for name, value in values.items():
        found[:, int(name[1:])] = value
    return found


NOTHING = AugmentConfig(flip=0.0, crop=1.0, rotation=0.0, colour=0.0)


def test_a_volume_is_mirrored_along_each_axis() -> None:
    config = NOTHING.with_values({"flip": 0.4})
    for draw, axis in ((0, 4), (1, 3), (2, 2)):
        found = augment_volume(volume(), draws(**{f"d{draw}": 0.1}), config)
        torch.testing.assert_close(found, volume().flip(axis), rtol=0, atol=1e-5)


def test_a_quarter_turn_of_a_volume_is_a_quarter_turn() -> None:
    config = NOTHING.with_values({"rotation": 90.0})
    for draw, axes in ((4, (3, 2)), (5, (4, 2)), (6, (4, 3))):
        found = augment_volume(volume(), draws(**{f"d{draw}": 1.0}), config)
        turned = [volume().rot90(k, axes) for k in (1, 3)]
        assert any(torch.allclose(found, one, atol=1e-4) for one in turned)


def test_gamma_changes_the_contrast_of_a_volume() -> None:
    config = NOTHING.with_values({"colour": 0.2})
    found = augment_volume(volume(), draws(d7=1.0), config)
    torch.testing.assert_close(found, volume() ** np.exp(0.3))
    assert torch.equal(augment_volume(volume(), draws(), NOTHING), volume())


def test_volumes_are_standardised_each_by_itself(tmp_path: Path) -> None:
    import nibabel

    samples = made_up(tmp_path / "raw")
    rng, paths = np.random.default_rng(0), []
    for row in range(N):
        paths.append(tmp_path / "raw" / f"{row:02}.nii")
        scan = nibabel.Nifti1Image(rng.integers(0, 900, (9, 8, 8)).astype(np.int16), np.eye(4))
        nibabel.save(scan, paths[-1])
    samples = replace(samples, image_kind="volume", image=pd.Series(map(str, paths), dtype=object))
    packed = pack(samples, tmp_path / "out", SMALL)
    assert packed.image.shape == (N, 8, 8, 8) and packed.schema.image_kind == "volume"
    view = View.of(packed, "train", Scenario(pattern="image", rate=0.5))
    ((_, batch),) = list(Loader(view, view.statistics(), 100, CPU).in_order())
    assert batch.image.shape[1:] == (1, 8, 8, 8)
    there = batch.available[:, 0]
    assert not batch.image[~there].any()
    flat = batch.image[there].flatten(1)
    torch.testing.assert_close(flat.mean(1), torch.zeros(len(flat)), rtol=0, atol=1e-5)
    torch.testing.assert_close(flat.std(1), torch.ones(len(flat)), rtol=1e-4, atol=0)
