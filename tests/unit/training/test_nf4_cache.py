"""Tests quantized weights on disk: the same bits as fresh ones, and never a partial file."""

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.fixtures.tiny_models import build_tiny_model
from tests.unit.training.conftest import make_spec
from worker.training.model.loading import load_config, load_model
from worker.training.model.memory_plan import Plan
from worker.training.model.nf4_cache import NF4Cache
from worker.training.ops.nf4 import NF4Linear, Packed

CPU = torch.device("cpu")


def cache_of(root: Path, folder: Path, *, double_quant: bool = True) -> NF4Cache:
    return NF4Cache.of(root, folder, "r1", double_quant=double_quant, device="cpu")


def quantized(
    folder: Path, cache: NF4Cache | None, *, dtype: str = "bfloat16", double_quant: bool = True
) -> dict[str, Tensor]:
    """Return all tensors of the loaded model, and its dequantized matrices."""
    spec = make_spec("qlora", quantization={"double_quant": double_quant})
    model = load_model(folder, load_config(folder), spec, Plan("cpu", dtype, False, 64), cache)
    dense = {name: layer.dense() for name, layer in model.causal.named_modules() if isinstance(layer, NF4Linear)}
    assert dense
    return model.causal.state_dict() | dense


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert all(found[name].dtype == expected[name].dtype for name in found)
    assert all(found[name].equal(expected[name]) for name in found)


def layer(seed: int = 0) -> NF4Linear:
    torch.manual_seed(seed)
    return NF4Linear.of(torch.randn(96, 128), None, double_quant=True, dtype=torch.float32)


@pytest.mark.parametrize("double_quant", [True, False])
@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
def test_cached_weights_equal_the_quantized_ones(
    family: str, double_quant: bool, tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = tiny(family)
    cache = cache_of(tmp_path, folder, double_quant=double_quant)
    fresh = quantized(folder, None, double_quant=double_quant)
    first = quantized(folder, cache, double_quant=double_quant)
    assert cache.path.exists()
    assert_same(first, fresh)
    assert_same(quantized(folder, cache, double_quant=double_quant), fresh)


def test_the_dense_matrices_are_not_read_again(tmp_path: Path) -> None:
    folder = build_tiny_model(tmp_path / "model")
    first = quantized(folder, cache_of(tmp_path, folder))
    file = folder / "model.safetensors"
    stat = file.stat()
    content = bytearray(file.read_bytes())
    start = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + start])
    for name, entry in header.items():
        if "_proj" in name:
            begin, end = (8 + start + offset for offset in entry["data_offsets"])
            content[begin:end] = bytes(end - begin)
    file.write_bytes(content)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert_same(quantized(folder, cache_of(tmp_path, folder)), first)
    # Files with another modification time are another model.
    os.utime(file)
    changed = quantized(folder, cache_of(tmp_path, folder))
    assert not changed["model.layers.0.mlp.up_proj.base_layer"].any()
    assert len(list((tmp_path / "nf4").iterdir())) == 2


def test_the_file_name_depends_on_all_inputs(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tiny("llama")
    caches = [
        cache_of(tmp_path, folder),
        cache_of(tmp_path, folder, double_quant=False),
        cache_of(tmp_path, tiny("qwen2")),
        NF4Cache.of(tmp_path, folder, "r2", double_quant=True, device="cpu"),
        NF4Cache.of(tmp_path, folder, "r1", double_quant=True, device="cuda"),
    ]
    assert len({cache.path for cache in caches}) == 5
    assert cache_of(tmp_path, folder).path == caches[0].path


def test_a_partial_file_is_ignored(tmp_path: Path) -> None:
    cache = NF4Cache(tmp_path / "nf4" / "a.safetensors")
    assert cache.read(CPU) is None
    assert cache.write({"body.0": layer()})
    whole = cache.path.read_bytes()
    for length in (0, 7, 100, len(whole) - 1):
        cache.path.write_bytes(whole[:length])
        assert cache.read(CPU) is None
    assert cache.write({"body.0": layer()})
    assert cache.path.read_bytes() == whole


def test_concurrent_writes_and_reads(tmp_path: Path) -> None:
    cache, matrix = NF4Cache(tmp_path / "a.safetensors"), layer()

    def write_and_read(_: int) -> Packed:
        assert cache.write({"a": matrix})
        read = cache.read(CPU)
        assert read is not None
        return read["a"]

    with ThreadPoolExecutor(4) as threads:
        for packed in threads.map(write_and_read, range(24)):
            assert packed.weight.equal(matrix.weight)
            assert packed.offset is not None
            assert packed.offset.equal(matrix.packed.offset)
    assert list(tmp_path.iterdir()) == [cache.path]


def test_changing_read_tensors_does_not_change_the_file(tmp_path: Path) -> None:
    cache = NF4Cache(tmp_path / "a.safetensors")
    cache.write({"a": layer()})
    before = cache.path.read_bytes()
    mapped = cache.read(CPU)
    assert mapped is not None
    mapped["a"].weight.zero_()
    assert cache.path.read_bytes() == before
    cache.path.unlink()
    assert mapped["a"].absmax.equal(layer().absmax), "a mapped file must stay usable"


def test_a_full_disk_only_disables_the_cache(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "nf4").write_text("no folder")
    folder = tiny("llama")
    assert_same(quantized(folder, cache_of(tmp_path, folder)), quantized(folder, None))


def test_weights_of_another_type_than_the_compute_type(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    """Load fp32 files: tensors that are not quantized are converted to the compute type."""
    model = quantized(tiny("gemma3"), cache_of(tmp_path, tiny("gemma3")))
    assert model["model.embed_tokens.weight"].dtype is torch.bfloat16
    assert model["model.norm.weight"].dtype is torch.bfloat16
