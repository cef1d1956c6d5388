/** Choices among the project's base models, datasets and adapters, with what matters about the chosen one. */

import { h } from "../../dom.js";
import { formatBytes, formatCount, formatNumber, formatPlural } from "../../format.js";
import { linkTo } from "../../url.js";
import { inputFor } from "./controls.js";

/** @typedef {import("./slot.js").Slot} Slot */

/** @param {Slot} slot */
export function modelPicker(slot) {
  const { models } = slot.form.resources;
  const chosen = () => models.value.find((each) => each.name === slot.get());
  return h(
    "div.picker",
    picker(slot, "Select a base model", () =>
      models.value.filter((each) => each.state !== "removed").map((each) => ({
        value: each.name,
        label: joined([
          each.name,
          each.num_parameters && `${formatCount(each.num_parameters)} parameters`,
          each.state !== "ready" && each.state,
        ]),
      }))),
    () => {
      const model = chosen();
      if (!model) {
        return models.value.length
          ? null
          : firstHint("The registry has no base model yet.", "/models", "Add a base model");
      }
      return facts([
        model.license ? `License ${model.license}` : "License unknown",
        model.num_bytes && formatBytes(model.num_bytes),
        model.max_seq_len && `up to ${formatNumber(model.max_seq_len)} tokens`,
        model.state !== "ready" && `${model.state}: jobs can use it once it is ready`,
      ]);
    },
  );
}

/** @param {Slot} slot */
export function datasetPicker(slot) {
  const { datasets } = slot.form.resources;
  const chosen = () => datasets.value.find((each) => each.id === slot.get());
  const isAlone = (/** @type {{filename: string}} */ { filename }) =>
    datasets.value.filter((each) => each.filename === filename).length === 1;
  return h(
    "div.picker",
    picker(slot, "Select a dataset", () =>
      datasets.value.map((each) => ({
        value: each.id,
        label: joined([
          each.filename,
          each.state === "ready" ? rowsOf(each) : each.state,
          isAlone(each) ? null : each.id.slice(-6),
        ]),
      }))),
    () => {
      const dataset = chosen();
      if (!dataset) {
        return datasets.value.length
          ? null
          : firstHint("The project has no dataset yet.", "/datasets", "Upload a dataset");
      }
      return h(
        "p.facts-line",
        facts([
          dataset.state === "ready"
            ? rowsOf(dataset)
            : dataset.state === "inspecting"
            ? "being inspected: the job waits"
            : dataset.state,
          dataset.format && `format ${dataset.format}`,
          formatBytes(dataset.bytes),
          dataset.num_bad_rows ? formatPlural(dataset.num_bad_rows, "invalid row") : null,
        ]),
        h("a", { href: linkTo(`/datasets/${dataset.id}`) }, "Open"),
      );
    },
  );
}

/**
 * @param {Slot} slot
 * @param {string} describedBy
 */
export function adapterPicker(slot, describedBy) {
  const { form, field, note, id } = slot;
  const fitting = () =>
    form.resources.adapters.value.filter((each) => each.base_model === form.values.value.base_model);
  const list = `${id}-list`;
  return h(
    "div.picker",
    inputFor(slot, {
      read: (text) => (text.trim() === "" ? field.standard : text.trim()),
      write: (value) => String(value ?? ""),
      attributes: { list, spellcheck: "false", placeholder: note.placeholder ?? null, "aria-describedby": describedBy },
    }),
    h("datalist", { id: list }, () => fitting().map((each) => h("option", { value: each.id }, each.name))),
  );
}

/**
 * @param {Slot} slot
 * @param {string} placeholder
 * @param {() => {value: string, label: string}[]} options
 */
function picker(slot, placeholder, options) {
  const { id, field } = slot;
  const select = /** @type {HTMLSelectElement} */ (h(
    "select",
    {
      id,
      "aria-describedby": `problem-${id}`,
      "aria-invalid": () => (slot.problem() ? "true" : null),
      "aria-required": field.required ? "true" : null,
      "aria-label": slot.name ?? null,
      onchange: () => {
        slot.set(select.value || (field.required ? undefined : ""));
        slot.touch();
      },
    },
    () => {
      const present = slot.get() ?? "";
      const known = options();
      const isUnknown = present !== "" && !known.some((each) => each.value === present);
      return [
        h("option", { value: "", ".selected": present === "" }, placeholder),
        isUnknown && h("option", { value: present, ".selected": true }, `${present} (not found)`),
        known.map(({ value, label }) => h("option", { value, ".selected": present === value }, label)),
      ];
    },
  ));
  return select;
}

/** @param {import("../../../../api.d.ts").DatasetOut} dataset */
function rowsOf({ num_examples }) {
  return num_examples === null ? "rows unknown" : formatPlural(num_examples, "row");
}

/** @param {readonly (string | number | false | null | undefined)[]} parts */
function joined(parts) {
  return parts.filter(Boolean).join(" · ");
}

/** @param {readonly (string | number | false | null | undefined)[]} parts */
function facts(parts) {
  return h("span.field-help.tabular", joined(parts));
}

/**
 * @param {string} text
 * @param {string} to
 * @param {string} label
 */
function firstHint(text, to, label) {
  return h("p.field-help", text, " ", h("a", { href: linkTo(to) }, label));
}
