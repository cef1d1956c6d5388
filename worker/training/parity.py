"""Does our way through the model compute what the model itself computes? Asked once, before the first step."""

import torch
from torch import Tensor

from app.domain.job import FailureReason
from worker.training import attention
from worker.training.failure import TrainingFailed
from worker.training.model import Model

PLAIN = "eager"
TOLERANCE = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 8e-2}
"""Relative error of the logits (Frobenius norm). A missing scale or mask is far beyond."""
LENGTHS = [5, 7]


@torch.no_grad()
def check_parity(model: Model) -> bool:
    """Compare the logits of two packed documents with the plain model's on each alone. A model whose attention is not
    ours to replace is switched to its own, one document at a time; says whether packing holds."""
    model.causal.eval()
    try:
        documents = _documents(model)
        model.causal.set_attn_implementation(PLAIN)
        expected = torch.cat([model.causal(input_ids=ids, use_cache=False).logits[0].float() for ids in documents])
        if not expected.isfinite().all():
            raise TrainingFailed(FailureReason.model_unusable, "The base model's logits are not finite numbers.")
        model.causal.set_attn_implementation(attention.NAME)
        if _error(_packed_logits(model, documents), expected) <= TOLERANCE[model.plan.dtype]:
            return True
        model.causal.set_attn_implementation(PLAIN)
        model.solo = True
        alone = torch.cat([_packed_logits(model, [ids]) for ids in documents])
        if _error(alone, expected) <= TOLERANCE[model.plan.dtype]:
            return False
    finally:
        model.causal.train()
    raise TrainingFailed(
        FailureReason.model_unusable,
        f"The architecture {type(model.causal).__name__} computes its logits in a way that is not supported.",
    )


def _documents(model: Model) -> list[Tensor]:
    vocabulary = model.causal.config.get_text_config().vocab_size
    ids = torch.arange(1, sum(LENGTHS) + 1, device=model.plan.device) * 7919 % vocabulary
    return [document[None] for document in ids.split(LENGTHS)]


def _packed_logits(model: Model, documents: list[Tensor]) -> Tensor:
    lengths = [document.shape[1] for document in documents]
    positions = torch.cat([torch.arange(length, device=model.plan.device) for length in lengths])[None]
    hidden = model.hidden_states(torch.cat(documents, dim=1), positions, lengths)[0]
    head = model.head()
    return torch.cat([head.logits(hidden.to(head.dtype), start, block)[0] for start, block in head.blocks()], dim=1)


def _error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())
