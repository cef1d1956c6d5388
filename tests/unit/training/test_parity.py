"""Tests the parity check: it accepts correct paths, refuses broken ones, changes nothing, and runs once."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from app.domain.jobs.state import FailureReason
from tests.unit.training.conftest import FP32, Recorder, make_spec
from worker.training.loop.training_loop import train
from worker.training.model import lora, parity, patching
from worker.training.model.loading import ALL_PATHS, Model, load_config, load_model, paths_of
from worker.training.model.memory_plan import Plan
from worker.training.model.parity import Verdict, check_parity
from worker.training.ops import attention, cross_entropy, rms_norm, rope
from worker.training.ops.activation import Activation
from worker.training.ops.nf4 import NF4Linear
from worker.training.runtime.errors import TrainingFailed
from worker.training.runtime.messages import Finished, Planned, TrainingRequest

pytestmark = pytest.mark.usefixtures("own_verdicts")

Patch = pytest.MonkeyPatch
FAMILIES = ["llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "phi", "gpt2"]
OWN_CODE = {"phi", "gpt2"}
"""Lists families whose norms, attention and MLP keep transformers' code."""
DTYPES = ["float32", "bfloat16"]


@pytest.fixture
def load(tiny: Callable[[str], Path]) -> Callable[..., Model]:
    def load(family: str = "llama", method: str = "lora", dtype: str = "float32") -> Model:
        folder = tiny(family)
        return load_model(folder, load_config(folder), make_spec(method), Plan("cpu", dtype, False, 64))

    return load


def applicable(family: str, method: str) -> frozenset[str]:
    return paths_of(method) - (patching.PATHS.keys() if family in OWN_CODE else set())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", ["qlora", "lora", "full"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_applicable_path_passes(
    family: str, method: str, dtype: str, load: Callable[..., Model], tmp_path: Path
) -> None:
    verdict = check_parity(load(family, method, dtype), make_spec(method), tmp_path)
    assert verdict.refused == {}
    assert verdict.paths == applicable(family, method)


def _see_other_documents(patch: Patch) -> None:
    real = attention.attend
    patch.setattr(attention, "attend", lambda q, k, v, lengths, *rest: real(q, k, v, [sum(lengths)], *rest))


def _forget_the_window_when_packed(patch: Patch) -> None:
    real = attention.attend
    patch.setattr(
        attention, "attend", lambda q, k, v, lengths, scale, window, cap: real(q, k, v, lengths, scale, None, cap)
    )


def _scale_layers_wrongly(patch: Patch) -> None:
    real = lora.products_of
    patch.setattr(lora, "products_of", lambda rows, products: [output * 1.2 for output in real(rows, products)])


def _lose_the_layers_input_gradient(patch: Patch) -> None:
    real = lora.products_of
    patch.setattr(lora, "products_of", lambda rows, products: real(rows.detach(), products))


def _leave_the_mean_out_of_the_norms_gradient(patch: Patch) -> None:
    patch.setattr(rms_norm, "normalized_backward", lambda grad, x, weight, inverse: grad * weight * inverse)


def _forget_that_gemma_stores_weights_less_one(patch: Patch) -> None:
    patch.setattr(patching, "norm_weight", lambda module: module.weight.detach().float())


def _take_a_sigmoid_for_silus_derivative(patch: Patch) -> None:
    patch.setattr(Activation, "with_derivative", lambda self, x: (self.of(x), torch.sigmoid(x)))


def _scale_attention_wrongly(patch: Patch) -> None:
    real = patching.attend
    patch.setattr(patching, "attend", lambda q, k, v, lengths, scale, *rest: real(q, k, v, lengths, 1.2 * scale, *rest))


def _forget_the_window(patch: Patch) -> None:
    real = patching.attend
    patch.setattr(
        patching, "attend", lambda q, k, v, lengths, scale, window, cap: real(q, k, v, lengths, scale, None, cap)
    )


def _rotate_the_other_way(patch: Patch) -> None:
    real = rope._rotate
    patch.setattr(rope, "_rotate", lambda x, cos, sin, into, *, backward: real(x, cos, -sin, into, backward=backward))


