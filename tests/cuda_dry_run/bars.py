"""Limits the cost of a real model's layer: kernels launched, forward and backward, and bytes kept between them per
token.
"""

from collections.abc import Callable
from dataclasses import dataclass

from transformers import Gemma3TextConfig, LlamaConfig, PretrainedConfig, Qwen3Config

from tests.cuda_dry_run.cases import Case

SLACK = 1.02
"""Allows another release of torch to launch a few more kernels."""
DOCUMENT_LENGTHS = [513] * 4
"""Lists lengths in tokens. No prediction uses a document's last token."""
NUM_TOKENS = 2048
WORDS = 512
"""Counts the words of a small vocabulary. The vocabulary adds nothing to a layer."""


@dataclass(frozen=True)
class Bar:
    model: str
    case: Case
    launches: int
    bytes_kept: int
    """Counts the bytes per token."""

    def __str__(self) -> str:
        return f"{self.model}: {self.case}"


def llama_8b(layers: int) -> PretrainedConfig:
    return LlamaConfig(
        vocab_size=WORDS,
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=layers,
        num_attention_heads=32,
        num_key_value_heads=8,
    )


def qwen3_8b(layers: int) -> PretrainedConfig:
    return Qwen3Config(
        vocab_size=WORDS,
        hidden_size=4096,
        intermediate_size=12288,
        num_hidden_layers=layers,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
    )


def gemma3_4b(layers: int) -> PretrainedConfig:
    return Gemma3TextConfig(
        vocab_size=WORDS,
        hidden_size=2560,
        intermediate_size=10240,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=256,
        sliding_window=1024,
        layer_types=["sliding_attention"] * layers,
    )


MODELS: dict[str, Callable[[int], PretrainedConfig]] = {
    "Llama 8B": llama_8b,
    "Qwen3 8B": qwen3_8b,
    "Gemma 3 4B": gemma3_4b,
}


def _on_hopper(family: str, method: str, *on: str) -> Case:
    flags = {name: name in on for name in ("checkpointing", "dora", "dropout", "plain")}
    return Case(family=family, method=method, dtype="bfloat16", capability=(9, 0), **flags)


BARS = (
    Bar("Llama 8B", _on_hopper("llama", "qlora"), launches=250, bytes_kept=95_848),
    Bar("Llama 8B", _on_hopper("llama", "qlora", "checkpointing"), launches=351, bytes_kept=8_192),
    Bar("Llama 8B", _on_hopper("llama", "qlora", "dropout"), launches=259, bytes_kept=241_256),
    Bar("Llama 8B", _on_hopper("llama", "qlora", "dora"), launches=546, bytes_kept=255_718),
    Bar("Llama 8B", _on_hopper("llama", "lora"), launches=208, bytes_kept=95_848),
    Bar("Llama 8B", _on_hopper("llama", "full"), launches=144, bytes_kept=454_792),
    Bar("Qwen3 8B", _on_hopper("qwen3", "qlora"), launches=286, bytes_kept=97_960),
    Bar("Gemma 3 4B", _on_hopper("gemma3", "qlora"), launches=322, bytes_kept=81_048),
    Bar("Gemma 3 4B", _on_hopper("gemma3", "qlora", "checkpointing"), launches=459, bytes_kept=5_120),
)
