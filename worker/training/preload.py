"""What a training process can do before it knows its job: import all that a training imports."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from app.files import print_trace
from worker.training.model.loading import load_config
from worker.training.ops import attention


def import_architecture(folder: Path) -> None:
    """A model's classes are imported when it is first built; on the meta device that takes no memory. A folder that
    cannot be read is told by the job that wants it, if one comes."""
    try:
        with torch.device("meta"):
            AutoModelForCausalLM.from_config(load_config(folder), attn_implementation=attention.NAME)
    except Exception:
        print_trace()
