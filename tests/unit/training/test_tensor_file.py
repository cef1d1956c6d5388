"""Reads files of our safetensors writer with the format's library."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from worker.training.checkpoint.tensor_file import DTYPES, write_tensors


def test_what_was_written_is_read(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tensors = {f"of.{str(dtype)[6:]}": torch.randint(0, 2, (3, 5)).to(dtype) for dtype in DTYPES}
    tensors |= {
        "scalar": torch.tensor(3.5),
        "none": torch.empty(0, 4),
        "turned": torch.randn(4, 6).T,
        "ü": torch.ones(1),
    }
    write_tensors(tmp_path / "file", tensors)
    found = load_file(tmp_path / "file")
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype is tensor.dtype
        assert found[name].equal(tensor)
    with safe_open(tmp_path / "file", "pt") as file:
        assert file.metadata() == {"format": "pt"}


class Copies(TorchDispatchMode):
    """Records the maximum bytes of tensors that are created within it and held at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.peak, self._held = 0, list[torch.multiprocessing.reductions.StorageWeakRef]()
        self._sizes: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if not func.is_view:
            for tensor in (leaf for leaf in tree_leaves(found) if isinstance(leaf, Tensor)):
                self._held.append(torch.multiprocessing.reductions.StorageWeakRef(tensor.untyped_storage()))
                self._sizes.append(tensor.untyped_storage().nbytes())
        alive = [size for ref, size in zip(self._held, self._sizes, strict=True) if not ref.expired()]
        self.peak = max(self.peak, sum(alive))
        return found


def test_one_tensor_is_copied_at_a_time(tmp_path: Path) -> None:
    """Use tensors that are not contiguous instead of a GPU's."""
    tensors = {str(number): torch.randn(50, 20).T for number in range(8)}
    with Copies() as copies:
        write_tensors(tmp_path / "file", tensors)
    assert 0 < copies.peak <= tensors["0"].nbytes


def test_a_full_disk_raises_an_os_error() -> None:
    with pytest.raises(OSError, match="No space"):
        write_tensors(Path("/dev/full"), {"a": torch.ones(100_000)})
