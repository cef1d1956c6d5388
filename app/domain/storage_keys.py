"""Builds the keys of stored objects: `{project}/datasets/{id}`, an inspection's output under
`{project}/datasets/{id}.{n}`, `{project}/uploads/{upload}/{part}`, `{project}/jobs/{job}/{attempt}/…` and, for all
projects, `models/{sha256}`.

The parts are only ids and digests that the server creates, so that a key shows the owner of the object.
"""


def project_folder(project_id: str) -> str:
    """Return the folder of everything in a project."""
    return project_id


def datasets_folder(project_id: str) -> str:
    return f"{project_id}/datasets"


def dataset_key(project_id: str, id: str) -> str:
    return f"{datasets_folder(project_id)}/{id}"


def inspection_key(project_id: str, id: str, attempt: int) -> str:
    """Return the prefix that only this inspection writes to."""
    return f"{dataset_key(project_id, id)}.{attempt}"


def rows_key(project_id: str, id: str, attempt: int) -> str:
    """Return the key of a dataset's rows as JSON Lines, where the upload itself has another form."""
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
    """Return the key of a base model's file, which models with the same bytes share."""
    return f"{MODELS_FOLDER}/{sha256}"


def find_job_id(key: str) -> str | None:
    """Return the job whose attempt stored the object."""
    parts = key.split("/")
    return parts[2] if len(parts) > 3 and parts[1] == "jobs" else None
