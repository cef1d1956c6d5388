"""Runs PostgreSQL, Redis and Tunewright's processes as one local stack.

`python -m app.local` runs it; `embedded_postgres` and `embedded_redis` run a server alone.
"""
