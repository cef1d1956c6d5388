"""Where things lie in storage: `{project}/datasets/{id}`, what inspection n makes of it behind
`{project}/datasets/{id}.{n}`, `{project}/uploads/{upload}/{part}`,
`{project}/jobs/{job}/{attempt}/…` and, for all projects, `models/{sha256}`.

Names are our own ids and digests alone, so that what lies somewhere tells whose it is.
"""


def project_folder(project_id: str) -> str:
    """Everything of a project."""
    return project_id


def datasets_folder(project_id: str) -> str:
    return f"{project_id}/datasets"


def dataset_key(project_id: str, id: str) -> str:
    return f"{datasets_folder(project_id)}/{id}"


def inspection_key(project_id: str, id: str, attempt: int) -> str:
    """Where an inspection writes, and no other one."""
    return f"{dataset_key(project_id, id)}.{attempt}"


def rows_key(project_id: str, id: str, attempt: int) -> str:
    """Of a dataset's rows as JSON Lines, where the upload itself is something else."""
    return f"{inspection_key(project_id, id, attempt)}.rows"


def hashes_key(project_id: str, id: str, attempt: int) -> str:
    return f"{inspection_key(project_id, id, attempt)}.hashes"


def uploads_folder(project_id: str) -> str:
    return f"{project_id}/uploads"


def part_key(project_id: str, upload_id: str, id: str) -> str:
    return f"{uploads_folder(project_id)}/{upload_id}/{id}"


def jobs_folder(project_id: str) -> str:
    return f"{project_id}/jobs"


def job_folder(project_id: str, job_id: str) -> str:
    return f"{jobs_folder(project_id)}/{job_id}"


def attempt_folder(project_id: str, job_id: str, attempt: int) -> str:
    return f"{job_folder(project_id, job_id)}/{attempt}"


MODELS_FOLDER = "models"


def model_file_key(sha256: str) -> str:
    """Of a base model's file, which models that hold the same bytes share."""
    return f"{MODELS_FOLDER}/{sha256}"


def find_job_id(key: str) -> str | None:
    """The job whose attempt stored the object."""
    parts = key.split("/")
    return parts[2] if len(parts) > 3 and parts[1] == "jobs" else None
