"""Imports what every training imports, before the process knows its job."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from app.files import print_trace
from worker.training.model.loading import load_config
from worker.training.ops import attention


def import_architecture(folder: Path) -> None:
    """Import a model's classes, which transformers does when it first builds the model. The meta device takes no
    memory. Errors in the folder are only logged: the job that uses the model reports them."""
    try:
        with torch.device("meta"):
            AutoModelForCausalLM.from_config(load_config(folder), attn_implementation=attention.NAME)
    except Exception:
        print_trace()
