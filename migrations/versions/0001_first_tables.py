"""The first tables, and the database's guard of the state machine."""

from alembic import op

from app.db.triggers import job_transition_statements

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE projects (
    id text NOT NULL, name text NOT NULL, max_running_jobs bigint, allowed_labels jsonb DEFAULT '{}' NOT NULL,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_projects PRIMARY KEY (id),
    CONSTRAINT ck_projects_max_running_jobs CHECK (max_running_jobs >= 0),
    CONSTRAINT uq_projects_name UNIQUE (name)
);

CREATE TABLE project_deletions (
    id text NOT NULL, name text NOT NULL, state text NOT NULL, num_rows jsonb DEFAULT '{}' NOT NULL,
    num_objects bigint DEFAULT 0 NOT NULL, num_bytes bigint DEFAULT 0 NOT NULL,
    num_live_streams bigint DEFAULT 0 NOT NULL, work_folders jsonb DEFAULT '{}' NOT NULL,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL, finished_at timestamptz,
    CONSTRAINT pk_project_deletions PRIMARY KEY (id)
);
CREATE INDEX ix_project_deletions_unfinished ON project_deletions (id) WHERE finished_at IS NULL;

CREATE TABLE api_keys (
    id text NOT NULL, project_id text NOT NULL, name text NOT NULL, sha256 text NOT NULL, scopes text[] NOT NULL,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL, expires_at timestamptz, last_used_at timestamptz,
    revoked_at timestamptz, replaced_by text,
    CONSTRAINT pk_api_keys PRIMARY KEY (id),
    CONSTRAINT fk_api_keys_project_id_projects FOREIGN KEY (project_id) REFERENCES projects (id)
);

CREATE TABLE sessions (
    id text NOT NULL, project_id text NOT NULL, key_id text NOT NULL, sha256 text NOT NULL,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL, expires_at timestamptz NOT NULL,
    CONSTRAINT pk_sessions PRIMARY KEY (id),
    CONSTRAINT fk_sessions_key_id_api_keys FOREIGN KEY (key_id) REFERENCES api_keys (id) ON DELETE CASCADE,
    CONSTRAINT fk_sessions_project_id_projects FOREIGN KEY (project_id) REFERENCES projects (id)
);
CREATE INDEX ix_sessions_expires_at ON sessions (expires_at);
CREATE INDEX ix_sessions_key ON sessions (key_id, created_at, id);

CREATE TABLE installation (
    id text NOT NULL,
    CONSTRAINT pk_installation PRIMARY KEY (id)
);
INSERT INTO installation (id) VALUES (left(md5(CAST(gen_random_uuid() AS text)), 12));

CREATE TABLE idempotency_keys (
    project_id text NOT NULL, key text NOT NULL, request_sha256 text NOT NULL, status bigint NOT NULL,
    location text NOT NULL, body text NOT NULL, created_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_idempotency_keys PRIMARY KEY (project_id, key),
    CONSTRAINT fk_idempotency_keys_project_id_projects FOREIGN KEY (project_id) REFERENCES projects (id)
);
CREATE INDEX ix_idempotency_keys_created_at ON idempotency_keys (created_at);

CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY, project_id text NOT NULL, queue text NOT NULL, task text NOT NULL,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_outbox PRIMARY KEY (id),
    CONSTRAINT fk_outbox_project_id_projects FOREIGN KEY (project_id) REFERENCES projects (id)
);

CREATE TABLE deleted_jobs (
    id text NOT NULL, project_id text NOT NULL, deleted_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_deleted_jobs PRIMARY KEY (id),
    CONSTRAINT fk_deleted_jobs_project_id_projects FOREIGN KEY (project_id) REFERENCES projects (id)
);
CREATE INDEX ix_deleted_jobs_recent ON deleted_jobs (project_id, deleted_at);

CREATE TABLE deleted_objects (
    id bigint GENERATED ALWAYS AS IDENTITY, project_id text NOT NULL, storage_key text NOT NULL,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL, due_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_deleted_objects PRIMARY KEY (id),
    CONSTRAINT fk_deleted_objects_project_id_projects FOREIGN KEY (project_id) REFERENCES projects (id)
);
CREATE INDEX ix_deleted_objects_due_at ON deleted_objects (due_at);
CREATE INDEX ix_deleted_objects_storage_key ON deleted_objects (storage_key);

