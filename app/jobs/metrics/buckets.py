"""Defines the buckets that make a long curve fast to draw, and the SQL that builds them from existing values."""

from itertools import pairwise

WIDTHS = (16, 256, 4096, 65536)
"""Lists the buckets' widths in steps, narrowest first. A change needs a migration that rebuilds them."""


def bucket_statements() -> list[str]:
    """Return the SQL that fills an empty `metric_buckets`, each width from the one below. NaN counts as the highest
    value."""
    narrowest = f"""
        INSERT INTO metric_buckets (project_id, job_id, attempt, name, width, start, num_values,
                                    min_value, min_step, max_value, max_step)
        SELECT project_id, job_id, attempt, name, {WIDTHS[0]}, step - step % {WIDTHS[0]} AS start, count(*),
               min(value), (min(ARRAY[value, step]))[2], max(value), (max(ARRAY[value, step]))[2]
        FROM metric_values
        GROUP BY project_id, job_id, attempt, name, start
    """
    wider = [
        f"""
        INSERT INTO metric_buckets (project_id, job_id, attempt, name, width, start, num_values,
                                    min_value, min_step, max_value, max_step)
        SELECT project_id, job_id, attempt, name, {width}, start - start % {width} AS wider_start, sum(num_values),
               min(min_value), (min(ARRAY[min_value, min_step]))[2],
               max(max_value), (max(ARRAY[max_value, max_step]))[2]
        FROM metric_buckets
        WHERE width = {below}
        GROUP BY project_id, job_id, attempt, name, wider_start
        """
        for below, width in pairwise(WIDTHS)
    ]
    return [narrowest, *wider]
