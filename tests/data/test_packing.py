"""Packing: every bad input is named, splits keep groups whole, and a folder is whole or absent."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from raw_samples import (
    LENIENT,
    SMALL,
    N,
    changed,
    made_up,
    path_of,
    spoil,
    texts,
    truncate,
    without_cells,
)

from dfpl.data import packing, reading
from dfpl.data.images import read_image
from dfpl.data.packed import EMPTY, UNSEEN, DataError, PackedDataset
from dfpl.data.packing import check, pack
from dfpl.data.preparing import category_codes, prepare
from dfpl.data.raw import PackOptions, RawSamples, nothing_dropped
from dfpl.data.split import draw_split
from dfpl.fields import ConfigError


def given_split(*sizes: int) -> pd.Series:
    train, val, test = sizes
    return texts(*["train"] * train, *["val"] * val, *["test"] * test)


def test_sound_samples_have_neither_problems_nor_warnings(tmp_path: Path) -> None:
    report = check(made_up(tmp_path), SMALL)
    assert report.problems == []
    assert report.warnings == []
    counts = {what: found for what, found, _ in report.counts}
    assert (counts["samples"], counts["groups"], counts["classes"]) == (24, 12, 2)
    assert counts["empty in age"] == "50.0%"
    assert str(counts["class cat"]).startswith("12 (")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"id": {5: "s04"}}, "1 ids occur more than once, e.g. 's04'"),
        ({"id": {5: None}}, "1 samples have no id"),
        ({"group": {5: None}}, "1 samples have no group"),
        ({"label": dict.fromkeys(range(N))}, "no sample is left: none has a label"),
        ({"label": dict.fromkeys(range(N), "cat")}, "one class only ('cat')"),
        (
            {"label": {0: "rare", 1: "rare", 2: "rare"}},
            "class 'rare' is absent from val: it has 3 samples in 2 groups, and 3 splits need "
            "3 groups; leave its rows out or merge it with another class",
        ),
        ({"image": dict.fromkeys(range(N))}, "no sample has an image"),
    ],
)
def test_a_bad_member_is_named(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    samples = made_up(tmp_path)
    members = {name: changed(getattr(samples, name), cells) for name, cells in changes.items()}
    problems = "\n".join(check(replace(samples, **members), SMALL).problems)
    assert told in problems


@pytest.mark.parametrize(
    ("split", "told"),
    [
        (given_split(15, 4, 5), "2 groups lie in more than one split, e.g. 'g07'"),
        (given_split(20, 4, 0), "the test split is empty"),
        (given_split(20, 2, 2), "class 'dog' is absent from val"),
        (changed(given_split(16, 4, 4), {0: "dev"}), "one of train, val, test, found 'dev'"),
        (changed(given_split(16, 4, 4), {0: None}), "1 samples have no split"),
    ],
)
def test_a_bad_split_is_named(tmp_path: Path, split: pd.Series, told: str) -> None:
    assert told in "\n".join(check(made_up(tmp_path, split=split), SMALL).problems)


@pytest.mark.parametrize(
    ("column", "told"),
    [
        ([np.nan] * N, "column 'dose' is empty in all rows; exclude it"),
        ([np.nan] * 16 + [1.0] * 8, "column 'dose' is empty in all training rows; exclude it"),
        ([np.inf, -np.inf] + [1.0] * 22, "column 'dose' holds 2 infinite numbers, first in sample"),
        ([1.0, 1e39] + [1.0] * 22, "column 'dose' holds 1 infinite numbers, first in sample 's01'"),
    ],
)
def test_a_bad_numeric_column_is_named(tmp_path: Path, column: list[float], told: str) -> None:
    samples = made_up(tmp_path, split=given_split(16, 4, 4))
    samples = replace(samples, numeric=samples.numeric.assign(dose=column))
    assert told in "\n".join(check(samples, SMALL).problems)
    with pytest.raises(DataError, match="column 'dose'"):
        pack(samples, tmp_path / "out", SMALL)


def test_an_empty_category_column_and_a_table_without_columns_are_named(tmp_path: Path) -> None:
    samples = made_up(tmp_path)
    blank = pd.DataFrame({"colour": texts(*[None] * N)})
    assert check(replace(samples, category=blank), SMALL).problems == [
        "column 'colour' is empty in all rows; exclude it"
    ]
    bare = pd.DataFrame(index=range(N))
    report = check(replace(samples, category=bare, numeric=bare), SMALL)
    assert "no numeric or category column is left" in report.problems[0]


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    samples = made_up(tmp_path)
    truncate(path_of(samples, 23))
    samples = replace(
        samples,
        id=changed(samples.id, {5: "s04"}),
        numeric=samples.numeric.assign(dose=np.inf),
        image=changed(samples.image, {0: str(tmp_path / "nowhere.png")}),
    )
    problems = "\n".join(check(samples, SMALL).problems)
    assert all(word in problems for word in ("'s04'", "'dose'", "nowhere.png: there is no such"))
    assert "23.png: it is truncated or damaged" in problems


def test_rows_without_a_label_or_any_content_are_left_out_with_the_reason(tmp_path: Path) -> None:
    samples = made_up(tmp_path)
    empty = replace(
        samples,
        label=changed(samples.label, {2: None}),
        image=changed(samples.image, {8: None, 9: None}),
    )
    empty = without_cells(empty, 8)
    assert check(empty, SMALL).warnings == [
        "1 rows left out: no label",
        "1 rows left out: neither image nor table",
    ]
    packed = pack(empty, tmp_path / "out", SMALL)
    assert len(packed) == 22
    dropped = pd.read_parquet(tmp_path / "out" / "dropped.parquet")
    assert dropped.to_numpy().tolist() == [["s02", "no label"], ["s08", "neither image nor table"]]


def test_the_limits_of_the_training_rows_replace_infinities(tmp_path: Path) -> None:
    weight = [np.inf, -np.inf, 3.0, 2.0, *[2.5] * 18, 99.0, np.inf]
    samples = made_up(tmp_path, split=given_split(16, 4, 4))
    samples = replace(samples, numeric=pd.DataFrame({"weight": weight}))
    options = SMALL.with_values({"infinite": "limit"})
    report = check(samples, options)
    assert report.problems == []
    assert report.warnings == [
        "column 'weight': 3 infinite numbers are replaced by the training rows' limits"
    ]
    packed = pack(samples, tmp_path / "out", options)
    assert packed.numeric[[0, 1, 22, 23], 0].tolist() == [3.0, 2.0, 99.0, 3.0]


def test_an_infinity_in_a_row_that_is_left_out_is_not_counted(tmp_path: Path) -> None:
    samples = made_up(tmp_path, numeric=pd.DataFrame({"weight": [np.inf, *range(1, N)]}))
    samples = replace(samples, label=changed(samples.label, {0: None}))
    for policy in ("error", "limit"):
        report = check(samples, SMALL.with_values({"infinite": policy}))
        assert (report.problems, report.warnings) == ([], ["1 rows left out: no label"])


def test_codes_come_from_training_rows_alone(tmp_path: Path) -> None:
    colour = texts(*["red", "blue"] * 7, "red", None, *["green"] * 4, *["red"] * 4)
    samples = made_up(tmp_path, split=given_split(16, 4, 4))
    samples = replace(samples, category=pd.DataFrame({"colour": colour}))
    assert check(samples, SMALL).warnings == [
        "column 'colour': 4 samples have a level unseen in training"
    ]
    packed = pack(samples, tmp_path / "out", SMALL)
    assert packed.schema.category == {"colour": ["blue", "red"]}
    assert packed.category[:, 0].tolist() == [3, 2] * 7 + [3, EMPTY] + [UNSEEN] * 4 + [3] * 4


def test_category_codes_by_hand() -> None:
    codes = category_codes(texts("b", None, "z", "a"), ["a", "b"])
    assert codes.tolist() == [3, EMPTY, UNSEEN, 2]
    assert category_codes(texts("b", None), []).tolist() == [UNSEEN, EMPTY]


def drawn(groups: list[str], labels: list[str], seed: int = 0) -> dict[str, list[str]]:
    """The splits of each group; more than one would tear it apart."""
    count = len(groups)
    bare = pd.DataFrame(index=range(count))
    samples = RawSamples(
        name="drawn",
        source="",
        id=texts(*map(str, range(count))),
        group=texts(*groups),
        label=texts(*labels),
        split=None,
        image=pd.Series([None] * count, dtype=object),
        numeric=bare,
        category=bare,
        dropped=nothing_dropped(),
    )
    split = draw_split(samples, PackOptions(split_seed=seed))
    found: dict[str, list[str]] = {}
    for group, part in zip(groups, split, strict=True):
        found.setdefault(group, []).append(part)
    return found


@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abc")), min_size=1, max_size=80))
@settings(max_examples=60, deadline=None)
def test_groups_stay_whole_and_classes_of_three_groups_are_everywhere(
    rows: list[tuple[int, str]],
) -> None:
    groups, labels = [f"{label}{number}" for number, label in rows], [label for _, label in rows]
    found = drawn(groups, labels)
    assert all(len(set(splits)) == 1 for splits in found.values())
    for label in set(labels):
        mine = {splits[0] for group, splits in found.items() if group[0] == label}
        groups_of_label = {group for group in groups if group[0] == label}
        assert len(mine) == 3 or len(groups_of_label) < 3


def test_each_class_has_its_share_in_each_split() -> None:
    labels = ["common"] * 700 + ["rare"] * 50
    found = drawn([str(row) for row in range(750)], labels)
    parts = [splits[0] for splits in found.values()]
    assert Counter(parts[:700]) == {"train": 490, "val": 70, "test": 140}
    assert Counter(parts[700:]) == {"train": 35, "val": 5, "test": 10}


def test_the_split_depends_on_names_and_seed_but_not_on_row_order() -> None:
    groups, labels = [f"g{row // 2}" for row in range(60)], ["a", "a", "b", "b"] * 15
    there = drawn(groups, labels)
    back = drawn(groups[::-1], labels[::-1])
    assert there == back
    assert there != drawn(groups, labels, seed=1)


def test_a_class_that_only_shares_groups_is_spread_too() -> None:
    groups = [f"g{row // 4}" for row in range(40)]
    labels = (["big"] * 3 + ["small"]) * 3 + ["big"] * 28
    found = drawn(groups, labels)
    assert {found[f"g{number}"][0] for number in range(3)} == {"train", "val", "test"}


def test_rows_are_sorted_and_the_hash_ignores_row_order_paths_and_workers(tmp_path: Path) -> None:
    samples = made_up(tmp_path / "here")
    first = pack(samples, tmp_path / "first", SMALL, workers=1)
    elsewhere = made_up(tmp_path / "there").take(np.arange(N)[::-1])
    second = pack(elsewhere, tmp_path / "second" / "deep", SMALL, workers=2)
    assert first.schema.content_hash == second.schema.content_hash
    assert first.ids(np.arange(3)) == ["s00", "s01", "s02"]
    assert np.array_equal(first.image[:, 0, 0, 0], np.arange(N))
    other = replace(samples, numeric=samples.numeric + 1)
    third = pack(other, tmp_path / "third", SMALL)
    assert third.schema.content_hash != first.schema.content_hash


def test_a_row_whose_table_is_empty_has_no_table(tmp_path: Path) -> None:
    packed = pack(without_cells(made_up(tmp_path / "raw"), 2), tmp_path / "out", SMALL)
    assert packed.present(np.array([1, 2])).tolist() == [[True, True], [True, False]]


@pytest.mark.parametrize("workers", [1, 2])
def test_bad_images_stop_packing_and_are_all_listed(tmp_path: Path, workers: int) -> None:
    samples = spoil(made_up(tmp_path / "raw"), tmp_path)
    with pytest.raises(DataError, match="4 images cannot be read") as caught:
        pack(samples, tmp_path / "out", SMALL, workers)
    told = str(caught.value)
    assert "03.png: it is truncated or damaged" in told
    assert "04.png: it is no image that Pillow knows (13 bytes)" in told
    assert "05.png: there is no such file" in told
    assert f"{tmp_path}: it is not a file" in told
    assert "bad_file=treat_as_missing" in told
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.part", "raw"]


def test_bad_images_are_treated_as_missing_where_asked(tmp_path: Path) -> None:
    samples = spoil(made_up(tmp_path / "raw"), tmp_path)
    assert check(samples, LENIENT).problems == []
    packed = pack(samples, tmp_path / "out", LENIENT)
    assert len(packed) == N - 1
    table_only = packed.sample["id"][~packed.sample["has_image"]].tolist()
    assert table_only == ["s03", "s04", "s05"]
    assert packed.image[[2, 6, 22], 0, 0, 0].tolist() == [2, 7, 23]
    lines = pd.read_parquet(tmp_path / "out" / "dropped.parquet").groupby("id")["reason"]
    dropped = lines.agg("; ".join).to_dict()
    assert dropped["s03"].startswith("image treated as missing: ")
    assert dropped["s06"].startswith("image treated as missing: ")
    assert dropped["s06"].endswith("; neither modality is left")


def test_only_twenty_bad_images_are_shown(tmp_path: Path) -> None:
    nowhere = pd.Series([str(tmp_path / f"{row}.gone") for row in range(N)], dtype=object)
    problem = check(made_up(tmp_path, image=nowhere), SMALL).problems[-1]
    assert problem.startswith("24 images cannot be read")
    assert problem.count("there is no such file") == 20
    assert problem.endswith("and 4 more")


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tif", "webp"])
def test_half_a_picture_is_refused_in_every_format(tmp_path: Path, suffix: str) -> None:
    truncate(str(tmp_path / f"half.{suffix}"))
    with pytest.raises(DataError, match=f"half.{suffix}: it is "):
        read_image(tmp_path / f"half.{suffix}", 8)


def test_a_picture_over_the_limit_of_pixels_is_refused_undecoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("L", (40, 40)).save(tmp_path / "large.png")
    for limit in (1000, 500):  # Pillow itself only warns up to twice its limit
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(DataError, match=r"large.png: it is too large, refused undecoded"):
            read_image(tmp_path / "large.png", 8)


@pytest.mark.parametrize(
    ("mode", "colour", "seen"),
    [
        ("L", 7, (7, 7, 7)),
        ("RGB", (1, 2, 3), (1, 2, 3)),
        ("CMYK", (0, 0, 0, 255), (0, 0, 0)),
        ("RGBA", (1, 2, 3, 255), (1, 2, 3)),
        ("RGBA", (1, 2, 3, 0), (255, 255, 255)),
        ("1", 1, (255, 255, 255)),
    ],
)
def test_every_kind_of_picture_becomes_rgb(
    tmp_path: Path, mode: str, colour: Any, seen: tuple[int, ...]
) -> None:
    path = tmp_path / "picture.tif"
    Image.new(mode, (20, 10), colour).save(path)
    pixels = read_image(path, 8)
    assert (pixels.shape, pixels.dtype) == ((8, 8, 3), np.uint8)
    assert tuple(pixels[4, 4]) == seen


def test_greys_of_sixteen_bits_are_stretched_not_clipped(tmp_path: Path) -> None:
    grey = np.repeat([[1000], [3000]], 8, axis=1).astype(np.uint16).repeat(8, axis=0)
    Image.fromarray(grey).save(tmp_path / "deep.png")
    pixels = read_image(tmp_path / "deep.png", 8)
    assert (pixels[0, 0, 0], pixels[-1, 0, 0]) == (0, 255)


def test_a_picture_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    picture = Image.new("RGB", (64, 32))
    picture.paste((255, 255, 255), (0, 0, 32, 32))  # left half white
    exif = picture.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees: the left half becomes the upper one
    picture.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    pixels = read_image(tmp_path / "turned.jpg", 8)
    assert pixels[0].min() > 200 > 50 > pixels[-1].max()


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the pictures that are read from now on."""
    read, names = reading.read_image, []

    def counted(path: Path, size: int) -> Any:
        names.append(path.name)
        return read(path, size)

    monkeypatch.setattr(reading, "read_image", counted)
    return names


