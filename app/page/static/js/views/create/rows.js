/** Shows fields with their labels, explanations, problems and a way back to the former value. */

import { h } from "../../dom.js";
import { alternativesRow } from "./alternatives.js";
import { helpOf, problemText, resetButton, richText } from "./bits.js";
import { control, isGrouped } from "./controls.js";
import { slotOf } from "./slot.js";

/**
 * @typedef {import("./slot.js").Slot} Slot
 * @typedef {import("./form.js").Form} Form
 */

/**
 * Show one row of a section.
 * @param {Form} form
 * @param {import("../../pure/schema_layout.js").Row} row
 */
export function fieldRow(form, row) {
  if (typeof row !== "string") return alternativesRow(form, row, slotRow);
  return slotRow(slotOf(form, form.find(row)));
}

/**
 * @param {Slot} slot
 * @param {{isBare?: boolean}} [options]  a bare row has no label of its own
 * @returns {HTMLElement}
 */
export function slotRow(slot, { isBare = false } = {}) {
  const { note, id, field } = slot;
  const isShown = () => note.isShown?.(slot.form.values.value) !== false;
  const help = helpOf(slot);
  return h(
    "div.form-row",
    {
      id: `row-${id}`,
      hidden: () => !isShown(),
      class: () =>
        [isBare && "bare", note.widget === "cards" && "stacked", slot.isChanged() && "changed"].filter(Boolean).join(
          " ",
        ),
    },
    isBare ? null : h(
      "div.form-label",
      isGrouped(slot)
        ? h("span.field-label", { id: `label-${id}` }, note.label)
        : h("label.field-label", { for: id, id: `label-${id}` }, note.label),
      () => slot.isChanged() && resetButton(slot),
    ),
    h(
      "div.form-control",
      control(slot),
      help && field.kind !== "boolean" && h("p.field-help", { id: `help-${id}` }, richText(help)),
      problemText(slot),
    ),
  );
}
