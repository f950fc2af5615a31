"""From packed data to batches: what a scenario hides is never read, and nothing depends on who
reads it."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import make_packed, no_series

from dfpl.config import AugmentConfig
from dfpl.data.augment import augment, uniforms
from dfpl.data.batch import Batch
from dfpl.data.loader import AHEAD, Loader, Statistics, View
from dfpl.data.packed import PackedDataset, Split
from dfpl.data.scenario import IMAGE, TABULAR, Scenario

CPU = torch.device("cpu")
AUGMENT = AugmentConfig()
PACKED = make_packed(60)


@dataclass(frozen=True, kw_only=True)
class Watched(PackedDataset):
    """A data set that counts how often the pixels and the cells of each row are read."""

    image_reads: Counter[int] = field(default_factory=Counter)
    table_reads: Counter[int] = field(default_factory=Counter)

    def images(self, rows: np.ndarray) -> np.ndarray:
        self.image_reads.update(rows.tolist())
        return super().images(rows)

    def tables(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.table_reads.update(rows.tolist())
        return super().tables(rows)


def watched(packed: PackedDataset = PACKED) -> Watched:
    return Watched(**vars(packed))


@dataclass(frozen=True, kw_only=True)
class Hooked(PackedDataset):
    """A data set that calls something before it reads pixels, and counts how often it has read."""

    before: Callable[[], None] = lambda: None
    reads: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def images(self, rows: np.ndarray) -> np.ndarray:
        self.before()
        found = super().images(rows)
        self.reads.release()
        return found


def hooked(before: Callable[[], None] = lambda: None) -> Hooked:
    return Hooked(**vars(PACKED), before=before)


def make_loader(
    packed: PackedDataset = PACKED,
    scenario: str = "both-50",
    split: Split = "train",
    batch_size: int = 7,
) -> Loader:
    chosen = Scenario.parse(scenario)
    statistics = View.of(packed, "train", chosen).statistics()
    return Loader(View.of(packed, split, chosen), statistics, batch_size, CPU)


def identified(**changes: np.ndarray) -> PackedDataset:
    """Data whose label is the row, so that a batch tells which rows it holds."""
    return replace(PACKED, label=np.arange(len(PACKED)), **changes)


def join(batches: list[Batch]) -> Batch:
    """All rows of these batches, in the order of their labels."""
    whole = Batch(*(torch.cat(list(parts)) for parts in zip(*batches, strict=True)))
    order = whole.label.argsort()
    return Batch(*(values[order] for values in whole))


def assert_same(one: Batch, other: Batch) -> None:
    """Bit by bit, empty cells included."""
    for name, a, b in zip(Batch._fields, one, other, strict=True):
        assert a.dtype == b.dtype, name
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=name)


@pytest.mark.parametrize("scenario", ["image-70", "tabular-70", "both-50"])
def test_what_a_scenario_hides_is_never_read(scenario: str) -> None:
    packed = watched()
    expected: dict[int, tuple[bool, bool]] = {}
    for split in ("train", "val", "test"):
        view = View.of(packed, split, Scenario.parse(scenario))
        expected |= dict(zip(view.rows.tolist(), view.available.tolist(), strict=True))
        loader = make_loader(packed, scenario, split)
        for _ in loader.epoch(0, 0, AUGMENT):
            pass
        for _ in loader.in_order():
            pass
    images = {row for row, (image, _) in expected.items() if image}
    tables = {row for row, (_, table) in expected.items() if table}
    assert len(images) + len(tables) < 2 * len(packed)
    assert set(packed.image_reads) == images
    assert set(packed.table_reads) == tables


@pytest.mark.parametrize("batch_size", [7, 1000])
def test_a_pass_reads_what_is_available_once(batch_size: int) -> None:
    packed = watched()
    loader = make_loader(packed, batch_size=batch_size)
    packed.table_reads.clear()  # those of the statistics
    for _ in loader.epoch(0, 0, AUGMENT):
        pass
    rows, available = loader.view.rows, loader.view.available
    assert packed.image_reads == Counter(rows[available[:, IMAGE]].tolist())
    assert packed.table_reads == Counter(rows[available[:, TABULAR]].tolist())


def test_statistics_read_the_available_training_tables_once() -> None:
    packed = watched()
    view = View.of(packed, "train", Scenario.parse("tabular-70"))
    view.statistics()
    assert packed.table_reads == Counter(view.rows[view.available[:, TABULAR]].tolist())
    assert not packed.image_reads


def test_cells_that_are_hidden_may_hold_anything() -> None:
    view = View.of(PACKED, "train", Scenario.parse("both-50"))
    hidden = {column: view.rows[~view.available[:, column]] for column in (IMAGE, TABULAR)}
    spoiled = replace(
        PACKED,
        image=PACKED.image.copy(),
        numeric=PACKED.numeric.copy(),
        category=PACKED.category.copy(),
    )
    spoiled.image[hidden[IMAGE]] = 255
    spoiled.numeric[hidden[TABULAR]] = np.inf
    spoiled.category[hidden[TABULAR]] = 9999  # no such level: an index out of range
    clean, other = make_loader(PACKED), make_loader(spoiled)
    assert clean.statistics == other.statistics
    epochs = (loader.epoch(0, 0, AUGMENT) for loader in (clean, other))
    for one, two in zip_longest(*epochs):
        assert_same(one, two)


def small(numeric: list[list[float]], category: list[list[int]], **changes: Any) -> PackedDataset:
    """Four training rows (and the rest of no split) with these cells."""
    packed = make_packed(6)
    sample = packed.sample.assign(split=["train"] * 4 + ["val", "test"])
    return replace(
        packed,
        numeric=np.array(numeric, dtype=np.float32),
        category=np.array(category, dtype=np.int32),
        sample=sample.assign(**changes),
    )


def test_statistics_by_hand() -> None:
    nan = np.nan
    packed = small(
        # rows 0 to 2 are training rows with a table, row 3 has none, rows 4 and 5 are not training
        numeric=[[1, nan], [3, nan], [nan, nan], [99, 99], [50, 50], [60, 60]],
        category=[[2, 0], [2, 4], [0, 1], [3, 2], [3, 3], [3, 3]],
        has_table=[True, True, True, False, True, True],
    )
    statistics = View.of(packed, "train").statistics()
    # column 0: mean of 1 and 3, deviation 1; column 1 is empty: left as it is
    assert statistics == Statistics(
        mean=[2.0, 0.0],
        std=[1.0, 1.0],
        seen=[[True, False, True, False], [True, True, False, False, True]],
    )
    standard = statistics.numbers(np.array([[4, 7], [nan, nan]], dtype=np.float32))
    np.testing.assert_array_equal(standard, [[2, 7], [nan, nan]])
    # empty stays empty (0); what training never showed becomes 1; the rest stays
    codes = statistics.codes(np.array([[0, 0], [2, 4], [3, 2], [1, 3]], dtype=np.int32))
    assert codes.tolist() == [[0, 0], [2, 4], [1, 1], [1, 1]]


@pytest.mark.parametrize("value", [0.1, 1e-3, 33.3, 1e8])
def test_a_column_that_does_not_vary_is_not_blown_up(value: float) -> None:
    packed = small([[value, 0]] * 6, [[2, 2]] * 6)
    assert View.of(packed, "train").statistics().std == [1.0, 1.0]


@settings(max_examples=50, deadline=None)
@given(st.floats(-1e6, 1e6, width=32), st.integers(2, 80))
def test_a_constant_has_no_deviation_however_many_rows(value: float, size: int) -> None:
    packed = make_packed(size * 2)
    numeric = np.full_like(packed.numeric, value)
    assert View.of(replace(packed, numeric=numeric), "train").statistics().std == [1.0, 1.0]


def test_statistics_know_the_training_split_alone() -> None:
    rows = np.concatenate([PACKED.rows("val"), PACKED.rows("test")])
    other = replace(PACKED, numeric=PACKED.numeric.copy(), category=PACKED.category.copy())
    other.numeric[rows] = 1e6
    other.category[rows] = 4
    assert make_loader(other).statistics == make_loader(PACKED).statistics


def test_a_level_that_only_hidden_cells_show_counts_as_unseen() -> None:
    scenario = Scenario.parse("tabular-50")
    view = View.of(PACKED, "train", scenario)
    packed = replace(PACKED, category=np.full_like(PACKED.category, 2))
    packed.category[view.rows[~view.available[:, TABULAR]], 1] = 4
    packed.category[PACKED.rows("val"), 1] = 4
    val = make_loader(packed, "tabular-50", "val", batch_size=99)
    _, batch = next(val.in_order())
    there = batch.available[:, TABULAR]
    assert batch.category[there].tolist() == [[2, 1]] * int(there.sum())
    assert (batch.category[~there] == 0).all() and (batch.numeric[~there] == 0).all()


@pytest.mark.parametrize("batch_size", [1, 4, 7, 29, 30, 31, 1000])
def test_every_row_once_per_epoch_in_batches_of_nearly_equal_size(batch_size: int) -> None:
    packed = identified()
    loader = make_loader(packed, batch_size=batch_size)
    batches = list(loader.epoch(0, 0, AUGMENT))
    sizes = [len(batch.label) for batch in batches]
    assert len(batches) == loader.steps == -(-30 // batch_size)
    assert max(sizes) <= batch_size and max(sizes) - min(sizes) <= 1
    seen = torch.cat([batch.label for batch in batches])
    assert sorted(seen.tolist()) == packed.rows("train").tolist()


@pytest.mark.parametrize("batch_size", [1, 4, 7, 1000])
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_every_row_once_in_order(batch_size: int, workers: int) -> None:
    packed = identified()
    loader = make_loader(packed, split="val", batch_size=batch_size)
    found = [pair for rank in range(workers) for pair in loader.in_order((rank, workers))]
    positions = np.concatenate([at for at, _ in found])
    labels = np.concatenate([batch.label.numpy() for _, batch in found])
    assert sorted(positions.tolist()) == list(range(15))
    np.testing.assert_array_equal(labels, packed.rows("val")[positions])
    if workers == 1:
        assert positions.tolist() == list(range(15))


@pytest.mark.parametrize("workers", [2, 3, 8])
def test_any_number_of_workers_gets_the_same_global_batches(workers: int) -> None:
    loader = make_loader(identified(), batch_size=7)
    alone = loader.epoch(3, 5, AUGMENT)
    together = [loader.epoch(3, 5, AUGMENT, (rank, workers)) for rank in range(workers)]
    for whole, *shards in zip_longest(alone, *together):
        assert max(len(s.label) for s in shards) - min(len(s.label) for s in shards) <= 1
        assert_same(join(shards), join([whole]))


def test_a_sample_is_augmented_equally_whatever_its_batch() -> None:
    wholes = [
        join(list(make_loader(identified(), batch_size=size).epoch(2, 1, AUGMENT)))
        for size in (1, 4, 30)
    ]
    assert_same(wholes[0], wholes[1])
    assert_same(wholes[0], wholes[2])


@pytest.mark.parametrize(("epoch", "seed"), [(1, 0), (0, 1)])
def test_another_epoch_or_seed_changes_order_and_pictures(epoch: int, seed: int) -> None:
    loader = make_loader(identified(), "tabular-50")
    first = list(loader.epoch(0, 0, AUGMENT))
    other = list(loader.epoch(epoch, seed, AUGMENT))
    assert any(not torch.equal(a.label, b.label) for a, b in zip(first, other, strict=True))
    a, b = join(first), join(other)
    assert ((a.image - b.image).abs().amax(dim=(1, 2, 3)) > 0).all()
    np.testing.assert_array_equal(a.numeric.numpy(), b.numeric.numpy())
    assert torch.equal(a.available, b.available)


def test_absent_images_are_exactly_zero_and_present_ones_are_not() -> None:
    batch = join(list(make_loader(identified(), "image-70").epoch(0, 0, AUGMENT)))
    strength = batch.image.abs().amax(dim=(1, 2, 3))
    assert torch.equal(strength > 0, batch.available[:, IMAGE])
    assert (~batch.available[:, IMAGE]).sum() == 21


def test_pixels_are_normalised_by_hand() -> None:
    packed = replace(PACKED, image=np.full_like(PACKED.image, 51))  # 51 / 255 = 0.2
    _, batch = next(make_loader(packed, "tabular-50", "val").in_order())
    expected = torch.tensor([(0.2 - 0.485) / 0.229, (0.2 - 0.456) / 0.224, (0.2 - 0.406) / 0.225])
    torch.testing.assert_close(batch.image[0, :, 5, 5], expected)


def test_data_without_images_in_the_batch_still_has_their_shape() -> None:
    loader = make_loader(PACKED, "image-100", batch_size=3)
    batch = next(loader.epoch(0, 0, AUGMENT))
    assert batch.image.shape == (3, 3, 32, 32) and not batch.image.any()


def test_a_worker_may_get_no_rows() -> None:
    loader = make_loader(batch_size=1)
    batch = next(loader.epoch(0, 0, AUGMENT, (1, 2)))
    assert len(batch.label) == 0 and batch.image.shape == (0, 3, 32, 32)


def one_by_one(loader: Loader, positions: np.ndarray, augmentation: Any = None) -> Batch:
    """A batch made sample by sample, from the arrays as they are."""
    packed, statistics = loader.view.packed, loader.statistics
    rows, available = loader.view.rows[positions], loader.view.available[positions]
    mean, std = (
        torch.tensor(x).view(1, 3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    images = []
    for row, position, there in zip(rows, positions, available[:, IMAGE], strict=True):
        image = torch.tensor(packed.image[row][None]).permute(0, 3, 1, 2).float() / 255
        if augmentation:
            draws = uniforms(loader.keys[[position]], *augmentation)
            image = augment(image, torch.from_numpy(draws), AUGMENT)
        images.append((image - mean) / std if there else torch.zeros_like(image))
    table = torch.from_numpy(available[:, TABULAR])[:, None]
    numeric = torch.from_numpy(statistics.numbers(packed.numeric[rows]))
    return Batch(
        image=torch.cat(images),
        numeric=numeric.where(table, 0.0),
        category=torch.from_numpy(statistics.codes(packed.category[rows])).where(table, 0),
        available=torch.from_numpy(available),
        label=torch.from_numpy(packed.label[rows]),
        **no_series(len(rows)),
    )


@pytest.mark.parametrize("scenario", ["both-50", "tabular-50", "image-100"])
@pytest.mark.parametrize("batch_size", [4, 1000])
def test_batches_are_those_of_reading_sample_by_sample(scenario: str, batch_size: int) -> None:
    loader = make_loader(PACKED, scenario, batch_size=batch_size)
    order = np.random.default_rng([5, 3]).permutation(30)
    parts = np.array_split(order, loader.steps)
    for part, batch in zip(parts, loader.epoch(3, 5, AUGMENT), strict=True):
        assert_same(batch, one_by_one(loader, part, (5, 3)))
    for positions, batch in loader.in_order():
        assert_same(batch, one_by_one(loader, positions))


@pytest.mark.parametrize("scenario", ["both-50", "tabular-50", "image-100"])
def test_pictures_lie_in_memory_as_the_device_wants_them(
    scenario: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for batch in first_batches(scenario):
        assert batch.image.is_contiguous()
    monkeypatch.setattr("dfpl.data.loader.layout", lambda *_: torch.channels_last)
    for batch in first_batches(scenario):
        assert batch.image.is_contiguous(memory_format=torch.channels_last)


def first_batches(scenario: str) -> list[Batch]:
    loader = make_loader(PACKED, scenario)
    found = [next(loader.epoch(0, 0, AUGMENT)), next(loader.in_order())[1]]
    assert all(batch.image.shape[1:] == (3, 32, 32) for batch in found)
    return found


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("reader")]


def count(reads: threading.Semaphore, expected: int) -> None:
    """Wait for so many reads, and see that no other follows."""
    for _ in range(expected):
        assert reads.acquire(timeout=30)
    assert not reads.acquire(timeout=0.1)


def test_the_next_batches_are_read_while_one_is_in_use() -> None:
    packed = hooked()
    batches = make_loader(packed, batch_size=2).epoch(0, 0, AUGMENT)
    assert not readers()
    next(batches)
    count(packed.reads, 1 + AHEAD)
    next(batches)
    count(packed.reads, 1)
    assert len(readers()) == 1


@pytest.mark.parametrize("end", ["closed", "dropped", "failed"])
def test_a_pass_that_ends_early_ends_its_thread(end: str) -> None:
    packed = hooked()
    batches = make_loader(packed, batch_size=2).epoch(0, 0, AUGMENT)
    next(batches)
    if end == "closed":
        batches.close()
    elif end == "dropped":
        del batches
    else:
        with pytest.raises(KeyboardInterrupt):
            batches.throw(KeyboardInterrupt)
    assert not readers()
    while packed.reads.acquire(blocking=False):
        pass
    count(packed.reads, 0)


def test_a_whole_pass_ends_its_thread() -> None:
    loader = make_loader()
    assert len(list(loader.in_order())) == loader.steps
    assert not readers()


class Unplugged(Exception):
    """Stands for a disk that goes away."""


def test_what_goes_wrong_in_reading_is_raised_where_the_batch_is_due() -> None:
    left = iter([None, None])

    def fail_at_the_third() -> None:
        if next(left, "none left"):
            raise Unplugged("no such disk")

    batches = make_loader(hooked(fail_at_the_third), batch_size=2).epoch(0, 0, AUGMENT)
    for expected, _ in zip(make_loader(batch_size=2).epoch(0, 0, AUGMENT), range(2), strict=False):
        assert_same(next(batches), expected)
    with pytest.raises(Unplugged, match="no such disk"):
        next(batches)
    assert not readers()
    assert next(batches, None) is None


def test_the_time_for_which_a_pass_is_held_up_is_counted() -> None:
    packed = hooked(lambda: time.sleep(0.2))
    loader = make_loader(packed, batch_size=10)  # three batches: all are read while one is in use
    assert loader.steps == 1 + AHEAD and loader.waited_s == 0
    list(loader.epoch(0, 0, AUGMENT))
    assert loader.waited_s > 0.4  # 0.6 but for what was done meanwhile
    batches = loader.epoch(0, 0, AUGMENT)
    next(batches)
    first = loader.waited_s
    assert 0.15 < first < 0.5  # of this pass alone
    count(packed.reads, 6)
    list(batches)
    assert loader.waited_s < first + 0.15
