"""Tests which modules a training process imports."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.training.conftest import make_spec
from worker.training.runtime.messages import TrainingRequest

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
model.gradient_checkpointing_enable()
model.train()
optimizer = torch.optim.AdamW(model.parameters(), fused=True)
for _ in range(2):
    ids = torch.tensor([[1, 2, 3]])
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
optimizer.load_state_dict(optimizer.state_dict())
print("after two steps:", imported(), "boto3" in sys.modules)

print("asked for:", torch._dynamo.config.verbose, torch.distributed.is_available())
print("then:", torch.compile(lambda value: value + 1, backend="eager")(torch.ones(1)).item())
optimizer.step()
from transformers.masking_utils import TransformGetItemToIndex

with TransformGetItemToIndex():
    print("at the end:", torch.arange(3)[torch.tensor(2)].item())
"""


def test_the_compiler_is_not_imported_until_it_is_used() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "after two steps: [] False",
        "asked for: False True",
        "then: 2.0",
        "at the end: 2",
    ]


WHOLE_TRAINING = """
import pathlib, sys

from worker.training.__main__ import main

assert main() == 0
compiler = ["torch._inductor", "torch._dynamo.eval_frame", "torch.distributed.tensor", "botocore"]
pathlib.Path(sys.argv[1]).write_text(str([name for name in compiler if name in sys.modules]))
"""


@pytest.mark.usefixtures("own_verdicts")
def test_a_whole_training_imports_no_compiler(make_request: Callable[..., TrainingRequest], tmp_path: Path) -> None:
    """torch.use_deterministic_algorithms, for one, imports it."""
    request = make_request("qlora", spec=make_spec("qlora", training={"max_steps": 2}))
    command = [sys.executable, "-c", WHOLE_TRAINING, str(tmp_path / "imported")]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(request.model_dump_json() + "\n")
        process.stdin.flush()
        last = process.stdout.read().splitlines()[-1]
    assert '"kind":"finished"' in last
    assert (tmp_path / "imported").read_text() == "[]"
