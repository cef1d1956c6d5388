"""Defines JobSpec, a user's request. It is frozen and closed, and shows every default."""

import math
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator
from pydantic_core import PydanticCustomError

from app.domain.integration import Integration
from app.domain.jobs.resuming import OnInexactResume
from app.domain.jobs.train_on import Reasoning, TrainOn
from app.labels import LABEL

Method = Literal["qlora", "lora", "full"]
Objective = Literal["sft", "dpo"]
LEARNING_RATES: Final[dict[Objective, dict[Method, float]]] = {
    "sft": {"qlora": 2e-4, "lora": 2e-4, "full": 1e-5},
    "dpo": {"qlora": 2e-5, "lora": 2e-5, "full": 1e-6},
}
"""Holds the values of `auto`. Preferences adjust a model that can already answer: they need a tenth of the rate for
answers."""
ComputeDtype = Literal["auto", "bfloat16", "float16", "float32"]
MAX_RANK, MAX_ALPHA = 1024, 8192
DatasetId = Annotated[str, StringConstraints(pattern=r"^file-[0-9a-f]{24}$")]
Start = Annotated[
    str,
    StringConstraints(
        pattern=r"^(?:adp-[0-9a-f]{24}|ftckpt_[0-9a-f]{24}|"
        r"ft:[A-Za-z0-9._/-]{1,200}:[A-Za-z0-9_.-]{0,64}:[0-9a-f]{8}(?::ckpt-step-[0-9]{1,9})?)$"
    ),
]
AdapterInit = Literal["default", "gaussian", "eva", "pissa", "olora"]
BASE_REWRITING_INITS: frozenset[AdapterInit] = frozenset({"pissa", "olora"})
"""Lists inits that split the adapter's initial weights from the base weights."""
GpuName = Annotated[str, StringConstraints(pattern=r"^[ -~]{1,100}$", strip_whitespace=True)]
Label = Annotated[str, StringConstraints(pattern=f"^{LABEL}$")]
ModuleName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.]{1,200}$")]


