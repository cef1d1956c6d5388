"""The base model, loaded from its folder and made ready for one method of training."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from app.domain.jobs.spec import JobSpec, Quantization
from app.domain.jobs.state import FailureReason
from worker.training.data.packing import MicroBatch
from worker.training.model import patching
from worker.training.model.dora import DoraLinear
from worker.training.model.lora import AdaptedLinear, add_lora
from worker.training.model.memory_plan import Plan
from worker.training.model.nf4_cache import NF4Cache
from worker.training.model.targets import layers_read, target_modules
from worker.training.ops import attention
from worker.training.ops.cross_entropy import Head, adapted_losses, token_losses
from worker.training.ops.flash import DocumentLengths, to_device
from worker.training.ops.nf4 import quantize_linears
from worker.training.runtime.errors import TrainingFailed

log = logging.getLogger(__name__)

FILE_DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}

PLAIN_ATTENTION = "eager"
ALWAYS_TAKEN = ("packing", "products", "loss")
"""Fast paths that any architecture takes."""
ALL_PATHS = (*ALWAYS_TAKEN, *patching.PATHS)


@dataclass
class Model:
    """`causal` is transformers' own model, adapters and 4-bit layers set into it; `peft` is PEFT's view of it."""

    causal: PreTrainedModel
    peft: PeftModel | None
    trainable: dict[str, nn.Parameter]
    plan: Plan
    num_base_parameters: int
    paths: frozenset[str] = frozenset()
    """What is computed by our own code and not by transformers and PEFT; see `use`."""
    careful: bool = True
    """Whether each micro-batch's losses are watched for overflow, see `loss.Head`; else a step is, and done again."""
    initial_adapter: dict[str, Tensor] = field(default_factory=dict)
    """A and B as they began, by the names of PEFT's file, where the init took them out of the base weights."""

    @property
    def num_parameters(self) -> int:
        return self.num_base_parameters + (self.num_trainable if self.peft else 0)

    @property
    def micro_batch_tokens(self) -> int:
        """Without our attention, documents go one at a time through the model's own."""
        return self.plan.micro_batch_tokens if "packing" in self.paths else 1

    def follow(self, plan: Plan) -> None:
        """Go on under another plan for memory."""
        if plan.gradient_checkpointing and not self.plan.gradient_checkpointing:
            _enable_checkpointing(self.causal)
        self.plan = plan

    def use(self, paths: Iterable[str]) -> None:
        """Compute by these fast paths, and by the plain code otherwise. A path that nothing in the architecture takes
        is left out."""
        wanted = set(paths)
        self.causal.set_attn_implementation(attention.NAME if "packing" in wanted else PLAIN_ATTENTION)
        for name in patching.PATHS:
            patching.switch_off(self.causal, name)
        for module in self.causal.modules():
            if isinstance(module, AdaptedLinear | DoraLinear):
                module.by_hand = "products" in wanted
        taken = {name for name in patching.PATHS if name in wanted and patching.switch_on(self.causal, name)}
        self.paths = frozenset(taken | wanted & set(ALWAYS_TAKEN))

    @property
    def repeats_bits(self) -> bool:
        """Whether a training gives the same bits each time. On a GPU where attention goes through neither
        FlashAttention nor plain products, torch's kernels add up in any order."""
        text = self.causal.config.get_text_config()
        softcap = getattr(text, "attn_logit_softcapping", None)
        if self.plan.device == "cpu" or "packing" not in self.paths or softcap is not None:
            return True
        dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        return attention.takes_flash(self.plan.dtype, dim, softcap)

    @property
    def num_trainable(self) -> int:
        return sum(parameter.numel() for parameter in self.trainable.values())

    def losses(self, batch: MicroBatch, *, judge: bool = False) -> tuple[Tensor, Tensor]:
        """Loss of each labelled position, and with `judge` whether the model's first choice was right."""
        device = torch.device(self.plan.device)
        lengths = DocumentLengths.on(device, batch.document_lengths)
        inputs = to_device(batch.input_ids, device), to_device(batch.position_ids, device), lengths
        positions, targets = to_device(batch.positions, device), to_device(batch.targets, device)
        if "loss" in self.paths:
            rows = self.hidden_states(*inputs)[0].index_select(0, positions)
            layer = self.causal.get_output_embeddings()
            if isinstance(layer, AdaptedLinear | DoraLinear):
                return adapted_losses(rows, targets, layer, self.head(), judge=judge)
            return token_losses(rows, targets, self.head(), judge=judge)
        logits = self._through(self.causal, *inputs).logits[0].index_select(0, positions).float()
        return nn.functional.cross_entropy(logits, targets, reduction="none"), logits.argmax(dim=1) == targets

    def hidden_states(self, input_ids: Tensor, position_ids: Tensor, document_lengths: list[int]) -> Tensor:
        """[1, tokens, dim], after the last norm."""
        output = self._through(self.causal.get_decoder(), input_ids, position_ids, document_lengths)
        hidden: Tensor = output.last_hidden_state
        return hidden

    def _through(self, part: nn.Module, input_ids: Tensor, position_ids: Tensor, document_lengths: list[int]) -> Any:
        extra: dict[str, Any] = {"document_lengths": document_lengths} if "packing" in self.paths else {}
        with self._autocast():
            return part(input_ids=input_ids, position_ids=position_ids, use_cache=False, **extra)

    def head(self) -> Head:
        layer = self.causal.get_output_embeddings()
        config = self.causal.config.get_text_config()
        scale = (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)
        softcap = getattr(config, "final_logit_softcapping", None)
        watches = self.careful or not torch.is_grad_enabled()
        return Head(layer.weight, getattr(layer, "bias", None), self.plan.dtype, scale, softcap, watches)

    def _autocast(self) -> torch.autocast:
        """Full fine-tuning keeps fp32 weights and multiplies in the compute type."""
        wanted = self.peft is None and self.plan.dtype is not torch.float32
        return torch.autocast(self.plan.device, dtype=self.plan.dtype, enabled=wanted)


