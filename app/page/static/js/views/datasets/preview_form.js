/** Asks for a preview: the model, what is trained, and which rows are shown. */

import { ApiError, createIdempotencyKey, get, post } from "../../api.js";
import { fill, h, icon } from "../../dom.js";
import { formatRows, parseRows } from "../../pure/dataset_options.js";
import { effect, onEnd, signal } from "../../signals.js";
import { linkTo, query } from "../../url.js";

/**
 * @typedef {import("../../../../api.d.ts").DatasetOut} DatasetOut
 * @typedef {import("../../../../api.d.ts").PreviewOut} PreviewOut
 * @typedef {import("../../../../api.d.ts").PreviewSpec} PreviewSpec
 */

const TRAIN_ON = [
  ["auto", "auto"],
  ["assistant", "every answer"],
  ["completion", "the last answer"],
  ["all", "everything"],
];
const REASONING = [["train", "is trained"], ["context", "is context"], ["drop", "is left out"]];
const MOST_MODELS = 100;

/**
 * @param {DatasetOut} dataset
 * @param {PreviewSpec | null} last  the settings of the newest preview, to start from
 * @param {(preview: PreviewOut) => void} show
 */
export function previewForm(dataset, last, show) {
  const problem = signal(/** @type {unknown} */ (null));
  const rowsProblem = signal("");
  const isBusy = signal(false);
  const models = readModels(problem);
  const controls = createControls(models, last, rowsProblem);
  const submit = async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    rowsProblem.value = parseRows(controls.rows.value).problem;
    if (rowsProblem.peek()) return controls.rows.focus();
    isBusy.value = true;
    problem.value = null;
    try {
      const body = readSpec(dataset, controls);
      show(await post(`/datasets/${dataset.id}/previews`, body, { idempotencyKey: createIdempotencyKey() }));
    } catch (error) {
      problem.value = error;
    }
    isBusy.value = false;
  };
  const hasNoModel = () => models.value?.length === 0;
  return h(
    "form.preview-form",
    { onsubmit: submit, "aria-label": "New preview" },
    fields(dataset, controls, problem, rowsProblem),
    h("button.primary", { type: "submit", disabled: () => isBusy.value || hasNoModel() }, icon("play"), "Preview"),
    h("p.field-problem", { role: "alert" }, () => describeOther(problem.value)),
    () =>
      hasNoModel() &&
      h(
        "p.quiet",
        "There is no base model yet. ",
        h("a", { href: linkTo("/models") }, "Add one"),
        " to see its tokens.",
      ),
    dataset.num_bad_rows ? h("p.faint", "Rows with an error are skipped.") : null,
  );
}

/**
 * @param {{value: readonly string[] | null}} models
 * @param {PreviewSpec | null} last
 * @param {import("../../signals.js").Signal<string>} rowsProblem
 */
function createControls(models, last, rowsProblem) {
  const rows = h("input", {
    id: "preview-rows",
    ".value": query.peek().get("lines") ?? formatRows(last?.rows),
    "aria-describedby": "preview-rows-help",
    oninput: () => (rowsProblem.value = parseRows(rows.value).problem),
  });
  return {
    model: modelField(models, last?.base_model),
    trainOn: choice("preview-train-on", TRAIN_ON, last?.train_on),
    reasoning: choice("preview-reasoning", REASONING, last?.reasoning),
    length: numberField("preview-length", last?.max_seq_len, { min: 8, placeholder: "auto" }),
    batch: numberField("preview-batch", last?.batch_size ?? 8, { min: 1, placeholder: "8" }),
    rows,
  };
}

/**
 * @param {DatasetOut} dataset
 * @param {ReturnType<typeof createControls>} controls
 * @returns {PreviewSpec}
 */
function readSpec({ format, num_bad_rows }, { model, trainOn, reasoning, length, batch, rows }) {
  return {
    base_model: model.value,
    rows: parseRows(rows.value).rows,
    max_seq_len: Number(length.value) || "auto",
    batch_size: Number(batch.value) || 8,
    ...(format === "preference" ? { objective: "dpo" } : { train_on: trainOn.value, reasoning: reasoning.value }),
    ...(num_bad_rows ? { on_bad_rows: { action: "skip", max_share: 0.999 } } : {}),
  };
}

