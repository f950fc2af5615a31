"""Wait until a Ray cluster has the nodes or GPUs that a command needs, then run the command.

Run       python cluster/with_nodes.py --nodes 3 -- python studies/tune_dvm.py --data /data/dvm
          python cluster/with_nodes.py --gpus 8 -- python studies/tune_dvm.py --data /data/dvm

A study fits itself to the cluster that it finds, so its nodes must be there when it starts.
`--nodes` waits for them. `--gpus` asks the autoscaler for them, and takes the wish back when the
command has ended, so that idle nodes go. The cluster is the one that RAY_ADDRESS names.
"""

import argparse
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import ray
from ray.autoscaler.sdk import request_resources


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--nodes", type=int, help="nodes to wait for, the head among them")
    wanted.add_argument("--gpus", type=int, help="GPUs to ask for and to wait for")
    parser.add_argument("--wait", type=float, default=1800, help="seconds until it gives up")
    parser.add_argument("command", nargs="+", help="after --")
    options = parser.parse_args(arguments)
    if "RAY_ADDRESS" not in os.environ:
        return _complain(
            "RAY_ADDRESS must name the cluster, as it does in a Ray job; it is not set"
        )
    if options.nodes:
        if not _appear(options.nodes, "nodes", _nodes, options.wait):
            return 1
        return _run(options.command)
    try:
        _ask_for(options.gpus)
        if not _appear(options.gpus, "GPUs", _gpus, options.wait):
            return 1
        return _run(options.command)
    finally:
        with suppress(ConnectionError):  # the cluster is gone, and the wish with it
            _ask_for(0)


def _nodes() -> int:
    return sum(node["Alive"] for node in ray.nodes())


def _gpus() -> int:
    return int(ray.cluster_resources().get("GPU", 0))


def _appear(wanted: int, what: str, count: Callable[[], int], wait: float) -> bool:
    """Wait until there are as many as wanted; say how many there are whenever that changes."""
    until, before = time.monotonic() + wait, -1
    with _connected():
        while (found := count()) < wanted:
            if found != before:
                print(f"{found} of {wanted} {what}", flush=True)
            if time.monotonic() > until:
                _complain(
                    f"{found} of {wanted} {what} were there after {wait:g} s; see why the others "
                    "did not start (or are more than the cluster may have), or raise --wait"
                )
                return False
            before = found
            time.sleep(min(2.0, wait))
    return True


def _ask_for(gpus: int) -> None:
    """Keep as many GPUs in the cluster; 0 lets the autoscaler remove what is idle."""
    with _connected():
        request_resources(bundles=[{"GPU": 1}] * gpus)


@contextmanager
def _connected() -> Iterator[None]:
    ray.init(os.environ["RAY_ADDRESS"], log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


def _run(command: list[str]) -> int:
    """The command's exit code; what asks this process to end asks the command."""
    child = subprocess.Popen(command)
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda number, _: child.send_signal(number))
    code = child.wait()
    return code if code >= 0 else 128 - code


def _complain(message: str) -> int:
    print(f"error: {message}", file=sys.stderr, flush=True)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