def _forget_to_turn_back(patch: Patch) -> None:
    real = rope._rotate
    patch.setattr(rope, "_rotate", lambda x, cos, sin, into, *, backward: real(x, cos, sin, into, backward=False))


def _forget_the_heads_soft_cap(patch: Patch) -> None:
    patch.setattr(cross_entropy.Head, "finished", lambda self, logits, bias: (logits, None))
    patch.setattr(cross_entropy.Head, "is_plain", True)


def _leave_the_target_out_of_the_losss_gradient(patch: Patch) -> None:
    real = cross_entropy._stream

    def wrong(hidden: Tensor, targets: Tensor, head: cross_entropy.Head, **how: bool) -> Any:
        losses, normalizer, grad = real(hidden, targets, head, **how)
        return losses, normalizer, None if grad is None else grad + head.weight[targets] * head.scale

    patch.setattr(cross_entropy, "_stream", wrong)


def _raise(patch: Patch) -> None:
    def broken(*args: Any) -> Tensor:
        raise AttributeError("a name that another release of transformers has no more")

    patch.setattr(patching, "rms_norm", broken)


BREAKS: list[tuple[str, str, Callable[[Patch], None]]] = [
    ("packing", "llama", _see_other_documents),
    ("packing", "gemma3", _forget_the_window_when_packed),
    ("products", "llama", _scale_layers_wrongly),
    ("products", "phi", _lose_the_layers_input_gradient),
    ("norm", "llama", _leave_the_mean_out_of_the_norms_gradient),
    ("norm", "mistral", _raise),
    ("mlp", "qwen2", _take_a_sigmoid_for_silus_derivative),
    ("attention", "qwen3", _scale_attention_wrongly),
    ("attention", "mistral", _forget_the_window),
    ("attention", "llama", _rotate_the_other_way),
    ("attention", "llama", _forget_to_turn_back),
    ("loss", "gemma2", _forget_the_heads_soft_cap),
    ("loss", "llama", _leave_the_target_out_of_the_losss_gradient),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("path", "family", "break_it"), BREAKS, ids=lambda value: getattr(value, "__name__", None))
def test_a_broken_path_is_refused_and_no_other(
    path: str,
    family: str,
    break_it: Callable[[Patch], None],
    dtype: str,
    load: Callable[..., Model],
    tmp_path: Path,
    monkeypatch: Patch,
) -> None:
    break_it(monkeypatch)
    verdict = check_parity(load(family, "lora", dtype), make_spec(), tmp_path)
    assert verdict.refused.keys() == {path}
    assert verdict.paths == applicable(family, "lora") - {path}


def test_a_fault_that_two_paths_share_refuses_both(
    load: Callable[..., Model], tmp_path: Path, monkeypatch: Patch
) -> None:
    """Use Gemma: its norms come before each part, and in attention over each head."""
    _forget_that_gemma_stores_weights_less_one(monkeypatch)
    assert check_parity(load("gemma3"), make_spec(), tmp_path).refused.keys() == {"attention", "norm"}


def curve(request: TrainingRequest, paths: list[str] | None) -> tuple[list[float], Recorder]:
    channel = Recorder()
    engine = FP32["engine"] | ({} if paths is None else {"fast_paths": paths})
    train(request.model_copy(update={"resolved": FP32 | {"engine": engine}}), channel)
    assert isinstance(channel.lines[-1], Finished)
    return channel.losses(), channel


@pytest.mark.parametrize("number", [0, 2, 4, 6, 7, 12], ids=lambda number: BREAKS[number][0])
def test_a_training_continues_without_the_broken_path(
    number: int, make_request: Callable[..., TrainingRequest], tmp_path: Path
) -> None:
    path, family, break_it = BREAKS[number]
    request = make_request(family=family)
    with pytest.MonkeyPatch.context() as patch:
        break_it(patch)
        losses, channel = curve(request, None)
    (warning,) = channel.events("warning_issued")
    assert warning.code == "parity_failed"
    assert f"{path!r} is disabled" in warning.detail
    assert "is allowed" in warning.detail
    others = sorted(set(ALL_PATHS) - {path})
    (planned,) = [line for line in channel.lines if isinstance(line, Planned)]
    assert planned.resolved["engine"]["fast_paths"] == others

    sound = request.model_copy(update={"cache_dir": tmp_path / "sound"})
    assert losses == curve(sound, others)[0]
    assert losses == pytest.approx(curve(sound, [])[0], rel=1e-5)


