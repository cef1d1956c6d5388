"""Caches quantized matrices on disk: made once for a model and mapped from then on, without reading the dense ones.

A file is named after everything that its content depends on. It gets its name only when it is whole and on disk, so
that concurrent processes can use the same model, and it never changes: a process that has mapped it keeps it, even
when the folder is removed. To clear the cache, remove the folder.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from app.files import replacing
from worker.training.ops.nf4 import NF4Linear, Packed

FORMAT = 1
TENSORS = ("weight", "absmax", "code", "nested_absmax", "nested_code", "offset")
SIZES = ("block_size", "nested_block_size")
DTYPES = {torch.uint8: "U8", torch.float32: "F32"}


class NF4Cache:
    def __init__(self, path: Path):
        self.path = path

    @classmethod
    def of(cls, cache_dir: Path, model: Path, revision: str | None, *, double_quant: bool, device: str) -> "NF4Cache":
        """Choose the file. The revision is a digest of the folder at its registration; files that changed since then
        differ in size or time."""
        files = [(path.name, path.stat()) for path in sorted(model.glob("*.safetensors"))]
        key = {
            "format": FORMAT,
            "model": [str(model.absolute()), revision],
            "files": [[name, stat.st_size, stat.st_mtime_ns] for name, stat in files],
            "double_quant": double_quant,
            "device": device,
            "libraries": [version(name) for name in ("bitsandbytes", "torch", "transformers")],
        }
        digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()
        return cls(cache_dir / "nf4" / f"{digest[:32]}.safetensors")

    def read(self, device: torch.device) -> dict[str, Packed] | None:
        """Return the matrices by layer name, on the CPU as views on the mapped file. Returns None if there is no whole
        file."""
        try:
            with safe_open(self.path, "pt", device=str(device)) as file:
                sizes: dict[str, Any] = {name: int(text) for name, text in file.metadata().items()}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError):
            return None
        layers: dict[str, dict[str, Any]] = {}
        for name, tensor in tensors.items():
            layer, _, part = name.rpartition(".")
            layers.setdefault(layer, {})[part] = tensor
        return {name: Packed(**parts, **sizes) for name, parts in layers.items()}

    def write(self, layers: Mapping[str, NF4Linear]) -> bool:
        """Write the file, or return False if the disk fails: the cache is optional."""
        packed = {name: layer.packed for name, layer in layers.items()}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.path, "keep_nf4") as file:
                _write(file, packed)
        except OSError:
            return False
        return True


def _write(file: BinaryIO, packed: Mapping[str, Packed]) -> None:
    """Write the safetensors format, tensor by tensor: its library would hold all of them in memory a second time."""
    tensors = sorted(_named(packed), key=lambda named: (-named[1].element_size(), named[0]))
    header: dict[str, Any] = {"__metadata__": _metadata(packed)}
    end = 0
    for name, tensor in tensors:
        start, end = end, end + tensor.nbytes
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for _, tensor in tensors:
        file.write(tensor.detach().cpu().contiguous().numpy().tobytes())


def _named(packed: Mapping[str, Packed]) -> Iterator[tuple[str, Tensor]]:
    for layer, matrix in packed.items():
        for part in TENSORS:
            tensor = getattr(matrix, part)
            if tensor is not None:
                yield f"{layer}.{part}", tensor


def _metadata(packed: Mapping[str, Packed]) -> dict[str, str]:
    """Return the block sizes, which bitsandbytes chooses equal for all matrices."""
    sizes = {name: {getattr(matrix, name) for matrix in packed.values()} - {None} for name in SIZES}
    return {name: str(*found) for name, found in sizes.items() if found}
