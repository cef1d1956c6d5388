// Made from the OpenAPI document by `python -m tests.page.api_types`.

export interface About {
  name: string;
  description: string;
  version: string;
  links: Record<string, string>;
  authentication: string;
}

export interface AdapterFile {
  artifact_id: string;
  path: string;
  size: number;
  sha256: string;
  url: string;
}

export interface AdapterOut {
  id: string;
  name: string;
  job_id: string;
  base_model: string;
  base_model_revision: string | null;
  size: number;
  created_at: string;
  files: AdapterFile[];
  archive: AdapterFile;
  manifest: Record<string, any>;
}

export interface AdapterSpec {
  rank?: number;
  alpha?: "auto" | number;
  dropout?: number;
  target_modules?: "all-linear" | string[];
  use_rslora?: boolean;
  use_dora?: boolean;
  init?: "default" | "gaussian" | "eva" | "pissa" | "olora";
  lora_plus_ratio?: number;
}

export interface AdapterSummary {
  id: string;
  name: string;
  job_id: string;
  base_model: string;
  base_model_revision: string | null;
  size: number;
  created_at: string;
}

export type ArtifactKind = "adapter" | "model" | "adapter_archive" | "row_losses" | "step_metrics" | "skipped_rows" | "tensorboard";

export interface ArtifactList {
  items: ArtifactOut[];
}

export interface ArtifactOut {
  id: string;
  job_id: string;
  attempt: number;
  adapter_id: string | null;
  kind: ArtifactKind;
  path: string;
  size: number;
  sha256: string;
  url: string;
  created_at: string;
}

export interface BadRowPolicy {
  action: "fail" | "skip";
  max_share: number | null;
}

export interface Bin {
  min: number;
  max: number;
  num_rows: number;
}

export interface CheckpointList {
  items: CheckpointOut[];
}

export interface CheckpointOut {
  id: string;
  job_id: string;
  attempt: number;
  step: number;
  name: string;
  metrics: Record<string, number>;
  size: number;
  url: string | null;
  machine_fingerprint: string;
  created_at: string;
}

export interface CreatedBy {
  key_id: string;
  key_name: string;
}

export type DatasetCheckFailure = "dataset_invalid" | "too_many_bad_rows" | "reasoning_not_rendered" | "file_missing" | "model_not_found" | "model_unusable" | "out_of_memory" | "timed_out" | "disk_full" | "internal_error";

export interface DatasetCheckFailureOut {
  code: DatasetCheckFailure;
  message: string;
}

export type DatasetCheckState = "pending" | "ready" | "failed";

export interface DatasetOut {
  id: string;
  filename: string;
  state: DatasetState;
  bytes: number;
  sha256: string | null;
  format: RecordFormat | null;
  format_reason: string | null;
  columns: Record<string, string> | null;
  num_examples: number | null;
  num_bad_rows: number | null;
  problems: Problem[];
  problem_counts: Record<string, number>;
  statistics: Statistics | null;
  cleaned_from: string | null;
  created_at: string;
  expires_at: string | null;
}

export type DatasetState = "uploading" | "inspecting" | "ready" | "invalid";

export type DeletionState = "stopping" | "erasing" | "clearing_workers" | "finished";

export interface DeliveryOut {
  id: string;
  webhook_id: string;
  event_id: string;
  type: string;
  body: string;
  state: DeliveryState;
  num_tries: number;
  last_status_code: number | null;
  last_error: string | null;
  next_try_at: string | null;
  created_at: string;
  last_tried_at: string | null;
  ended_at: string | null;
}

export type DeliveryState = "pending" | "delivered" | "failed";

export interface Difference {
  before: any;
  now: any;
}

export interface DpoSpec {
  beta?: number;
}

export interface Duplicates {
  exact: number;
  normalised: number;
}

export interface EarlyStopping {
  patience: number;
  min_delta: number;
}

