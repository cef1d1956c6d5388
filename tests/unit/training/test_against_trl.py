"""Compares preferences with TRL's DPOTrainer in fp32: its steps, its reference, padded rows and all logits."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from tests.fixtures.tiny_models import WINDOW
from tests.unit.training.conftest import Recorder
from tests.unit.training.pairs import make_dpo, write_pairs
from tests.unit.training.reference import assert_moved_alike, plain_adapter, plain_model, trainable_of
from worker.training.data.packing import PreferencePair
from worker.training.loop.training_loop import TrainingLoop, prepare, train
from worker.training.rows.tokenizer import load_tokens
from worker.training.runtime.messages import MetricsMessage, TrainingRequest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from trl import DPOConfig, DPOTrainer

MakeRequest = Callable[..., TrainingRequest]
STEPS = 6
TRAINING = {"max_steps": STEPS, "batch_size": 4, "learning_rate": 1e-3, "schedule": "linear", "warmup_ratio": 0}
BETA = 0.3
NAMES = {
    "loss": "loss",
    "reward_accuracy": "rewards/accuracies",
    "reward_margin": "rewards/margins",
    "chosen_reward": "rewards/chosen",
    "rejected_reward": "rewards/rejected",
}
"""Maps the names of our metrics to TRL's."""


class Remembering(DPOTrainer):
    """Records the exact values of each step. TRL's log rounds them. The rows are tokenized already."""

    steps: list[dict[str, float]]

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        for values in self._metrics["train"].values():
            values.clear()
        loss = super().compute_loss(*args, **kwargs)
        means = {name: values[-1] for name, values in self._metrics["train"].items() if values}
        self.steps.append(means | {"loss": float(loss.detach())})
        return loss


def as_trl_has_them(pair: PreferencePair) -> dict[str, list[int]]:
    start = int(pair.chosen.labelled.nonzero()[0])
    ids = {"chosen_ids": pair.chosen.ids.tolist(), "rejected_ids": pair.rejected.ids.tolist()}
    assert ids["chosen_ids"][:start] == ids["rejected_ids"][:start]
    return {"prompt_ids": ids["chosen_ids"][:start]} | {name: found[start:] for name, found in ids.items()}


def trained_by_trl(
    model: torch.nn.Module, run: TrainingLoop, tokenizer: PreTrainedTokenizerBase, folder: Path
) -> list[dict[str, float]]:
    """Train with rows laid out in the order of the loop's steps."""
    order = [run.rows.training[row] for step in range(1, run.total_steps + 1) for row in run.epochs.rows(step)]
    arguments = DPOConfig(
        output_dir=str(folder),
        beta=BETA,
        max_steps=run.total_steps,
        per_device_train_batch_size=run.training.batch_size,
        learning_rate=float(run.training.learning_rate),
        lr_scheduler_type="linear",
        max_grad_norm=run.training.max_grad_norm,
        train_sampling_strategy="sequential",
        max_length=None,
        activation_checkpointing=False,
        bf16=False,
        use_cpu=True,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    rows = Dataset.from_list([as_trl_has_them(pair) for pair in order if isinstance(pair, PreferencePair)])
    trainer = Remembering(model=model, args=arguments, train_dataset=rows, processing_class=tokenizer)
    trainer.steps = []
    trainer.train()
    return trainer.steps


def compare(channel: Recorder, expected: list[dict[str, float]]) -> None:
    measured = [line.values for line in channel.lines if isinstance(line, MetricsMessage) and "loss" in line.values]
    assert len(measured) == len(expected) == STEPS
    for ours, theirs in zip(measured, expected, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
    # Rewards are small differences of large sums, which TRL computes in fp32. Before the first step all are zero.
    for ours, theirs in zip(measured[1:], expected[1:], strict=True):
        for name, named in NAMES.items():
            assert ours[name] == pytest.approx(theirs[named], rel=1e-3, abs=1e-4), name
    assert measured[-1]["reward_margin"] > 10 * abs(measured[0]["reward_margin"])


def ready(make_request: MakeRequest, tmp_path: Path, family: str, **fields: Any) -> tuple[TrainingLoop, Recorder]:
    spec = make_dpo("lora", training=TRAINING, adapter={"rank": 4}, dpo={"beta": BETA}, **fields.pop("spec", {}))
    channel = Recorder()
    dataset = write_pairs(tmp_path / "pairs.jsonl")
    run = prepare(make_request(family=family, spec=spec, dataset_path=dataset, **fields), channel)
    assert run.rows.training.longest > 2 * WINDOW
    return run, channel


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_a_fresh_adapter_has_the_base_as_its_reference(family: str, make_request: MakeRequest, tmp_path: Path) -> None:
    """Use TRL's default reference: the model with its adapter disabled."""
    run, channel = ready(make_request, tmp_path, family)
    before = {name: tensor.detach().clone() for name, tensor in run.model.trainable.items()}
    plain = plain_adapter(plain_model(run.request.base_model_path), run.request.spec.adapter, before)
    tokenizer = load_tokens(run.request.base_model_path).tokenizer
    expected = trained_by_trl(plain, run, tokenizer, tmp_path / "trl")
    run.loop()
    compare(channel, expected)
    assert_moved_alike(run.model.trainable, plain, before)


def test_a_continued_adapter_has_its_start_as_its_reference(make_request: MakeRequest, tmp_path: Path) -> None:
    """Use TRL's copy of the given adapter, named "ref", as the reference."""
    first = make_dpo("lora", training={"max_steps": 4}, adapter={"rank": 4})
    dataset = write_pairs(tmp_path / "first.jsonl")
    train(make_request(spec=first, dataset_path=dataset, work_dir=tmp_path / "first"), Recorder())
    start = tmp_path / "first" / "result"
    fields = {"spec": {"init_from": "adp-" + "0" * 24}, "init_from_path": start}
    run, channel = ready(make_request, tmp_path, "llama", **fields)
    before = {name: tensor.detach().clone() for name, tensor in run.model.trainable.items()}
    assert all(tensor.any() for name, tensor in before.items() if "lora_B" in name)
    plain = PeftModel.from_pretrained(plain_model(run.request.base_model_path), start, is_trainable=True)
    tokenizer = load_tokens(run.request.base_model_path).tokenizer
    expected = trained_by_trl(plain, run, tokenizer, tmp_path / "trl")
    run.loop()
    compare(channel, expected)
    ours = dict(run.model.trainable)
    after = {name.replace(".default", ""): each for name, each in trainable_of(plain).items()}
    moved = torch.cat([(ours[name] - before[name]).flatten() for name in before])
    theirs = torch.cat([(after[name.replace(".default", "")] - before[name]).flatten() for name in before])
    assert (moved - theirs).norm() / theirs.norm() < 1e-3


def test_a_full_fine_tune_has_the_initial_weights_as_its_reference(make_request: MakeRequest, tmp_path: Path) -> None:
    """Use a second model as TRL's reference."""
    spec = make_dpo("full", training=TRAINING | {"learning_rate": 1e-4}, dpo={"beta": BETA})
    channel = Recorder()
    run = prepare(make_request(spec=spec, dataset_path=write_pairs(tmp_path / "pairs.jsonl")), channel)
    tokenizer = load_tokens(run.request.base_model_path).tokenizer
    expected = trained_by_trl(plain_model(run.request.base_model_path), run, tokenizer, tmp_path / "trl")
    run.loop()
    compare(channel, expected)
