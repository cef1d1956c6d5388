"""Holds the SQL of metric points. Each query names its project and job, and a primary key serves each range of
steps."""

from sqlalchemy import text

ADD = text("""
    WITH fresh AS (
        INSERT INTO metric_values (project_id, job_id, attempt, number, step, measured_at, name, value)
        SELECT :project_id, :job_id, * FROM unnest(
            CAST(:attempts AS bigint[]), CAST(:numbers AS bigint[]), CAST(:steps AS bigint[]),
            CAST(:instants AS timestamptz[]), CAST(:names AS text[]), CAST(:values AS float8[]))
        ON CONFLICT DO NOTHING
        RETURNING project_id, job_id, attempt, name, step, value
    )
    INSERT INTO metric_buckets AS known (project_id, job_id, attempt, name, width, start, num_values,
                                         min_value, min_step, max_value, max_step)
    SELECT project_id, job_id, attempt, name, width, step - step % width AS start, count(*),
           min(value), (min(ARRAY[value, step]))[2], max(value), (max(ARRAY[value, step]))[2]
    FROM fresh CROSS JOIN unnest(CAST(:widths AS bigint[])) AS width
    GROUP BY project_id, job_id, attempt, name, width, start
    ON CONFLICT (job_id, attempt, name, width, start) DO UPDATE SET
        num_values = known.num_values + excluded.num_values,
        min_value = least(known.min_value, excluded.min_value),
        min_step = CASE WHEN excluded.min_value < known.min_value THEN excluded.min_step ELSE known.min_step END,
        max_value = greatest(known.max_value, excluded.max_value),
        max_step = CASE WHEN excluded.max_value > known.max_value THEN excluded.max_step ELSE known.max_step END
""")

# Skips from one (attempt, name) to the next in the primary key, instead of reading every row to find them.
MEASURED = text("""
    WITH RECURSIVE series AS (
        (SELECT attempt, name FROM metric_values
         WHERE project_id = :project_id AND job_id = :job_id ORDER BY attempt, name LIMIT 1)
        UNION ALL
        SELECT following.* FROM series CROSS JOIN LATERAL (
            SELECT attempt, name FROM metric_values
            WHERE project_id = :project_id AND job_id = :job_id AND (attempt, name) > (series.attempt, series.name)
            ORDER BY attempt, name LIMIT 1
        ) AS following
    )
    SELECT series.attempt, series.name, ends.first, ends.last
    FROM series
    CROSS JOIN LATERAL (
        SELECT min(start_step) AS step FROM attempts
        WHERE project_id = :project_id AND job_id = :job_id AND number > series.attempt AND NOT :rewound_too
    ) AS rewound
    CROSS JOIN LATERAL (
        SELECT min(step) AS first, max(step) AS last FROM metric_values
        WHERE project_id = :project_id AND job_id = :job_id AND attempt = series.attempt AND name = series.name
          AND step <= coalesce(rewound.step, :endless)
    ) AS ends
    WHERE ends.first IS NOT NULL
""")

FIRST_POINTS = text("""
    SELECT step, found.attempt, max(number), max(measured_at), array_agg(found.name), array_agg(value)
    FROM unnest(CAST(:attempts AS bigint[]), CAST(:names AS text[]), CAST(:firsts AS bigint[]),
                CAST(:lasts AS bigint[])) AS span (attempt, name, first, last)
    CROSS JOIN LATERAL (
        SELECT * FROM metric_values
        WHERE project_id = :project_id AND job_id = :job_id AND attempt = span.attempt AND name = span.name
          AND step BETWEEN span.first AND span.last
        ORDER BY step LIMIT :limit
    ) AS found
    GROUP BY step, found.attempt
    ORDER BY step, found.attempt LIMIT :limit
""")

GROUPS = text("""
    WITH piece AS (
        SELECT * FROM unnest(CAST(:attempts AS bigint[]), CAST(:names AS text[]), CAST(:widths AS bigint[]),
                             CAST(:firsts AS bigint[]), CAST(:lasts AS bigint[]))
                      AS given (attempt, name, width, first, last)
    ), part AS (
        SELECT piece.attempt, piece.name, start, num_values, min_value, min_step, max_value, max_step
        FROM piece JOIN metric_buckets AS bucket
          ON bucket.project_id = :project_id AND bucket.job_id = :job_id AND bucket.attempt = piece.attempt
         AND bucket.name = piece.name AND bucket.width = piece.width
         AND bucket.start BETWEEN piece.first AND piece.last
        UNION ALL
        SELECT piece.attempt, piece.name, step, 1, value, step, value, step
        FROM piece JOIN metric_values AS found
          ON found.project_id = :project_id AND found.job_id = :job_id AND found.attempt = piece.attempt
         AND found.name = piece.name AND found.step BETWEEN piece.first AND piece.last
        WHERE piece.width = 1
    )
    SELECT name, CAST(sum(num_values) AS bigint) AS num_values,
           min(ARRAY[min_value, min_step, attempt]) AS lowest, max(ARRAY[max_value, max_step, attempt]) AS highest
    FROM part
    GROUP BY name, (start - :origin) / :width
""")

POINTS_AT = text("""
    SELECT step, attempt, max(number), max(measured_at), array_agg(name), array_agg(value)
    FROM metric_values
    JOIN unnest(CAST(:attempts AS bigint[]), CAST(:names AS text[]), CAST(:steps AS bigint[]))
         AS wanted (attempt, name, step) USING (attempt, name, step)
    WHERE project_id = :project_id AND job_id = :job_id
    GROUP BY step, attempt
    ORDER BY step, attempt
""")

EXPORT_COLUMNS = ("name", "step", "value", "attempt", "number", "measured_at")
EXPORT = """
    COPY (
        SELECT name, step, value, attempt, number,
               to_char(measured_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
        FROM metric_values
        WHERE project_id = %s AND job_id = %s AND attempt = %s AND name = %s AND step BETWEEN %s AND %s
        ORDER BY step
    ) TO STDOUT (FORMAT csv)
"""

STEP_METRICS = {
    "train_loss": "loss",
    "train_accuracy": "token_accuracy",
    "valid_loss": "validation_loss",
    "valid_mean_token_accuracy": "validation_token_accuracy",
}
"""Maps the columns of `step_metrics.csv` after `step` to their metrics. No training measures `token_accuracy` yet."""
BY_STEP = f"""
    COPY (
        SELECT step, {", ".join(f"max(value) FILTER (WHERE found.name = '{name}')" for name in STEP_METRICS.values())}
        FROM unnest(CAST(%s AS bigint[]), CAST(%s AS text[]), CAST(%s AS bigint[]), CAST(%s AS bigint[]))
             AS span (attempt, name, first, last)
        CROSS JOIN LATERAL (
            SELECT name, step, value FROM metric_values
            WHERE project_id = %s AND job_id = %s AND attempt = span.attempt AND name = span.name
              AND step BETWEEN span.first AND span.last
        ) AS found
        GROUP BY step
        ORDER BY step
    ) TO STDOUT (FORMAT csv)
"""