export interface EventList {
  items: EventOut[];
  next_after: number | null;
  stream_cursor: string;
}

export interface EventOut {
  number: number;
  type: string;
  level: string;
  message: string;
  data: Record<string, any>;
  created_at: string;
}

export interface Failure {
  reason: FailureReason;
  message: string;
}

export type FailureReason = "dataset_invalid" | "too_many_bad_rows" | "no_labelled_tokens" | "reasoning_not_rendered" | "model_unusable" | "init_from_not_found" | "out_of_memory" | "non_finite_loss" | "disk_full" | "stalled" | "deadline_exceeded" | "inexact_resume" | "checkpoint_unusable" | "training_process_died" | "protocol_broken" | "crash_loop" | "internal_error";

export interface FieldProblem {
  pointer: string;
  code: string;
  message: string;
}

export interface Health {
  status: "ok";
}

export interface InexactResume {
  step: number;
  differs: Record<string, Difference>;
}

export interface JobOut {
  id: string;
  name: string | null;
  state: JobState;
  phase: JobPhase | null;
  waiting_for: string | null;
  queue_position: number | null;
  attempt: number;
  progress: number;
  step: number;
  total_steps: number | null;
  last_metrics: Record<string, number>;
  estimated_finish_at: string | null;
  base_model: string;
  method: string;
  spec: JobSpec;
  resolved: Resolved[];
  failure: Failure | null;
  adapter_id: string | null;
  metadata: Record<string, string>;
  exact: boolean;
  inexact_resumes: InexactResume[];
  resume_from: string | null;
  retry_of: string | null;
  created_by: CreatedBy | null;
  created_at: string;
  started_at: string | null;
  finished_at: string | null;
}

export type JobPhase = "preparing" | "training" | "evaluating" | "publishing";

export interface JobSpec {
  base_model: string;
  dataset_id: string;
  validation_dataset_id?: string | null;
  validation_split?: number | null;
  on_bad_rows?: BadRowPolicy;
  method?: "qlora" | "lora" | "full";
  objective?: "sft" | "dpo";
  dpo?: DpoSpec | null;
  resources?: Resources;
  max_retries?: number;
  max_duration_seconds?: number | null;
  quantization?: Quantization | null;
  adapter?: AdapterSpec | null;
  init_from?: string | null;
  training: TrainingSpec;
  name?: string | null;
  suffix?: string | null;
  metadata?: Record<string, string>;
  priority?: number;
  integrations?: (Wandb | Mlflow | Tensorboard)[];
}

export type JobState = "queued" | "running" | "pausing" | "paused" | "cancelling" | "succeeded" | "failed" | "cancelled";

export interface KeyOut {
  id: string;
  name: string;
  project_id: string;
  project: string;
  scopes: string[];
  state: "active" | "expired" | "revoked";
  created_at: string;
  expires_at: string | null;
  last_used_at: string | null;
  revoked_at: string | null;
  replaced_by: string | null;
}

export interface KeyWithSecret {
  id: string;
  name: string;
  project_id: string;
  project: string;
  scopes: string[];
  state: "active" | "expired" | "revoked";
  created_at: string;
  expires_at: string | null;
  last_used_at: string | null;
  revoked_at: string | null;
  replaced_by: string | null;
  secret: string;
}

export interface LightQueue {
  uploads: number;
  datasets: number;
  dataset_checks: number;
  webhook_deliveries: number;
}

export interface MetricList {
  items: MetricPoint[];
  next_after_step: number | null;
  downsampled: boolean;
  stream_cursor: string;
}

export interface MetricPoint {
  attempt: number;
  number: number;
  step: number;
  measured_at: string;
  values: Record<string, number>;
}

export interface Mlflow {
  type: "mlflow";
  mlflow: MlflowRun;
}

export interface MlflowRun {
  experiment: string;
  name: string | null;
}

export interface ModelFailureOut {
  code: string;
  message: string;
}

