import pytest
import torch

from nasneck.device import (
    describe_device,
    limit_memory,
    one_thread,
    peak_memory_mb,
    reset_peak_memory,
    resolve_device,
    use_amp,
)
from nasneck.errors import ConfigError, DeviceError


def test_the_cpu_is_found_and_described() -> None:
    cpu = resolve_device("cpu")
    assert cpu == torch.device("cpu")
    assert resolve_device(cpu) == cpu
    assert describe_device(cpu).startswith("cpu: ")
    assert f"{torch.get_num_threads()} thread" in describe_device(cpu)


def test_auto_takes_the_cpu_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:3"])
def test_a_gpu_that_is_not_there_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match=f"device '{name}' was asked for, but torch sees no GPU here"):
        resolve_device(name)


def test_a_gpu_number_out_of_range_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(DeviceError, match="'cuda:2' was asked for, but there are only cuda:0 to cuda:1"):
        resolve_device("cuda:2")


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "mps", ""])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(DeviceError, match="is not one of auto, cpu, cuda, cuda:N"):
        resolve_device(name)


def test_amp_is_a_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert use_amp("on", cpu) is True
    assert use_amp("off", cpu) is False
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    assert use_amp("auto", cpu) is True
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True, "amx_bf16": False}, raising=False)
    assert use_amp("auto", cpu) is False
    with pytest.raises(ConfigError, match="amp 'yes' is not one of auto, on, off"):
        use_amp("yes", cpu)


def test_one_thread_gives_the_threads_back() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with pytest.raises(KeyError), one_thread():
            assert torch.get_num_threads() == 1
            raise KeyError
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_peak_memory_counts_mebibytes() -> None:
    cpu = torch.device("cpu")
    reset_peak_memory(cpu)
    first = peak_memory_mb(cpu)
    assert first is not None and 50 < first < 100_000  # a process with torch in it
    block = torch.ones(64 * 2**20 // 4 + int(first * 2**20 / 4))
    later = peak_memory_mb(cpu)
    assert later is not None and later >= first + 60
    del block


@pytest.mark.gpu
def test_a_share_of_the_memory_is_enforced() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    total = torch.cuda.get_device_properties(0).total_memory
    limit_memory(0.25)
    try:
        with pytest.raises(torch.OutOfMemoryError):
            torch.empty(total // 2, dtype=torch.uint8, device="cuda")
        torch.empty(total // 10, dtype=torch.uint8, device="cuda")
    finally:
        limit_memory(1.0)
        torch.cuda.empty_cache()
