"""Reads the names and shapes of a model's tensors from the headers of its safetensors files.

A file starts with the header's length (8 bytes, little-endian), then the header as JSON, then the tensors' bytes
(https://github.com/huggingface/safetensors).
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, NonNegativeInt, TypeAdapter

from app.errors import InvalidModelFolder

MAX_HEADER_BYTES = 100_000_000
"""Equals the limit of safetensors itself."""
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


class Shape(NamedTuple):
    dtype: str
    sizes: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.sizes)


Shapes = dict[str, Shape]


class _Tensor(BaseModel):
    dtype: str
    shape: list[NonNegativeInt]
    data_offsets: tuple[NonNegativeInt, NonNegativeInt]


_read_header = TypeAdapter(dict[str, _Tensor]).validate_python


def read_shapes(folder: Path) -> Shapes:
    """Return the shape of each tensor of the model. Raise InvalidModelFolder if a file is missing, truncated or not
    safetensors."""
    shapes: Shapes = {}
    for path in _files(folder):
        shapes |= _shapes(path)
    return shapes


def _files(folder: Path) -> Iterator[Path]:
    if (folder / INDEX).is_file():
        names = read_index(folder / INDEX)
    elif (folder / SINGLE).is_file():
        names = [SINGLE]
    elif any(folder.glob("*.bin")) or any(folder.glob("*.pt*")):
        raise InvalidModelFolder(
            f"{folder} has only pickled weights, which can run code when loaded; convert them to safetensors "
            "(save_pretrained of a current transformers does)."
        )
    else:
        raise InvalidModelFolder(f"{folder} has no {SINGLE}; pass the folder that save_pretrained wrote.")
    for name in names:
        if not (folder / name).is_file():
            raise InvalidModelFolder(f"{folder} has no {name}, which its index names; copy the whole model.")
        yield folder / name


def read_index(index: Path) -> list[str]:
    """Return the names of the files over which the index distributes the tensors."""
    try:
        files = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidModelFolder(f"{index} is not an index of safetensors files.") from error
    if not all(isinstance(name, str) and Path(name).name == name for name in files):
        raise InvalidModelFolder(f"{index} names files outside its folder.")
    return sorted(files)


def _shapes(path: Path) -> Shapes:
    total = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if total < 8 or length > min(MAX_HEADER_BYTES, total - 8):
            raise InvalidModelFolder(f"{path} is not a complete safetensors file; copy it again.")
        raw = file.read(length)
    try:
        header: dict[str, Any] = json.loads(raw)
        tensors = _read_header({name: value for name, value in header.items() if name != "__metadata__"})
    except (ValueError, AttributeError, RecursionError) as error:
        raise InvalidModelFolder(f"{path} has no valid safetensors header; copy it again.") from error
    if total != 8 + length + max((tensor.data_offsets[1] for tensor in tensors.values()), default=0):
        raise InvalidModelFolder(f"{path} is shorter or longer than its header says; copy it again.")
    return {name: Shape(tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
