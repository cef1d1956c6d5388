"""Writes a model folder that the registry accepts but that cannot be trained, for the scripted training process."""

import json
from pathlib import Path

WEIGHT = "model.layers.0.mlp.up_proj.weight"
CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "max_position_embeddings": 512}


def write_stub_model(folder: Path) -> Path:
    folder.mkdir()
    header = json.dumps({WEIGHT: {"dtype": "F32", "shape": [8, 8], "data_offsets": [0, 256]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(256))
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.json").write_text("{}")
    return folder


def write_model(folder: Path, real: bool) -> Path:
    """Write a trainable model if `real`, otherwise a stub."""
    if not real:
        return write_stub_model(folder)
    from tests.fixtures.tiny_models import build_tiny_model  # Imports torch.

    return build_tiny_model(folder)
