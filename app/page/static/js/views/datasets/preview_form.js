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
  const isPreference = dataset.format === "preference";
  const problem = signal(/** @type {unknown} */ (null));
  const rowsProblem = signal("");
  const isBusy = signal(false);
  const models = readModels(problem);
  const model = modelField(models, last?.base_model);
  const trainOn = choice("preview-train-on", TRAIN_ON, last?.train_on);
  const reasoning = choice("preview-reasoning", REASONING, last?.reasoning);
  const length = numberField("preview-length", last?.max_seq_len, { min: 8, placeholder: "auto" });
  const batch = numberField("preview-batch", last?.batch_size ?? 8, { min: 1, placeholder: "8" });
  const rows = h("input", {
    id: "preview-rows",
    ".value": query.peek().get("lines") ?? formatRows(last?.rows),
    "aria-describedby": "preview-rows-help",
    oninput: () => (rowsProblem.value = parseRows(rows.value).problem),
  });
  const submit = async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const wanted = parseRows(rows.value);
    rowsProblem.value = wanted.problem;
    if (wanted.problem) return rows.focus();
    isBusy.value = true;
    problem.value = null;
    const learned = isPreference ? { objective: "dpo" } : { train_on: trainOn.value, reasoning: reasoning.value };
    const numbers = { max_seq_len: Number(length.value) || "auto", batch_size: Number(batch.value) || 8 };
    const skips = dataset.num_bad_rows ? { on_bad_rows: { action: "skip", max_share: 0.999 } } : {};
    try {
      const body = { base_model: model.value, rows: wanted.rows, ...numbers, ...learned, ...skips };
      show(await post(`/datasets/${dataset.id}/previews`, body, { idempotencyKey: createIdempotencyKey() }));
    } catch (error) {
      problem.value = error;
    }
    isBusy.value = false;
  };
  const at = (
    /** @type {string} */ pointer,
  ) => (problem.value instanceof ApiError ? problem.value.messageAt(pointer) ?? "" : "");
  const shown = [
    "/base_model",
    "/train_on",
    "/training/train_on",
    "/reasoning",
    "/max_seq_len",
    "/batch_size",
    "/rows",
  ];
  const general = () => {
    if (!problem.value) return "";
    if (problem.value instanceof ApiError && problem.value.errors.length) {
      return problem.value.errors.filter((each) => !shown.includes(each.pointer)).map((each) => each.message).join(" ");
    }
    return problem.value instanceof Error ? problem.value.message : String(problem.value);
  };
  return h(
    "form.preview-form",
    { onsubmit: submit, "aria-label": "New preview" },
    field("preview-model", "Base model", model, () => at("/base_model")),
    isPreference
      ? null
      : field("preview-train-on", "Train on", trainOn, () => at("/train_on") || at("/training/train_on")),
    isPreference ? null : field("preview-reasoning", "Reasoning", reasoning, () => at("/reasoning")),
    field("preview-length", "Max length", length, () => at("/max_seq_len")),
    field("preview-batch", "Batch size", batch, () => at("/batch_size")),
    field(
      "preview-rows",
      "Rows",
      rows,
      () => rowsProblem.value || at("/rows"),
      h(
        "span.visually-hidden",
        { id: "preview-rows-help" },
        "A number of first rows, or lines such as line 17 or 17, 20-22",
      ),
    ),
    h(
      "button.primary",
      { type: "submit", disabled: () => isBusy.value || models.value?.length === 0 },
      icon("play"),
      "Preview",
    ),
    h("p.field-problem", { role: "alert" }, general),
    () =>
      models.value?.length === 0 &&
      h(
        "p.quiet",
        "There is no base model yet. ",
        h("a", { href: linkTo("/models") }, "Add one"),
        " to see its tokens.",
      ),
    dataset.num_bad_rows ? h("p.faint", "Rows with an error are skipped.") : null,
  );
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
 * @param {Node | null} [help]
 */
function field(id, label, control, problem, help = null) {
  return h(
    "div.field",
    h("label", { for: id }, label),
    control,
    h("p.field-problem", { role: "status" }, problem),
    help,
  );
}
