"""Files that are there whole or not at all, on a disk, a shared folder, S3 or GCS alike."""

import errno
import json
import os
import time
import uuid
from pathlib import Path
from typing import Any

from pyarrow import fs


class StorageError(OSError):
    """A folder for results cannot be used; the message says which and why."""


WAY_OUT = {
    errno.ENOSPC: "free space there",
    errno.EDQUOT: "free space there, or ask for a larger quota",
    errno.EROFS: "make it writable",
    errno.EACCES: "make it writable",
    errno.EPERM: "make it writable",
    errno.ENAMETOOLONG: "give a shorter name",
}
VISIBLE_S = 60.0
"""Longest that a shared folder may take to show a file that another machine wrote."""


class Storage:
    """A folder for results, named by a path or a URI (s3://, gs://), reached through pyarrow."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        text = os.fspath(root)
        if "://" in text:
            self.filesystem, self.path = fs.FileSystem.from_uri(text)
            self.root = text.rstrip("/")
        else:
            self.filesystem = fs.LocalFileSystem()
            self.path = self.root = str(Path(text).expanduser().absolute())

    def __truediv__(self, name: str) -> "Storage":
        below = object.__new__(Storage)
        below.filesystem = self.filesystem
        below.path = f"{self.path.rstrip('/')}/{name}"
        base, mark, query = self._split()
        below.root = f"{base.rstrip('/')}/{name}{mark}{query}"
        return below

    def __str__(self) -> str:
        return self.root

    @property
    def shown(self) -> str:
        """The place as it may be shown: without keys and passwords."""
        scheme, mark, rest = self._split()[0].rpartition("://")
        return scheme + mark + (rest.rpartition("@")[2] if mark else rest)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self._split()[0].rstrip("/").rpartition("/")[2]

    def _split(self) -> tuple[str, str, str]:
        """The root before and after the question mark that begins the options of a URI."""
        return self.root.partition("?") if "://" in self.root else (self.root, "", "")

    def __reduce__(self) -> Any:
        return Storage, (self.root,)

    @property
    def is_local(self) -> bool:
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def prove_writable(self) -> None:
        """Write and delete a small file, so that a bad place is found before any work is done."""
        name = f".write-test-{uuid.uuid4().hex[:8]}"
        try:
            self._put(name, b"")
            self.delete(name)
        except OSError as error:
            raise StorageError(
                f"--storage {self.root} cannot be written: {error}; give a folder or a bucket "
                "that every node can write"
            ) from None

    def write(self, name: str, content: bytes) -> None:
        """Write a file atomically: a reader finds the old one, the new one, or none.

        Raises StorageError, which names the place, the error and the way out.
        """
        try:
            self._put(name, content)
        except OSError as error:
            way_out = WAY_OUT.get(error.errno or 0, "see that it can be written")
            raise StorageError(
                f"{self.shown}/{name} could not be written: {error.strerror or error}; {way_out}, "
                "then the same command goes on"
            ) from error

    def _put(self, name: str, content: bytes) -> None:
        path = f"{self.path}/{name}"
        if self.is_local:
            self._replace(Path(path), content)
        else:
            with self.filesystem.open_output_stream(path) as stream:
                stream.write(content)  # an object store shows an upload only once it is whole

    def _replace(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{uuid.uuid4().hex}.part")  # no longer than a name may be
        try:
            with part.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)

    def read(self, name: str) -> bytes:
        """The content of a file; FileNotFoundError where there is none."""
        with self.filesystem.open_input_stream(f"{self.path}/{name}") as stream:
            return stream.read()

    def write_json(self, name: str, value: Any) -> None:
        self.write(name, json.dumps(value, indent=1, allow_nan=False).encode())

    def read_json(self, name: str) -> Any:
        return json.loads(self.read(name))

    def exists(self, name: str) -> bool:
        info = self.filesystem.get_file_info(f"{self.path}/{name}")
        return info.type != fs.FileType.NotFound

    def wait_for(self, name: str, longest_s: float = VISIBLE_S) -> bool:
        """Wait until a file can be seen that another machine has written; says whether it can.

        Some shared folders remember for a while that a file was not there. Listing its folder makes
        them look again.
        """
        folder, _, file = name.rpartition("/")
        end = time.monotonic() + longest_s
        while not self.exists(name):
            if time.monotonic() >= end:
                return False
            if file not in (self / folder).names():
                time.sleep(min(0.2, longest_s))
        return True

    def set_aside(self, name: str) -> None:
        """Rename a file that cannot be read to NAME.torn, which nothing reads."""
        self.filesystem.move(f"{self.path}/{name}", f"{self.path}/{name}.torn")

    def names(self, suffix: str = "") -> list[str]:
        """Files right here whose names end in `suffix`, sorted; none if there is no folder."""
        selector = fs.FileSelector(self.path, allow_not_found=True)
        found = self.filesystem.get_file_info(selector)
        return sorted(
            info.base_name
            for info in found
            if info.is_file
            and info.base_name.endswith(suffix)
            and not info.base_name.startswith(".")
        )

    def delete(self, name: str) -> None:
        if self.exists(name):
            self.filesystem.delete_file(f"{self.path}/{name}")

    def delete_folder(self, name: str) -> None:
        if self.exists(name):
            self.filesystem.delete_dir(f"{self.path}/{name}")
