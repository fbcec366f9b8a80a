"""Connections to Ray: a cluster that runs already, or one of our own on this machine."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from nasneck.device import limit_memory
from nasneck.errors import ClusterError, ConfigError, NasneckError

ANSWER_S = 30.0  # how long a cluster may take to answer; importing Ray alone takes seconds
PATIENCE_S = 60.0  # without a worker, before the user is told; on a busy machine one takes a while to start
_POLL_S = 0.5
_ATTEMPTS = 3
_CANCELLED = 5
# A client without a token gets no other answer than one that is nobody's.
_TOKEN = "; if the cluster asks for a token, set RAY_AUTH_MODE=token"

# In a process of its own: a connection that Ray waits for cannot be interrupted from outside.
_PROBE = """
import sys, ray
try:
    ray.init(address=sys.argv[1], log_to_driver=False, logging_level="CRITICAL")
except BaseException as error:
    print(" ".join(f"{error}".split()) or type(error).__name__)
    sys.exit(1)
"""


@dataclass(frozen=True, slots=True)
class Share:
    """What one trial takes of a node.

    Args:
        cpus: CPUs; also the number of threads, at least one.
        gpus: GPUs; below 1, this share of one and of its memory.

    Raises:
        ConfigError: a number that is none, or several GPUs and a part of one.
    """

    cpus: float = 1.0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.cpus) and self.cpus > 0):
            raise ConfigError(f"cpus_per_trial {self.cpus:g} must be above 0")
        if not (math.isfinite(self.gpus) and self.gpus >= 0):
            raise ConfigError(f"gpus_per_trial {self.gpus:g} must not be below 0")
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ConfigError(f"gpus_per_trial {self.gpus:g} must be a whole number, or a part of one GPU")

    @property
    def threads(self) -> int:
        """Threads of a worker."""
        return max(1, int(self.cpus))

    def apply(self) -> None:
        """Keep this process, and the threads of the thread that calls, to the share."""
        import torch

        torch.set_num_threads(self.threads)
        if 0 < self.gpus < 1:
            limit_memory(self.gpus)

    def bundle(self) -> dict[str, float]:
        """As Ray writes it."""
        return {"CPU": self.cpus, **({"GPU": self.gpus} if self.gpus else {})}

    def fit(self, resources: Mapping[str, float]) -> int:
        """How many trials a node with these resources runs at once."""
        # Ray counts in steps of 1e-4, so a third of a GPU fits three times; a share does not lie on two GPUs.
        cpus = int(resources.get("CPU", 0.0) / self.cpus + 1e-3)
        if not self.gpus:
            return cpus
        gpus = int(resources.get("GPU", 0.0))
        return min(cpus, gpus * int(1 / self.gpus + 1e-3) if self.gpus < 1 else int(gpus / self.gpus))


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of a cluster."""

    id: str
    host: str
    resources: Mapping[str, float]