def test_a_pack_that_breaks_off_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(reading, "CHUNK", 5)
    samples, out = made_up(tmp_path / "raw"), tmp_path / "out"
    expected = pack(samples, tmp_path / "whole", SMALL)
    names = count_reads(monkeypatch)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(reading, "_put_note", broken)
        pack(samples, out, SMALL)
    assert len(names) == 5 and not out.exists()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(packing, "_replace", broken)
        pack(samples, out, SMALL)
    assert len(names) == 5 + N
    found = pack(samples, out, SMALL)
    assert found.schema.content_hash == expected.schema.content_hash
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "raw", "whole"]


def test_mended_files_are_read_and_the_rest_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "CHUNK", 6)
    samples, out = made_up(tmp_path / "raw"), tmp_path / "out"
    content = Path(path_of(samples, 7)).read_bytes()
    truncate(path_of(samples, 7))
    with pytest.raises(DataError, match="1 images cannot be read"):
        pack(samples, out, SMALL)
    Path(path_of(samples, 7)).write_bytes(content)
    names = count_reads(monkeypatch)
    found = pack(samples, out, SMALL)
    assert names == [f"{row:02}.png" for row in range(6, 12)]
    assert found.image[:, 0, 0, 0].tolist() == list(range(N))


def test_what_is_packed_already_is_not_packed_again_unless_something_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, out = made_up(tmp_path / "raw"), tmp_path / "out"
    pack(samples, out, SMALL)
    names = count_reads(monkeypatch)
    pack(samples, out, SMALL)
    assert not names
    Image.new("RGB", (12, 10), (99, 99, 99)).save(path_of(samples, 4))
    assert pack(samples, out, SMALL).image[4, 0, 0, 0] == 99
    assert len(names) == N
    pack(replace(samples, numeric=samples.numeric + 1), out, SMALL)
    assert len(names) == 2 * N


