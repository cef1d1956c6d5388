/** What can be done with a dataset. */

import { createIdempotencyKey, post, request } from "../../api.js";
import { h, icon } from "../../dom.js";
import { formatNumber, formatPlural } from "../../format.js";
import { confirmAction, showDialog, showMessage } from "../../parts/overlay.js";
import { may } from "../../session.js";
import { computed, signal } from "../../signals.js";
import { linkTo, navigate } from "../../url.js";

/** @typedef {import("../../../../api.d.ts").DatasetOut} DatasetOut */

/** @param {{value: DatasetOut, peek: () => DatasetOut}} dataset */
export function datasetActions(dataset) {
  const { id } = dataset.peek();
  const hasBytes = computed(() => dataset.value.state !== "uploading" && dataset.value.bytes > 0);
  const isInspected = computed(() => ["ready", "invalid"].includes(dataset.value.state));
  const isCleanable = computed(() => {
    const { num_examples, num_bad_rows, statistics } = dataset.value;
    const hasGood = (num_examples ?? 0) > (num_bad_rows ?? 0);
    return isInspected.value && hasGood && ((num_bad_rows ?? 0) > 0 || (statistics?.duplicates.exact ?? 0) > 0);
  });
  return [
    () =>
      hasBytes.value &&
      h("a.button.icon-only", {
        href: `/datasets/${id}/content`,
        download: dataset.peek().filename,
        title: "Download",
        "aria-label": "Download",
      }, icon("download")),
    may("write") && h(
      "button.icon-only.danger-quiet",
      { type: "button", title: "Delete", "aria-label": "Delete", onclick: () => deleteDataset(dataset.peek()) },
      icon("trash"),
    ),
    () =>
      may("write") && isCleanable.value &&
      h("button", { type: "button", onclick: () => clean(dataset.peek()) }, icon("broom"), "Clean"),
    () =>
      may("write") && dataset.value.state !== "invalid" &&
      h("a.button.primary", { href: linkTo("/new", { dataset: id }) }, icon("play"), "Train on it"),
  ];
}

/** @param {DatasetOut} dataset */
async function deleteDataset(dataset) {
  const isSure = await confirmAction({
    title: "Delete the dataset?",
    text:
      `${dataset.filename} is deleted with its previews and overlap checks. Jobs that used it, and their results, stay.`,
    action: "Delete",
    isDangerous: true,
  });
  if (!isSure) return;
  try {
    await request("DELETE", `/datasets/${dataset.id}`);
    showMessage(`${dataset.filename} was deleted.`, { tone: "good" });
    navigate(linkTo("/datasets"));
  } catch (error) {
    showMessage(error instanceof Error ? error.message : String(error), { tone: "bad" });
  }
}

/**
 * Create a dataset of the valid rows, and show it.
 * @param {DatasetOut} dataset
 */
export async function clean(dataset) {
  const created = await showDialog({ title: "Clean the dataset", body: (close) => cleanForm(dataset, close) });
  if (created) navigate(linkTo(`/datasets/${created.id}`));
}

/**
 * @param {DatasetOut} dataset
 * @param {(created: DatasetOut | null) => void} close
 */
function cleanForm(dataset, close) {
  const exact = dataset.statistics?.duplicates.exact ?? 0;
  const bad = dataset.num_bad_rows ?? 0;
  const problem = signal("");
  const isBusy = signal(false);
  const key = createIdempotencyKey();
  const check = h("input", { type: "checkbox", ".checked": exact > 0 && !bad });
  const submit = async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    isBusy.value = true;
    try {
      const options = { query: { drop_duplicates: check.checked }, idempotencyKey: `${key}${check.checked}` };
      close(await post(`/datasets/${dataset.id}/clean`, undefined, options));
    } catch (error) {
      problem.value = error instanceof Error ? error.message : String(error);
    }
    isBusy.value = false;
  };
  const without = bad ? ` without the ${formatPlural(bad, "row")} that ${bad === 1 ? "has" : "have"} an error` : "";
  return h(
    "form.dialog-body",
    { onsubmit: submit },
    h("p", `A new dataset is created${without}. `, h("span.quiet", "This one stays unchanged.")),
    h("label.check", check, `Also drop exact duplicates (${formatNumber(exact)})`),
    h("p.field-problem", { role: "alert" }, () => problem.value),
    h(
      "div.actions.end",
      h("button", { type: "button", onclick: () => close(null) }, "Not now"),
      h("button.primary", { type: "submit", disabled: () => isBusy.value }, "Create cleaned dataset"),
    ),
  );
}
