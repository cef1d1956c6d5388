from collections.abc import Collection, Mapping
from typing import get_args

import pytest

from app.domain.integration import NEEDS, Integration, IntegrationType, served

ALL = ("wandb", "mlflow-skinny", "tensorboardX")


@pytest.mark.parametrize(
    ("installed", "environment", "expected"),
    [
        (ALL, {}, ["tensorboard"]),
        (ALL, {"WANDB_API_KEY": "k", "MLFLOW_TRACKING_URI": "http://here"}, ["wandb", "mlflow", "tensorboard"]),
        (ALL, {"WANDB_API_KEY": "", "MLFLOW_TRACKING_URI": ""}, ["tensorboard"]),
        (["wandb"], {"WANDB_MODE": "offline"}, ["wandb"]),
        (["wandb"], {"WANDB_MODE": "online"}, []),
        (["mlflow"], {"MLFLOW_TRACKING_URI": "databricks"}, ["mlflow"]),
        ([], {"WANDB_API_KEY": "k"}, []),
    ],
)
def test_a_worker_serves_integrations_with_their_package_and_credentials(
    installed: Collection[str], environment: Mapping[str, str], expected: list[str]
) -> None:
    assert served(installed, environment) == expected


def test_every_type_has_its_needs() -> None:
    members = [get_args(each)[0] for each in get_args(get_args(Integration)[0])]
    types = [get_args(member.model_fields["type"].annotation) for member in members]
    assert [type for (type,) in types] == list(NEEDS) == list(get_args(IntegrationType))


def test_a_remedy_names_the_variables() -> None:
    assert "WANDB_API_KEY or WANDB_MODE=offline" in NEEDS["wandb"].remedy
    assert "MLFLOW_TRACKING_URI" in NEEDS["mlflow"].remedy
    assert "set" not in NEEDS["tensorboard"].remedy
