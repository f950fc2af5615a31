"""Files that are there whole or not at all."""

import json
import multiprocessing
import os
import pickle
from pathlib import Path

import pytest

from dfpl.storage import Storage, StorageError


def test_what_is_written_is_read(tmp_path: Path) -> None:
    folder = Storage(tmp_path / "new" / "folder")
    folder.write("a.bin", b"\x00\xff")
    (folder / "deep").write_json("b.json", {"x": [1, 2.5, "ü"]})
    assert folder.read("a.bin") == b"\x00\xff"
    assert (folder / "deep").read_json("b.json") == {"x": [1, 2.5, "ü"]}
    assert folder.exists("a.bin") and folder.exists("deep/b.json") and not folder.exists("c")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Storage(tmp_path).read("absent")


def test_names_are_those_of_finished_files(tmp_path: Path) -> None:
    folder = Storage(tmp_path)
    for name in ("b.json", "a.json", "c.txt"):
        folder.write(name, b"")
    (tmp_path / ".a.json.0123.part").write_bytes(b"half")
    (tmp_path / "folder.json").mkdir()
    assert folder.names(".json") == ["a.json", "b.json"]
    assert Storage(tmp_path / "absent").names() == []


def test_an_interrupted_write_leaves_the_old_file_and_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Storage(tmp_path)
    folder.write("record.json", b"old")

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        folder.write("record.json", b"new and longer")
    assert os.listdir(tmp_path) == ["record.json"]
    assert folder.read("record.json") == b"old"


def rewrite(folder: Storage, times: int) -> None:
    for i in range(times):
        folder.write("file", bytes([i % 7]) * 300_000)


def test_a_reader_never_sees_a_part(tmp_path: Path) -> None:
    folder = Storage(tmp_path)
    folder.write("file", bytes(300_000))
    writer = multiprocessing.get_context("spawn").Process(target=rewrite, args=(folder, 60))
    writer.start()
    seen = set()
    while writer.is_alive():
        content = folder.read("file")
        assert len(content) == 300_000 and len(set(content[::1000])) == 1
        seen.add(content[0])
    writer.join()
    assert writer.exitcode == 0 and len(seen) > 1


def test_what_is_not_a_number_is_no_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        Storage(tmp_path).write_json("a.json", {"x": float("nan")})
    assert not os.listdir(tmp_path)


def test_json_keeps_the_order_of_names(tmp_path: Path) -> None:
    Storage(tmp_path).write_json("a.json", {"b": 1, "a": 2})
    assert list(json.loads((tmp_path / "a.json").read_text())) == ["b", "a"]


def test_a_place_that_can_be_written_is_left_clean(tmp_path: Path) -> None:
    Storage(tmp_path).prove_writable()
    assert not os.listdir(tmp_path)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    folder = tmp_path / "file" / "results"
    with pytest.raises(StorageError, match=r"^--storage .*/file/results cannot be written: ") as e:
        Storage(folder).prove_writable()
    assert str(folder) in str(e.value) and "every node can write" in str(e.value)


def test_deleting(tmp_path: Path) -> None:
    folder = Storage(tmp_path)
    (folder / "deep").write("a", b"")
    folder.delete("deep/a")
    folder.delete("deep/a")  # what is not there is gone already
    folder.delete_folder("deep")
    folder.delete_folder("deep")
    assert not os.listdir(tmp_path)


def test_a_storage_travels_to_another_process(tmp_path: Path) -> None:
    folder = Storage(tmp_path) / "deep"
    folder.write("a", b"1")
    there = pickle.loads(pickle.dumps(folder))  # noqa: S301
    assert (str(there), there.read("a")) == (str(folder), b"1")


def test_a_relative_path_and_a_uri_name_the_same_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (Storage("runs") / "study").write("a", b"1")
    assert (Storage(f"file://{tmp_path}/runs/") / "study").read("a") == b"1"
    assert Storage("runs").is_local and Storage(f"file://{tmp_path}").is_local
