"""Names of what jobs have made: `ft:<base model>:<suffix>:<end of the job's id>`, and a checkpoint's with
`:ckpt-step-<step>` behind it. A name is made from its job alone, and holds for one project."""

import re
from collections.abc import Mapping
from typing import Any, Final, Protocol

END: Final = 8
"""Characters of the job's id."""
FORM: Final = re.compile(r"(ft:[^:]+:[^:]*:([0-9a-f]{8}))(?::ckpt-step-(\d{1,9}))?")


class NamingJob(Protocol):
    """What of a job the names of its models are made from."""

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
