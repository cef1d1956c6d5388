"""Defines how a job trains: the settings of its quantization, its adapter, DPO and its optimization."""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from app.domain.jobs.resuming import OnInexactResume
from app.domain.jobs.train_on import Reasoning, TrainOn
from app.domain.spec_part import SpecPart

ComputeDtype = Literal["auto", "bfloat16", "float16", "float32"]
MAX_RANK, MAX_ALPHA = 1024, 8192
AdapterInit = Literal["default", "gaussian", "eva", "pissa", "olora"]
BASE_REWRITING_INITS: frozenset[AdapterInit] = frozenset({"pissa", "olora"})
"""Lists inits that split the adapter's initial weights from the base weights."""
ModuleName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.]{1,200}$")]


class Quantization(SpecPart):
    """How the frozen base weights are stored during QLoRA."""

    type: Literal["nf4"] = "nf4"
    double_quant: bool = True
    """Whether to quantize the quantization constants too (0.37 bits less per parameter)."""
    compute_dtype: ComputeDtype = "auto"
    """Precision of the matrix products. `auto` uses bfloat16 if the device multiplies it fast."""


class AdapterSpec(SpecPart):
    """LoRA settings: W' = W + (B·A)·alpha/rank, with rank replaced by its square root under rsLoRA."""

    rank: int = Field(default=16, ge=1, le=MAX_RANK)
    alpha: Literal["auto"] | Annotated[float, Field(gt=0, le=MAX_ALPHA)] = "auto"
    """LoRA's alpha. `auto` is twice the rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: Literal["all-linear"] | Annotated[list[ModuleName], Field(min_length=1, max_length=500)] = (
        "all-linear"
    )
    """The linear layers that get an adapter, by full names or by their endings. `all-linear` means all except the head
    (`lm_head`) and layers that cannot be trained (routers, parts of Mamba blocks): `resolved` then lists the layers."""
    use_rslora: bool = False
    use_dora: bool = False
    """Whether to use DoRA: the adapter changes the direction of each row of a weight matrix, and a trained magnitude
    scales it."""
    init: AdapterInit = "default"
    """Initial values of A and B. B is zero for `default`, `gaussian` and `eva` (A from the activations of training
    rows). `pissa` and `olora` start from the base weights' main part, for the method `lora` only; such an adapter is
    saved with twice its rank, so that it fits the original base."""
    lora_plus_ratio: float = Field(default=1.0, ge=1, le=1000)
    """LoRA+'s ratio: the learning rate of B over that of A."""

    @property
    def lora_alpha(self) -> float:
        """Return alpha as a number."""
        return 2.0 * self.rank if self.alpha == "auto" else self.alpha

    def as_saved(self) -> "AdapterSpec":
        """Return the adapter as its files store it. A rewriting init saves s(B·A - B0·A0): twice the rank, the same
        scaling s."""
        if self.init not in BASE_REWRITING_INITS:
            return self.model_copy(update={"alpha": self.lora_alpha, "init": "default"})
        scaling = self.lora_alpha / (math.sqrt(self.rank) if self.use_rslora else self.rank)
        rank = 2 * self.rank
        return self.model_copy(update={"rank": rank, "alpha": scaling * rank, "use_rslora": False, "init": "default"})


class DpoSpec(SpecPart):
    """Settings of direct preference optimization (arXiv 2305.18290)."""

    beta: float = Field(default=0.1, gt=0, le=2)
    """How strongly the model is held to its state at the start of the job. A lower value lets it move further."""


class EarlyStopping(SpecPart):
    """When to end the training early: once the validation loss no longer decreases."""

    patience: int = Field(ge=1, le=10_000)
    """Number of evaluations in a row without improvement that end the training."""
    min_delta: float = Field(default=0.0, ge=0, le=1e6)
    """How much the loss must decrease to count as an improvement."""


class TrainingSpec(SpecPart):
    """Settings of the optimization. Exactly one of `epochs` and `max_steps` sets its length."""

    epochs: float | None = Field(default=None, gt=0, le=1000)
    max_steps: int | None = Field(default=None, ge=1, le=10_000_000)
    batch_size: int = Field(default=8, ge=1, le=65_536)
    """Rows per step (for `dpo` a row is a pair of answers), independent of how many fit on the device at once."""
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw", "paged_adamw_8bit"] = "adamw"
    """AdamW, optionally with its state in 8 bits, or in memory that CUDA pages out to the host. On a CPU, and for
    adapters, whose state is small, every choice is `adamw`."""
    learning_rate: Literal["auto"] | Annotated[float, Field(gt=0, le=10)] = "auto"
    """Learning rate. `auto` is 2e-4 for adapters and 1e-5 for full fine-tuning, and a tenth of that for the objective
    `dpo`."""
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    warmup_ratio: float = Field(default=0.03, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0, le=1)
    max_grad_norm: float = Field(default=1.0, ge=0, le=1e6)
    """Maximum norm of the gradients. 0 turns clipping off."""
    max_seq_len: Literal["auto"] | Annotated[int, Field(ge=8, le=10_000_000)] = "auto"
    """Number of tokens to which a row is truncated. `auto` is 2048 or the model's limit, whichever is less."""
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    train_on: TrainOn = "auto"
    """Which tokens carry loss: the last answer, every assistant turn, or everything. An answer of weight 0 never does.
    `auto` is `assistant` for conversations (`messages`, `sharegpt`), `all` for `text`, and `completion` for the other
    formats. With `dpo` it is always the two answers of a row."""
    reasoning: Reasoning = "train"
    """How an answer's `reasoning_content` is used: `train` learns it with its answer, `context` shows it without loss,
    `drop` leaves it out. If the model's chat template does not render it, `train` and `context` end the job
    (`reasoning_not_rendered`): nothing in a row is omitted silently."""
    eval_every: int | None = Field(default=None, ge=1)
    """Steps between evaluations. Null evaluates at the end of each epoch."""
    save_every: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """Steps between checkpoints. `auto` is a tenth of the job; `resolved` shows the number. A checkpoint is delayed if
    it would cost more than 1 % of the time since the last one."""
    save_every_seconds: float = Field(default=600, gt=0, le=10**9)
    """Seconds between checkpoints, if they pass before `save_every` steps. The interval is longer if checkpoints would
    cost more than 1 % of the time."""
    keep_checkpoints: int = Field(default=3, ge=1, le=100)
    """Number of newest checkpoints that stay in storage. Each also contains the best weights so far."""
    on_inexact_resume: OnInexactResume = "continue"
    """What happens when no worker is free on which the checkpoint resumes exactly: another kind of machine may compute
    different last bits. `continue` trains there and reports the differences; `wait` waits for such a worker, without
    limit; `fail` fails the job and reports the differences."""
    early_stopping: EarlyStopping | None = None
    """When to stop early; requires validation rows. Null trains to the end."""
    result: Literal["best", "last"] = "best"
    """The weights of the result: those of the lowest validation loss, or the last step's. Without validation rows it is
    the last step's."""
    gradient_checkpointing: Literal["auto"] | bool = "auto"
    """Whether to recompute activations in backward: a third slower, with much less memory."""
    memory: Literal["auto", "min"] = "auto"
    """Trade-off between memory and speed: `min` trains in as little memory as possible, more slowly; `auto` as fast as
    the free memory allows."""

    @model_validator(mode="after")
    def _check_length(self) -> Self:
        if (self.epochs is None) == (self.max_steps is None):
            found = "neither" if self.epochs is None else "both"
            raise PydanticCustomError(
                "epochs_or_max_steps",
                "Give exactly one of epochs and max_steps; found {found}.",
                {"found": found},
            )
        return self
