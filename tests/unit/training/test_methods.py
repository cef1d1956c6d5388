"""Tests kinds of adapters, their inits and their optimizers, with PEFT's as the reference."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import EvaConfig, LoraConfig
from peft.optimizers import create_loraplus_optimizer
from peft.tuners.lora.eva import get_eva_state_dict
from safetensors.torch import load_file
from torch import Tensor

from app.domain.jobs.state import FailureReason
from app.domain.jobs.training_config import AdapterSpec
from tests.unit.training.conftest import FP32, Recorder, make_spec
from tests.unit.training.reference import (
    dequantized_model,
    plain_adapter,
    plain_model,
    reference_run,
    trainable_of,
)
from worker.training.loop import optimizer as optim
from worker.training.loop.optimizer import make_optimizer, set_learning_rate
from worker.training.loop.training_loop import prepare, train
from worker.training.model import dora, eva
from worker.training.model.adapter_init import lora_layers
from worker.training.model.dora import row_norms
from worker.training.model.loading import Model, load_config, load_model
from worker.training.model.memory_plan import Plan
from worker.training.ops.nf4 import dense_weight
from worker.training.runtime.errors import TrainingFailed
from worker.training.runtime.messages import TrainingRequest

MakeRequest = Callable[..., TrainingRequest]
FAMILIES = ["llama", "gemma3", "gpt2"]
KINDS: list[tuple[str, dict[str, Any]]] = [
    ("qlora", {"init": "gaussian"}),
    ("qlora", {"init": "eva"}),
    ("qlora", {"use_dora": True}),
    ("lora", {"init": "gaussian"}),
    ("lora", {"init": "eva"}),
    ("lora", {"init": "pissa"}),
    ("lora", {"init": "olora"}),
    ("lora", {"use_dora": True, "dropout": 0.1}),
    ("lora", {"use_dora": True, "init": "pissa"}),
]
IDS = torch.arange(3, 40)


def hidden_of(model: Model) -> Tensor:
    model.causal.eval()
    with torch.no_grad():
        hidden = model.hidden_states(IDS[None], torch.arange(len(IDS))[None], [len(IDS)])
    model.causal.train()
    return hidden


def lora_a(model: Model) -> dict[str, Tensor]:
    """Return each layer's A, by the layer's name."""
    ending = ".lora_A.default.weight"
    return {
        name.removesuffix(ending): weight.detach() for name, weight in model.trainable.items() if name.endswith(ending)
    }


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("method", "adapter"), KINDS)
def test_every_kind_of_adapter_learns(
    method: str, adapter: dict[str, Any], family: str, make_request: MakeRequest
) -> None:
    channel = Recorder()
    resolved = FP32 | {"engine": {"compute_dtype": "bfloat16", "micro_batch_tokens": 64}}
    spec = make_spec(method, adapter=adapter, training={"max_steps": 10})
    train(make_request(family=family, spec=spec, resolved=resolved), channel)
    losses = channel.losses()
    assert losses[-1] < 0.7 * losses[0]
    assert channel.warnings() == set()


@pytest.mark.parametrize(("method", "family"), [("lora", "llama"), ("lora", "phi"), ("lora", "gpt2"), ("qlora", "phi")])
def test_dora_equals_peft(method: str, family: str, make_request: MakeRequest) -> None:
    """Include Phi, whose layers have biases, and GPT-2, whose layers store [in, out]."""
    adapter = {"rank": 4, "use_dora": True}
    spec = make_spec(method, training={"max_steps": 12, "learning_rate": 1e-3}, adapter=adapter)
    channel = Recorder()
    run = prepare(make_request(family=family, spec=spec), channel)
    before = {name: parameter.detach().clone() for name, parameter in run.model.trainable.items()}
    assert spec.adapter
    base = (plain_model if method == "lora" else dequantized_model)(run.request.base_model_path)
    plain = plain_adapter(base, spec.adapter, before)
    expected = reference_run(plain, run)
    run.loop()
    assert channel.losses() == pytest.approx(expected, rel=1e-5)
    after = trainable_of(plain)
    for part in ("lora_A", "lora_B", "magnitude"):
        names = [name for name in before if part in name]
        moved, wanted = (
            torch.cat([(end[name] - before[name]).flatten() for name in names]) for end in (run.model.trainable, after)
        )
        assert wanted.norm() > 0
        assert (moved - wanted).norm() / wanted.norm() < 1e-3


@pytest.mark.parametrize("method", ["qlora", "lora"])
def test_a_broken_dora_product_is_replaced_by_the_plain_one(
    method: str, make_request: MakeRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Make the magnitudes' gradient wrong by a quarter."""
    spec = make_spec(method, adapter={"rank": 4, "use_dora": True})
    right = Recorder()
    train(make_request(spec=spec), right)
    assert right.warnings() == set()
    backward = dora._DoraProduct.backward

    def broken(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        *before, grad_m, scaling, base = backward(ctx, grad)
        assert grad_m is not None
        return *before, grad_m * 1.25, scaling, base

    monkeypatch.setattr(dora._DoraProduct, "backward", staticmethod(broken))
    channel, request = Recorder(), make_request(spec=spec)
    shutil.rmtree(request.cache_dir)  # removes the verdict on the correct code
    train(request, channel)
    (warning,) = channel.events("warning_issued")
    assert warning.code == "parity_failed"
    assert "'products'" in warning.detail
    assert channel.losses() == pytest.approx(right.losses(), rel=1e-4)


def test_doras_norm_is_exact_in_parts() -> None:
    weight, a, b = torch.randn(1200, 30), torch.randn(4, 30), torch.randn(1200, 4)
    expected = (weight + 0.5 * b @ a).norm(dim=1)
    torch.testing.assert_close(row_norms(weight, a, b, 0.5), expected)
    assert row_norms(weight.bfloat16(), a, b, 0.5).dtype is torch.float32


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["qlora", "lora"])
@pytest.mark.parametrize("init", ["gaussian", "eva"])
def test_an_init_with_b_zero_leaves_the_model_as_it_is_to_the_last_bit(
    init: str, method: str, family: str, make_request: MakeRequest
) -> None:
    for dtype in ("float32", "bfloat16"):
        resolved = FP32 | {"engine": {"compute_dtype": dtype, "micro_batch_tokens": 64}}
        request = make_request(family=family, spec=make_spec(method, adapter={"init": init}), resolved=resolved)
        model = prepare(request, Recorder()).model
        assert model.peft is not None
        folder = request.base_model_path
        default = load_model(folder, load_config(folder), make_spec(method), Plan("cpu", dtype, False, 64))
        assert not any(a.equal(lora_a(default)[name]) for name, a in lora_a(model).items())
        adapted = hidden_of(model)
        with model.peft.disable_adapter():
            assert hidden_of(model).equal(adapted)


