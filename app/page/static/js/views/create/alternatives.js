/** Shows fields of which one is set, such as a length in epochs or in steps. */

import { h } from "../../dom.js";
import { getAt, setAt } from "../../pure/schema_values.js";
import { signal } from "../../signals.js";
import { resetButton, richText } from "./bits.js";
import { radios } from "./controls.js";
import { idOf, slotOf } from "./slot.js";

/**
 * @param {import("./form.js").Form} form
 * @param {import("../../pure/schema_layout.js").Alternatives} row
 * @param {(slot: import("./slot.js").Slot, options: {isBare: boolean}) => HTMLElement} slotRow
 * @returns {HTMLElement}
 */
export function alternativesRow(form, row, slotRow) {
  const slots = row.pointers.map((pointer) => slotOf(form, form.find(pointer))).map((slot) => ({
    ...slot,
    name: slot.note.label,
  }));
  const id = idOf(`${/** @type {string} */ (row.pointers[0])}-or`);
  /** What each field held before another was chosen. @type {any[]} */
  const former = [];
  const clicked = signal(-1);
  const chosen = () => {
    const at = slots.findIndex(({ field }) => getAt(form.values.value, field.path) !== undefined);
    if (at >= 0) return at;
    return row.none ? -1 : Math.max(0, clicked.value);
  };
  const choose = (/** @type {number} */ next) => {
    const present = chosen();
    let values = form.values.peek();
    if (present >= 0) former[present] = getAt(values, slots[present].field.path);
    for (const { field } of slots) values = setAt(values, field.path, undefined);
    const slot = slots[next];
    if (slot) values = setAt(values, slot.field.path, former[next] ?? slot.note.suggested);
    clicked.value = next;
    form.values.value = values;
  };
  const options = [
    ...(row.none ? [{ value: "-1", label: row.none }] : []),
    ...row.labels.map((label, at) => ({ value: String(at), label })),
  ];
  const isChanged = () => slots.some((slot) => slot.isChanged());
  const reset = () => slots.forEach((slot) => slot.reset());
  const before = slots.find((slot) => slot.former() !== "not set");
  const formerText = () => before ? `${before.note.label}: ${before.former()}` : row.none ?? "not set";
  return h(
    "div.form-row",
    { id: `row-${id}`, class: () => (isChanged() ? "changed" : "") },
    h(
      "div.form-label",
      h("span.field-label", { id: `label-${id}` }, row.label),
      () => isChanged() && resetButton({ ...slots[0], note: { label: row.label }, reset, former: formerText }),
    ),
    h(
      "div.form-control",
      h(
        "div.form-inline",
        radios({
          id,
          options,
          get: () => String(chosen()),
          set: (value) => choose(Number(value)),
          describedBy: `help-${id}`,
        }),
        slots.map((slot, at) => h("div.form-grow", { hidden: () => chosen() !== at }, slotRow(slot, { isBare: true }))),
      ),
      h("p.field-help", { id: `help-${id}` }, richText(row.help)),
    ),
  );
}
