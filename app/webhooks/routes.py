"""Serves `/webhooks`: where a project is notified about its jobs, and the result of each delivery."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel

from app.domain.webhook import DeliveryState
from app.errors import (
    IdempotencyKeyReused,
    InvalidCursor,
    InvalidJson,
    RequestInProgress,
    TooLarge,
    UnsupportedMediaType,
)
from app.web.auth import CallerDep
from app.web.bodies.json_body import BodyDep, parsed, read_json
from app.web.dependencies import PageDep, SessionDep, SettingsDep
from app.web.idempotency import Created, IdempotentCreateDep
from app.web.page_schema import Page, page_of
from app.web.parameters import states_of
from app.web.problems import problems
from app.webhooks.errors import (
    DeliveryNotFound,
    DeliveryPending,
    InvalidWebhook,
    TooManyLookups,
    TooManyWebhooks,
    WebhookDisabled,
    WebhookNotFound,
)
from app.webhooks.lookups import Lookups
from app.webhooks.schemas import DeliveryOut, WebhookChange, WebhookIn, WebhookOut, WebhookWithSecret
from app.webhooks.service import WebhookService, check_url

router = APIRouter(prefix="/webhooks", tags=["webhooks"])


async def get_lookups(request: Request) -> Lookups:
    lookups: Lookups = request.app.state.lookups
    return lookups


LookupsDep = Annotated[Lookups, Depends(get_lookups)]
JsonDep = Annotated[object, Depends(read_json)]
BODY_REFUSALS = (InvalidWebhook, TooManyLookups, InvalidJson, TooLarge, UnsupportedMediaType)
AGAIN = (RequestInProgress, IdempotencyKeyReused)


def _json(model: type[BaseModel]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": model.model_json_schema()}}}}


@router.post(
    "",
    status_code=201,
    summary="Create a webhook",
    response_model=WebhookWithSecret,
    openapi_extra=_json(WebhookIn),
    responses=problems(*BODY_REFUSALS, TooManyWebhooks, *AGAIN),
)
def post_webhook(
    caller: CallerDep,
    session: SessionDep,
    settings: SettingsDep,
    lookups: LookupsDep,
    once: IdempotentCreateDep,
    body: BodyDep,
    raw: JsonDep,
) -> Response:
    """Create a webhook that is called when a job of the project succeeds, fails, is cancelled or is paused. The
    response contains the secret that verifies deliveries; it is shown only once."""
    wanted = parsed(WebhookIn, raw)
    check_url(wanted.url, settings.webhook_allowed, lookups, caller.project_id)

    def make() -> Created:
        webhook = WebhookService(session).create(caller.project_id, **wanted.model_dump())
        return Created(f"/webhooks/{webhook.id}", WebhookWithSecret.of(webhook, caller))

    return once.answer(make, body, sealed=True)


@router.get("", summary="List webhooks", responses=problems(InvalidCursor))
def list_webhooks(caller: CallerDep, session: SessionDep, page: PageDep) -> Page[WebhookOut]:
    """List the project's webhooks, newest first, without their secrets."""
    found = WebhookService(session).list(caller.project_id, page.limit, page.after)
    return page_of(found, page.limit, lambda webhook: WebhookOut.of(webhook, caller))


@router.get("/{id}", summary="Get a webhook", responses=problems(WebhookNotFound))
def get_webhook(id: str, caller: CallerDep, session: SessionDep) -> WebhookOut:
    """Get a webhook without its secret."""
    return WebhookOut.of(WebhookService(session).get(caller.project_id, id), caller)


@router.patch(
    "/{id}",
    summary="Change a webhook",
    openapi_extra=_json(WebhookChange),
    responses=problems(WebhookNotFound, *BODY_REFUSALS),
)
def change_webhook(
    id: str, caller: CallerDep, session: SessionDep, settings: SettingsDep, lookups: LookupsDep, raw: JsonDep
) -> WebhookOut:
    """Change the webhook's URL, events or name, or enable or disable it. Pending deliveries go to the new URL."""
    wanted = parsed(WebhookChange, raw).model_dump(exclude_unset=True)
    if "url" in wanted:
        check_url(wanted["url"], settings.webhook_allowed, lookups, caller.project_id)
    return WebhookOut.of(WebhookService(session).change(caller.project_id, id, **wanted), caller)


