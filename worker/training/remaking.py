"""What is quick to make again is not kept for backward.

Norms and rotations keep their input for their own backward. Their output is as large, and is kept once more by the
product that reads it; instead, that product makes it again: a fifth of the activations of Gemma 3, for about a
hundredth of the time.
"""

from collections.abc import Callable

from torch import Tensor

Maker = Callable[[], Tensor]
"""Gives the tensor again, bit for bit."""


def set_maker(made: Tensor, maker: Maker) -> None:
    """`maker` holds no more than what is kept anyway, and not `made` itself."""
    vars(made)["maker"] = maker


def maker_of(tensor: Tensor) -> Maker | None:
    """None for any other tensor than the one that was made, its views as well."""
    maker: Maker | None = vars(tensor).get("maker")
    return maker
