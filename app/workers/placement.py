"""Decides which worker may claim which job. The claim, `waiting_for` and `GET /workers?job=…` all use the conditions
below, so that they cannot disagree."""

from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Double, Text, bindparam, cast, column, exists, func, literal, or_, select, true
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import aliased

from app.db.tables import Job, Project, Worker
from app.domain.hardware import WorkerHardware
from app.workers.presence import is_online


class Offer(NamedTuple):
    """Holds a worker's properties in SQL: the values of a claiming worker, or the columns of a registered one."""

    device: ColumnElement[Any]
    device_name: ColumnElement[Any]
    memory_gb: ColumnElement[Any]
    labels: ColumnElement[Any]


@cache
def claiming() -> Offer:
    """Return the offer of a claiming worker, whose values are `values_of` it. It need not be registered."""
    return Offer(
        bindparam("offer_device", type_=Text()),
        bindparam("offer_device_name", type_=Text()),
        bindparam("offer_memory_gb", type_=Double()),
        bindparam("offer_labels", type_=JSONB()),
    )


def values_of(machine: WorkerHardware) -> dict[str, Any]:
    """Return the parameters of a query that uses `claiming()`."""
    return {
        "offer_device": machine.device,
        "offer_device_name": machine.device_name,
        "offer_memory_gb": machine.memory_gb,
        "offer_labels": dict(machine.labels),
    }


def registered(worker: Any = Worker) -> Offer:
    return Offer(worker.device, worker.device_name, worker.memory_gb, worker.labels)


@cache
def other_worker() -> Any:
    """Return the alias of the table, built once, as `full_projects` is."""
    return aliased(Worker)


def conditions(offer: Offer) -> dict[str, ColumnElement[bool]]:
    """Return the conditions that must all hold for the worker to claim the query's job, in the order in which a
    shortage is reported."""
    return fits(offer) | {"gpu_preferred": offer.device.is_distinct_from("cpu") | ~is_wanted_by_a_gpu()}


def fits(offer: Offer) -> dict[str, ColumnElement[bool]]:
    """Return the conditions on the machine itself, independent of other workers."""
    return {
        "project_labels": is_open_to_project(offer),
        "labels": offer.labels.contains(Job.labels),
        "device": or_(Job.device == "auto", Job.device == offer.device),
        "gpu": is_named_gpu(offer),
        "memory": Job.min_memory_gb <= offer.memory_gb,
    }


def is_open_to_project(offer: Offer) -> ColumnElement[bool]:
    """Return the condition that the worker has one of the values for each key of the project's allowed labels."""
    allowed = func.jsonb_each(Project.allowed_labels).table_valued(column("key", Text), column("value", JSONB))
    own = cast(offer.labels, JSONB)[allowed.c.key].astext
    barred = (
        select(literal(1))
        .select_from(Project)
        .join(allowed, true())
        .where(Project.id == Job.project_id, ~func.coalesce(allowed.c.value.has_key(own), False))
    )
    return ~exists(barred.correlate_except(Project, allowed))


def is_named_gpu(offer: Offer) -> ColumnElement[bool]:
    """Return the condition that the GPU's name contains the requested text, in any case."""
    named = func.unnest(Job.gpu).table_valued(column("name", Text)).render_derived()
    matches = func.strpos(func.lower(offer.device_name), func.lower(named.c.name)) > 0
    matching = select(literal(1)).select_from(named).where(offer.device == "cuda", matches)
    return or_(func.cardinality(Job.gpu) == 0, exists(matching.correlate_except(named)))


def is_wanted_by_a_gpu() -> ColumnElement[bool]:
    """Return the condition that any device may train the job and that it fits a registered GPU worker: a CPU would take
    a hundred times as long. A draining worker counts too, because it is most likely being restarted."""
    other = other_worker()
    able = (other.device == "cuda", is_online(other), other.queues.contains(["training"]))
    fitting = exists().where(*able, *fits(registered(other)).values()).correlate_except(other)
    return (Job.device == "auto") & fitting
