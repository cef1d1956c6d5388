"""Reads a model folder's facts without torch: config.json, safetensors headers, the tokenizer's limits."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from app.domain.artifact import StoredFile
from app.errors import InvalidModelFolder
from app.models.headers import Shapes, read_shapes
from app.models.modules import is_buffer, linear_modules

CAUSAL = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
LENGTHS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length", "max_seq_len", "n_ctx")
"""Lists the names under which configs keep the length limit."""
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
LOADED = (".json", ".safetensors", ".model", ".txt", ".jinja")
"""Lists the endings of the files that a load reads, which the revision therefore covers."""
SANE_TOKENS = range(8, 10**9)
MAX_JSON_BYTES = 200 * 2**20


class ModelFacts(NamedTuple):
    architecture: str
    num_parameters: int
    max_seq_len: int
    linear_modules: list[str]
    config: dict[str, Any]
    """Holds config.json and, under `tokenizer`, the part of the tokenizer's config that a planner needs."""


def read_folder(folder: Path) -> ModelFacts:
    """Return the facts, or raise InvalidModelFolder with a remedy."""
    if not folder.is_dir():
        raise InvalidModelFolder(f"No such folder: {folder}; pass the one that contains config.json.")
    config = _read_json(folder / "config.json")
    tokenizer = _read_tokenizer(folder)
    _refuse_code(config, tokenizer)
    architecture = _architecture(config)
    if "quantization_config" in config:
        raise InvalidModelFolder("The weights are already quantized; add the model that they were quantized from.")
    shapes = read_shapes(folder)
    return ModelFacts(
        architecture=architecture,
        num_parameters=sum(shape.size for name, shape in shapes.items() if not is_buffer(name, shape)),
        max_seq_len=_max_seq_len(config, tokenizer),
        linear_modules=_linear_modules(shapes, config),
        config={
            **config,
            "tokenizer": {"model_max_length": _limit(tokenizer), "class": tokenizer.get("tokenizer_class")},
        },
    )


def digest_folder(folder: Path) -> str:
    """Return the folder's revision: SHA-256 over the names and digests of the files that a load reads."""
    digests = {}
    for path in folder.iterdir():
        if path.is_file() and path.suffix in LOADED:
            with path.open("rb") as file:
                digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return _digest(digests)


def revision_of(files: Iterable[StoredFile]) -> str:
    """Return the revision of these files, computed as in `digest_folder`."""
    return _digest({file.path: file.sha256 for file in files})


def _digest(digests: dict[str, str]) -> str:
    lines = [f"{digest}  {name}\n" for name, digest in sorted(digests.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _read_tokenizer(folder: Path) -> dict[str, Any]:
    if not any((folder / name).is_file() for name in TOKENIZERS):
        raise InvalidModelFolder(f"{folder} has no tokenizer ({', '.join(TOKENIZERS)}); add one to the folder.")
    config = folder / "tokenizer_config.json"
    return _read_json(config) if config.is_file() else {}


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InvalidModelFolder(f"{path.parent} has no {path.name}; pass the folder that save_pretrained wrote.")
    if path.stat().st_size > MAX_JSON_BYTES:
        raise InvalidModelFolder(f"{path} is too large to be a configuration.")
    try:
        # Some configs hold Infinity, which neither JSON nor PostgreSQL accepts.
        value = json.loads(path.read_text("utf-8"), parse_constant=str)
    except (ValueError, RecursionError) as error:
        raise InvalidModelFolder(f"{path} is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise InvalidModelFolder(f"{path} is not a JSON object.")
    return value


def _refuse_code(*configs: dict[str, Any]) -> None:
    if any("auto_map" in config for config in configs):
        raise InvalidModelFolder(
            "The model contains custom code (auto_map), which is never run. "
            "If transformers supports the architecture without it, remove auto_map from the config."
        )


def _architecture(config: dict[str, Any]) -> str:
    named = config.get("architectures")
    architecture = named[0] if isinstance(named, list) and named else None
    if not isinstance(architecture, str) or not architecture.endswith(CAUSAL):
        raise InvalidModelFolder(
            f"The architecture {architecture!r:.80} is not a causal language model; add one that is."
        )
    return architecture


def _max_seq_len(config: dict[str, Any], tokenizer: dict[str, Any]) -> int:
    text = config.get("text_config")
    places = [config, text] if isinstance(text, dict) else [config]
    limits = [place.get(name) for place in places for name in LENGTHS]
    found = [limit for limit in (*limits[:], _limit(tokenizer)) if type(limit) is int and limit in SANE_TOKENS]
    if not found:
        raise InvalidModelFolder(
            "Neither config.json nor the tokenizer has a length limit; set max_position_embeddings."
        )
    return min(found)


def _limit(tokenizer: dict[str, Any]) -> int | None:
    """Return the tokenizer's limit. Many tokenizers use 10^30 for "no limit"."""
    limit = tokenizer.get("model_max_length")
    return limit if type(limit) is int and limit in SANE_TOKENS else None


def _linear_modules(shapes: Shapes, config: dict[str, Any]) -> list[str]:
    modules = linear_modules(shapes, str(config.get("model_type")))
    if not modules:
        raise InvalidModelFolder("The weights contain no linear layer; check that this is a language model.")
    return modules
