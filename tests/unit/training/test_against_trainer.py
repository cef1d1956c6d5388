"""Compares the loop with transformers' Trainer and PEFT, padded, in fp32: twenty steps, with some documents longer than
the sliding window.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peft import PeftModel
from transformers import Trainer, TrainingArguments

from tests.fixtures.tiny_models import WINDOW
from tests.unit.training.conftest import Recorder, make_spec
from tests.unit.training.reference import assert_moved_alike, padded, plain_adapter, plain_model
from worker.training.loop.training_loop import TrainingLoop, prepare
from worker.training.runtime.messages import TrainingRequest


class Remembering(Trainer):
    """Records the exact loss of each step. The Trainer's log rounds it."""

    losses: list[float]

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(*args, **kwargs)
        self.losses.append(float(loss.detach()))
        return loss


def trained_by_trainer(model: PeftModel, run: TrainingLoop, folder: Path) -> list[float]:
    """Train with rows laid out in the order of the loop's steps."""
    order = [run.rows.training[row] for step in range(1, run.total_steps + 1) for row in run.epochs.rows(step)]
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=run.total_steps,
        per_device_train_batch_size=run.training.batch_size,
        learning_rate=float(run.training.learning_rate),
        lr_scheduler_type="linear",
        max_grad_norm=run.training.max_grad_norm,
        weight_decay=0.0,
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        use_cpu=True,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = Remembering(model=model, args=arguments, train_dataset=order, data_collator=padded)
    trainer.losses = []
    trainer.train()
    return trainer.losses


@pytest.mark.parametrize("family", ["llama", "gemma3", "mistral"])
def test_twenty_steps_equal_the_trainers(
    family: str, make_request: Callable[..., TrainingRequest], tmp_path: Path
) -> None:
    rows = [
        {"prompt": "the printer " * (number % 5 + 1), "completion": "is late " * (number % 3 + 1)}
        for number in range(20)
    ]
    dataset = tmp_path / "long.jsonl"
    dataset.write_text("".join(json.dumps(row) + "\n" for row in rows))
    training = {"max_steps": 20, "batch_size": 5, "learning_rate": 1e-3, "schedule": "linear", "warmup_ratio": 0}
    spec = make_spec("lora", training=training, adapter={"rank": 4})
    channel = Recorder()
    run = prepare(make_request(family=family, spec=spec, dataset_path=dataset), channel)
    assert run.rows.training.longest > 2 * WINDOW
    before = {name: tensor.detach().clone() for name, tensor in run.model.trainable.items()}
    plain = plain_adapter(plain_model(run.request.base_model_path), spec.adapter, before)

    expected = trained_by_trainer(plain, run, tmp_path / "trainer")
    run.loop()

    assert channel.losses() == pytest.approx(expected, rel=1e-5)
    assert_moved_alike(run.model.trainable, plain, before)
