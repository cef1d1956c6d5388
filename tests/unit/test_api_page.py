import json
import re
from collections.abc import Iterator
from pathlib import Path

import app.keys.errors
import app.models.errors
import app.projects.errors
import app.web.errors
import app.webhooks.errors  # noqa: F401 - errors of the resources that have their own module
from app import errors
from app.errors import TunewrightError
from app.jobs.schemas import Resolved
from app.web.problems import ProblemDetails

PAGE = (Path(__file__).parents[2] / "docs/api.md").read_text()
FRAMEWORK_ERRORS = {("405", "method_not_allowed"), ("422", "invalid_request")}


def family(error: type[TunewrightError]) -> Iterator[type[TunewrightError]]:
    yield error
    for child in error.__subclasses__():
        yield from family(child)


def test_the_page_lists_every_error_code() -> None:
    listed = re.findall(r"^\| (\d{3}) \| `(\w+)` \| .+ \|$", PAGE, re.M)
    assert len(listed) == len(set(listed))
    assert set(listed) == {(str(error.status), error.code) for error in family(TunewrightError)} | FRAMEWORK_ERRORS


def test_every_code_belongs_to_one_error() -> None:
    codes = [error.code for error in family(TunewrightError)]
    assert len(codes) == len(set(codes))


def test_the_docstring_of_the_errors_module_names_every_error() -> None:
    docstring = errors.__doc__ or ""
    assert all(re.search(rf"\b{error.__name__}\b", docstring) for error in family(TunewrightError))


def test_the_examples_are_valid_answers() -> None:
    decided, problem = map(json.loads, re.findall(r"```json\n(.*?)\n```", PAGE, re.S))
    assert [Resolved.model_validate(each).model_dump() for each in decided] == decided
    assert ProblemDetails.model_validate(problem).code == "invalid_spec"
