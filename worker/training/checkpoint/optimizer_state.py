"""Converts AdamW's state between the formats of optimizers, so that a checkpoint of a GPU's 8-bit optimizer resumes
with torch's optimizer on a CPU, and vice versa. bitsandbytes stores blocks of 256 numbers (arXiv 2110.02861): a code
for each number, and the block's largest magnitude.
"""

from typing import Any, Final

import torch
from bitsandbytes.functional import create_dynamic_map, quantize_blockwise
from bitsandbytes.optim.optimizer import Optimizer2State
from torch import Tensor

BLOCK: Final = 256
MOMENTS: Final = (("exp_avg", "1", "dynamic"), ("exp_avg_sq", "2", "udynamic"))
"""Holds each moment's name in torch, its number in bitsandbytes, and its map of codes."""


def convert_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """Convert one parameter's state to the format of `optimizer`. A state in that format is returned unchanged."""
    if isinstance(optimizer, torch.optim.AdamW) and "state1" in state:
        moments = {name: dequantized(state, number) for name, number, _ in MOMENTS}
        return moments | {"step": torch.tensor(float(state["step"]))}
    if isinstance(optimizer, Optimizer2State):
        if "exp_avg" in state:
            moments = {f"state{number}": state[name] for name, number, _ in MOMENTS}
            state = moments | {"step": int(state["step"])}
        if "state1" in state and state["state1"].dtype != _dtype(optimizer, state["state1"].numel()):
            return _requantized(state)
    return state


def dequantized(state: dict[str, Any], number: str) -> Tensor:
    """Return the moment in fp32, in its parameter's shape."""
    moment: Tensor = state[f"state{number}"]
    if moment.dtype != torch.uint8:
        return moment
    magnitudes = state[f"absmax{number}"].repeat_interleave(BLOCK)[: moment.numel()]
    codes: Tensor = state[f"qmap{number}"]
    numbers: Tensor = codes[moment.flatten().long()] * magnitudes
    return numbers.view(moment.shape)


def _dtype(optimizer: Optimizer2State, num_numbers: int) -> torch.dtype:
    wanted = optimizer.args
    is_small = wanted.optim_bits == 32 or num_numbers < wanted.min_8bit_size
    return torch.float32 if is_small else torch.uint8


def _requantized(state: dict[str, Any]) -> dict[str, Any]:
    """Convert a state from 32 to 8 bits, or vice versa."""
    found: dict[str, Any] = {"step": state["step"]}
    for _, number, kind in MOMENTS:
        if state[f"state{number}"].dtype == torch.uint8:
            found[f"state{number}"] = dequantized(state, number)
            continue
        codes = create_dynamic_map(signed=kind == "dynamic")
        quantized, how = quantize_blockwise(state[f"state{number}"], code=codes, blocksize=BLOCK)
        found |= {f"state{number}": quantized, f"qmap{number}": codes, f"absmax{number}": how.absmax}
    return found
