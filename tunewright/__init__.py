"""Provides the Python client. `Client` calls a Tunewright server over HTTP; it imports no server code.

from tunewright import Client

with Client() as client:
    dataset = client.upload_dataset("tickets.jsonl")
    job = client.create_job(base_model="gemma-3-270m", dataset_id=dataset.id, training={"epochs": 2})
    for update in client.watch(job.id):
        print(update)
"""

from tunewright.calls.keys import Key
from tunewright.client import Client
from tunewright.errors import ConnectionFailed, FieldError, TunewrightError
from tunewright.wire import (
    Adapter,
    AdapterFile,
    AdapterSummary,
    Artifact,
    Checkpoint,
    Dataset,
    Delivery,
    Event,
    Job,
    MetricPoint,
    Model,
    ModelSummary,
    Overlap,
    OverlapSummary,
    Preview,
    PreviewSummary,
    Problem,
    Project,
    ProjectDeletion,
    ValidatedSpec,
    Webhook,
    Worker,
)

__all__ = [
    "Adapter",
    "AdapterFile",
    "AdapterSummary",
    "Artifact",
    "Checkpoint",
    "Client",
    "ConnectionFailed",
    "Dataset",
    "Delivery",
    "Event",
    "FieldError",
    "Job",
    "Key",
    "MetricPoint",
    "Model",
    "ModelSummary",
    "Overlap",
    "OverlapSummary",
    "Preview",
    "PreviewSummary",
    "Problem",
    "Project",
    "ProjectDeletion",
    "TunewrightError",
    "ValidatedSpec",
    "Webhook",
    "Worker",
]