export interface ModelOut {
  name: string;
  state: ModelState;
  hub: string | null;
  path: string | null;
  revision: string | null;
  hub_name: string | null;
  hub_revision: string | null;
  num_bytes_done: number;
  num_bytes: number | null;
  failure: ModelFailureOut | null;
  license: string | null;
  architecture: string | null;
  num_parameters: number | null;
  max_seq_len: number | null;
  linear_modules: string[];
  projects: string[] | null;
  created_at: string;
  finished_at: string | null;
  license_text: string | null;
}

export type ModelState = "pending" | "fetching" | "ready" | "failed" | "removed";

export interface ModelSummary {
  name: string;
  state: ModelState;
  hub: string | null;
  path: string | null;
  revision: string | null;
  hub_name: string | null;
  hub_revision: string | null;
  num_bytes_done: number;
  num_bytes: number | null;
  failure: ModelFailureOut | null;
  license: string | null;
  architecture: string | null;
  num_parameters: number | null;
  max_seq_len: number | null;
  linear_modules: string[];
  projects: string[] | null;
  created_at: string;
  finished_at: string | null;
}

export interface OnlineWorkers {
  training: number;
  light: number;
}

export interface OverlapOut {
  id: string;
  dataset_id: string;
  state: DatasetCheckState;
  failure: DatasetCheckFailureOut | null;
  created_at: string;
  finished_at: string | null;
  validation_dataset_id: string;
  totals: OverlapTotals | null;
  pairs: Pair[];
}

export interface OverlapSummary {
  id: string;
  dataset_id: string;
  state: DatasetCheckState;
  failure: DatasetCheckFailureOut | null;
  created_at: string;
  finished_at: string | null;
  validation_dataset_id: string;
  totals: OverlapTotals | null;
}

export interface OverlapTotals {
  num_rows: number;
  num_validation_rows: number;
  num_exact: number;
  num_normalised: number;
}

export interface Page_AdapterSummary_ {
  items: AdapterSummary[];
  next_cursor: string | null;
}

export interface Page_DatasetOut_ {
  items: DatasetOut[];
  next_cursor: string | null;
}

export interface Page_DeliveryOut_ {
  items: DeliveryOut[];
  next_cursor: string | null;
}

export interface Page_JobOut_ {
  items: JobOut[];
  next_cursor: string | null;
}

export interface Page_KeyOut_ {
  items: KeyOut[];
  next_cursor: string | null;
}

export interface Page_ModelSummary_ {
  items: ModelSummary[];
  next_cursor: string | null;
}

export interface Page_OverlapSummary_ {
  items: OverlapSummary[];
  next_cursor: string | null;
}

export interface Page_PreviewSummary_ {
  items: PreviewSummary[];
  next_cursor: string | null;
}

export interface Page_ProjectOut_ {
  items: ProjectOut[];
  next_cursor: string | null;
}

export interface Page_UploadSummary_ {
  items: UploadSummary[];
  next_cursor: string | null;
}

export interface Page_WebhookOut_ {
  items: WebhookOut[];
  next_cursor: string | null;
}

export interface Pair {
  validation_line: number;
  line: number;
  exact: boolean;
}

export interface PartOut {
  id: string;
  upload_id: string;
  bytes: number;
  sha256: string;
  created_at: string;
}

export interface PredictedFailure {
  reason: FailureReason;
  message: string;
}

export interface PreviewOut {
  id: string;
  dataset_id: string;
  state: DatasetCheckState;
  failure: DatasetCheckFailureOut | null;
  created_at: string;
  finished_at: string | null;
  spec: PreviewSpec;
  totals: PreviewTotals | null;
  rows: PreviewRow[];
}

export interface PreviewPlan {
  worker: string;
  device: "cuda" | "cpu";
  device_name: string | null;
  micro_batch_tokens: number;
}

