"""PostgreSQL, Redis and Tunewright's own processes as one local stack.

`python -m app.local` runs it; `embedded_postgres` and `embedded_redis` run a server alone.
"""
