"""How running trials hear that their study is to end before its time: they keep a checkpoint.

The driver leaves a word in Ray's own key-value store, which every process of the study can read in
about a millisecond; it needs no process of its own and no storage, which may be what is broken.
"""

from dataclasses import dataclass

import ray
from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get, _internal_kv_put

from dfpl.fields import Row
from dfpl.study.rounds import Ask
from dfpl.train import EndedError


def announce() -> None:
    """Tell all trials of this driver that the study is to end."""
    _internal_kv_put(_key(), b"1")


def open_again() -> None:
    """Forget what an earlier study of this driver was told."""
    _internal_kv_del(_key())


def closing() -> bool:
    return _internal_kv_get(_key()) is not None


def _key() -> str:
    return f"dfpl-closing-{ray.get_runtime_context().get_job_id()}"


@dataclass(frozen=True)
class Listening:
    """Asks whether a run may go on; raises EndedError once the study is to end."""

    ask: Ask

    def __call__(self, row: Row) -> bool:
        if closing():
            raise EndedError("the study is to end; the same command goes on")
        return self.ask(row)