CREATE TABLE workers (
    id text NOT NULL, device text NOT NULL, device_name text, num_gpus bigint DEFAULT 0 NOT NULL,
    memory_gb float8 NOT NULL, free_memory_gb float8, labels jsonb DEFAULT '{}' NOT NULL,
    versions jsonb DEFAULT '{}' NOT NULL, queues text[] DEFAULT '{}' NOT NULL,
    integrations text[] DEFAULT '{}' NOT NULL, draining boolean DEFAULT false NOT NULL,
    disk_full boolean DEFAULT false NOT NULL, machine_fingerprint text NOT NULL, machine_facts jsonb NOT NULL,
    started_at timestamptz DEFAULT clock_timestamp() NOT NULL, seen_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    online_until timestamptz DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_workers PRIMARY KEY (id)
);

CREATE TABLE base_models (
    id text NOT NULL, name text NOT NULL, for_all_projects boolean DEFAULT true NOT NULL, state text NOT NULL,
    source text NOT NULL, any_path boolean DEFAULT false NOT NULL, wanted_revision text, revision text, hub_name text,
    hub_revision text, files jsonb DEFAULT '[]' NOT NULL, num_bytes_done bigint DEFAULT 0 NOT NULL, num_bytes bigint,
    failure_code text, failure_message text, license text, license_text text, attempt bigint DEFAULT 0 NOT NULL,
    leased_until timestamptz, worker_id text, architecture text DEFAULT '' NOT NULL,
    num_parameters bigint DEFAULT 0 NOT NULL, max_seq_len bigint DEFAULT 0 NOT NULL,
    linear_modules text[] DEFAULT '{}' NOT NULL, config jsonb DEFAULT '{}' NOT NULL,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL, finished_at timestamptz,
    CONSTRAINT pk_base_models PRIMARY KEY (id)
);
CREATE INDEX ix_base_models_waiting ON base_models (created_at) WHERE state IN ('pending', 'fetching');
CREATE UNIQUE INDEX uq_base_models_name ON base_models (name) WHERE state <> 'removed';

CREATE TABLE model_permissions (
    project_id text NOT NULL, model_id text NOT NULL,
    CONSTRAINT pk_model_permissions PRIMARY KEY (model_id, project_id),
    CONSTRAINT fk_model_permissions_model_id_base_models FOREIGN KEY (model_id)
        REFERENCES base_models (id) ON DELETE CASCADE,
    CONSTRAINT fk_model_permissions_project_id_projects FOREIGN KEY (project_id) REFERENCES projects (id)
);

