"""Recognizes out-of-memory errors and frees memory."""

import gc
from typing import Final

import torch

MESSAGES: Final = (
    "can't allocate memory",
    "Cannot allocate memory",
    "CUDA error: out of memory",
    "cudaErrorMemoryAllocation",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""Lists texts of the CPU's allocators, of CUDA where an allocation is not torch's, and of CUDA's libraries."""


def is_out_of_memory(error: Exception) -> bool:
    """Recognize a lack of memory: torch's allocator on CUDA has an exception class for it; the others have only
    texts."""
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or any(words in str(error) for words in MESSAGES)


def free_memory(device: str) -> None:
    """Free memory that no tensor holds. Do not call it in an error's handler: the traceback holds tensors."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
