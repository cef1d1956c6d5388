/** Says about the fields of a JobSpec what their schema does not: labels, units, explanations. Pure: no DOM. */

import { formatBytes } from "../format.js";

/**
 * @typedef {Record<string, any>} Values
 * @typedef {{
 *   model: import("../../../api.d.ts").ModelSummary | null,
 *   dataset: import("../../../api.d.ts").DatasetOut | null,
 * }} Context  what is known about the chosen resources
 * @typedef {{
 *   label?: string, help?: string, unit?: string, widget?: "model" | "dataset" | "adapter" | "cards" | "select",
 *   options?: Record<string, {label?: string, help?: string | ((context: Context) => string)}>,
 *   applies?: (values: Values, context: Context) => string, isShown?: (values: Values) => boolean, suggested?: any,
 *   placeholder?: string,
 * }} Note  `applies` tells the value that stands for `auto` or null
 */

/** @param {Values} values */
export const methodOf = (values) => values.method ?? "qlora";
/** @param {Values} values */
export const isDpo = (values) => values.objective === "dpo";
/** @param {Values} values */
const hasValidation = (values) => values.validation_split !== undefined || values.validation_dataset_id !== undefined;

/** @type {Record<string, Note>} */
export const NOTES = {
  "/name": { label: "Name", help: "Shown in lists. Without a name, the job's id is shown." },
  "/base_model": { label: "Base model", help: "", widget: "model" },
  "/dataset_id": { label: "Dataset", help: "", widget: "dataset" },
  "/validation_dataset_id": { label: "Validation dataset", help: "", widget: "dataset", suggested: "" },
  "/validation_split": { label: "Share of the rows", help: "Drawn with the seed.", suggested: 0.1 },
  "/method": {
    label: "Method",
    help: "",
    widget: "cards",
    options: {
      qlora: {
        label: "QLoRA",
        help: (context) => `Trains an adapter over frozen 4-bit weights: the least memory${fromBytes(context, 0.53)}.`,
      },
      lora: {
        label: "LoRA",
        help: (context) => `Trains an adapter over frozen 16-bit weights: faster, more memory${fromBytes(context, 2)}.`,
      },
      full: {
        label: "Full",
        help: (context) =>
          `Trains all weights. Weights, gradients and optimizer state are in memory${fromBytes(context, 16)}.`,
      },
    },
  },
  "/objective": {
    label: "Objective",
    help: "",
    widget: "cards",
    options: {
      sft: { label: "Learn answers", help: "Supervised fine-tuning (sft). Each row has an answer to learn." },
      dpo: {
        label: "Learn preferences",
        help: "Direct preference optimization (dpo). Each row has a better and a worse answer.",
      },
    },
  },
  "/dpo/beta": {
    label: "Beta",
    isShown: isDpo,
    help: "How strongly the model is held to its start. Lower values let it move further.",
  },
  "/training/epochs": { label: "Epochs", suggested: 3 },
  "/training/max_steps": { label: "Steps", suggested: 1000 },
  "/training/learning_rate": {
    label: "Learning rate",
    applies: appliedLearningRate,
    help: "Peak value, after the warmup.",
  },
  "/training/batch_size": {
    label: "Batch size",
    unit: "rows",
    help: "Rows per step. It does not depend on memory: large batches are computed in parts.",
  },
  "/training/max_seq_len": {
    label: "Maximum length",
    unit: "tokens",
    help: "Longer rows are truncated at their end.",
    applies: (
      _,
      { model },
    ) => (model?.max_seq_len ? String(Math.min(2048, model.max_seq_len)) : "2048, or the model's limit"),
  },
  "/training/train_on": {
    label: "Tokens with loss",
    isShown: (values) => !isDpo(values),
    help: "Which tokens the model learns to write.",
    applies: (_, { dataset }) => appliedTrainOn(dataset?.format),
    options: {
      auto: { label: "Automatic" },
      completion: { label: "Last answer" },
      assistant: { label: "All answers" },
      all: { label: "Everything" },
    },
  },
  "/training/reasoning": {
    label: "Reasoning",
    help: "What happens to `reasoning_content` of answers.",
    options: { train: { label: "Learn it" }, context: { label: "Show it" }, drop: { label: "Leave it out" } },
  },
  "/on_bad_rows/action": {
    label: "Invalid rows",
    help: "Rows that the inspection reports as errors.",
    options: { fail: { label: "Refuse the dataset" }, skip: { label: "Skip the rows" } },
  },
  "/on_bad_rows/max_share": {
    label: "At most",
    isShown: (values) => values.on_bad_rows?.action === "skip",
    help: "Largest share of the rows that may be skipped, such as 0.01. Beyond it the job fails.",
    placeholder: "0.01",
  },
  "/init_from": {
    label: "Start from",
    widget: "adapter",
    help: "An adapter or a checkpoint of this project with the same base model. Its rank and modules are used.",
    placeholder: "adp-…, ftckpt_… or ft:…",
  },
  "/adapter/rank": { label: "Rank", help: "Capacity of the adapter. Its size grows with the rank." },
  "/adapter/alpha": {
    label: "Alpha",
    help: "The adapter's output is scaled by alpha/rank.",
    applies: (values) => String(2 * Number(values.adapter?.rank ?? 16)),
  },
  "/adapter/dropout": { label: "Dropout", help: "Share of the adapter's inputs that is dropped in training." },
  "/adapter/target_modules": {
    label: "Target modules",
    help: "Linear layers with an adapter, by name or ending, such as `q_proj`.",
  },
  "/adapter/use_rslora": { label: "rsLoRA", help: "Scale by alpha/√rank, which keeps high ranks stable." },
  "/adapter/use_dora": { label: "DoRA", help: "Train direction and magnitude of the weights separately. Slower." },
  "/adapter/init": {
    label: "Initial values",
    widget: "select",
    help: "`pissa` and `olora` need the method `lora`.",
    isShown: (values) => values.init_from === undefined,
  },
  "/adapter/lora_plus_ratio": { label: "LoRA+ ratio", help: "Learning rate of B over that of A. 1 turns LoRA+ off." },
  "/quantization/double_quant": {
    label: "Double quantization",
    help: "Quantize the constants too: 0.37 bits less per parameter.",
  },
  "/quantization/compute_dtype": {
    label: "Compute type",
    help: "Precision of the matrix products.",
    applies: () => "bfloat16 if the device multiplies it fast",
  },
  "/training/optimizer": {
    label: "Optimizer",
    widget: "select",
    help: "The 8-bit and paged variants save memory with the method `full`.",
    options: {
      adamw: { label: "AdamW" },
      adamw_8bit: { label: "AdamW, 8-bit state" },
      paged_adamw: { label: "AdamW, paged" },
      paged_adamw_8bit: { label: "AdamW, paged, 8-bit state" },
    },
  },
  "/training/schedule": {
    label: "Schedule",
    help: "The learning rate after the warmup.",
    options: { constant: { label: "Constant" }, linear: { label: "Linear" }, cosine: { label: "Cosine" } },
  },
  "/training/warmup_ratio": { label: "Warmup", help: "Share of the steps in which the learning rate rises." },
  "/training/weight_decay": { label: "Weight decay" },
  "/training/max_grad_norm": { label: "Gradient clipping", help: "Maximum norm. 0 turns clipping off." },
  "/training/seed": { label: "Seed", help: "Equal seeds give equal trainings on equal machines." },
  "/training/eval_every": {
    label: "Evaluate every",
    unit: "steps",
    applies: () => "the end of each epoch",
    help: "Needs validation rows.",
  },
  "/training/early_stopping": {
    label: "Early stopping",
    help: "Ends the training once the validation loss no longer falls. Needs validation rows.",
  },
  "/training/early_stopping/patience": {
    label: "Patience",
    unit: "evaluations",
    suggested: 3,
    help: "Evaluations in a row without improvement.",
  },
  "/training/early_stopping/min_delta": {
    label: "Least improvement",
    help: "A smaller decrease of the loss does not count.",
  },
  "/training/result": {
    label: "Result",
    help: "Which weights the job returns.",
    applies: (values) => (hasValidation(values) ? "" : "the last step without validation rows"),
    options: { best: { label: "Lowest validation loss" }, last: { label: "Last step" } },
  },
  "/training/save_every": { label: "Checkpoint every", unit: "steps", help: "", applies: () => "a tenth of the job" },
  "/training/save_every_seconds": {
    label: "Or after",
    unit: "seconds",
    help: "Whichever comes first. Longer if checkpoints would cost more than 1 % of the time.",
  },
  "/training/keep_checkpoints": { label: "Keep", unit: "checkpoints", help: "The newest ones stay in storage." },
  "/training/on_inexact_resume": {
    label: "On other hardware",
    help: "After an interruption, if no worker can resume bit for bit.",
    options: { continue: { label: "Continue" }, wait: { label: "Wait" }, fail: { label: "Fail" } },
  },
  "/resources/device": {
    label: "Device",
    help: "`auto` uses a CPU only while no suitable GPU worker is registered.",
    options: { auto: { label: "Automatic" }, cuda: { label: "GPU (CUDA)" }, cpu: { label: "CPU" } },
  },
  "/resources/gpu": {
    label: "GPU names",
    help: "Any of these, by part of the name: `4090`, `H100`. Empty accepts any device.",
  },
  "/resources/min_memory_gb": {
    label: "Device memory",
    unit: "GB or more",
    help: "GPU memory, or RAM on a CPU worker.",
  },
  "/resources/labels": { label: "Worker labels", help: "The worker must have all of them." },
  "/training/memory": {
    label: "Memory",
    help: "As fast as the free memory allows, or in as little memory as possible.",
    options: { auto: { label: "Fastest that fits" }, min: { label: "Least memory" } },
  },
  "/training/gradient_checkpointing": {
    label: "Gradient checkpointing",
    help: "Recompute activations: a third slower, much less memory.",
    applies: () => "on if memory is short",
  },
  "/priority": { label: "Priority", help: "Higher runs first, from −100 to 100." },
  "/max_retries": { label: "Retries", help: "After a failure of the job itself. Lost workers do not count." },
  "/max_duration_seconds": {
    label: "Time limit",
    unit: "seconds",
    applies: () => "no limit",
    help: "Running time of all attempts together.",
  },
  "/suffix": { label: "Model suffix", help: "Part of the result's name: `ft:<base model>:<suffix>:<id>`." },
  "/metadata": { label: "Metadata", help: "Your own keys and values, such as `team`. Jobs can be found by them." },
  "/integrations": { label: "Experiment trackers", help: "Receive the metrics while the job trains." },
  "/integrations/wandb": { label: "Weights & Biases" },
  "/integrations/mlflow": { label: "MLflow" },
  "/integrations/tensorboard": { label: "TensorBoard" },
};