/**
 * @param {DatasetOut} dataset
 * @param {ReturnType<typeof createControls>} controls
 * @param {{value: unknown}} problem
 * @param {{value: string}} rowsProblem
 */
function fields(dataset, controls, problem, rowsProblem) {
  const at = (/** @type {string[]} */ ...pointers) => () =>
    problem.value instanceof ApiError ? pointers.map((each) => messageAt(problem.value, each)).find(Boolean) ?? "" : "";
  const isPreference = dataset.format === "preference";
  const help = "A number of first rows, or lines such as line 17 or 17, 20-22";
  const ofRows = at("/rows");
  return [
    field("preview-model", "Base model", controls.model, at("/base_model")),
    !isPreference && field("preview-train-on", "Train on", controls.trainOn, at("/train_on", "/training/train_on")),
    !isPreference && field("preview-reasoning", "Reasoning", controls.reasoning, at("/reasoning")),
    field("preview-length", "Max length", controls.length, at("/max_seq_len")),
    field("preview-batch", "Batch size", controls.batch, at("/batch_size")),
    field("preview-rows", "Rows", controls.rows, () => rowsProblem.value || ofRows(), help),
  ];
}

const AT_FIELDS = [
  "/base_model",
  "/train_on",
  "/training/train_on",
  "/reasoning",
  "/max_seq_len",
  "/batch_size",
  "/rows",
];

/**
 * @param {unknown} error
 * @param {string} pointer
 */
function messageAt(error, pointer) {
  return error instanceof ApiError ? error.errors.find((each) => each.pointer.startsWith(pointer))?.message ?? "" : "";
}

/**
 * Return what the fields do not show of an error.
 * @param {unknown} error
 */
function describeOther(error) {
  if (!error) return "";
  if (error instanceof ApiError && error.errors.length) {
    const others = error.errors.filter((each) => !AT_FIELDS.some((pointer) => each.pointer.startsWith(pointer)));
    return others.map((each) => each.message).join(" ");
  }
  return error instanceof Error ? error.message : String(error);
}

/** @param {import("../../signals.js").Signal<unknown>} problem */
function readModels(problem) {
  const models = signal(/** @type {readonly string[] | null} */ (null));
  const abort = new AbortController();
  onEnd(() => abort.abort());
  get("/models", { query: { limit: MOST_MODELS }, signal: abort.signal }).then(({ items }) => {
    models.value = items.filter((/** @type {{state: string}} */ each) => each.state === "ready").map((
      /** @type {{name: string}} */ each,
    ) => each.name);
  }).catch((error) => {
    if (!abort.signal.aborted) problem.value = error;
  });
  return models;
}

/**
 * @param {{value: readonly string[] | null}} models
 * @param {string | undefined} last
 */
function modelField(models, last) {
  const select = h("select", { id: "preview-model", required: true });
  effect(() => {
    const names = models.value ?? (last ? [last] : []);
    fill(select, names.map((name) => h("option", { value: name, selected: name === last }, name)));
  });
  return select;
}

/**
 * @param {string} id
 * @param {string[][]} options
 * @param {string | undefined} last
 */
function choice(id, options, last) {
  return h("select", { id }, options.map(([value, label]) => h("option", { value, selected: value === last }, label)));
}

/**
 * @param {string} id
 * @param {string | number | undefined} last
 * @param {{min: number, placeholder: string}} options
 */
function numberField(id, last, options) {
  return h("input", {
    id,
    type: "number",
    inputmode: "numeric",
    step: 1,
    ".value": typeof last === "number" ? last : "",
    ...options,
  });
}

/**
 * @param {string} id
 * @param {string} label
 * @param {Node} control
 * @param {() => string} problem
 * @param {string} [help]  spoken only
 */
function field(id, label, control, problem, help = "") {
  return h(
    "div.field",
    h("label", { for: id, title: help || null }, label),
    control,
    h("p.field-problem", { role: "status" }, problem),
    help && h("span.visually-hidden", { id: `${id}-help` }, help),
  );
}