@router.delete("/{id}", status_code=204, summary="Delete a webhook", responses=problems(WebhookNotFound))
def delete_webhook(id: str, caller: CallerDep, session: SessionDep) -> None:
    """Delete a webhook and its deliveries. Pending deliveries are no longer sent."""
    WebhookService(session).delete(caller.project_id, id)


@router.post(
    "/{id}/rotate",
    summary="Rotate a webhook's secret",
    response_model=WebhookWithSecret,
    responses=problems(WebhookNotFound, *AGAIN),
)
def rotate_webhook(
    id: str,
    caller: CallerDep,
    session: SessionDep,
    once: IdempotentCreateDep,
    grace_seconds: Annotated[int, Query(ge=0, le=7 * 86400, description="How long the old secret also signs.")] = 86400,
) -> Response:
    """Rotate the secret. The response contains the new secret, which is shown only once. During the grace period both
    secrets sign deliveries, so that receivers can be updated one by one."""

    def make() -> Created:
        webhook = WebhookService(session).rotate(caller.project_id, id, grace_seconds)
        return Created(f"/webhooks/{id}", WebhookWithSecret.of(webhook, caller), 200)

    return once.answer(make, str(grace_seconds).encode(), sealed=True)


@router.post(
    "/{id}/test",
    status_code=202,
    summary="Send a test event",
    response_model=DeliveryOut,
    responses=problems(WebhookNotFound, WebhookDisabled, *AGAIN),
)
def send_test(id: str, caller: CallerDep, session: SessionDep, once: IdempotentCreateDep) -> Response:
    """Send an event of the type `webhook.test`, which is about the webhook itself. It is signed and delivered like any
    other event. Poll the response's `Location` for the result."""

    def make() -> Created:
        delivery = WebhookService(session).test(caller.project_id, id)
        return Created(_place(delivery.webhook_id, delivery.id), DeliveryOut.model_validate(delivery), 202)

    return once.answer(make)


@router.get("/{id}/deliveries", summary="List deliveries", responses=problems(WebhookNotFound, InvalidCursor))
def list_deliveries(
    id: str,
    caller: CallerDep,
    session: SessionDep,
    page: PageDep,
    states: Annotated[tuple[DeliveryState, ...], Depends(states_of(DeliveryState, "deliveries"))],
) -> Page[DeliveryOut]:
    """List the deliveries of the last seven days, including pending ones, newest first."""
    found = WebhookService(session).list_deliveries(caller.project_id, id, page.limit, page.after, states)
    return page_of(found, page.limit, DeliveryOut.model_validate)


@router.get(
    "/{id}/deliveries/{delivery_id}",
    summary="Get a delivery",
    responses=problems(WebhookNotFound, DeliveryNotFound),
)
def get_delivery(id: str, delivery_id: str, caller: CallerDep, session: SessionDep) -> DeliveryOut:
    """Get a delivery's state, number of tries, last response of the receiver, and time of the next try."""
    return DeliveryOut.model_validate(WebhookService(session).get_delivery(caller.project_id, id, delivery_id))


@router.post(
    "/{id}/deliveries/{delivery_id}/redeliver",
    status_code=202,
    summary="Redeliver an event",
    response_model=DeliveryOut,
    responses=problems(WebhookNotFound, DeliveryNotFound, DeliveryPending, WebhookDisabled, *AGAIN),
)
def redeliver(id: str, delivery_id: str, caller: CallerDep, session: SessionDep, once: IdempotentCreateDep) -> Response:
    """Create a new delivery of the same event, with the same `webhook-id` and body, after the old one has ended."""

    def make() -> Created:
        delivery = WebhookService(session).redeliver(caller.project_id, id, delivery_id)
        return Created(_place(id, delivery.id), DeliveryOut.model_validate(delivery), 202)

    return once.answer(make)


def _place(id: str, delivery_id: str) -> str:
    return f"/webhooks/{id}/deliveries/{delivery_id}"