def load_config(folder: Path) -> PretrainedConfig:
    """Dropout that a base model's config brings along is 0 here: it is live in training mode, and nobody asked for
    it."""
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise _unusable(error) from error
    text = config.get_text_config()
    for name, value in vars(text).items():
        if isinstance(value, float) and ("dropout" in name or name.endswith("_pdrop")):
            setattr(text, name, 0.0)
    return config


def load_model(
    folder: Path, config: PretrainedConfig, spec: JobSpec, plan: Plan, cache: NF4Cache | None = None
) -> Model:
    dtype = torch.float32 if spec.method == "full" else plan.dtype
    if spec.quantization is not None:
        causal, num_parameters, transposed = _load_quantized(folder, config, spec.quantization, plan, cache)
    else:
        causal = _load_dense(folder, config, dtype)
        num_parameters, transposed = _count(causal), _is_transposed(causal)
    causal.requires_grad_(spec.method == "full")
    causal.to(torch.device(plan.device))
    if spec.adapter is not None and (targets := target_modules(causal, spec.adapter)) != spec.adapter.target_modules:
        plan = replace(plan, target_modules=tuple(targets))
    peft = add_lora(causal, spec.adapter, spec.training.seed, transposed=transposed) if spec.adapter else None
    trainable = {name: parameter for name, parameter in causal.named_parameters() if parameter.requires_grad}
    if plan.gradient_checkpointing:
        _enable_checkpointing(causal)
    causal.train()
    return Model(causal, peft, trainable, plan, num_parameters, careful=plan.device == "cpu")


def paths_of(method: str) -> frozenset[str]:
    """All that can be fast for a method: a full fine-tune trains the weights that the others take for frozen."""
    return frozenset({"packing", "loss"} if method == "full" else ALL_PATHS)


def quantize_ahead(
    folder: Path,
    config: PretrainedConfig,
    quantization: Quantization,
    plan: Plan,
    cache: NF4Cache,
    watch: Callable[[], None],
) -> None:
    """Fill the cache, if it lacks the model, while there is something else to wait for."""
    if not cache.path.exists():
        _load_quantized(folder, config, quantization, plan, cache, watch)
        if plan.device == "cuda":
            torch.cuda.empty_cache()  # what is free is what the plan is made from


def _load_quantized(
    folder: Path,
    config: PretrainedConfig,
    quantization: Quantization,
    plan: Plan,
    cache: NF4Cache | None,
    watch: Callable[[], None] = lambda: None,
) -> tuple[PreTrainedModel, int, bool]:
    """The model, its number of parameters before, and whether it held its matrices as [in, out].

    It is loaded in the file's own type, which only maps the file: what lies in the cache is never read from it."""
    causal = _load_dense(folder, config, _dtype_of_file(folder) or plan.dtype)
    num_parameters, transposed = _count(causal), _is_transposed(causal)
    device = torch.device(plan.device)
    stored = cache.read(device) if cache else None
    layers = quantize_linears(
        causal,
        keep=causal.get_output_embeddings(),
        double_quant=quantization.double_quant,
        dtype=plan.dtype,
        device=device,
        stored=stored,
        watch=watch,
        skip=layers_read(causal),
    )
    if not layers:
        raise TrainingFailed(
            FailureReason.model_unusable, 'The model has no linear layer to quantize; use the method "lora".'
        )
    if cache and stored is None and not cache.write(layers):
        log.warning("the quantized weights cannot be kept in %s", cache.path.parent)
    for parameter in causal.parameters():
        parameter.data = parameter.data.to(plan.dtype)
    return causal, num_parameters, transposed


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _is_transposed(model: nn.Module) -> bool:
    return any(isinstance(module, Conv1D) for module in model.modules())


def _dtype_of_file(folder: Path) -> torch.dtype | None:
    """Of the first matrix; None where there is none in a floating type."""
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118
                tensor = file.get_slice(name)
                if len(tensor.get_shape()) > 1:
                    return FILE_DTYPES.get(tensor.get_dtype())
    return None


def _load_dense(folder: Path, config: PretrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            attn_implementation=attention.NAME,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except (OSError, ValueError, KeyError) as error:
        raise _unusable(error) from error
    assert isinstance(model, PreTrainedModel)
    return model


def _enable_checkpointing(causal: PreTrainedModel) -> None:
    """Newer transformers call it by another name, and warn of the old one."""
    enable = getattr(causal, "activation_checkpointing_enable", None) or causal.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def _unusable(error: Exception) -> TrainingFailed:
    return TrainingFailed(FailureReason.model_unusable, f"The base model cannot be loaded: {error}")
