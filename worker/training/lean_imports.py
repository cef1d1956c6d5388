"""Imports the libraries that a training uses, without the parts that it never calls.

transformers, PEFT, accelerate and bitsandbytes import torch's compiler, its distributed tensors and, where it is
installed, a cloud's SDK. These are 1,000 of 3,100 modules, a third of the processor time in which a training process
starts, and 80 MB. A training on one device needs none of them.
"""

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from types import ModuleType
from typing import Any

import torch

COMPILER = "torch._dynamo"
TRANSFORM = f"{COMPILER}._trace_wrapped_higher_order_op"
MARKS = frozenset({"allow_in_graph", "assume_constant_result", "disable", "graph_break"})
"""Lists the compiler's functions that only mark code to be left alone. torch's optimizers call them at each step."""
ABSENT = ("boto3",)
"""Lists packages that accelerate imports wherever it finds them."""


def import_libraries() -> None:
    """Import transformers, PEFT and bitsandbytes. Call it before anything else imports one of them.

    A stand-in replaces the compiler for the life of the process. Code that uses more than its marks gets the real
    compiler."""
    if COMPILER not in sys.modules:
        put_stand_in()
    available, compiling = torch.distributed.is_available, torch.compile
    torch.distributed.is_available = lambda: False
    torch.compile = _unchanged  # type: ignore[assignment]
    try:
        with _absent(ABSENT):
            import bitsandbytes  # noqa: F401  it compiles its fallbacks for CPUs, none of which a training calls
            import peft  # noqa: F401
    finally:
        torch.distributed.is_available, torch.compile = available, compiling


class ConfigStandIn:
    """Answers torch's gradient checkpointing, which reads a setting and applies it again while it recomputes."""

    error_on_nested_fx_trace = True  # as in the compiler

    def patch(self, **_: Any) -> nullcontext[None]:
        return nullcontext()

    def __getattr__(self, name: str) -> Any:
        return getattr(import_compiler().config, name)


class CompilerStandIn(ModuleType):
    config = ConfigStandIn()

    def __getattr__(self, name: str) -> Any:
        if name in MARKS:
            return _unchanged
        if name.startswith("__") and name != "__path__":
            raise AttributeError(name)
        return getattr(import_compiler(), name)


def put_stand_in() -> None:
    transform = ModuleType(TRANSFORM)
    transform.TransformGetItemToIndex = _transform_get_item_to_index  # type: ignore[attr-defined]
    sys.modules.update({COMPILER: CompilerStandIn(COMPILER), TRANSFORM: transform})


def import_compiler() -> ModuleType:
    """Import the real compiler in the stand-in's place."""
    if isinstance(sys.modules.get(COMPILER), CompilerStandIn):
        del sys.modules[COMPILER], sys.modules[TRANSFORM]
    return importlib.import_module(COMPILER)


def _transform_get_item_to_index() -> Any:
    """Stand in for the function that transformers calls for masks given as a function."""
    import_compiler()
    return importlib.import_module(TRANSFORM).TransformGetItemToIndex()


def _unchanged(function: Callable[..., Any] | None = None, *_: Any, **__: Any) -> Any:
    """Stand in for a decorator, with or without arguments."""
    return function if callable(function) else _unchanged


@contextmanager
def _absent(names: tuple[str, ...]) -> Iterator[None]:
    """Hide packages: None in `sys.modules` makes Python report that a module does not exist."""
    hidden: Mapping[str, Any] = {name: None for name in names if name not in sys.modules}
    sys.modules.update(hidden)
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