/** Where errors are shown that the server reports for the whole spec, by code. @type {Record<string, string>} */
export const PLACES = {
  multiple_validation_sources: "/validation_split",
  early_stopping_without_validation: "/training/early_stopping",
  dpo_without_objective: "/objective",
  train_on_with_dpo: "/training/train_on",
  quantization_without_qlora: "/method",
  adapter_with_full: "/method",
  init_without_lora: "/adapter/init",
  init_from_with_full: "/init_from",
  init_with_init_from: "/init_from",
  epochs_or_max_steps: "/training/epochs",
  max_share_required: "/on_bad_rows/max_share",
  max_share_without_skip: "/on_bad_rows/action",
};

/** @param {Values} values */
function appliedLearningRate(values) {
  const isFull = methodOf(values) === "full";
  if (isDpo(values)) return isFull ? "1e-6" : "2e-5";
  return isFull ? "1e-5" : "2e-4";
}

/** @param {string | null | undefined} format */
function appliedTrainOn(format) {
  if (!format) return "depends on the dataset's format";
  const chosen = format === "messages" || format === "sharegpt"
    ? "all answers"
    : format === "text"
    ? "everything"
    : "last answer";
  return `${chosen} for the format ${format}`;
}

/**
 * @param {Context} context
 * @param {number} bytesPerParameter
 */
function fromBytes({ model }, bytesPerParameter) {
  if (!model?.num_parameters) return "";
  return `, from ${formatBytes(model.num_parameters * bytesPerParameter)}`;
}
