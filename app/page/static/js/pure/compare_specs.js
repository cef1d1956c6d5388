/** Sets the specs of jobs beside each other: each nested field in one row, those that differ apart from the rest. */

/**
 * @typedef {{spec: Record<string, any>, resolved: readonly Record<string, any>[]}} WithSpec
 * @typedef {{field: string, label: string, values: string[], differs: boolean}} FieldRow
 *   `values` are texts, one a job; "" where a job has no such field
 */

/** Fields that name a job and do not change what it trains. */
const LEFT_OUT = new Set(["name", "suffix", "metadata", "priority", "integrations"]);
/** The parts of a spec whose `auto` values each attempt decides. */
const DECIDED = ["training", "adapter", "quantization", "resources"];

/** @type {Record<string, string>} */
const LABELS = {
  "base_model": "Base model",
  "dataset_id": "Dataset",
  "validation_dataset_id": "Validation dataset",
  "validation_split": "Validation split",
  "init_from": "Starts from",
  "dpo.beta": "DPO beta",
  "adapter.rank": "LoRA rank",
  "adapter.alpha": "LoRA alpha",
  "adapter.dropout": "LoRA dropout",
  "adapter.use_rslora": "Rank-stabilized LoRA",
  "adapter.use_dora": "DoRA",
  "adapter.init": "LoRA initialization",
  "adapter.target_modules": "LoRA target modules",
  "adapter.lora_plus_ratio": "LoRA+ ratio",
  "training.max_seq_len": "Maximum sequence length",
  "training.train_on": "Trained tokens",
  "training.eval_every": "Evaluate every",
  "training.save_every": "Save every",
  "training.save_every_seconds": "Save every (seconds)",
  "training.max_grad_norm": "Maximum gradient norm",
  "training.early_stopping.patience": "Early stopping patience",
  "training.early_stopping.min_delta": "Early stopping minimum change",
  "resources.min_memory_gb": "Minimum GPU memory (GB)",
  "resources.gpu": "GPU",
  "max_duration_seconds": "Maximum duration (seconds)",
  "on_bad_rows.action": "Invalid rows",
  "on_bad_rows.max_share": "Invalid rows, largest share",
};

/**
 * Return a field's name in plain words: `training.learning_rate` → "Learning rate".
 * @param {string} field
 */
export function labelField(field) {
  const known = LABELS[field];
  if (known) return known;
  const [part, ...rest] = field.split(".");
  const isPlain = part === "training" || !rest.length;
  const words = (isPlain ? [rest.join(" ") || part] : [part, rest.join(" ")]).join(" ").replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/**
 * Return every field of a spec by its path, with its value as a text.
 * @param {Record<string, any>} spec
 * @returns {Map<string, string>}
 */
export function flattenSpec(spec) {
  /** @type {Map<string, string>} */
  const found = new Map();
  const walk = (/** @type {string} */ prefix, /** @type {Record<string, any>} */ part) => {
    for (const [name, value] of Object.entries(part)) {
      const field = prefix + name;
      if (LEFT_OUT.has(field) || value === null || value === undefined) continue;
      if (typeof value === "object" && !Array.isArray(value)) walk(`${field}.`, value);
      else found.set(field, formatField(value));
    }
  };
  walk("", spec);
  return found;
}

/**
 * Return the fields of all specs; a value that was decided for `auto` stands beside it. Fields that differ come first.
 * @param {readonly WithSpec[]} jobs
 * @returns {FieldRow[]}
 */
export function compareSpecs(jobs) {
  const flat = jobs.map(withDecided);
  const rows = mergeOrder(flat.map((fields) => [...fields.keys()])).map((field) => {
    const values = flat.map((each) => each.get(field) ?? "");
    return { field, label: labelField(field), values, differs: new Set(values).size > 1 };
  });
  return [...rows.filter((row) => row.differs), ...rows.filter((row) => !row.differs)];
}

/**
 * Join lists of fields: one that is new in a list follows its neighbour there.
 * @param {readonly string[][]} lists
 * @returns {string[]}
 */
function mergeOrder(lists) {
  /** @type {string[]} */
  const order = [];
  for (const list of lists) {
    let place = 0;
    for (const field of list) {
      const known = order.indexOf(field);
      if (known < 0) order.splice(place, 0, field);
      place = (known < 0 ? place : known) + 1;
    }
  }
  return order;
}

/** @param {WithSpec} job */
function withDecided({ spec, resolved }) {
  const fields = flattenSpec(spec);
  const last = resolved.at(-1);
  for (const part of DECIDED) {
    for (const [name, value] of Object.entries(last?.[part] ?? {})) {
      const field = `${part}.${name}`;
      if (fields.get(field) === "auto") fields.set(field, `auto (${formatField(value)})`);
    }
  }
  return fields;
}

/**
 * @param {unknown} value
 * @returns {string}
 */
function formatField(value) {
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") return formatNumber(value);
  if (Array.isArray(value)) return value.map(formatField).join(", ") || "none";
  if (typeof value === "object" && value !== null) return JSON.stringify(value);
  return String(value);
}

/** @param {number} value */
function formatNumber(value) {
  if (value !== 0 && Math.abs(value) < 1e-3) return value.toExponential().replace("e-", "e−");
  return Number.isInteger(value) ? value.toLocaleString("en-US") : String(value);
}
