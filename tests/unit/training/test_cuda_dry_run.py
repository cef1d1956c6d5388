"""Runs a few cases of `make cuda-dry-run`, and tests what it detects."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef

from tests.cuda_dry_run.__main__ import CANNOT_BUILD
from tests.cuda_dry_run.bars import BARS
from tests.cuda_dry_run.cases import all_cases, pairwise
from tests.cuda_dry_run.device import Held, fake_cuda
from tests.cuda_dry_run.engine import Trace
from tests.cuda_dry_run.judge import Cost, excesses_of, faults_of

ROOT = Path(__file__).parents[3]
SECONDS = 900
"""Limits the run, which takes forty seconds on a quiet machine."""


def dry_run(*arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tests.cuda_dry_run", *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | environ, capture_output=True, text=True, timeout=SECONDS)


def refuse(reason: str, environ: Mapping[str, str] = os.environ) -> NoReturn:
    """Skip the tests on a machine without a compiler, but fail them in CI."""
    if environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("dry-run") / "report.json"
    run = dry_run("--out", str(path))
    if run.returncode == CANNOT_BUILD:
        refuse(run.stderr)
    assert path.exists(), run.stderr
    found: dict[str, Any] = json.loads(path.read_text())
    assert run.returncode == (1 if found["faults"] else 0)
    return found


@pytest.mark.cuda
def test_every_case_and_every_bar_is_run(report: dict[str, Any]) -> None:
    assert report["num_cases"] == len(pairwise()) <= 60
    assert [cost["bar"] for cost in report["costs"]] == list(map(str, BARS))
    planted = {"a blocking copy to the device": 3, "a number": 2, "a copy to the host": 2}
    assert report["planted_waits"] == planted


@pytest.mark.cuda
@pytest.mark.parametrize("kind", ["error", "gradient", "kept", "waits", "launches", "bytes_kept"])
def test_the_engine_has_no_fault_on_cuda(kind: str, report: dict[str, Any]) -> None:
    """See `tests/cuda_dry_run/judge.py` for the kinds of faults."""
    assert [fault for fault in report["faults"] if fault["kind"] == kind] == []


def test_the_few_cases_cover_each_pair_of_settings() -> None:
    every, few = all_cases(), pairwise()
    assert len(every) == len(set(every)) == 1728
    for first, second in combinations(("family", "method", "dtype", "checkpointing", "dora", "dropout"), 2):
        together = {(getattr(case, first), getattr(case, second)) for case in few if not case.plain}
        assert together == {(getattr(case, first), getattr(case, second)) for case in every}
    assert {(case.family, case.capability) for case in few} == {(case.family, case.capability) for case in every}


def test_launches_and_memory_of_the_device_are_recorded() -> None:
    with fake_cuda((8, 6)) as device:
        assert torch.cuda.get_device_capability() == (8, 6)
        kept = torch.ones(256, 4, device="cuda", dtype=torch.bfloat16)
        dropped = kept * 2
        assert (kept.view(4, 256).device.type, dropped.dtype) == ("cuda", torch.bfloat16)
        assert device.launches == {"ones": 1, "mul": 1}
        del dropped
        assert [(held.device, held.dtype, held.num_bytes) for held in device.take_held()] == [
            ("cuda", "bfloat16", 2048)
        ]
        assert not device.waits


def test_operations_that_a_device_refuses_are_refused() -> None:
    with fake_cuda((9, 0)), pytest.raises(RuntimeError, match="device"):
        torch.ones(4, device="cuda") + torch.ones(4)


def held(device: str, dtype: str) -> Held:
    return Held(StorageWeakRef(torch.empty(1).untyped_storage()), device, dtype, 4, "mul")


@pytest.mark.parametrize(
    ("few", "many", "kind"),
    [
        ({}, {"wrong_gradients": ["layers.0.weight"]}, "gradient"),
        ({}, {"kept": [held("cpu", "float16")]}, "kept"),
        ({}, {"kept": [held("cuda", "bfloat16")]}, "kept"),
        ({"kept": [held("cuda", "float64")]}, {"kept": [held("cuda", "float64")] * 2}, "kept"),
        ({"waits": Counter(a=1)}, {"waits": Counter(a=2)}, "waits"),
        ({"waits": Counter(a=1)}, {"waits": Counter(a=1)}, None),
        ({}, {"kept": [held("cuda", "float16"), held("cuda", "float32")]}, None),
    ],
)
def test_faults_that_each_layer_adds(few: dict[str, Any], many: dict[str, Any], kind: str | None) -> None:
    nothing: dict[str, Any] = {"launches": Counter(), "waits": Counter(), "kept": [], "wrong_gradients": []}
    found = faults_of("float16", Trace(**nothing | few), Trace(**nothing | many))
    assert [name for name, _ in found] == ([] if kind is None else [kind])


def test_a_layer_over_its_bar_is_a_fault() -> None:
    bar = BARS[0]
    assert excesses_of(bar, Cost(str(bar), bar.launches, bar.bytes_kept)) == []
    dearer = excesses_of(bar, Cost(str(bar), round(bar.launches * 1.05), round(bar.bytes_kept * 1.05)))
    assert [kind for kind, _ in dearer] == ["launches", "bytes_kept"]


@pytest.mark.cuda
def test_a_machine_without_a_compiler_skips_and_fails_in_ci() -> None:
    run = dry_run(CXX="no-such-compiler")
    assert run.returncode == CANNOT_BUILD
    assert "no-such-compiler" in run.stderr
    with pytest.raises(pytest.skip.Exception, match="compiler"):
        refuse(run.stderr, {})
    with pytest.raises(pytest.fail.Exception, match="compiler"):
        refuse(run.stderr, {"CI": "true"})
