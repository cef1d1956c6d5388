"""Loads the base model from its folder and prepares it for one method of training."""

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

from app.domain.jobs.spec import JobSpec
from app.domain.jobs.state import FailureReason
from app.domain.jobs.training_config import Quantization
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
"""Lists the fast paths that any architecture uses."""
ALL_PATHS = (*ALWAYS_TAKEN, *patching.PATHS)


@dataclass
class Model:
    """Holds the model. `causal` is transformers' model with adapters and 4-bit layers in place; `peft` is PEFT's view
    of it."""

    causal: PreTrainedModel
    peft: PeftModel | None
    trainable: dict[str, nn.Parameter]
    plan: Plan
    num_base_parameters: int
    paths: frozenset[str] = frozenset()
    """Names the fast paths that replace transformers' and PEFT's code; see `use_paths`."""
    careful: bool = True
    """Says whether each micro-batch's losses are checked for overflow, see `cross_entropy.Head`. If not, the step's
    losses are checked, and an overflowed step is repeated."""
    initial_adapter: dict[str, Tensor] = field(default_factory=dict)
    """Holds the initial A and B, by the names of PEFT's file, where the init split them from the base weights."""

    @property
    def num_parameters(self) -> int:
        return self.num_base_parameters + (self.num_trainable if self.peft else 0)

    @property
    def micro_batch_tokens(self) -> int:
        """Return the plan's tokens. Without the packed attention, documents go one at a time through the model's
        attention."""
        return self.plan.micro_batch_tokens if "packing" in self.paths else 1

    def use_plan(self, plan: Plan) -> None:
        """Switch to another plan for memory."""
        if plan.gradient_checkpointing and not self.plan.gradient_checkpointing:
            _enable_checkpointing(self.causal)
        self.plan = plan

    def use_paths(self, paths: Iterable[str]) -> None:
        """Use these fast paths, and plain code otherwise. A path that fits no module of the architecture is left
        out."""
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
        """Say whether a training gives the same bits each time. On a GPU where attention uses neither FlashAttention
        nor plain products, torch's kernels add in any order."""
        text = self.causal.config.get_text_config()
        softcap = getattr(text, "attn_logit_softcapping", None)
        if self.plan.device == "cpu" or "packing" not in self.paths or softcap is not None:
            return True
        dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        return attention.takes_flash(self.plan.dtype, dim, softcap)

    @property
    def num_trainable(self) -> int:
        return sum(parameter.numel() for parameter in self.trainable.values())

    def losses(self, batch: MicroBatch, *, with_hits: bool = False) -> tuple[Tensor, Tensor]:
        """Return each labelled position's loss, and with `with_hits` whether the model's first choice was right."""
        device = torch.device(self.plan.device)
        lengths = DocumentLengths.on(device, batch.document_lengths)
        inputs = to_device(batch.input_ids, device), to_device(batch.position_ids, device), lengths
        positions, targets = to_device(batch.positions, device), to_device(batch.targets, device)
        if "loss" in self.paths:
            rows = self.hidden_states(*inputs)[0].index_select(0, positions)
            layer = self.causal.get_output_embeddings()
            if isinstance(layer, AdaptedLinear | DoraLinear):
                return adapted_losses(rows, targets, layer, self.head(), with_hits=with_hits)
            return token_losses(rows, targets, self.head(), with_hits=with_hits)
        logits = self._through(self.causal, *inputs).logits[0].index_select(0, positions).float()
        return nn.functional.cross_entropy(logits, targets, reduction="none"), logits.argmax(dim=1) == targets

    def hidden_states(self, input_ids: Tensor, position_ids: Tensor, document_lengths: list[int]) -> Tensor:
        """Return [1, tokens, dim], after the last norm."""
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
        """Return the autocast context: full fine-tuning keeps fp32 weights and multiplies in the compute type."""
        wanted = self.peft is None and self.plan.dtype is not torch.float32
        return torch.autocast(self.plan.device, dtype=self.plan.dtype, enabled=wanted)


def load_config(folder: Path) -> PretrainedConfig:
    """Load the config, with every dropout set to 0: a base model's dropout would be active in training, and the spec
    does not request it."""
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
    """Return all fast paths that a method can use. A full fine-tune trains the weights that the other paths treat as
    frozen."""
    return frozenset({"packing", "loss"} if method == "full" else ALL_PATHS)


def quantize_ahead(
    folder: Path,
    config: PretrainedConfig,
    quantization: Quantization,
    plan: Plan,
    cache: NF4Cache,
    watch: Callable[[], None],
) -> None:
    """Fill the cache, if it lacks the model, while other work is pending."""
    if not cache.path.exists():
        _load_quantized(folder, config, quantization, plan, cache, watch)
        if plan.device == "cuda":
            torch.cuda.empty_cache()  # the plan is made from the free memory


def _load_quantized(
    folder: Path,
    config: PretrainedConfig,
    quantization: Quantization,
    plan: Plan,
    cache: NF4Cache | None,
    watch: Callable[[], None] = lambda: None,
) -> tuple[PreTrainedModel, int, bool]:
    """Return the model, its number of parameters before quantization, and whether it stored its matrices as [in, out].

    It is loaded in the file's type, which only maps the file: matrices in the cache are never read from it."""
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
            FailureReason.model_unusable, 'The model has no linear layer to quantize. Use the method "lora".'
        )
    if cache and stored is None and not cache.write(layers):
        log.warning("Could not store the quantized weights in %s", cache.path.parent)
    for parameter in causal.parameters():
        parameter.data = parameter.data.to(plan.dtype)
    return causal, num_parameters, transposed


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _is_transposed(model: nn.Module) -> bool:
    return any(isinstance(module, Conv1D) for module in model.modules())


def _dtype_of_file(folder: Path) -> torch.dtype | None:
    """Return the type of the first matrix, or None if it is not a known floating type."""
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
    """Enable gradient checkpointing. Newer transformers have another name for it, and warn of the old one."""
    enable = getattr(causal, "activation_checkpointing_enable", None) or causal.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def _unusable(error: Exception) -> TrainingFailed:
    return TrainingFailed(FailureReason.model_unusable, f"The base model cannot be loaded: {error}")
