"""Imports libraries in less processor time."""

import functools
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SCAN = "create_import_structure_from_path"
"""Names transformers' function that reads all its 1,700 files of models, and is called twice for each folder of them.
It caches its 560 answers, but only 128 at a time, so that the second call finds none of them."""


@contextmanager
def fast_imports() -> Iterator[None]:
    """Run imports without garbage collection, and let transformers read its files once.

    Imports create objects that live as long as the process, and hardly any garbage. Collections would go through all of
    them again and again; they took a fifth of the processor time in which a training process starts. Afterwards these
    objects are left out of collections for good."""
    was_enabled = gc.isenabled()
    gc.disable()
    functools.lru_cache = _cache_whole_scan
    try:
        yield
    finally:
        functools.lru_cache = _lru_cache
        gc.freeze()
        if was_enabled:
            gc.enable()


_lru_cache = functools.lru_cache


def _cache_whole_scan(maxsize: Any = 128, typed: bool = False) -> Any:
    """Stand in for `functools.lru_cache`."""
    if getattr(maxsize, "__name__", None) == SCAN:
        return _lru_cache(maxsize=None)(maxsize)
    return _lru_cache(maxsize, typed)
