"""Where a module runs: the choice of a device, its description, its number format and its peak memory."""

from __future__ import annotations

import contextlib
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from nasneck.errors import ConfigError, DeviceError

AMP_CHOICES = ("auto", "on", "off")


def resolve_device(name: str | torch.device = "auto") -> torch.device:
    """The device called ``name``: ``auto`` (the first GPU, else the CPU), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        DeviceError: a GPU that is not there, or another kind of device.
    """
    if isinstance(name, torch.device):
        name = str(name)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return torch.device("cpu")
    kind, _, number = name.partition(":")
    if kind != "cuda" or (":" in name and not number.isdigit()):
        raise DeviceError(f"device {name!r} is not one of auto, cpu, cuda, cuda:N")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise DeviceError(f"device {name!r} was asked for, but torch sees no GPU here; use 'cpu' or 'auto'")
    index = int(number) if number else torch.cuda.current_device()
    if index >= count:
        raise DeviceError(f"device {name!r} was asked for, but there are only cuda:0 to cuda:{count - 1}")
    return torch.device("cuda", index)


def describe_device(device: torch.device) -> str:
    """A line for tables, for example ``cpu: AMD EPYC, 2 threads`` or ``cuda: NVIDIA H100``."""
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    return f"cpu: {_cpu_name()}, {torch.get_num_threads()} thread{'s' if torch.get_num_threads() > 1 else ''}"


def use_amp(choice: str, device: torch.device) -> bool:
    """Whether to compute in bfloat16 under autocast.

    ``auto`` says yes where the device has bfloat16 arithmetic: GPUs that support it, CPUs with AMX or
    AVX512-BF16. On other CPUs bfloat16 is emulated and slower than float32.

    Raises:
        ConfigError: a choice other than ``auto``, ``on``, ``off``.
    """
    if choice not in AMP_CHOICES:
        raise ConfigError(f"amp {choice!r} is not one of {', '.join(AMP_CHOICES)}")
    if choice != "auto":
        return choice == "on"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else _cpu_flags()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Run small operations without torch's thread pool, and give the number of threads back afterwards.

    Where other processes keep the cores busy, a pool that waits for its second thread at every small
    operation was measured to be 20 to 80 times slower than one thread (GNU OpenMP spins by default).
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def limit_memory(share: float) -> None:
    """Let this process allocate at most this share of the memory of its GPU; more is out of memory.

    Ray's fractions of a GPU are bookkeeping only: without a limit, one trial could starve its neighbours.

    Args:
        share: Above 0, at most 1.
    """
    torch.cuda.set_per_process_memory_fraction(share)


def reset_peak_memory(device: torch.device) -> None:
    """Start counting :func:`peak_memory_mb` anew, where the device can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_mb(device: torch.device) -> float | None:
    """Peak memory in MiB: of torch's allocator since the reset on CUDA, of the whole process on the CPU.

    None where the system does not tell (Windows).
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes there, KiB elsewhere


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cpu_flags() -> dict[str, bool]:
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return {}
    for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("flags"):
            return dict.fromkeys(line.partition(":")[2].split(), True)
    return {}
