"""How a lack of memory is told from other errors, and how memory is given back."""

import gc
from typing import Final

import torch

WORDS: Final = (
    "can't allocate memory",
    "Cannot allocate memory",
    "CUDA error: out of memory",
    "cudaErrorMemoryAllocation",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""Of the CPU's allocators, of CUDA where an allocation is not torch's own, and of its libraries."""


def is_out_of_memory(error: Exception) -> bool:
    """torch's allocator on CUDA has a class for it; the others say it in words."""
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or any(words in str(error) for words in WORDS)


def give_back_memory(device: str) -> None:
    """What no tensor holds any more. Not for use in an error's handler: its traceback holds tensors."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
