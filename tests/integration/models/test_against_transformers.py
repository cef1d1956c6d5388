"""The facts that are read without torch match the modules that transformers builds from the same folder."""

from pathlib import Path
from typing import Any

import pytest

from app.models.folder import read_folder

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GPT2 = {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}
OPT = {"ffn_dim": 48, "word_embed_proj_dim": 16}
CONFIGS: list[tuple[str, dict[str, Any]]] = [
    ("LlamaConfig", SIZES),
    ("Qwen3Config", SIZES | {"head_dim": 8}),
    ("Gemma3TextConfig", SIZES | {"head_dim": 8}),
    ("GPT2Config", GPT2 | {"bos_token_id": 1, "eos_token_id": 2}),
    ("GPTNeoXConfig", {key: value for key, value in SIZES.items() if key != "num_key_value_heads"}),
    ("OPTConfig", SIZES | OPT),
    ("MixtralConfig", SIZES | {"num_local_experts": 2}),
]


@pytest.mark.parametrize(("config_class", "sizes"), CONFIGS)
def test_linear_layers_and_parameters_match_transformers(
    tmp_path: Path, config_class: str, sizes: dict[str, Any]
) -> None:
    import transformers
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, config_class)(**sizes))
    model.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    facts = read_folder(tmp_path)
    head = model.get_output_embeddings()
    linear = [
        name for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D) and module is not head
    ]
    assert facts.linear_modules == sorted(linear)
    assert facts.num_parameters == model.num_parameters()
    assert facts.max_seq_len == 128