export interface PreviewRow {
  line: number;
  answer: "chosen" | "rejected" | null;
  text: string;
  num_tokens: number;
  num_labelled_tokens: number;
  num_truncated_tokens: number;
  truncated_text: string;
  dropped: boolean;
  in_validation_split: boolean;
  tokens: PreviewToken[];
  num_omitted_tokens: number;
}

export interface PreviewSpec {
  base_model: string;
  objective?: "sft" | "dpo";
  rows?: number | number[];
  max_seq_len?: "auto" | number;
  train_on?: "auto" | "completion" | "assistant" | "all";
  reasoning?: "train" | "context" | "drop";
  batch_size?: number;
  seed?: number;
  validation_split?: number | null;
  on_bad_rows?: BadRowPolicy;
  memory?: "auto" | "min";
  device?: "auto" | "cuda" | "cpu";
}

export interface PreviewSummary {
  id: string;
  dataset_id: string;
  state: DatasetCheckState;
  failure: DatasetCheckFailureOut | null;
  created_at: string;
  finished_at: string | null;
  spec: PreviewSpec;
  totals: PreviewTotals | null;
}

export interface PreviewToken {
  id: number;
  text: string;
  labelled: boolean;
}

export interface PreviewTotals {
  chat_template: string | null;
  max_seq_len: number;
  train_on: "auto" | "completion" | "assistant" | "all" | null;
  num_rows: number;
  num_validation_rows: number;
  num_dropped_rows: number;
  skipped_rows: Record<string, number>;
  num_truncated_rows: number;
  num_tokens: number;
  num_labelled_tokens: number;
  num_template_mismatch_rows: number;
  num_answers_without_end_token: number;
  num_literal_special_tokens: number;
  num_reasoning_turns: number;
  num_unrendered_reasoning: number;
  num_unrendered_names: number;
  steps_per_epoch: number;
  micro_batches_per_step: number;
  max_micro_batches_per_step: number;
  num_packed_tokens: number;
  num_padded_tokens: number;
  padding_saved_share: number;
  device_plan: PreviewPlan;
  predicted_failure: PredictedFailure | null;
  missing_lines: number[];
}

export interface Problem {
  line: number;
  pointer: string;
  code: string;
  severity: Severity;
  message: string;
  count: number;
  lines: number[];
}

export interface ProblemDetails {
  type: string;
  title: string;
  status: number;
  detail: string;
  instance: string;
  code: string;
  errors: FieldProblem[];
}

export interface ProblemOut {
  line: number;
  pointer: string;
  code: string;
  severity: Severity;
  message: string;
  count: number;
  lines: number[];
}

export interface ProblemPage {
  items: ProblemOut[];
  problem_counts: Record<string, number>;
  next_cursor: string | null;
}

export interface ProjectDeletionOut {
  id: string;
  name: string;
  state: DeletionState;
  num_rows: Record<string, number>;
  num_objects: number;
  num_bytes: number;
  num_live_streams: number;
  work_folders: Record<string, number>;
  created_at: string;
  finished_at: string | null;
}

export interface ProjectOut {
  id: string;
  name: string;
  max_running_jobs: number | null;
  allowed_labels: Record<string, string[]>;
  being_deleted: boolean;
  created_at: string;
}

export interface Quantization {
  type: "nf4";
  double_quant: boolean;
  compute_dtype: "auto" | "bfloat16" | "float16" | "float32";
}

export interface Queues {
  training: TrainingQueue;
  light: LightQueue;
  wakeups: Wakeups;
}

export interface Readiness {
  database: "ok" | "unreachable";
  redis: "ok" | "unreachable";
  workers: OnlineWorkers | null;
}

export interface ReasonOut {
  code: string;
  message: string;
}

export type RecordFormat = "preference" | "messages" | "prompt_completion" | "alpaca" | "sharegpt" | "text";