class SpecPart(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class Resources(SpecPart):
    """What a worker must have to claim the job."""

    device: Literal["auto", "cuda", "cpu"] = "auto"
    """Kind of device. `auto` uses a CPU only while no suitable GPU worker is registered."""
    gpu: list[GpuName] = Field(default_factory=list, max_length=16)
    """GPUs, one of which the worker must train on. A name matches part of the device's name, in any case: `RTX 4090`
    and `4090` match `NVIDIA GeForce RTX 4090`. Empty accepts any device."""
    labels: dict[Label, Label] = Field(default_factory=dict, max_length=16)
    """Labels that the worker must have, all of them, with these values."""
    min_memory_gb: float = Field(default=0, ge=0, le=10_000)
    """Minimum memory of the worker's device (GPU memory, or RAM on a CPU worker), in GB (10^9 bytes)."""

    @model_validator(mode="after")
    def _check_gpu(self) -> Self:
        if self.gpu and self.device == "cpu":
            raise PydanticCustomError("gpu_with_cpu", 'gpu cannot be used with device "cpu"; remove one of them.')
        return self


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


class BadRowPolicy(SpecPart):
    """How rows that cannot be trained on are handled."""

    action: Literal["fail", "skip"] = "fail"
    """`fail` rejects a dataset with such a row; `skip` skips the rows and lists them in `skipped_rows.jsonl`."""
    max_share: float | None = Field(default=None, gt=0, lt=1)
    """Largest share of a dataset's rows that may be skipped; required with `skip`. Beyond it the job fails with
    `too_many_bad_rows`. It applies to the dataset and to the validation dataset separately."""

    @model_validator(mode="after")
    def _check_max_share(self) -> Self:
        if self.action == "skip" and self.max_share is None:
            raise PydanticCustomError(
                "max_share_required",
                'action "skip" requires max_share; set the largest share of rows to skip, such as 0.05.',
            )
        if self.action == "fail" and self.max_share is not None:
            raise PydanticCustomError(
                "max_share_without_skip", 'max_share requires action "skip"; remove max_share, or set that action.'
            )
        return self

    @property
    def tolerated(self) -> float:
        """Return the share of rows that may be skipped."""
        return self.max_share or 0.0


class JobSpec(SpecPart):
    """A fine-tuning job as its user requested it, with every default filled in."""

    base_model: str = Field(min_length=1, max_length=200)
    """Name of a base model in the registry (`GET /models`)."""
    dataset_id: DatasetId
    validation_dataset_id: DatasetId | None = None
    validation_split: float | None = Field(default=None, gt=0, lt=1)
    """Share of the dataset's rows held out for evaluation, drawn with the seed."""
    on_bad_rows: BadRowPolicy = BadRowPolicy()
    method: Method = "qlora"
    objective: Objective = "sft"
    """What is learned: `sft` learns answers; `dpo` learns to prefer one answer to another, from a dataset of the format
    `preference`."""
    dpo: DpoSpec | None = None
    """Only for the objective `dpo`; filled in with its defaults if omitted."""
    resources: Resources = Resources()
    max_retries: int = Field(default=0, ge=0, le=10)
    """How often the job is retried after a failure other than a lost worker, for example out of memory."""
    max_duration_seconds: int | None = Field(default=None, ge=1, le=10**9)
    """Maximum running time of all attempts together, lost ones too, after which the job fails. Time in the queue does
    not count. Null for no limit."""
    quantization: Quantization | None = None
    """Only for `qlora`; filled in with its defaults if omitted."""
    adapter: AdapterSpec | None = None
    """Only for `qlora` and `lora`; filled in with its defaults if omitted."""
    init_from: Start | None = None
    """Initial weights of the new adapter: an adapter or a checkpoint of this project, by its id (`adp-…`, `ftckpt_…`)
    or its name (`ft:…`, `ft:…:ckpt-step-88`). It must have the same base model. Fields that `adapter` omits are copied
    from it."""
    training: TrainingSpec
    name: str | None = Field(default=None, min_length=1, max_length=200)
    suffix: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    """Part of the fine-tuned model's name: `ft:<base model>:<suffix>:<end of the job's id>`."""
    metadata: dict[
        Annotated[str, StringConstraints(min_length=1, max_length=64)],
        Annotated[str, StringConstraints(max_length=512)],
    ] = Field(default_factory=dict, max_length=16)
    priority: int = Field(default=0, ge=-100, le=100)
    """Order of claims: higher first."""
    integrations: list[Integration] = Field(default_factory=list, max_length=5)
    """Experiment trackers that receive the job's metrics, at most one of each type."""

    @field_validator("integrations")
    @classmethod
    def _check_integrations(cls, found: list[Integration]) -> list[Integration]:
        types = [each.type for each in found]
        for type in types:
            if types.count(type) > 1:
                raise PydanticCustomError(
                    "duplicate_integration",
                    'The integration type "{type}" is listed twice; list it once.',
                    {"type": type},
                )
        return found

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if self.validation_dataset_id and self.validation_split:
            raise PydanticCustomError(
                "multiple_validation_sources", "Give validation_dataset_id or validation_split, not both."
            )
        if self.training.early_stopping and not (self.validation_dataset_id or self.validation_split):
            raise PydanticCustomError(
                "early_stopping_without_validation",
                "early_stopping requires validation rows; set validation_dataset_id or validation_split.",
            )
        self._check_objective()
        if self.quantization and self.method != "qlora":
            raise PydanticCustomError(
                "quantization_without_qlora",
                'quantization requires method "qlora"; remove it for method "{method}".',
                {"method": self.method},
            )
        if self.adapter and self.method == "full":
            raise PydanticCustomError(
                "adapter_with_full", 'method "full" trains all weights and has no adapter; remove adapter.'
            )
        self._check_inits()
        return self

    def _check_objective(self) -> None:
        if self.objective == "dpo" and self.training.train_on not in ("auto", "completion"):
            raise PydanticCustomError(
                "train_on_with_dpo",
                'objective "dpo" always trains on the two answers of a row; remove training.train_on.',
            )
        if self.dpo and self.objective != "dpo":
            raise PydanticCustomError(
                "dpo_without_objective",
                'dpo requires objective "dpo"; remove it for objective "{objective}", or set that objective.',
                {"objective": self.objective},
            )

    def _check_inits(self) -> None:
        init = self.adapter.init if self.adapter else "default"
        if init in BASE_REWRITING_INITS and self.method != "lora":
            raise PydanticCustomError(
                "init_without_lora",
                'init "{init}" changes the base weights, which NF4 would quantize again; use method "lora", '
                'or init "default", "gaussian" or "eva".',
                {"init": init},
            )
        if self.init_from and self.method == "full":
            raise PydanticCustomError(
                "init_from_with_full",
                'init_from sets the initial weights of an adapter, but method "full" trains none; remove init_from.',
            )
        if self.init_from and init != "default":
            raise PydanticCustomError(
                "init_with_init_from",
                'init_from already sets the initial weights of the adapter; remove init "{init}".',
                {"init": init},
            )

    def filled(self) -> "JobSpec":
        """Return the spec with the parts that its method and objective have. `auto` values stay `auto`."""
        return self.model_copy(
            update={
                "dpo": (self.dpo or DpoSpec()) if self.objective == "dpo" else None,
                "adapter": None if self.method == "full" else self.adapter or AdapterSpec(),
                "quantization": (self.quantization or Quantization()) if self.method == "qlora" else None,
            }
        )

    def decided(self, model_max_seq_len: int) -> "JobSpec":
        """Return the filled spec with every decision that depends only on the spec and the model's length limit. Other
        `auto` values are decided where the job is trained."""
        training = self.training.model_copy(
            update={
                "learning_rate": LEARNING_RATES[self.objective][self.method]
                if self.training.learning_rate == "auto"
                else self.training.learning_rate,
                "max_seq_len": min(2048, model_max_seq_len)
                if self.training.max_seq_len == "auto"
                else self.training.max_seq_len,
            }
        )
        filled = self.filled()
        adapter = filled.adapter.model_copy(update={"alpha": filled.adapter.lora_alpha}) if filled.adapter else None
        return filled.model_copy(update={"training": training, "adapter": adapter})
