/** Orders the fields of a JobSpec for people, and says what the schema does not. Pure: no DOM. */

import { methodOf, NOTES, PLACES } from "./schema_notes.js";
import { getAt } from "./schema_values.js";

/**
 * @typedef {import("./schema_fields.js").Field} Field
 * @typedef {import("./schema_notes.js").Values} Values
 * @typedef {import("./schema_notes.js").Note} Note
 * @typedef {{pointers: readonly string[], label: string, help: string, labels: readonly string[],
 *   none?: string}} Alternatives  fields of which one is set; `none` is the label for none of them
 * @typedef {string | Alternatives} Row
 * @typedef {{id: string, title: string, isEssential?: boolean, rows: readonly Row[], isShown?: (values: Values) => boolean}} Section
 */

/** @param {Values} values */
const hasAdapter = (values) => methodOf(values) !== "full";

/** @type {readonly Section[]} */
export const SECTIONS = [
  {
    id: "data",
    title: "Model and data",
    isEssential: true,
    rows: [
      "/name",
      "/base_model",
      "/dataset_id",
      {
        pointers: ["/validation_split", "/validation_dataset_id"],
        label: "Validation",
        help: "Rows that are not trained on. Their loss shows overfitting and selects the best weights.",
        labels: ["Share of the rows", "Own dataset"],
        none: "None",
      },
    ],
  },
  { id: "method", title: "Method and objective", isEssential: true, rows: ["/method", "/objective", "/dpo/beta"] },
  {
    id: "training",
    title: "Training",
    isEssential: true,
    rows: [
      {
        pointers: ["/training/epochs", "/training/max_steps"],
        label: "Length",
        help: "An epoch is one pass over the dataset; a step trains one batch.",
        labels: ["Epochs", "Steps"],
      },
      "/training/learning_rate",
      "/training/batch_size",
    ],
  },
  {
    id: "rows",
    title: "Rows and tokens",
    rows: [
      "/training/max_seq_len",
      "/training/train_on",
      "/training/reasoning",
      "/on_bad_rows/action",
      "/on_bad_rows/max_share",
    ],
  },
  {
    id: "adapter",
    title: "Adapter",
    isShown: hasAdapter,
    rows: [
      "/init_from",
      "/adapter/rank",
      "/adapter/alpha",
      "/adapter/dropout",
      "/adapter/target_modules",
      "/adapter/use_rslora",
      "/adapter/use_dora",
      "/adapter/init",
      "/adapter/lora_plus_ratio",
    ],
  },
  {
    id: "quantization",
    title: "Quantization",
    isShown: (values) => methodOf(values) === "qlora",
    rows: ["/quantization/double_quant", "/quantization/compute_dtype"],
  },
  {
    id: "optimizer",
    title: "Optimizer",
    rows: [
      "/training/optimizer",
      "/training/schedule",
      "/training/warmup_ratio",
      "/training/weight_decay",
      "/training/max_grad_norm",
      "/training/seed",
    ],
  },
  {
    id: "checkpoints",
    title: "Evaluation and checkpoints",
    rows: [
      "/training/eval_every",
      "/training/early_stopping",
      "/training/result",
      "/training/save_every",
      "/training/save_every_seconds",
      "/training/keep_checkpoints",
      "/training/on_inexact_resume",
    ],
  },
  {
    id: "workers",
    title: "Workers, memory and limits",
    rows: [
      "/resources/device",
      "/resources/gpu",
      "/resources/min_memory_gb",
      "/resources/labels",
      "/training/memory",
      "/training/gradient_checkpointing",
      "/priority",
      "/max_retries",
      "/max_duration_seconds",
    ],
  },
  { id: "naming", title: "Result name, metadata and trackers", rows: ["/suffix", "/metadata", "/integrations"] },
];

/**
 * Return the note for a field; one that the table does not know has a label made from its name.
 * @param {string} pointer
 * @returns {Note & {label: string}}
 */
export function noteOf(pointer) {
  const note = NOTES[pointer] ?? {};
  return { ...note, label: note.label ?? nameToLabel(pointer.split("/").pop() ?? "") };
}

/**
 * Return the sections with the fields that exist, and those that no section names in a last one.
 * @param {readonly Field[]} fields
 * @returns {Section[]}
 */
export function arrange(fields) {
  const left = new Map(fields.map((field) => [field.pointer, field]));
  const take = (/** @type {string} */ pointer) => left.delete(pointer);
  const sections = SECTIONS.map((section) => ({
    ...section,
    rows: section.rows.flatMap((row) => {
      const found = pointersOf(row).filter(take);
      return /** @type {Row[]} */ (found.length === pointersOf(row).length ? [row] : found);
    }),
  }));
  const others = { id: "more", title: "More", rows: [...left.keys()] };
  return [...sections, others].filter((section) => section.rows.length);
}

/**
 * Return the pointers of a row's fields.
 * @param {Row} row
 * @returns {readonly string[]}
 */
export function pointersOf(row) {
  return typeof row === "string" ? [row] : row.pointers;
}

/**
 * Return the values without those of fields that do not apply to the chosen method and objective: they keep their
 * place in the form, and are not sent.
 * @param {Values} values
 * @param {readonly Section[]} sections
 * @param {readonly Field[]} fields
 * @returns {Values}
 */
export function buildRequest(values, sections, fields) {
  /** @type {Values} */
  const request = {};
  for (const section of sections) {
    if (section.isShown?.(values) === false) continue;
    for (const pointer of section.rows.flatMap(pointersOf)) {
      const field = fields.find((each) => each.pointer === pointer);
      const value = field && getAt(values, field.path);
      if (!field || value === undefined || noteOf(pointer).isShown?.(values) === false) continue;
      placeAt(request, field.path, value);
    }
  }
  return "training" in request ? request : { ...request, training: {} };
}

/**
 * Return the pointer of the field where an error is shown: the field itself, the one around it, or the first below it.
 * @param {{pointer: string, code: string}} error
 * @param {readonly string[]} pointers  those of the fields
 * @returns {string | null}
 */
export function placeOf(error, pointers) {
  const named = PLACES[error.code];
  if (named && pointers.includes(named) && !pointers.includes(error.pointer)) return named;
  if (pointers.includes(error.pointer)) return error.pointer;
  const around = pointers.find((each) => error.pointer.startsWith(`${each}/`));
  if (around) return around;
  return error.pointer && pointers.find((each) => each.startsWith(`${error.pointer}/`)) || null;
}

/**
 * @param {Values} request
 * @param {readonly string[]} path
 * @param {any} value
 */
function placeAt(request, path, value) {
  let place = request;
  for (const part of path.slice(0, -1)) place = place[part] ??= {};
  place[/** @type {string} */ (path.at(-1))] = value;
}

/** @param {string} name */
function nameToLabel(name) {
  const words = name.replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}