export interface Resolved {
  attempt: number;
  resources: Record<string, any>;
  training: Record<string, any>;
  adapter: Record<string, any> | null;
  quantization: Record<string, any> | null;
  engine: Record<string, any>;
}

export interface Resources {
  device: "auto" | "cuda" | "cpu";
  gpu: string[];
  labels: Record<string, any>;
  min_memory_gb: number;
}

export interface SessionOut {
  project_id: string;
  project: string;
  key_id: string;
  key_name: string;
  scopes: string[];
  expires_at: string | null;
}

export type Severity = "error" | "warning";

export interface Statistics {
  container: string;
  compression: string;
  container_reason: string;
  num_blank_lines: number;
  num_empty_rows: number;
  num_long_rows: number;
  columns: Record<string, number>;
  has_more_columns: boolean;
  duplicates: Duplicates;
  roles: Record<string, number>;
  turns: Bin[];
  lengths: Bin[];
}

export interface Tensorboard {
  type: "tensorboard";
}

export interface TrainingQueue {
  queued: number;
  running: number;
}

export interface TrainingSpec {
  epochs?: number | null;
  max_steps?: number | null;
  batch_size?: number;
  optimizer?: "adamw" | "adamw_8bit" | "paged_adamw" | "paged_adamw_8bit";
  learning_rate?: "auto" | number;
  schedule?: "constant" | "linear" | "cosine";
  warmup_ratio?: number;
  weight_decay?: number;
  max_grad_norm?: number;
  max_seq_len?: "auto" | number;
  seed?: number;
  train_on?: "auto" | "completion" | "assistant" | "all";
  reasoning?: "train" | "context" | "drop";
  eval_every?: number | null;
  save_every?: "auto" | number;
  save_every_seconds?: number;
  keep_checkpoints?: number;
  on_inexact_resume?: "continue" | "wait" | "fail";
  early_stopping?: EarlyStopping | null;
  result?: "best" | "last";
  gradient_checkpointing?: "auto" | boolean;
  memory?: "auto" | "min";
}

export interface UploadOut {
  id: string;
  filename: string;
  bytes: number;
  state: UploadState;
  dataset_id: string | null;
  created_at: string;
  expires_at: string;
  parts: PartOut[];
}

export type UploadState = "pending" | "completed" | "cancelled" | "expired";

export interface UploadSummary {
  id: string;
  filename: string;
  bytes: number;
  state: UploadState;
  dataset_id: string | null;
  created_at: string;
  expires_at: string;
}

export interface ValidatedSpec {
  valid?: true;
  spec: JobSpec;
  waiting_for: string;
}

export interface Wakeups {
  count: number;
  oldest_seconds: number | null;
}

export interface Wandb {
  type: "wandb";
  wandb: WandbRun;
}

export interface WandbRun {
  project: string;
  name: string | null;
  entity: string | null;
  tags: string[];
}

export interface WebhookOut {
  id: string;
  name: string | null;
  url: string;
  events: string[];
  enabled: boolean;
  previous_secret_expires_at: string | null;
  created_at: string;
}

export interface WebhookWithSecret {
  id: string;
  name: string | null;
  url: string;
  events: string[];
  enabled: boolean;
  previous_secret_expires_at: string | null;
  created_at: string;
  secret: string;
}

export interface WorkerList {
  items: WorkerOut[];
}

export interface WorkerOut {
  id: string;
  device: string;
  device_name: string | null;
  num_gpus: number;
  memory_gb: number;
  free_memory_gb: number | null;
  labels: Record<string, string>;
  queues: string[];
  integrations: string[];
  versions: Record<string, string>;
  machine_fingerprint: string;
  machine_facts: Record<string, any>;
  online: boolean;
  draining: boolean;
  disk_full: boolean;
  busy: boolean;
  job_id: string | null;
  can_take_job: boolean | null;
  reasons: ReasonOut[] | null;
  started_at: string;
  seen_at: string;
}