def test_a_path_that_raises_is_reported(make_request: Callable[..., TrainingRequest], monkeypatch: Patch) -> None:
    _raise(monkeypatch)
    _, channel = curve(make_request(), None)
    (warning,) = channel.events("warning_issued")
    assert "'norm' is disabled for LlamaForCausalLM: its code raised an error" in warning.detail


def test_an_earlier_attempts_paths_must_pass_here_too(
    make_request: Callable[..., TrainingRequest], monkeypatch: Patch
) -> None:
    """Check paths that an attempt on another machine, or with another release, used."""
    _leave_the_mean_out_of_the_norms_gradient(monkeypatch)
    _, channel = curve(make_request(), ["loss", "norm", "packing"])
    (planned,) = [line for line in channel.lines if isinstance(line, Planned)]
    assert planned.resolved["engine"]["fast_paths"] == ["loss", "packing"]
    assert channel.warnings() == {"parity_failed"}


def test_a_checkpoint_with_a_path_refused_here_is_not_resumed_silently(
    make_request: Callable[..., TrainingRequest], tmp_path: Path, monkeypatch: Patch
) -> None:
    first = Recorder(stop_at=2)
    train(make_request(work_dir=tmp_path / "first"), first)
    _leave_the_mean_out_of_the_norms_gradient(monkeypatch)
    elsewhere = {"checkpoint_path": first.checkpoints()[0].path, "cache_dir": tmp_path / "another machine's"}
    request = make_request(spec=make_spec(training={"on_inexact_resume": "fail"}), **elsewhere)
    with pytest.raises(TrainingFailed, match=r"resolved\.engine\.fast_paths") as caught:
        train(request, Recorder())
    assert caught.value.reason is FailureReason.inexact_resume


def test_dropout_is_drawn_by_modules_so_that_paths_around_it_are_not_named(
    make_request: Callable[..., TrainingRequest],
) -> None:
    channel = Recorder()
    train(make_request(spec=make_spec(adapter={"dropout": 0.1})), channel)
    (planned,) = [line for line in channel.lines if isinstance(line, Planned)]
    assert planned.resolved["engine"]["fast_paths"] == ["loss", "norm", "packing", "products"]


@pytest.mark.parametrize(("method", "dtype"), [("qlora", "bfloat16"), ("lora", "float32"), ("full", "bfloat16")])
def test_neither_the_model_nor_the_random_state_is_touched(
    method: str, dtype: str, load: Callable[..., Model], tmp_path: Path
) -> None:
    model = load("gemma3", method, dtype)
    layers = [module for module in model.causal.modules() if isinstance(module, NF4Linear)]
    assert bool(layers) == (method == "qlora")
    state = {name: value.clone() for name, value in model.causal.state_dict().items()}
    dense = [layer.dense().clone() for layer in layers]
    random = torch.get_rng_state()

    check_parity(model, make_spec(method), tmp_path)

    assert torch.get_rng_state().equal(random)
    assert all(value.equal(state[name]) for name, value in model.causal.state_dict().items())
    assert all(layer.dense().equal(before) for layer, before in zip(layers, dense, strict=True))
    assert all(parameter.grad is None for parameter in model.causal.parameters())
    assert model.paths == frozenset()
    assert model.causal.training


def files(folder: Path) -> list[Path]:
    return sorted((folder / "parity").iterdir())


def never(*args: Any) -> Verdict:
    raise AssertionError("the check was done again")


