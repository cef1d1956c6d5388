"""Assembles a worker: `celery -A worker.main worker -Q training --pool solo`, or `-Q light`."""

from worker.celery_app import app
from worker.poller import Poll

app.steps["worker"].add(Poll)