def test_gaussian_has_pefts_spread(make_request: MakeRequest) -> None:
    model = prepare(make_request(spec=make_spec(adapter={"init": "gaussian", "rank": 8})), Recorder()).model
    drawn = torch.cat([weight.detach().flatten() for name, weight in model.trainable.items() if "lora_A" in name])
    assert float(drawn.std()) == pytest.approx(1 / 8, rel=0.03)
    assert abs(float(drawn.mean())) < 0.01


def test_eva_finds_pefts_components(make_request: MakeRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare with PEFT, which reads the same batch until the components have settled: twice."""
    monkeypatch.setattr(eva, "POOLED_TOKENS", 1)
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        (json.dumps({"text": "the printer on the third floor is broken and the invoice is late"}) + "\n") * 2
    )
    spec = make_spec(adapter={"init": "eva", "rank": 4})
    run = prepare(make_request(spec=spec, dataset_path=rows), Recorder())

    row = run.rows.training[0]
    batch = {"input_ids": row.ids[: row.num_inputs][None].long()}
    found = lora_a(run.model)
    config = LoraConfig(r=4, target_modules=list(found), init_lora_weights="eva", eva_config=EvaConfig(rho=1))
    plain = plain_model(run.request.base_model_path)
    plain_inputs: dict[str, Any] = {"prepare_model_inputs_fn": None, "prepare_layer_inputs_fn": None}
    expected = get_eva_state_dict(plain, [batch], config, show_progress_bar=False, **plain_inputs)
    assert found.keys() == expected.keys()
    for name, components in expected.items():
        cosines = torch.cosine_similarity(found[name], components).abs()
        assert cosines.min() > 0.9999, name


@pytest.mark.parametrize("family", FAMILIES)
def test_eva_explains_what_the_layers_read(family: str, make_request: MakeRequest) -> None:
    """Accept a few per cent less than the best possible at this rank, over all rows at once."""
    run = prepare(make_request(family=family, spec=make_spec(adapter={"init": "eva", "rank": 8})), Recorder())
    read: dict[str, list[Tensor]] = {}
    plain = plain_model(run.request.base_model_path)
    for name in (found := lora_a(run.model)):
        plain.get_submodule(name).register_forward_pre_hook(
            lambda _, args, name=name: read.setdefault(name, []).append(args[0][0])
        )
    with torch.no_grad():
        for row in run.rows.training:
            plain(input_ids=row.ids[: row.num_inputs][None].long())
    for name, a in found.items():
        seen = torch.cat(read[name])
        seen = seen - seen.mean(0)
        best = torch.linalg.svdvals(seen)[:8].square().sum()
        assert (seen @ a.T).square().sum() > 0.95 * best
        torch.testing.assert_close(a @ a.T, torch.eye(8), atol=1e-4, rtol=0)


def test_eva_on_too_few_tokens_keeps_the_defaults_for_the_rest(make_request: MakeRequest, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"text": "cat"}) + "\n")
    models = [
        prepare(make_request(spec=make_spec(adapter={"init": init, "rank": 32}), dataset_path=rows), Recorder()).model
        for init in ("eva", "default")
    ]
    for changed, default in zip(*(lora_a(model).values() for model in models), strict=True):
        assert not changed[0].equal(default[0])
        assert changed[-1].equal(default[-1])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_a_rewriting_init_splits_the_weights_and_keeps_the_model(
    init: str, family: str, make_request: MakeRequest
) -> None:
    adapter = {"init": init, "rank": 8, "use_rslora": True}
    run = prepare(make_request(family=family, spec=make_spec(adapter=adapter)), Recorder())
    plain = prepare(make_request(family=family, spec=make_spec()), Recorder()).model
    assert run.model.peft is not None
    assert plain.peft is not None
    torch.testing.assert_close(hidden_of(run.model), hidden_of(plain), atol=1e-4, rtol=1e-4)
    for layer, before in zip(lora_layers(run.model.peft), lora_layers(plain.peft), strict=True):
        weight, rest = (dense_weight(each.get_base_layer()) for each in (before, layer))
        a, b = layer.lora_A["default"].weight.detach(), layer.lora_B["default"].weight.detach()
        taken = layer.scaling["default"] * b @ a
        torch.testing.assert_close(rest + taken, weight, atol=1e-5, rtol=1e-5)
        if init == "pissa":
            values = torch.linalg.svdvals(weight)
            assert float((weight - taken).norm()) == pytest.approx(float(values[8:].norm()), rel=0.01)
            assert float(torch.linalg.svdvals(a)[0]) == pytest.approx(float(torch.linalg.svdvals(b)[0]), rel=1e-3)
        else:
            q, r = torch.linalg.qr(weight)
            torch.testing.assert_close(taken, q[:, :8] @ r[:8], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_a_rank_above_a_weights_is_refused(init: str, make_request: MakeRequest) -> None:
    spec = make_spec(adapter={"init": init, "rank": 65, "target_modules": ["o_proj"]})
    with pytest.raises(TrainingFailed, match="at most 64, the rank of the smallest") as caught:
        train(make_request(spec=spec), Recorder())
    assert caught.value.reason is FailureReason.model_unusable


@pytest.mark.parametrize(
    ("method", "adapter"),
    [
        ("lora", {"init": "pissa"}),
        ("lora", {"init": "olora", "use_dora": True}),
        ("qlora", {"init": "eva", "dropout": 0.1, "lora_plus_ratio": 16}),
        ("qlora", {"init": "gaussian", "use_dora": True, "dropout": 0.1}),
    ],
)
def test_a_resumed_training_equals_the_uninterrupted_one_bit_for_bit(
    method: str, adapter: dict[str, Any], make_request: MakeRequest, tmp_path: Path
) -> None:
    """Rewrite the base of such an init to the same bits, and subtract the initial adapter at the end."""
    spec = make_spec(method, adapter=adapter)
    whole, first, second = Recorder(), Recorder(stop_at=3), Recorder()
    train(make_request(spec=spec, work_dir=tmp_path / "whole"), whole)
    train(make_request(spec=spec, work_dir=tmp_path / "first"), first)
    (checkpoint,) = first.checkpoints()
    torch.manual_seed(12345)
    request = make_request(spec=spec, work_dir=tmp_path / "second", attempt=2, checkpoint_path=checkpoint.path)
    train(request, second)
    assert first.losses() + second.losses() == whole.losses()
    results = [load_file(tmp_path / folder / "result/adapter_model.safetensors") for folder in ("whole", "second")]
    assert results[0].keys() == results[1].keys()
    assert all(results[0][key].equal(results[1][key]) for key in results[0])


@pytest.mark.parametrize(
    ("first_adapter", "adapter"),
    [
        ({"rank": 4, "use_dora": True}, {"rank": 4, "use_dora": True}),
        ({"rank": 4, "use_rslora": True, "init": "pissa"}, {"rank": 8, "alpha": 128}),
    ],
)
def test_a_warm_start_continues_the_other_adapter(
    first_adapter: dict[str, Any], adapter: dict[str, Any], make_request: MakeRequest, tmp_path: Path
) -> None:
    spec = make_spec(adapter=first_adapter, training={"max_steps": 20})
    trained = prepare(make_request(spec=spec, work_dir=tmp_path / "first"), Recorder())
    trained.loop()
    trained.publish()
    spec = make_spec(adapter=adapter, init_from="adp-" + "0" * 24)
    channel = Recorder()
    request = make_request(spec=spec, work_dir=tmp_path / "second", init_from_path=tmp_path / "first/result")
    run = prepare(request, channel)
    torch.testing.assert_close(hidden_of(run.model), hidden_of(trained.model), atol=1e-3, rtol=1e-3)
    assert run.state.position.step == 0, "a warm start is not a resume"
    assert all(not state for state in run.optimizer.state.values())
    run.loop()
    assert channel.losses()[0] < 0.5 * trained.state.position.first_loss


def test_a_resumed_warm_start_does_not_need_the_other_adapter(make_request: MakeRequest, tmp_path: Path) -> None:
    train(make_request(work_dir=tmp_path / "other"), Recorder())
    spec = make_spec(init_from="adp-" + "0" * 24)
    whole, first, second = Recorder(), Recorder(stop_at=3), Recorder()
    for folder, channel in (("whole", whole), ("first", first)):
        train(make_request(spec=spec, work_dir=tmp_path / folder, init_from_path=tmp_path / "other/result"), channel)
    checkpoint = first.checkpoints()[0].path
    train(make_request(spec=spec, work_dir=tmp_path / "second", checkpoint_path=checkpoint), second)
    assert first.losses() + second.losses() == whole.losses()
    assert second.warnings() == set()


@pytest.mark.parametrize(
    "adapter", [{"rank": 8}, {"target_modules": ["q_proj"]}, {"use_dora": True}, {"use_rslora": True}]
)
def test_an_adapter_of_another_shape_is_refused(
    adapter: dict[str, Any], make_request: MakeRequest, tmp_path: Path
) -> None:
    train(make_request(work_dir=tmp_path / "other"), Recorder())
    spec = make_spec(adapter=adapter, init_from="adp-" + "0" * 24)
    request = make_request(spec=spec, work_dir=tmp_path / "second", init_from_path=tmp_path / "other/result")
    with pytest.raises(TrainingFailed, match="init_from") as caught:
        train(request, Recorder())
    assert caught.value.reason is FailureReason.model_unusable


@pytest.mark.parametrize("use_dora", [False, True])
def test_lora_plus_has_pefts_rates(use_dora: bool, make_request: MakeRequest) -> None:
    spec = make_spec(adapter={"use_dora": use_dora, "lora_plus_ratio": 16})
    model = prepare(make_request(spec=spec), Recorder()).model
    assert model.peft is not None
    optimizer = make_optimizer(model.trainable, spec.training, spec.adapter)
    set_learning_rate(optimizer, 0.25)
    expected = create_loraplus_optimizer(model.peft, torch.optim.AdamW, lr=0.25, loraplus_lr_ratio=16)

    def rates(optimizer: torch.optim.Optimizer) -> dict[int, float]:
        return {id(parameter): group["lr"] for group in optimizer.param_groups for parameter in group["params"]}

    assert rates(optimizer) == rates(expected)
    assert set(rates(optimizer).values()) == {0.25, 4.0}


def test_lora_plus_moves_b_faster(make_request: MakeRequest) -> None:
    moved = []
    for ratio in (1, 16):
        spec = make_spec(adapter={"lora_plus_ratio": ratio}, training={"max_steps": 1})
        run = prepare(make_request(spec=spec), Recorder())
        run.loop()
        moved.append(max(float(b.detach().abs().max()) for name, b in run.model.trainable.items() if "lora_B" in name))
    assert moved[1] == pytest.approx(16 * moved[0], rel=1e-3)


@pytest.mark.parametrize("optimizer", ["adamw_8bit", "paged_adamw", "paged_adamw_8bit"])
def test_on_a_cpu_an_optimizer_for_cuda_becomes_adamw_with_a_warning(optimizer: str, make_request: MakeRequest) -> None:
    losses = []
    for asked in ("adamw", optimizer):
        channel = Recorder()
        train(make_request(spec=make_spec(training={"optimizer": asked})), channel)
        losses.append(channel.losses())
    (warning,) = channel.events("warning_issued")
    assert warning.code == "optimizer_fallback"
    assert optimizer in warning.detail
    assert losses[0] == losses[1]


def test_on_a_gpu_bitsandbytes_optimizers_are_for_full_fine_tuning() -> None:
    """Use it for all weights only: with an adapter it would wait for the GPU after each of many tensors."""
    training = make_spec(training={"optimizer": "paged_adamw_8bit"}).training
    assert optim.explain_fallback(training, "cuda", None) is None
    assert "waits for the GPU" in (optim.explain_fallback(training, "cuda", AdapterSpec()) or "")
    assert optim.explain_fallback(make_spec().training, "cuda", AdapterSpec()) is None


@pytest.mark.parametrize("asked", ["adamw_8bit", "paged_adamw"])
@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU:UserWarning")
def test_bitsandbytes_state_is_restored_from_a_checkpoint(
    asked: str, make_request: MakeRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Use the kernels on a CPU. They run there, although the service does not use them."""
    monkeypatch.setattr(optim, "explain_fallback", lambda training, device, adapter: None)
    spec = make_spec(adapter={"rank": 64}, training={"optimizer": asked})
    whole, first, second = Recorder(), Recorder(stop_at=3), Recorder()
    run = prepare(make_request(spec=spec, work_dir=tmp_path / "whole"), whole)
    run.loop()
    kept = [state["state1"].dtype for state in run.optimizer.state.values()]
    assert (torch.uint8 in kept) == (asked == "adamw_8bit")
    train(make_request(spec=spec, work_dir=tmp_path / "first"), first)
    checkpoint = first.checkpoints()[0].path
    train(make_request(spec=spec, work_dir=tmp_path / "second", checkpoint_path=checkpoint), second)
    assert first.losses() + second.losses() == whole.losses()
    assert len(set(whole.losses())) == 6
