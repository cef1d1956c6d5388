"""What a training process imports, and what it does without."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
SCRIPT = """
import sys

from worker.training.lean_imports import import_libraries

import_libraries()

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import worker.training.loop.training_loop
from worker.training.ops import attention

ABSENT = ["sympy", "torch._inductor", "torch._dynamo.eval_frame", "torch.distributed.tensor", "botocore"]


def imported():
    return [name for name in ABSENT if name in sys.modules]


config = LlamaConfig(vocab_size=7, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
model = LlamaForCausalLM(config)
optimizer = torch.optim.AdamW(model.parameters(), fused=True)
for _ in range(2):
    ids = torch.tensor([[1, 2, 3]])
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
optimizer.load_state_dict(optimizer.state_dict())
print("after two steps:", imported(), "boto3" in sys.modules)

print("asked for:", torch._dynamo.config.error_on_nested_fx_trace, torch.distributed.is_available())
print("then:", torch.compile(lambda value: value + 1, backend="eager")(torch.ones(1)).item())
optimizer.step()
from transformers.masking_utils import TransformGetItemToIndex

with TransformGetItemToIndex():
    print("at the end:", torch.arange(3)[torch.tensor(2)].item())
"""


def test_a_training_does_without_the_compiler_until_it_is_asked_for() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "after two steps: [] False",
        "asked for: True True",
        "then: 2.0",
        "at the end: 2",
    ]