CREATE TABLE datasets (
    id text NOT NULL, project_id text NOT NULL, filename text NOT NULL,
    unsafe_filename boolean DEFAULT false NOT NULL, state text NOT NULL, storage_key text NOT NULL,
    size bigint NOT NULL, sha256 text NOT NULL, container text, compression text, rows_key text, rows_size bigint,
    rows_sha256 text, hashes_key text, cleaned_from text, drops_duplicates boolean DEFAULT false NOT NULL,
    format text, columns jsonb, num_examples bigint, report jsonb, bad_share float8,
    attempt bigint DEFAULT 0 NOT NULL, inspecting_until timestamptz, worker_id text,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL, expires_at timestamptz,
    CONSTRAINT pk_datasets PRIMARY KEY (id),
    CONSTRAINT fk_datasets_project_id_projects FOREIGN KEY (project_id) REFERENCES projects (id)
);
CREATE INDEX ix_datasets_expiry ON datasets (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX ix_datasets_hashes_key ON datasets (hashes_key) WHERE hashes_key IS NOT NULL;
CREATE INDEX ix_datasets_inspecting ON datasets (created_at) WHERE state = 'inspecting';
CREATE INDEX ix_datasets_page ON datasets (project_id, created_at, id);
CREATE INDEX ix_datasets_rows_key ON datasets (rows_key) WHERE rows_key IS NOT NULL;
CREATE INDEX ix_datasets_storage_key ON datasets (storage_key);
CREATE INDEX ix_datasets_worker ON datasets (worker_id) WHERE inspecting_until IS NOT NULL;

CREATE TABLE dataset_problems (
    project_id text NOT NULL, dataset_id text NOT NULL, number bigint NOT NULL, line bigint NOT NULL,
    pointer text NOT NULL, code text NOT NULL, severity text NOT NULL, message text NOT NULL,
    CONSTRAINT pk_dataset_problems PRIMARY KEY (dataset_id, number),
    CONSTRAINT fk_dataset_problems_dataset_id_datasets FOREIGN KEY (dataset_id)
        REFERENCES datasets (id) ON DELETE CASCADE,
    CONSTRAINT fk_dataset_problems_project_id_projects FOREIGN KEY (project_id) REFERENCES projects (id)
);

CREATE TABLE dataset_problem_groups (
    project_id text NOT NULL, dataset_id text NOT NULL, number bigint NOT NULL, line bigint NOT NULL,
    pointer text NOT NULL, code text NOT NULL, severity text NOT NULL, message text NOT NULL, count bigint NOT NULL,
    lines jsonb NOT NULL,
    CONSTRAINT pk_dataset_problem_groups PRIMARY KEY (dataset_id, number),
    CONSTRAINT fk_dataset_problem_groups_dataset_id_datasets FOREIGN KEY (dataset_id)
        REFERENCES datasets (id) ON DELETE CASCADE,
    CONSTRAINT fk_dataset_problem_groups_project_id_projects FOREIGN KEY (project_id) REFERENCES projects (id)
);

CREATE TABLE dataset_checks (
    id text NOT NULL, project_id text NOT NULL, dataset_id text NOT NULL, other_dataset_id text, kind text NOT NULL,
    state text NOT NULL, asked jsonb NOT NULL, totals jsonb, shown jsonb, failure_code text, failure_message text,
    attempt bigint DEFAULT 0 NOT NULL, leased_until timestamptz, worker_id text,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL, finished_at timestamptz,
    CONSTRAINT pk_dataset_checks PRIMARY KEY (id),
    CONSTRAINT fk_dataset_checks_dataset_id_datasets FOREIGN KEY (dataset_id)
        REFERENCES datasets (id) ON DELETE CASCADE,
    CONSTRAINT fk_dataset_checks_other_dataset_id_datasets FOREIGN KEY (other_dataset_id)
        REFERENCES datasets (id) ON DELETE CASCADE,
    CONSTRAINT fk_dataset_checks_project_id_projects FOREIGN KEY (project_id) REFERENCES projects (id)
);
CREATE INDEX ix_dataset_checks_other_dataset_id ON dataset_checks (other_dataset_id) WHERE other_dataset_id IS NOT NULL;
CREATE INDEX ix_dataset_checks_page ON dataset_checks (dataset_id, kind, created_at, id);
CREATE INDEX ix_dataset_checks_pending ON dataset_checks (created_at) WHERE state = 'pending';
CREATE INDEX ix_dataset_checks_worker ON dataset_checks (worker_id) WHERE leased_until IS NOT NULL;

CREATE TABLE uploads (
    id text NOT NULL, project_id text NOT NULL, filename text NOT NULL,
    unsafe_filename boolean DEFAULT false NOT NULL, size bigint NOT NULL, state text NOT NULL, format text,
    columns jsonb, dataset_expires_after_seconds float8, part_ids text[], md5 text, dataset_id text,
    joining_until timestamptz, worker_id text, joined_at timestamptz,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL, expires_at timestamptz NOT NULL, ended_at timestamptz,
    CONSTRAINT pk_uploads PRIMARY KEY (id),
    CONSTRAINT fk_uploads_project_id_projects FOREIGN KEY (project_id) REFERENCES projects (id)
);
CREATE INDEX ix_uploads_ended ON uploads (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX ix_uploads_expiry ON uploads (expires_at) WHERE state = 'pending';
CREATE INDEX ix_uploads_joining ON uploads (ended_at) WHERE state = 'completed' AND joined_at IS NULL;
CREATE INDEX ix_uploads_page ON uploads (project_id, created_at, id);
CREATE INDEX ix_uploads_worker ON uploads (worker_id) WHERE joining_until IS NOT NULL;

CREATE TABLE upload_parts (
    id text NOT NULL, project_id text NOT NULL, upload_id text NOT NULL, storage_key text NOT NULL,
    size bigint NOT NULL, sha256 text NOT NULL, created_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_upload_parts PRIMARY KEY (id),
    CONSTRAINT fk_upload_parts_project_id_projects FOREIGN KEY (project_id) REFERENCES projects (id),
    CONSTRAINT fk_upload_parts_upload_id_uploads FOREIGN KEY (upload_id) REFERENCES uploads (id) ON DELETE CASCADE
);
CREATE INDEX ix_upload_parts_storage_key ON upload_parts (storage_key);
CREATE INDEX ix_upload_parts_upload_id ON upload_parts (upload_id);

CREATE TABLE webhooks (
    id text NOT NULL, project_id text NOT NULL, name text, url text NOT NULL, events text[] NOT NULL,
    enabled boolean NOT NULL, secret text NOT NULL, previous_secret text, previous_secret_expires_at timestamptz,
    leased_until timestamptz, last_tried_at timestamptz, created_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_webhooks PRIMARY KEY (id),
    CONSTRAINT fk_webhooks_project_id_projects FOREIGN KEY (project_id) REFERENCES projects (id)
);
CREATE INDEX ix_webhooks_page ON webhooks (project_id, created_at, id);

CREATE TABLE webhook_deliveries (
    id text NOT NULL, project_id text NOT NULL, webhook_id text NOT NULL, event_id text NOT NULL, type text NOT NULL,
    body text NOT NULL, state text NOT NULL, num_tries bigint DEFAULT 0 NOT NULL, last_status_code bigint,
    last_error text, next_try_at timestamptz, give_up_at timestamptz NOT NULL,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL, last_tried_at timestamptz, ended_at timestamptz,
    CONSTRAINT pk_webhook_deliveries PRIMARY KEY (id),
    CONSTRAINT fk_webhook_deliveries_project_id_projects FOREIGN KEY (project_id) REFERENCES projects (id),
    CONSTRAINT fk_webhook_deliveries_webhook_id_webhooks FOREIGN KEY (webhook_id)
        REFERENCES webhooks (id) ON DELETE CASCADE
);
CREATE INDEX ix_webhook_deliveries_created_at ON webhook_deliveries (created_at);
CREATE INDEX ix_webhook_deliveries_due ON webhook_deliveries (webhook_id, next_try_at) WHERE state = 'pending';
CREATE INDEX ix_webhook_deliveries_page ON webhook_deliveries (webhook_id, created_at, id);

CREATE TABLE jobs (
    id text NOT NULL, project_id text NOT NULL, name text, state text NOT NULL, phase text, priority bigint NOT NULL,
    base_model text NOT NULL, method text NOT NULL, spec jsonb NOT NULL, metadata jsonb NOT NULL,
    min_memory_gb float8 NOT NULL, device text NOT NULL, gpu text[] DEFAULT '{}' NOT NULL,
    labels jsonb DEFAULT '{}' NOT NULL, attempt bigint DEFAULT 0 NOT NULL, claim_token text, worker_id text,
    lease_until timestamptz, lease_expired boolean DEFAULT false NOT NULL, failed_attempts bigint DEFAULT 0 NOT NULL,
    lost_attempts bigint DEFAULT 0 NOT NULL, lost_attempts_without_progress bigint DEFAULT 0 NOT NULL,
    step bigint DEFAULT 0 NOT NULL, total_steps bigint, last_metrics jsonb, estimated_finish_at timestamptz,
    failure_reason text, failure_message text, last_event_number bigint DEFAULT 0 NOT NULL,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    queued_at timestamptz DEFAULT clock_timestamp() NOT NULL, started_at timestamptz, finished_at timestamptz,
    retry_of text, created_by_key_id text, created_by_name text, init_from_id text, resume_from text,
    resume_machine text, inexact_resumes jsonb DEFAULT '[]' NOT NULL,
    CONSTRAINT pk_jobs PRIMARY KEY (id),
    CONSTRAINT fk_jobs_project_id_projects FOREIGN KEY (project_id) REFERENCES projects (id),
    CONSTRAINT fk_jobs_retry_of_jobs FOREIGN KEY (retry_of) REFERENCES jobs (id) ON DELETE SET NULL,
    CONSTRAINT fk_jobs_created_by_key_id_api_keys FOREIGN KEY (created_by_key_id) REFERENCES api_keys (id)
        ON DELETE SET NULL
);
CREATE INDEX ix_jobs_base_model ON jobs (project_id, base_model, created_at, id);
CREATE INDEX ix_jobs_created_by ON jobs (created_by_key_id, created_at, id);
CREATE INDEX ix_jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX ix_jobs_id_end ON jobs (project_id, right(id, 8));
CREATE INDEX ix_jobs_init_from_id ON jobs (init_from_id) WHERE init_from_id IS NOT NULL;
CREATE INDEX ix_jobs_lease ON jobs (lease_until) WHERE lease_until IS NOT NULL;
CREATE INDEX ix_jobs_metadata ON jobs USING gin (metadata);
CREATE INDEX ix_jobs_page ON jobs (project_id, created_at, id);
CREATE INDEX ix_jobs_queue ON jobs (priority DESC, created_at, id) WHERE state = 'queued';
CREATE INDEX ix_jobs_resume_from ON jobs (resume_from) WHERE resume_from IS NOT NULL;
CREATE INDEX ix_jobs_retry_of ON jobs (retry_of) WHERE retry_of IS NOT NULL;
CREATE INDEX ix_jobs_state ON jobs (project_id, state, created_at, id);
CREATE INDEX ix_jobs_whole_models ON jobs (project_id, finished_at, id) WHERE method = 'full';

CREATE TABLE dataset_uses (
    project_id text NOT NULL, dataset_id text NOT NULL, job_id text NOT NULL, role text NOT NULL,
    active boolean DEFAULT true NOT NULL, max_bad_share float8 DEFAULT 0 NOT NULL,
    CONSTRAINT pk_dataset_uses PRIMARY KEY (dataset_id, job_id, role),
    CONSTRAINT fk_dataset_uses_dataset_id_datasets FOREIGN KEY (dataset_id) REFERENCES datasets (id),
    CONSTRAINT fk_dataset_uses_job_id_jobs FOREIGN KEY (job_id) REFERENCES jobs (id) ON DELETE CASCADE,
    CONSTRAINT fk_dataset_uses_project_id_projects FOREIGN KEY (project_id) REFERENCES projects (id)
);
CREATE INDEX ix_dataset_uses_job_id ON dataset_uses (job_id);

CREATE TABLE attempts (
    project_id text NOT NULL, job_id text NOT NULL, number bigint NOT NULL, worker_id text NOT NULL,
    claim_token text NOT NULL, started_at timestamptz DEFAULT clock_timestamp() NOT NULL, ended_at timestamptz,
    outcome text, start_step bigint, resolved jsonb, log_tail text DEFAULT '' NOT NULL,
    orphans_collected_at timestamptz,
    CONSTRAINT pk_attempts PRIMARY KEY (job_id, number),
    CONSTRAINT fk_attempts_job_id_jobs FOREIGN KEY (job_id) REFERENCES jobs (id) ON DELETE CASCADE,
    CONSTRAINT fk_attempts_project_id_projects FOREIGN KEY (project_id) REFERENCES projects (id)
);
CREATE INDEX ix_attempts_uncollected ON attempts (ended_at) WHERE orphans_collected_at IS NULL AND ended_at IS NOT NULL;

CREATE TABLE job_events (
    project_id text NOT NULL, job_id text NOT NULL, number bigint NOT NULL, type text NOT NULL, level text NOT NULL,
    message text NOT NULL, data jsonb NOT NULL, created_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_job_events PRIMARY KEY (job_id, number),
    CONSTRAINT fk_job_events_job_id_jobs FOREIGN KEY (job_id) REFERENCES jobs (id) ON DELETE CASCADE,
    CONSTRAINT fk_job_events_project_id_projects FOREIGN KEY (project_id) REFERENCES projects (id)
);

CREATE TABLE metric_values (
    project_id text NOT NULL, job_id text NOT NULL, attempt bigint NOT NULL, name text NOT NULL, step bigint NOT NULL,
    number bigint NOT NULL, value float8 NOT NULL, measured_at timestamptz NOT NULL,
    CONSTRAINT pk_metric_values PRIMARY KEY (job_id, attempt, name, step),
    CONSTRAINT fk_metric_values_job_id_jobs FOREIGN KEY (job_id) REFERENCES jobs (id) ON DELETE CASCADE,
    CONSTRAINT fk_metric_values_project_id_projects FOREIGN KEY (project_id) REFERENCES projects (id)
);
CREATE INDEX ix_metric_values_point ON metric_values (job_id, attempt, number);

CREATE TABLE metric_buckets (
    project_id text NOT NULL, job_id text NOT NULL, attempt bigint NOT NULL, name text NOT NULL,
    width bigint NOT NULL, start bigint NOT NULL, num_values bigint NOT NULL, min_value float8 NOT NULL,
    min_step bigint NOT NULL, max_value float8 NOT NULL, max_step bigint NOT NULL,
    CONSTRAINT pk_metric_buckets PRIMARY KEY (job_id, attempt, name, width, start),
    CONSTRAINT fk_metric_buckets_job_id_jobs FOREIGN KEY (job_id) REFERENCES jobs (id) ON DELETE CASCADE,
    CONSTRAINT fk_metric_buckets_project_id_projects FOREIGN KEY (project_id) REFERENCES projects (id)
);

CREATE TABLE checkpoints (
    project_id text NOT NULL, job_id text NOT NULL, attempt bigint NOT NULL, step bigint NOT NULL,
    files jsonb NOT NULL, id text NOT NULL, base_model_revision text NOT NULL, machine_fingerprint text NOT NULL,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_checkpoints PRIMARY KEY (job_id, attempt, step),
    CONSTRAINT fk_checkpoints_job_id_jobs FOREIGN KEY (job_id) REFERENCES jobs (id) ON DELETE CASCADE,
    CONSTRAINT fk_checkpoints_project_id_projects FOREIGN KEY (project_id) REFERENCES projects (id)
);
CREATE UNIQUE INDEX uq_checkpoints_id ON checkpoints (id);

CREATE TABLE adapters (
    id text NOT NULL, project_id text NOT NULL, job_id text NOT NULL, name text NOT NULL, base_model text NOT NULL,
    manifest jsonb NOT NULL, created_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_adapters PRIMARY KEY (id),
    CONSTRAINT fk_adapters_job_id_jobs FOREIGN KEY (job_id) REFERENCES jobs (id) ON DELETE CASCADE,
    CONSTRAINT fk_adapters_project_id_projects FOREIGN KEY (project_id) REFERENCES projects (id),
    CONSTRAINT uq_adapters_job_id UNIQUE (job_id)
);
CREATE INDEX ix_adapters_base_model ON adapters (project_id, base_model, created_at, id);
CREATE INDEX ix_adapters_page ON adapters (project_id, created_at, id);

CREATE TABLE artifacts (
    id text NOT NULL, project_id text NOT NULL, job_id text NOT NULL, attempt bigint NOT NULL, adapter_id text,
    kind text NOT NULL, path text NOT NULL, storage_key text NOT NULL, size bigint NOT NULL, sha256 text NOT NULL,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_artifacts PRIMARY KEY (id),
    CONSTRAINT fk_artifacts_adapter_id_adapters FOREIGN KEY (adapter_id) REFERENCES adapters (id) ON DELETE CASCADE,
    CONSTRAINT fk_artifacts_job_id_jobs FOREIGN KEY (job_id) REFERENCES jobs (id) ON DELETE CASCADE,
    CONSTRAINT fk_artifacts_project_id_projects FOREIGN KEY (project_id) REFERENCES projects (id)
);
CREATE INDEX ix_artifacts_adapter_id ON artifacts (adapter_id);
CREATE INDEX ix_artifacts_page ON artifacts (project_id, created_at, id);
CREATE INDEX ix_artifacts_storage_key ON artifacts (storage_key);
CREATE UNIQUE INDEX uq_artifacts_job_id_path ON artifacts (job_id, path);

CREATE TABLE openai_create_responses (
    project_id text NOT NULL, job_id text NOT NULL, request_sha256 text NOT NULL, sent_again boolean NOT NULL,
    created_at timestamptz DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT pk_openai_create_responses PRIMARY KEY (job_id),
    CONSTRAINT fk_openai_create_responses_job_id_jobs FOREIGN KEY (job_id) REFERENCES jobs (id) ON DELETE CASCADE,
    CONSTRAINT fk_openai_create_responses_project_id_projects FOREIGN KEY (project_id) REFERENCES projects (id)
);
CREATE INDEX ix_openai_create_responses_created_at ON openai_create_responses (created_at);
CREATE INDEX ix_openai_create_responses_request_sha256 ON openai_create_responses (request_sha256)
"""
"""Each with its indexes, after those that it references."""


def upgrade() -> None:
    for statement in (*TABLES.split(";\n"), *job_transition_statements()):
        op.execute(statement)


def downgrade() -> None:
    names = [line.split()[2] for line in TABLES.splitlines() if line.startswith("CREATE TABLE")]
    for name in reversed(names):
        op.drop_table(name)
    op.execute("DROP FUNCTION refuse_unknown_job_transition()")
