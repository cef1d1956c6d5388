"""Defines JobSpec, a user's request. It is frozen and closed, and shows every default."""

from typing import Annotated, Final, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator
from pydantic_core import PydanticCustomError

from app.domain.integration import Integration
from app.domain.jobs.training_config import BASE_REWRITING_INITS, AdapterSpec, DpoSpec, Quantization, TrainingSpec
from app.domain.spec_part import SpecPart
from app.labels import LABEL

Method = Literal["qlora", "lora", "full"]
Objective = Literal["sft", "dpo"]
LEARNING_RATES: Final[dict[Objective, dict[Method, float]]] = {
    "sft": {"qlora": 2e-4, "lora": 2e-4, "full": 1e-5},
    "dpo": {"qlora": 2e-5, "lora": 2e-5, "full": 1e-6},
}
"""Holds the values of `auto`. Preferences adjust a model that can already answer: they need a tenth of the rate for
answers."""
DatasetId = Annotated[str, StringConstraints(pattern=r"^file-[0-9a-f]{24}$")]
Start = Annotated[
    str,
    StringConstraints(
        pattern=r"^(?:adp-[0-9a-f]{24}|ftckpt_[0-9a-f]{24}|"
        r"ft:[A-Za-z0-9._/-]{1,200}:[A-Za-z0-9_.-]{0,64}:[0-9a-f]{8}(?::ckpt-step-[0-9]{1,9})?)$"
    ),
]
GpuName = Annotated[str, StringConstraints(pattern=r"^[ -~]{1,100}$", strip_whitespace=True)]
Label = Annotated[str, StringConstraints(pattern=f"^{LABEL}$")]


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