def test_one_process_at_a_time_packs_into_a_folder(tmp_path: Path) -> None:
    samples, out = made_up(tmp_path / "raw"), tmp_path / "out"
    with packing._unfinished(out), pytest.raises(DataError, match="another process is packing"):
        pack(samples, out, SMALL)
    assert len(pack(samples, out, SMALL)) == N


def test_a_cluster_reads_and_what_it_cannot_see_is_read_here(tmp_path: Path) -> None:
    """Stands for machines of which every second one lacks the folder of pictures."""
    asked = []

    def spread(function: Any, chunks: Any) -> Any:
        for place in reversed(range(len(chunks))):
            asked.append(place)
            rows = function(chunks[place])
            yield place, ["no such file here" if row % 2 else v for row, v in enumerate(rows)]

    samples = spoil(made_up(tmp_path / "raw"), tmp_path)
    expected = pack(samples, tmp_path / "here", LENIENT, workers=1)
    found = pack(samples, tmp_path / "there", LENIENT, workers=spread)
    assert asked and found.schema.content_hash == expected.schema.content_hash


def test_what_a_killed_pack_leaves_is_no_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PackedDataset, "save", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pack(made_up(tmp_path / "raw"), tmp_path / "out", SMALL)
    left = [path for path in tmp_path.iterdir() if path.name != "raw"]
    assert len(left) == 1
    assert left[0].name.endswith(".part")
    with pytest.raises(DataError, match="no packed data set"):
        PackedDataset.load(left[0])


