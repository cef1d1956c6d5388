/** The small parts of a field's row. */

import { h, icon } from "../../dom.js";

/** @typedef {import("./slot.js").Slot} Slot */

/** @param {Slot} slot */
export function problemText(slot) {
  return h("p.field-problem", { id: `problem-${slot.id}` }, () => slot.problem() ?? "");
}

/** @param {Slot} slot */
export function resetButton(slot) {
  return h(
    "button.ghost.reset",
    {
      type: "button",
      "aria-label": `Reset ${slot.note.label} to ${slot.former()}`,
      title: `Was ${slot.former()}`,
      onclick: slot.reset,
    },
    icon("retry"),
    h("span.truncate", slot.former()),
  );
}

/**
 * Return a text's parts: what stands between backticks is code.
 * @param {string} text
 * @returns {(string | HTMLElement)[]}
 */
export function richText(text) {
  return text.split("`").map((part, index) => (index % 2 ? h("code", part) : part));
}

/** @param {Slot} slot */
export function helpOf({ note, field }) {
  return note.help ?? field.description;
}

/** Return the ids of what describes a control. @param {Slot} slot */
export function describedBy({ id }) {
  return `help-${id} problem-${id}`;
}
