"""Creates the OpenAI-compatible API: a separate application below `/v1`, so that every error there is an envelope."""

from typing import Any

from fastapi import FastAPI
from starlette.datastructures import State

from app.openai.envelope import envelope
from app.openai.files.routes import router as files
from app.openai.jobs.progress_routes import router as job_progress
from app.openai.jobs.routes import router as jobs
from app.openai.models.routes import router as models
from app.openai.uploads.routes import router as uploads
from app.web import problems
from app.web.answers.reference import create_documented
from app.web.parameters import REFUSE_UNKNOWN
from app.web.version import VERSION

DESCRIPTION = """OpenAI's API for files, uploads, models and fine-tuning, over the same resources as Tunewright's API
at [/docs](/docs), with the same ids. To use it, set `base_url` and `api_key` of OpenAI's client.

Errors have OpenAI's format: `code` is stable, and `param` names the first invalid field."""
FASTAPIS_OWN = ("HTTPValidationError", "ValidationError")


def create_face(state: State) -> FastAPI:
    """Create the application to mount at `/v1`; it shares the state of the application it is mounted in."""
    face = create_documented(
        title="Tunewright: OpenAI-compatible API",
        version=VERSION,
        description=DESCRIPTION,
        servers=[{"url": "/v1"}],
        root_path_in_servers=False,
        redirect_slashes=False,
        separate_input_output_schemas=False,
    )
    face.state = state
    face.openapi = lambda: _build_document(face)  # type: ignore[method-assign]
    problems.install(face, envelope)
    for router in (jobs, job_progress, files, uploads, models):
        face.include_router(router, dependencies=REFUSE_UNKNOWN)
    return face


def _build_document(face: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI schema without the 422 that FastAPI adds to each operation: bad parameters are a 400 here."""
    if face.openapi_schema is None:
        document = FastAPI.openapi(face)
        for operations in document["paths"].values():
            for operation in operations.values():
                operation["responses"].pop("422", None)
        for name in FASTAPIS_OWN:
            document.get("components", {}).get("schemas", {}).pop(name, None)
    assert face.openapi_schema is not None
    return face.openapi_schema
