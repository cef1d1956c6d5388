"""Names the models that jobs make: `ft:<base model>:<suffix>:<end of the job's id>`, and `:ckpt-step-<step>` after it
for a checkpoint. A name is built from its job alone, and is valid in one project.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, Protocol

END: Final = 8
"""Is the number of characters of the job's id."""
FORM: Final = re.compile(r"(ft:[^:]+:[^:]*:([0-9a-f]{8}))(?::ckpt-step-(\d{1,9}))?")


class NamingJob(Protocol):
    """Holds the fields of a job that its models' names are built from."""

    @property
    def id(self) -> str: ...

    @property
    def base_model(self) -> str: ...

    @property
    def spec(self) -> Mapping[str, Any]: ...


def fine_tuned_name(job: NamingJob) -> str:
    return f"ft:{job.base_model}:{job.spec['suffix'] or ''}:{job.id[-END:]}"


def checkpoint_name(job: NamingJob, step: int) -> str:
    return f"{fine_tuned_name(job)}:ckpt-step-{step}"
