"""Defines `tunewright webhooks`."""

from itertools import islice
from typing import Annotated

import typer

from tunewright import Client, Webhook
from tunewright.commands.options import AsJson, Limit
from tunewright.display import console, format_time, notes, print_json, print_table
from tunewright.transport import poll

app = typer.Typer(no_args_is_help=True, help="Manage webhooks, which report jobs that end or pause.")
Id = Annotated[str, typer.Argument(help="The webhook's id.", metavar="ID")]
SHORT = "fine_tuning.job."


@app.command()
def create(
    url: Annotated[str, typer.Argument(help="URL of the receiver, https or http.", metavar="URL")],
    event: Annotated[
        list[str] | None, typer.Option("--event", help="succeeded, failed, cancelled or paused; may be repeated [all].")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the webhook.")] = None,
    as_json: AsJson = False,
) -> None:
    """Create a webhook, and print its secret once."""
    events = [each if "." in each else SHORT + each for each in event or ()]
    with Client() as client:
        webhook = client.create_webhook(url, events=events or None, name=name)
    show_secret(webhook, as_json)


@app.command("list")
def list_webhooks(limit: Limit = 20, as_json: AsJson = False) -> None:
    """List webhooks, newest first."""
    with Client() as client:
        webhooks = list(islice(client.list_webhooks(), limit))
    if as_json:
        return print_json([webhook.raw for webhook in webhooks])
    columns = {
        "id": lambda w: w.id,
        "name": lambda w: w.name or "",
        "url": lambda w: w.url,
        "events": lambda w: ", ".join(each.removeprefix(SHORT) for each in w.events),
        "state": lambda w: "enabled" if w.enabled else "disabled",
        "created": lambda w: format_time(w.created_at),
    }
    print_table(webhooks, columns)


@app.command()
def deliveries(
    id: Id,
    state: Annotated[str | None, typer.Option(help="Only deliveries in this state.")] = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List the deliveries of a webhook, newest first."""
    with Client() as client:
        found = list(islice(client.list_deliveries(id, state), limit))
    if as_json:
        return print_json([delivery.raw for delivery in found])
    columns = {
        "id": lambda d: d.id,
        "type": lambda d: d.type.removeprefix(SHORT),
        "state": lambda d: d.state,
        "tries": lambda d: str(d.num_tries),
        "status code": lambda d: str(d.last_status_code or ""),
        "error": lambda d: d.last_error or "",
        "next try": lambda d: format_time(d.next_try_at),
    }
    print_table(found, columns)


@app.command()
def test(id: Id) -> None:
    """Send a test event, and wait for its first try."""
    with Client() as client:
        sent = client.send_test_event(id)
        tried = poll(lambda: client.get_delivery(id, sent.id), lambda d: d.state != "pending" or bool(d.last_error))
    if tried.state != "delivered":
        notes.print(f"tunewright: The test event was not delivered: {tried.last_error}", style="red")
        raise typer.Exit(1)
    console.print(f"Delivered the test event: the receiver returned status {tried.last_status_code}.")


@app.command()
def rotate(
    id: Id,
    grace: Annotated[int, typer.Option(min=0, help="Seconds for which the old secret also signs.")] = 86400,
    as_json: AsJson = False,
) -> None:
    """Rotate a webhook's secret, and print the new one once."""
    with Client() as client:
        webhook = client.rotate_webhook(id, grace_seconds=grace)
    show_secret(webhook, as_json)


@app.command()
def delete(id: Id) -> None:
    """Delete a webhook and its pending deliveries."""
    with Client() as client:
        client.delete_webhook(id)
    console.print(f"Deleted {id}")


def show_secret(webhook: Webhook, as_json: bool) -> None:
    if as_json:
        return print_json(webhook.raw)
    console.print(webhook.id)
    notes.print("Secret, shown only once:")
    console.print(webhook.raw["secret"], soft_wrap=True)