def test_the_check_runs_once(load: Callable[..., Model], tmp_path: Path, monkeypatch: Patch) -> None:
    model = load()
    first = check_parity(model, make_spec(), tmp_path)
    (kept,) = files(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(parity, "_run_check", never)
        assert check_parity(model, make_spec(), tmp_path) == first
        assert check_parity(model, make_spec(training={"seed": 7}), tmp_path) == first
    assert files(tmp_path) == [kept]


def test_the_folder_of_the_model_is_no_part_of_the_key(
    tiny: Callable[[str], Path], load: Callable[..., Model], tmp_path: Path, monkeypatch: Patch
) -> None:
    first = check_parity(load(), make_spec(), tmp_path)
    moved = Path(shutil.copytree(tiny("llama"), tmp_path / "moved"))
    monkeypatch.setattr(parity, "_run_check", never)
    model = load_model(moved, load_config(moved), make_spec(), Plan("cpu", "float32", False, 64))
    assert check_parity(model, make_spec(), tmp_path) == first


def test_another_type_method_rank_or_code_has_another_verdict(
    load: Callable[..., Model], tmp_path: Path, monkeypatch: Patch
) -> None:
    check_parity(load(), make_spec(), tmp_path)
    check_parity(load(dtype="bfloat16"), make_spec(), tmp_path)
    check_parity(load(method="full"), make_spec("full"), tmp_path)
    check_parity(load(family="qwen2"), make_spec(), tmp_path)
    check_parity(load(), make_spec(adapter={"rank": 3}), tmp_path)
    monkeypatch.setattr(parity, "_code_digest", lambda: "another release's")
    check_parity(load(), make_spec(), tmp_path)
    assert len(files(tmp_path)) == 6


@pytest.mark.parametrize("torn", ["", '{"paths": ["loss"', "[]", '{"refused": {}}', '{"paths": 3, "refused": {}}'])
def test_a_damaged_file_is_replaced(torn: str, load: Callable[..., Model], tmp_path: Path) -> None:
    first = check_parity(load(), make_spec(), tmp_path)
    (kept,) = files(tmp_path)
    whole = json.loads(kept.read_text())
    kept.write_text(torn)
    assert check_parity(load(), make_spec(), tmp_path) == first
    assert files(tmp_path) == [kept]
    assert json.loads(kept.read_text()) == whole


def test_a_folder_that_cannot_be_written_only_repeats_the_check(
    load: Callable[..., Model], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "parity").write_text("a file where the folder would be")
    verdict = check_parity(load(), make_spec(), tmp_path)
    assert verdict.paths == frozenset(ALL_PATHS)
    assert "Could not store the parity check's verdict" in caplog.text


def test_a_refusal_is_stored(load: Callable[..., Model], tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        _raise(patch)
        refused = check_parity(load(), make_spec(), tmp_path)
    assert refused.refused["norm"][0] == math.inf
    assert check_parity(load(), make_spec(), tmp_path) == refused


def test_an_out_of_memory_error_stores_no_verdict(
    load: Callable[..., Model], tmp_path: Path, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(patching, "rms_norm", lambda *args: torch.empty(10**15))
    with pytest.raises(RuntimeError, match="allocate memory"):
        check_parity(load(), make_spec(), tmp_path)
    assert not (tmp_path / "parity").exists()


@pytest.mark.parametrize("family", ["llama", "gemma3", "phi", "gpt2"])
@pytest.mark.parametrize("method", ["qlora", "full"])
def test_narrower_layers_are_checked_if_whole_ones_do_not_fit(
    family: str, method: str, load: Callable[..., Model], tmp_path: Path, monkeypatch: Patch
) -> None:
    sample, widths = parity._sample, list[int]()

    def sample_within(*args: Any, narrow: bool) -> Model:
        if not narrow:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        found = sample(*args, narrow=narrow)
        widths.append(sum(parameter.numel() for parameter in found.causal.parameters()))
        return found

    monkeypatch.setattr(parity, "NARROW", 16)
    monkeypatch.setattr(parity, "_sample", sample_within)
    model, spec = load(family, method, "bfloat16"), make_spec(method)
    verdict = check_parity(model, spec, tmp_path)
    assert verdict.refused == {}
    assert verdict.paths == applicable(family, method)
    whole = sum(parameter.numel() for parameter in sample(model, spec, "bfloat16").causal.parameters())
    assert all(width < whole for width in widths) == (family != "gpt2")  # whose sizes depend on each other
