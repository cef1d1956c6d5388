"""Lists the cases to run: every meaningful combination of a training's settings with a GPU, or a few that cover each
pair.
"""

from dataclasses import dataclass
from itertools import combinations, product

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "phi", "gpt2")
METHODS = ("qlora", "lora", "full")
DTYPES = ("bfloat16", "float16", "float32")
CAPABILITIES = ((7, 5), (8, 6), (9, 0))
"""Lists Turing, the oldest GPUs that the libraries have kernels for, and Ampere and Hopper, on which attention
differs."""

Pair = tuple[tuple[str, object], ...]
"""Holds two settings by name."""


@dataclass(frozen=True)
class Case:
    family: str
    method: str
    dtype: str
    checkpointing: bool
    dora: bool
    dropout: bool
    plain: bool
    """Is true if the case runs without fast paths, as a training does when none passes the parity check."""
    capability: tuple[int, int]

    def __str__(self) -> str:
        on = [name for name in ("checkpointing", "dora", "dropout", "plain") if getattr(self, name)]
        return " ".join([self.family, self.method, self.dtype, *on, "sm_{}{}".format(*self.capability)])

    @property
    def pairs(self) -> frozenset[Pair]:
        """Return each pair of the case's settings. For plain code, return only the pairs with `plain`, since the
        others are about fast paths."""
        pairs = frozenset(combinations(vars(self).items(), 2))
        return frozenset(pair for pair in pairs if ("plain", True) in pair) if self.plain else pairs


def all_cases() -> list[Case]:
    """Return all meaningful cases. A full fine-tune has no adapter, so neither DoRA nor dropout; plain code is the
    same on each GPU."""
    flags = ((False, True),) * 4
    cases = [Case(*settings) for settings in product(FAMILIES, METHODS, DTYPES, *flags, CAPABILITIES)]
    return [case for case in cases if not _is_meaningless(case)]


def _is_meaningless(case: Case) -> bool:
    return (case.method == "full" and (case.dora or case.dropout)) or (
        case.plain and case.capability != CAPABILITIES[-1]
    )


def pairwise() -> list[Case]:
    """Return a few cases that cover each pair of compatible settings. Each next case covers the most missing pairs."""
    pairs_of = {case: case.pairs for case in all_cases()}
    missing = frozenset[Pair]().union(*pairs_of.values())
    chosen = []
    while missing:
        best, held = max(pairs_of.items(), key=lambda item: len(item[1] & missing))
        chosen.append(best)
        missing -= held
    return chosen
