"""Checks which GPU a worker reports: the first that its training process will see."""

import os
from pathlib import Path

import pytest

from worker.host.free_memory import FreeMemory
from worker.host.hardware import Gpu, find_gpu, find_gpus, find_machine, training_device
from worker.processes.training import environment

SMI = """#!/bin/sh
case "$1" in
-L) cat <<'END'
GPU 0: NVIDIA A100-SXM4-80GB (UUID: GPU-5d1c4f3a-0000-4000-8000-000000000000)
  MIG 3g.40gb     Device  0: (UUID: MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f)
  MIG 1g.10gb+me  Device  1: (UUID: MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb)
END
;;
*) cat <<'END'
0, GPU-5d1c4f3a-0000-4000-8000-000000000000, 81920, NVIDIA A100-SXM4-80GB
1, GPU-77aa0000-0000-4000-8000-000000000001, 24576, NVIDIA L4, special
END
;;
esac
"""
FREE = """#!/bin/sh
test "${1#*memory.free}" != "$1" || exit 1
echo "0, GPU-5d1c4f3a-0000-4000-8000-000000000000, 70000, NVIDIA A100-SXM4-80GB"
echo "1, GPU-77aa0000-0000-4000-8000-000000000001, 20000, NVIDIA L4, special"
"""
FIRST = Gpu("NVIDIA A100-SXM4-80GB", 81920 * 2**20 / 1e9)
SECOND = Gpu("NVIDIA L4, special", 24576 * 2**20 / 1e9)


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "nvidia-smi"
    path.write_text(SMI)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return path


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, FIRST),
        ("0", FIRST),
        ("1", SECOND),
        ("1,0", SECOND),
        (" 1 , 0", SECOND),
        ("GPU-77aa0000-0000-4000-8000-000000000001", SECOND),
        ("GPU-77aa", SECOND),
        ("GPU-77aa,0", SECOND),
        ("MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f", Gpu("MIG 3g.40gb", 40 * 2**30 / 1e9)),
        ("MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb", Gpu("MIG 1g.10gb+me", 10 * 2**30 / 1e9)),
        ("", None),
        ("-1", None),
        ("-1,0", None),
        ("2", None),
        ("2,0", None),
        ("GPU-ffff", None),
        ("MIG-ffff", None),
        ("none", None),
    ],
)
def test_a_worker_reports_its_first_visible_gpu(
    smi: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, expected: Gpu | None
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert find_gpu() == expected


@pytest.mark.parametrize(
    ("visible", "expected"), [(None, [FIRST, SECOND]), ("1,0", [SECOND, FIRST]), ("1,7,0", [SECOND]), ("", [])]
)
def test_all_visible_gpus_are_found(
    smi: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, expected: list[Gpu]
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert find_gpus() == expected


def test_free_memory_of_the_first_gpu_is_read_every_half_minute(smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi.write_text(FREE)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    memory = FreeMemory("cuda")
    assert memory.read_gb() == 20000 * 2**20 / 1e9
    smi.write_text("#!/bin/sh\nexit 9\n")
    assert memory.read_gb() == 20000 * 2**20 / 1e9
    assert FreeMemory("cuda").read_gb() is None
    smi.write_text(FREE.replace("20000", "[N/A]"))
    assert FreeMemory("cuda").read_gb() is None


def test_free_memory_of_a_mig_instance_is_not_reported(smi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-c6d4f1ef")
    assert FreeMemory("cuda").read_gb() is None


def test_free_memory_without_a_gpu_comes_from_the_kernel() -> None:
    free = FreeMemory("cpu").read_gb()
    assert free is not None
    assert 0 < free < 10_000


def test_without_a_driver_there_is_no_gpu(smi: Path) -> None:
    smi.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    assert find_gpu() is None


def test_a_worker_that_reports_a_gpu_trains_its_jobs_on_it(smi: Path) -> None:
    """Jobs do not train on the CPU when torch finds no GPU. A spec that asks for the CPU gets it."""
    find_machine.cache_clear()
    try:
        assert find_machine().device == "cuda"
        assert [training_device(asked) for asked in ("auto", "cuda", "cpu")] == ["cuda", "cuda", "cpu"]
        smi.write_text("#!/bin/sh\nexit 1\n")
        find_machine.cache_clear()
        assert training_device("auto") == "auto"
    finally:
        find_machine.cache_clear()


def test_a_training_on_a_gpu_gets_the_settings_of_memory_and_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    passed = {"PYTORCH_ALLOC_CONF": "x:1", "CUDA_MPS_PIPE_DIRECTORY": "/mps", "TRITON_CACHE_DIR": "/triton"}
    for name, value in passed.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SECRET", "s")
    assert passed.items() <= environment().items()
    assert "SECRET" not in environment()
