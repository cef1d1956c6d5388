"""Refuses unknown query parameters on every route."""

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Any, Final, TypeVar

from fastapi import Depends, Query, Request
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError

from app.domain.suggestions.closest import advise, find_closest
from app.web.auth import CallerDep

StateT = TypeVar("StateT", bound=StrEnum)
ANY_KEY: Final = "[key]"
"""Ends the name of a parameter with a key that the caller chooses, such as `metadata[team]`."""
NAMES_ELSEWHERE: Final[Mapping[str, str]] = MappingProxyType(
    {"max_results": "limit", "n": "limit", "offset": "cursor", "page": "cursor", "page_size": "limit"}
    | {"page_token": "cursor", "per_page": "limit", "size": "limit", "starting_after": "after"}
)


async def refuse_unknown_parameters(request: Request, caller: CallerDep) -> None:
    """Refuse unknown parameters. The key is checked first: a caller without one learns nothing about the parameters."""
    if request.query_params:
        _refuse_unknown(request)


async def refuse_unknown_parameters_of_anyone(request: Request) -> None:
    """Refuse unknown parameters on a route that needs no key."""
    if request.query_params:
        _refuse_unknown(request)


REFUSE_UNKNOWN: Final = [Depends(refuse_unknown_parameters)]
REFUSE_UNKNOWN_WITHOUT_KEY: Final = [Depends(refuse_unknown_parameters_of_anyone)]


def states_of(kind: type[StateT], things: str) -> Callable[..., Awaitable[tuple[StateT, ...]]]:
    """Return the dependency of a list that can be filtered by states."""

    async def get_states(
        state: Annotated[tuple[kind, ...], Query(description=f"Only {things} in this state; may be repeated.")] = (),  # type: ignore[valid-type]
        status: Annotated[tuple[kind, ...], Query(description="Alias of `state`.")] = (),  # type: ignore[valid-type]
    ) -> tuple[StateT, ...]:
        return (*state, *status)

    return get_states


def _refuse_unknown(request: Request) -> None:
    known = tuple(_names_of(request.scope["route"].dependant))
    unknown = [name for name in dict.fromkeys(request.query_params) if not _is_known(name, known)]
    if unknown:
        raise RequestValidationError([_describe_unknown(name, known) for name in unknown])


def _names_of(dependant: Dependant) -> Iterator[str]:
    yield from (field.alias for field in dependant.query_params)
    for each in dependant.dependencies:
        yield from _names_of(each)


def _is_known(name: str, known: tuple[str, ...]) -> bool:
    with_keys = [each.removesuffix(ANY_KEY) for each in known if each.endswith(ANY_KEY)]
    return name in known or any(re.fullmatch(rf"{re.escape(each)}\[.{{1,64}}\]", name) for each in with_keys)


def _describe_unknown(name: str, known: tuple[str, ...]) -> dict[str, Any]:
    meant = NAMES_ELSEWHERE.get(name.lower())
    closest = meant if meant in known else find_closest(name, known)
    message = f"Unknown query parameter {name!r:.80}; {advise([closest] if closest else [])}"
    return {"type": "unknown_parameter", "loc": ("query", name), "msg": message, "input": name}
