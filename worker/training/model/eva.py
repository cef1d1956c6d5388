"""Implements EVA (arXiv 2410.07170): A starts with the principal components of its layer's input on training rows.

Every layer keeps its rank: the paper's redistribution of ranks (rho > 1) is left out. The components come from an
incremental SVD with a moving mean (Ross et al. 2008, doi 10.1007/s11263-007-0075-7), as in PEFT's implementation, which
computes in fp64 and hashes every input as a list of numbers. The forward passes use the model's plain attention, row by
row, which any architecture has.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor, nn
from transformers import PreTrainedModel

from worker.training.data.packing import Example
from worker.training.ops import attention

MAX_TOKENS = 4096
"""Limits the tokens that are read. Fewer are read if all components settle."""
ROW_TOKENS = 1024
"""Limits the tokens of a row: plain attention's memory grows with their square."""
POOLED_TOKENS = 512
"""Is the number of tokens after which a layer's components are updated."""
SIMILARITY = 0.99
"""Is the cosine with the previous component from which a component has settled: PEFT's tau."""
SEED = 42
"""Seeds the randomized SVD, regardless of the job's seed: PEFT's value, so that the same rows give its components."""


class Components:
    """Computes the principal components [rank, in] of the rows seen so far."""

    def __init__(self, rank: int, num_features: int):
        self._rank = rank
        self._least = max(POOLED_TOKENS, 2 * rank)
        self._pooled: list[Tensor] = []
        self._num_seen = 0
        self._mean = self._values = torch.empty(0)
        self._found = torch.empty(0, num_features)
        self.settled = False

    def take(self, rows: Tensor) -> None:
        if self.settled:
            return
        self._pooled.append(rows)
        if sum(map(len, self._pooled)) >= self._least:
            self._update()

    def found(self) -> Tensor:
        """Return the components: fewer than rank when fewer rows were seen."""
        if not self._num_seen and self._pooled:
            self._update()
        return self._found

    def _update(self) -> None:
        """Update the components. The previous ones, scaled by their singular values, represent all earlier rows."""
        rows = torch.cat(self._pooled).float()
        self._pooled.clear()
        count, mean = len(rows), rows.mean(0)
        stacked = rows - mean
        total = self._num_seen + count
        if self._num_seen:
            shift = (self._num_seen / total * count) ** 0.5 * (self._mean - mean)
            stacked = torch.cat([self._values[:, None] * self._found, stacked, shift[None]])
            mean = mean + self._num_seen / total * (self._mean - mean)
        torch.manual_seed(SEED)
        _, values, components = torch.svd_lowrank(stacked, q=min(2 * self._rank, *stacked.shape), niter=4)
        before, self._found = self._found, components.T[: self._rank].contiguous()
        if self._num_seen:
            self.settled = bool((torch.cosine_similarity(before, self._found).abs() >= SIMILARITY).all())
        self._num_seen, self._mean, self._values = total, mean, values[: self._rank]


class Listener:
    """Records what each layer reads. Layers that read the same tensor (q, k and v) share their components."""

    def __init__(self, layers: Sequence[LoraLayer], rank: int):
        self.components = {layer: Components(rank, layer.in_features) for layer in layers}
        self._input: Tensor | None = None
        self._first: LoraLayer | None = None

    def record(self, layer: LoraLayer, args: tuple[Tensor, ...]) -> None:
        if args[0] is self._input:
            assert self._first is not None
            self.components[layer] = self.components[self._first]
            return
        self._input, self._first = args[0], layer
        self.components[layer].take(args[0].detach().flatten(0, -2))

    @property
    def settled(self) -> bool:
        return all(components.settled for components in self.components.values())


@torch.no_grad()
def main_components(
    causal: PreTrainedModel, layers: Sequence[LoraLayer], rank: int, rows: Iterable[Example]
) -> dict[LoraLayer, Tensor]:
    """Return each layer's components [≤ rank, in], fp32. The rows are read in order, until all components have settled.
    It sets torch's seed: call it where the random state is restored afterwards."""
    listener = Listener(layers, rank)
    hooks = [layer.register_forward_pre_hook(listener.record) for layer in layers]
    left = MAX_TOKENS
    try:
        with _plain(causal) as forward:
            for row in rows:
                ids = row.ids[: min(row.num_inputs, ROW_TOKENS)]
                forward(ids)
                left -= len(ids)
                if left <= 0 or listener.settled:
                    break
    finally:
        for hook in hooks:
            hook.remove()
    return {layer: components.found() for layer, components in listener.components.items()}


@contextmanager
def _plain(causal: PreTrainedModel) -> Iterator[Callable[[Tensor], None]]:
    """Yield the model in eval mode with its plain attention, as a function of one row's ids."""
    decoder: nn.Module = causal.get_decoder()

    def forward(ids: Tensor) -> None:
        decoder(input_ids=ids[None].long().to(causal.device), use_cache=False)

    causal.eval()
    causal.set_attn_implementation("eager")
    try:
        yield forward
    finally:
        causal.set_attn_implementation(attention.NAME)
        causal.train()
