"""Defines the errors of requests about webhooks."""

from app.errors import Busy, Conflict, FieldError, NotFound, TunewrightError


class WebhookNotFound(NotFound):
    code, noun, listing = "webhook_not_found", "webhook", "/webhooks"


class DeliveryNotFound(NotFound):
    code, noun, listing = "delivery_not_found", "delivery", "/webhooks/{id}/deliveries"


class TooManyWebhooks(Conflict):
    code = "too_many_webhooks"

    def __init__(self, most: int) -> None:
        self.most = most
        super().__init__(f"The project has {most} webhooks, which is the limit; delete one first.")


class DeliveryPending(Conflict):
    code = "delivery_pending"

    def __init__(self, id: str) -> None:
        self.id = id
        super().__init__(f"Delivery {id} is still pending; wait until it ends.")


class WebhookDisabled(Conflict):
    code = "webhook_disabled"

    def __init__(self, id: str) -> None:
        self.id = id
        super().__init__(f"Webhook {id} is disabled. Enable it first.")


class InvalidWebhook(TunewrightError):
    status, code = 422, "invalid_webhook"

    def __init__(self, errors: list[FieldError]) -> None:
        self.errors = tuple(errors)
        super().__init__(" ".join(error.message for error in errors))


class TooManyLookups(Busy):
    """Too many host names are being looked up, for the project or in total; send the request again in a few seconds."""

    code = "too_many_lookups"