@contextlib.contextmanager
def connected(address: str | None, *, cpus: float) -> Iterator[None]:
    """Be connected to Ray inside; afterwards nothing that was started for it is left running.

    A connection that the process has already is used, and left as it is.

    Args:
        address: ``host:port`` of a cluster, or ``auto`` for the one that runs on this machine; None starts
            one of our own here.
        cpus: Of a cluster of our own.

    Raises:
        ClusterError: Ray is not installed, or no cluster answers in time.
        ConfigError: an address that cannot be one.
    """
    if address is not None:
        _check_address(address)
    # A library does not report its user's doings to anybody.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray warns that a later version will no longer hide GPUs from workers without any; it may.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise ClusterError("several workers need Ray: pip install 'ray[tune]'") from None
    if ray.is_initialized():
        yield
        return
    if address is not None:
        _probe(address)
    quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL, "configure_logging": True}
    try:
        if address is None:
            ray.init(address="local", num_cpus=max(1, math.ceil(cpus)), include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
    except Exception as error:
        where = "on this machine" if address is None else f"at {address}"
        raise ClusterError(f"Ray cannot be started or reached {where}: {_one_line(error)}") from None
    try:
        yield
    finally:
        ray.shutdown()


def nodes() -> tuple[Node, ...]:
    """The machines that are alive."""
    import ray

    return tuple(
        Node(node["NodeID"], node["NodeManagerAddress"], dict(node["Resources"]))
        for node in ray.nodes()
        if node["Alive"]
    )


def room(share: Share, machines: Sequence[Node]) -> int:
    """How many trials run at once.

    Raises:
        ClusterError: not one, on any machine.
    """
    count = sum(share.fit(node.resources) for node in machines)
    if count < 1:
        have = "; ".join(
            f"{node.host} has {node.resources.get('CPU', 0):g} CPUs and {node.resources.get('GPU', 0):g} GPUs"
            for node in machines
        )
        raise ClusterError(f"a trial takes {share.cpus:g} CPUs and {share.gpus:g} GPUs, but no node has them: {have}")
    return count


def on_each(machines: Sequence[Node], function: Callable[[], object]) -> None:
    """Call ``function`` once on every machine, at the same time.

    Raises:
        ClusterError: what it raised on one of them, with the machine. A machine that dies meanwhile is no
            mistake of the user's and is passed over.
    """
    import ray
    from ray.exceptions import NodeDiedError, TaskUnschedulableError, WorkerCrashedError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    remote: Any = ray.remote(num_cpus=0, max_retries=0)(_call)
    calls = []
    for node in machines:
        where = NodeAffinitySchedulingStrategy(node.id, soft=False)
        calls.append((node.host, remote.options(scheduling_strategy=where).remote(function)))
    for host, call in calls:
        try:
            ray.get(call)
        except (WorkerCrashedError, NodeDiedError, TaskUnschedulableError):
            continue
        except Exception as error:
            raise ClusterError(f"node {host}: {cause(error)}") from None


def _call(function: Callable[[], object]) -> None:
    function()


class Remote:
    """An object that lives in a worker process, with the resources of a trial.

    Args:
        make: Makes it, over there.
        share: What it takes.
        on_warning: Told if there is no room for it for a while.

    Raises:
        ClusterError: what ``make`` raised, with the machine.
    """

    def __init__(self, make: Callable[[], object], share: Share, on_warning: Callable[[str], object]) -> None:
        self._make = make
        self._share = share
        self._on_warning = on_warning
        self._start()

    def _start(self) -> None:
        import ray

        # Two threads: one works, one answers how far it is.
        share, holder = self._share, cast(Any, ray.remote(_Holder))
        actor = holder.options(num_cpus=share.cpus, num_gpus=share.gpus, max_concurrency=2, max_restarts=0)
        self._actor = actor.remote(self._make, share)
        self._started = self._actor.latest.remote()
        if not ray.wait([self._started], timeout=PATIENCE_S)[0]:
            needs = f"{share.cpus:g} CPUs and {share.gpus:g} GPUs"
            self._on_warning(f"waiting for a worker with {needs}; others may hold them")

    def call(self, method: str, progress: Callable[[str, int, int], None] | None = None) -> Any:
        """Call a method; with ``progress``, it is given a callback as its argument, which arrives here.

        If its process dies, the object is made anew in another one, some times, and called again.

        Raises:
            ClusterError: what it raised.
        """
        from ray.exceptions import RayActorError

        died = cancelled = 0
        while True:
            try:
                return self._call(method, progress)
            except RayActorError as error:
                # On a busy machine Ray now and then takes an actor that is on its way for one that nobody wants.
                if "never ran" in str(error) and cancelled < _CANCELLED:
                    cancelled += 1
                    time.sleep(cancelled)
                    self._start()
                    continue
                died += 1
                if died == _ATTEMPTS:
                    raise ClusterError(f"{_ATTEMPTS} workers died as they prepared; the last: {cause(error)}") from None
                self._on_warning(f"a worker died as it prepared; another is tried ({cause(error)[:200]})")
                self._start()
            except Exception as error:
                raise ClusterError(cause(error)) from None

    def _call(self, method: str, progress: Callable[[str, int, int], None] | None) -> Any:
        import ray

        call, said = self._actor.call.remote(method, progress is not None), None
        while True:
            done, _ = ray.wait([call], timeout=_POLL_S)
            if progress is not None:
                latest = ray.get(self._actor.latest.remote())
                if latest is not None and latest != said:
                    said = latest
                    progress(*latest)
            if done:
                return ray.get(call)

    def close(self) -> None:
        """End it and give its resources back."""
        import ray

        ray.kill(self._actor)


class _Holder:
    def __init__(self, make: Callable[[], object], share: Share) -> None:
        self._make = make
        self._share = share
        self._made: object | None = None
        self._latest: tuple[str, int, int] | None = None

    def call(self, method: str, with_progress: bool) -> Any:
        self._share.apply()  # to this thread, which does the work
        try:
            if self._made is None:
                self._made = self._make()
            function = getattr(self._made, method)
            return function(self._report) if with_progress else function()
        except NasneckError as error:
            raise ClusterError(f"worker on {socket.gethostname()}: {error}") from None

    def latest(self) -> tuple[str, int, int] | None:
        return self._latest

    def _report(self, what: str, done: int, total: int) -> None:
        self._latest = what, done, total


def cause(error: BaseException) -> str:
    """What happened in another process, in one line."""
    inner = getattr(error, "cause", None)
    inner = inner if isinstance(inner, BaseException) else error
    return str(inner) if isinstance(inner, NasneckError) else f"{type(inner).__name__}: {_one_line(inner)}"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:500]


def _check_address(address: str) -> None:
    if address.startswith("ray://"):
        raise ConfigError(
            f"address {address!r}: Ray's client is not supported, as the study is written where the command runs; "
            "run it on a machine of the cluster with the address host:6379 or auto"
        )
    host, _, port = address.rpartition(":")
    if address != "auto" and not (host and port.isdigit() and 0 < int(port) < 65536):
        raise ConfigError(f"address {address!r} is neither host:port, such as 10.0.0.1:6379, nor auto")


def _probe(address: str) -> None:
    """Find out within the time whether a cluster answers."""
    start = time.monotonic()
    if address != "auto":
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S / 3).close()
        except OSError as error:
            why = error.strerror or str(error) or type(error).__name__
            raise ClusterError(
                f"no Ray cluster answers at {address} ({why}); start one with: ray start --head --port={port}"
            ) from None
    left = ANSWER_S - (time.monotonic() - start)
    try:
        ended = subprocess.run([sys.executable, "-c", _PROBE, address], capture_output=True, text=True, timeout=left)
    except subprocess.TimeoutExpired:
        raise ClusterError(f"no Ray cluster answers at {address}: what listens there is silent{_TOKEN}") from None
    if ended.returncode:
        said = (ended.stdout.strip() or ended.stderr.strip()).splitlines()
        reason = said[-1][:300] if said else "no reason given"
        raise ClusterError(f"no Ray cluster answers at {address}: {reason}{_TOKEN}")