def test_only_a_packed_data_set_of_the_same_name_is_replaced(tmp_path: Path) -> None:
    samples, out = made_up(tmp_path / "raw"), tmp_path / "out"
    pack(samples, out, SMALL)
    again = pack(replace(samples, numeric=samples.numeric * 2), out, SMALL)
    assert again.numeric[3, 0] == 6.0
    with pytest.raises(DataError, match="holds the packed data set 'pets', which 'cars' may not"):
        pack(replace(samples, name="cars"), out, SMALL)
    with pytest.raises(DataError, match="raw exists and is no packed data set"):
        pack(samples, tmp_path / "raw", SMALL)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "raw"]


def test_a_disk_that_is_too_small_is_told_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = SimpleNamespace(free=100)
    monkeypatch.setattr(reading.shutil, "disk_usage", lambda _: full)
    with pytest.raises(DataError, match=r"0\.0 GB free; choose a smaller image_size"):
        pack(made_up(tmp_path / "raw"), tmp_path / "out", SMALL)


def test_prepare_changes_nothing_when_repeated(tmp_path: Path) -> None:
    once = prepare(made_up(tmp_path), SMALL)
    twice = prepare(once, SMALL)
    assert once.split is not None
    assert twice.split is not None
    assert once.id.tolist() == twice.id.tolist()
    assert once.split.tolist() == twice.split.tolist()


def test_shares_must_leave_something_to_train() -> None:
    with pytest.raises(ConfigError, match="val \\+ test must leave a share for training"):
        PackOptions.from_dict({"val": 0.5, "test": 0.5})
