"""bitsandbytes without torch's compiler."""

from collections.abc import Callable
from typing import Any

import torch


def import_bitsandbytes() -> None:
    """It hands its fallbacks for the CPU to `torch.compile` while it is imported. Training calls none of them, yet that
    alone brings in the whole compiler: 600 modules, 50 MB and a second of every process."""
    compiling = torch.compile
    torch.compile = _as_it_is  # type: ignore[assignment]
    try:
        import bitsandbytes  # noqa: F401
    finally:
        torch.compile = compiling


def _as_it_is(function: Callable[..., Any] | None = None, **_: Any) -> Any:
    return _as_it_is if function is None else function
