"""One driver per study: each leaves a claim that it lives, and a second one is refused.

`drivers/<name>.json` has one writer, which writes it again every few seconds and removes it when it
ends. No lock of a file system is needed, so a shared folder or a bucket will do. A driver of this
machine that was killed is known to be dead at once; one of another machine when its claim has not
changed for SILENT_S.
"""

import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from dfpl.fields import ConfigError
from dfpl.storage import Storage, StorageError
from dfpl.study.session import HEARTBEAT_S, SILENT_S

FOLDER = "drivers"
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a driver says of itself."""

    name: str
    host: str
    place: str
    """Where its process id means one process: this start of the machine, this container."""
    pid: int
    born: str
    """When the process was started, as the system counts: another one may get its id later."""
    at: float
    """Wall clock, for people: clocks of two machines may differ."""
    beat: int = 0
    drives: bool = False
    """False: it only asks whether it may."""
    after: list[str] = field(default_factory=list)
    """Claims that it found dead."""

    @classmethod
    def own(cls) -> "Claim":
        host, pid = socket.gethostname(), os.getpid()
        return cls(
            name=f"{pid}-{uuid.uuid4().hex[:8]}",
            host=host,
            place=_place(),
            pid=pid,
            born=_born(pid),
            at=time.time(),
        )

    def lives(self) -> bool | None:
        """Whether its process lives; None where that cannot be seen from here."""
        if not self.place or (self.host, self.place) != (socket.gethostname(), _place()):
            return None
        return _born(self.pid) == self.born

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def _place() -> str:
    try:
        start = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{start} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _born(pid: int) -> str:
    """Start time of a living process; empty where there is none."""
    try:
        state, *facts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else facts[18]


class Hold:
    """A driver's hold on a study."""

    def __init__(self, root: Storage, say: Say, lost: Callable[[Exception], None]) -> None:
        """`lost` is told once, from another thread, when the hold or the folder is gone."""
        self.root = root
        self.folder = root / FOLDER
        self.say = say
        self.lost = lost
        self.claim = Claim.own()
        self.over = threading.Event()

    def take(self) -> None:
        """Raises ConfigError where another driver lives.

        A claim is written before the others are read: of two that ask at once, one sees the other.
        Where both do, both step back and ask once more after a while.
        """
        for attempt in range(2):
            if attempt:
                time.sleep(random.uniform(0.3, 1.5))
            self._write()
            other = self._living()
            if other is None:
                self._write(drives=True)
                return
            self.release()
        raise ConfigError(
            f"another driver works on {self.root.shown}: {other}, heard of "
            f"{max(0.0, time.time() - other.at):.0f} s ago; end that one first, or give this study "
            f"its own --name. (On another machine a driver counts as dead after {SILENT_S:.0f} s "
            "of silence.)"
        )

    def beat(self) -> None:
        """Say that this driver lives; notice when the study is not its own any more."""
        others = self._others()
        takers = [one for one in others if self.claim.name in one.after]
        if takers:
            self._lose(
                ConfigError(
                    f"{takers[0]} took over {self.root.shown}, because this driver was not heard "
                    f"of for {SILENT_S:.0f} s; what it has begun is in good hands"
                )
            )
        elif not self.folder.exists(self._file):
            self._lose(
                StorageError(
                    f"{self.root.shown} was removed, or is not mounted any more, while the study "
                    "ran; bring it back, then the same command goes on"
                )
            )
        else:
            self._write(drives=True)

    def keep(self) -> None:
        """Beat until it is over. What cannot be written now may be later."""
        while not self.over.wait(HEARTBEAT_S):
            try:
                self.beat()
            except OSError:
                continue

    def release(self) -> None:
        self.folder.delete(self._file)

    @property
    def _file(self) -> str:
        return f"{self.claim.name}.json"

    def _write(self, drives: bool = False) -> None:
        beat = self.claim.beat + 1
        self.claim = replace(self.claim, at=time.time(), beat=beat, drives=drives)
        self.folder.write_json(self._file, asdict(self.claim))

    def _lose(self, reason: Exception) -> None:
        self.over.set()
        self.lost(reason)

    def _others(self) -> list[Claim]:
        """Claims of others; what is no claim is passed over."""
        found = []
        for file in self.folder.names(".json"):
            if file != self._file:
                try:
                    found.append(Claim(**self.folder.read_json(file)))
                except (FileNotFoundError, ValueError, TypeError):
                    continue
        return found

    def _living(self) -> Claim | None:
        """Another driver that lives, if there is one; the claims of dead ones are removed."""
        for other in self._others():
            alive = other.lives()
            if alive or (alive is None and self._hears(other)):
                return other
            self.claim = replace(self.claim, after=[*self.claim.after, other.name])
            self.folder.delete(f"{other.name}.json")
        return None

    def _hears(self, other: Claim) -> bool:
        """Whether a driver of another machine is heard of while it is waited for: as long as it
        may be silent, and at least for two beats, whatever its clock says."""
        silent_s = max(0.0, time.time() - other.at)
        wait_s = max(SILENT_S - silent_s, 2 * HEARTBEAT_S + 1)
        self.say(
            f"{other} drove this study, and was heard of {silent_s:.0f} s ago; waiting up to "
            f"{wait_s:.0f} s to see whether it lives"
        )
        end, own_at = time.monotonic() + wait_s, time.monotonic()
        while time.monotonic() < end:
            time.sleep(min(1.0, wait_s / 5))
            now = [one for one in self._others() if one.name == other.name]
            if not now:
                return False
            if now[0].beat != other.beat:
                return True
            if time.monotonic() - own_at > HEARTBEAT_S:
                own_at = time.monotonic()
                self._write()
        return False


@contextmanager
def driving(root: Storage, say: Say, lost: Callable[[Exception], None]) -> Iterator[None]:
    """Hold a study while it is driven. Raises ConfigError where another driver does."""
    hold = Hold(root, say, lost)
    hold.take()
    beating = threading.Thread(target=hold.keep, name="hold", daemon=True)
    beating.start()
    try:
        yield
    finally:
        hold.over.set()
        beating.join(HEARTBEAT_S)
        try:
            hold.release()
        except OSError:
            say(f"{root.shown}/{FOLDER} could not be tidied up; the next driver does it")
