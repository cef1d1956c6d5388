"""Simulates a CUDA device with fake tensors, which have shapes, types and a device but no numbers. Import it after
`load_guard`.

What runs on the CPU is real. What would run on the device is recorded: the kernels launched, the bytes that stay, and
the places where the host waits for the device. An operation whose result has a shape that only the device knows
(`nonzero`, a boolean index) raises.
"""

import gc
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

ENGINE = "/worker/training/"
LAUNCHES_NOTHING = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view")
ANSWERS = {torch.bool: True, torch.int64: 1}
"""Maps a type to the number that is read from the device. For other types it is 1.0."""


@dataclass
class Held:
    """Describes memory that an operation allocated."""

    storage: StorageWeakRef
    device: str
    dtype: str
    """Is torch's name for the type, without the prefix `torch.`"""
    num_bytes: int
    operation: str


class FakeCuda(TorchDispatchMode):
    """Makes tensors on `cuda` fake, and records each operation on them, while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self._fake = FakeTensorMode(allow_non_fake_inputs=True)
        self.launches: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()
        """Counts the waits by what is waited for and by the engine's line that waits."""
        self._held: dict[StorageWeakRef, Held] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False: nothing is compiled here, and a wrapper that ensures this is slow."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = _tensors(*args, *kwargs.values())
        if not any(isinstance(tensor, FakeTensor) for tensor in given) and not _is_cuda(kwargs.get("device")):
            on_host = func(*args, **kwargs)
            self._hold(_tensors(on_host), func._schema.name)
            return on_host
        name = func._schema.name.partition("::")[2]
        if name in ("_local_scalar_dense", "is_nonzero"):
            self._wait("a number")
            return ANSWERS.get(given[0].dtype, 1.0)
        if name == "copy_" and not isinstance(given[0], FakeTensor):
            self._wait("a copy to the host")
            return given[0].fill_(1)
        result = self._fake.dispatch(func, types, args, kwargs)
        made = _tensors(result)
        if name == "_to_copy" and not _is_cuda(made[0].device):
            self._wait("a copy to the host")
            return torch.ones(made[0].shape, dtype=made[0].dtype)
        if name in ("_to_copy", "copy_") and not _is_cuda(given[-1].device) and not _is_unawaited(name, args, kwargs):
            self._wait("a blocking copy to the device")
        if not func.is_view and name not in LAUNCHES_NOTHING and any(_is_cuda(tensor.device) for tensor in made):
            self.launches[name] += 1
        self._hold(made, name)
        return result

    @property
    def num_launches(self) -> int:
        return self.launches.total()

    def take_held(self) -> list[Held]:
        """Return the memory allocated since the entry, or since the last call, that is not freed."""
        gc.collect()
        held, self._held = self._held.values(), {}
        return [one for one in held if not one.storage.expired()]

    def _wait(self, what: str) -> None:
        lines = [frame for frame in traceback.extract_stack() if ENGINE in frame.filename]
        where = f"{lines[-1].filename.rpartition('/')[2]}:{lines[-1].lineno}" if lines else "torch"
        self.waits[f"{what} ({where})"] += 1

    def _hold(self, made: list[Tensor], name: str) -> None:
        for tensor in made:
            storage = tensor.untyped_storage()
            key = StorageWeakRef(storage)
            held = Held(key, tensor.device.type, str(tensor.dtype).removeprefix("torch."), storage.nbytes(), name)
            self._held.setdefault(key, held)


@contextmanager
def fake_cuda(capability: tuple[int, int]) -> Iterator[FakeCuda]:
    """Simulate a device of a compute capability: (9, 0) is sm_90. It answers torch's queries to the driver."""
    state = torch.zeros(16, dtype=torch.uint8)
    before = torch._C._only_lift_cpu_tensors()
    device = FakeCuda()
    torch._C._set_only_lift_cpu_tensors(True)  # a mode then sees torch.tensor(…, device="cuda") as a copy
    try:
        with (
            patch("torch.cuda._lazy_init", lambda: None),
            patch("torch.cuda.get_device_capability", lambda device=None: capability),
            patch("torch.cuda.get_rng_state", lambda device=None: state),
            patch("torch.cuda.set_rng_state", lambda state, device=None: None),
            patch("torch.cuda.is_bf16_supported", lambda including_emulation=True: True),
            patch("torch.cuda.amp.common.amp_definitely_not_available", lambda: False),
            torch.autograd.set_multithreading_enabled(False),  # modes belong to a thread
            device,
        ):
            yield device
    finally:
        torch._C._set_only_lift_cpu_tensors(before)


def _tensors(*values: Any) -> list[Tensor]:
    """Return the tensors among an operation's arguments or results. Lists may contain them."""
    found = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += _tensors(*value)
    return found


def _is_cuda(device: torch.device | str | None) -> bool:
    return device is not None and torch.device(device).type == "cuda"


def _is_unawaited(name: str, args: Any, kwargs: Any) -> bool:
    return bool(kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2]))
