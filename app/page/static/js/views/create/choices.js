/** Choices of one among several: segments, cards, and a list. */

import { h } from "../../dom.js";
import { richText } from "./bits.js";

/**
 * @typedef {import("./slot.js").Slot} Slot
 * @typedef {{value: string, label: string,
 *   help?: string | ((context: import("../../pure/schema_notes.js").Context) => string)}} Option
 * @typedef {{id: string, options: readonly Option[], get: () => any, set: (value: string) => void, describedBy: string}} Parts
 */

/**
 * Show a few short options beside each other.
 * @param {Parts} parts
 */
export function radios({ id, options, get, set, describedBy }) {
  return h(
    "div.choices",
    { role: "radiogroup", id, "aria-labelledby": `label-${id}`, "aria-describedby": describedBy },
    options.map(({ value, label }) =>
      h(
        "label.choice",
        h("input", { type: "radio", name: id, value, ".checked": () => get() === value, onchange: () => set(value) }),
        h("span", label),
      )
    ),
  );
}

/**
 * Show options that need an explanation.
 * @param {Slot} slot
 * @param {readonly Option[]} options
 */
export function cards(slot, options) {
  const { id, get, set, form } = slot;
  return h(
    "div.choice-cards",
    { role: "radiogroup", id, "aria-labelledby": `label-${id}`, "aria-describedby": `problem-${id}` },
    options.map(({ value, label, help }) =>
      h(
        "label.choice-card",
        h("input", { type: "radio", name: id, value, ".checked": () => get() === value, onchange: () => set(value) }),
        h(
          "span",
          h("strong", label),
          h("span.field-help", () => richText(typeof help === "function" ? help(form.context()) : help ?? "")),
        ),
      )
    ),
  );
}

/** @param {Parts & {isInvalid: () => boolean}} parts */
export function selectOf({ id, options, get, set, describedBy, isInvalid }) {
  return h(
    "select.narrow",
    {
      id,
      "aria-describedby": describedBy,
      "aria-invalid": () => (isInvalid() ? "true" : null),
      onchange: (/** @type {Event} */ event) => set(/** @type {HTMLSelectElement} */ (event.target).value),
    },
    options.map(({ value, label }) => h("option", { value, ".selected": () => get() === value }, label)),
  );
}
