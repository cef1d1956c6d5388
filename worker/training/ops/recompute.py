"""What is quick to make again is not kept for backward.

Norms and rotations keep their input for their own backward. Their output is as large, and is kept once more by the
product that reads it; instead, that product makes it again: a fifth of the activations of Gemma 3, for about a
hundredth of the time.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor


class Maker(NamedTuple):
    """Makes a tensor again, bit for bit: `make(*sources)`. `make` itself holds no activation: gradient checkpointing
    sees what `save_for_backward` is given, and would keep what is hidden in a closure."""

    make: Callable[..., Tensor]
    sources: tuple[Tensor, ...]


def set_maker(made: Tensor, maker: Maker) -> None:
    """Its sources are kept anyway, and `made` is none of them."""
    vars(made)["maker"] = maker


def maker_of(tensor: Tensor) -> Maker | None:
    """None for any other tensor than the one that was made, its views as well."""
    maker: Maker | None = vars(tensor).get("maker")
    return maker


def keep(ctx: Any, tensors: Sequence[Tensor | None], *makers: Maker | None) -> None:
    """For backward: the tensors, and what the makers make others of."""
    ctx.num_kept = len(tensors)
    ctx.makes = [None if maker is None else (maker.make, len(maker.sources)) for maker in makers]
    sources = [source for maker in makers if maker is not None for source in maker.sources]
    ctx.save_for_backward(*tensors, *sources)


def kept_by(ctx: Any) -> tuple[list[Any], list[Maker | None]]:
    """What `keep` was given."""
    saved = list(ctx.saved_tensors)
    tensors, sources = saved[: ctx.num_kept], iter(saved[ctx.num_kept :])
    makers = [None if it is None else Maker(it[0], tuple(next(sources) for _ in range(it[1]))) for it in ctx.makes]
    return tensors, makers


def made_again(maker: Maker) -> Tensor:
    return maker.make(*maker.sources)
