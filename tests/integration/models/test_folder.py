"""The server reads facts from a model's folder and refuses an unusable folder."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.errors import InvalidModelFolder
from app.models.folder import digest_folder, read_folder
from app.models.modules import unmatched_targets
from tests.integration.models.conftest import CONFIG, SHAPES, safetensors

MODULES = ["model.layers.0.mlp.up_proj", "model.layers.0.self_attn.q_proj"]


def write_config(folder: Path, **fields: Any) -> None:
    (folder / "config.json").write_text(json.dumps(CONFIG | fields))


def test_the_facts_about_a_model_are_read_from_its_folder(model_folder: Path) -> None:
    facts = read_folder(model_folder)
    assert facts.architecture == "LlamaForCausalLM"
    assert facts.num_parameters == 16 * 8 + 64 + 8 + 96 + 8 + 16 * 8
    assert facts.max_seq_len == 128
    assert facts.linear_modules == MODULES
    assert facts.config["vocab_size"] == 16


def test_shards_are_read_by_their_index(model_folder: Path) -> None:
    whole = read_folder(model_folder)
    (model_folder / "model.safetensors").unlink()
    names = list(SHAPES)
    parts = {"model-1.safetensors": names[:3], "model-2.safetensors": names[3:]}
    for file, held in parts.items():
        (model_folder / file).write_bytes(safetensors({name: SHAPES[name] for name in held}))
    weight_map = {name: file for file, held in parts.items() for name in held}
    (model_folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert read_folder(model_folder) == whole
    (model_folder / "model-2.safetensors").unlink()
    with pytest.raises(InvalidModelFolder, match=r"has no model-2\.safetensors"):
        read_folder(model_folder)


@pytest.mark.parametrize(
    ("config", "tokenizer", "limit"),
    [
        ({}, {"model_max_length": 64}, 64),
        ({}, {"model_max_length": 1000}, 128),
        ({"max_position_embeddings": None, "n_positions": 99}, {}, 99),
        ({"max_position_embeddings": None, "text_config": {"max_position_embeddings": 77}}, {}, 77),
        ({"max_position_embeddings": None}, {"model_max_length": 50}, 50),
        ({"max_position_embeddings": 96, "scale": float("inf")}, {"model_max_length": 1.5}, 96),
    ],
)
def test_the_length_limit_comes_from_the_config_or_the_tokenizer(
    model_folder: Path, config: dict[str, Any], tokenizer: dict[str, Any], limit: int
) -> None:
    write_config(model_folder, **config)
    (model_folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    assert read_folder(model_folder).max_seq_len == limit


def cut_off(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-1])


def pickle_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def point_outside(folder: Path) -> None:
    index = {"weight_map": {"a": "../model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


UNUSABLE: list[tuple[Callable[[Path], Any], str]] = [
    (shutil.rmtree, "No such folder"),
    (lambda folder: (folder / "config.json").unlink(), r"no config\.json"),
    (lambda folder: (folder / "config.json").write_text("{"), "not JSON"),
    (lambda folder: (folder / "config.json").write_text("[]"), "not a JSON object"),
    (lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer"),
    (lambda folder: (folder / "model.safetensors").unlink(), r"no model\.safetensors"),
    (lambda folder: write_config(folder, auto_map={"AutoModel": "evil.Model"}), "auto_map"),
    (lambda folder: write_config(folder, architectures=["BertForMaskedLM"]), "not a causal language model"),
    (lambda folder: write_config(folder, architectures=None), "not a causal language model"),
    (lambda folder: write_config(folder, max_position_embeddings=None), "length limit"),
    (lambda folder: write_config(folder, quantization_config={"quant_method": "awq"}), "already quantized"),
    (pickle_only, "convert them to safetensors"),
    (cut_off, "shorter or longer"),
    (point_outside, "outside its folder"),
    (lambda folder: (folder / "model.safetensors").write_bytes(b"\xff" * 100), "not a complete safetensors"),
    (lambda folder: (folder / "model.safetensors").write_bytes(b"\x02" + bytes(7) + b"[]"), "header"),
    (lambda folder: (folder / "model.safetensors").write_bytes(b""), "not a complete safetensors"),
    (lambda folder: (folder / "model.safetensors").write_bytes(safetensors({"a": [2]})), "no linear layer"),
]


@pytest.mark.parametrize(("damage", "message"), UNUSABLE)
def test_an_unusable_folder_is_refused(model_folder: Path, damage: Callable[[Path], Any], message: str) -> None:
    damage(model_folder)
    with pytest.raises(InvalidModelFolder, match=message):
        read_folder(model_folder)


def test_the_revision_depends_only_on_the_files_that_loading_reads(model_folder: Path) -> None:
    first = digest_folder(model_folder)
    (model_folder / "README.md").write_text("words")
    assert digest_folder(model_folder) == first
    elsewhere = shutil.copytree(model_folder, model_folder.with_name("elsewhere"))
    assert digest_folder(elsewhere) == first
    (model_folder / "tokenizer.json").write_text('{"a": 1}')
    assert digest_folder(model_folder) != first


def test_targets_match_as_in_peft() -> None:
    assert unmatched_targets(MODULES, ["q_proj", "mlp.up_proj", "model.layers.0.mlp.up_proj"]) == []
    odd = ["proj", "layers", "o_proj", "model", ".q_proj", "Q_proj", "lm_head", ""]
    assert unmatched_targets(MODULES, odd) == odd
