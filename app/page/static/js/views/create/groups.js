/** Groups of fields inside a field: an optional object, and a list of typed objects such as trackers. */

import { h } from "../../dom.js";
import { noteOf } from "../../pure/schema_layout.js";
import { setAt } from "../../pure/schema_values.js";
import { richText } from "./bits.js";
import { slotRow } from "./rows.js";
import { slotWithin } from "./slot.js";

/** @typedef {import("./slot.js").Slot} Slot */

/** A switch, and the fields of the object while it is on. @param {Slot} slot */
export function groupControl(slot) {
  const isOn = () => slot.get() !== null && slot.get() !== undefined;
  const toggle = (/** @type {boolean} */ on) => slot.set(on ? startOf(slot) : null);
  const inner = slot.field.fields.map((field) =>
    slotWithin(slot, field, {
      get: () => slot.get()?.[field.name],
      set: (value) => slot.set(setAt(slot.get() ?? {}, [field.name], value)),
      pointer: () => field.pointer,
    })
  );
  return h(
    "div.form-group",
    switchFor({ id: slot.id, label: "On", isOn, toggle, labelledBy: `label-${slot.id}` }),
    h("div.form-nested", { hidden: () => !isOn() }, inner.map((each) => slotRow(each))),
  );
}

/** At most one object of each type. @param {Slot} slot */
export function variantsControl(slot) {
  const items = () => /** @type {any[]} */ (slot.get() ?? []);
  return h(
    "div.form-group",
    { role: "group", "aria-labelledby": `label-${slot.id}`, id: slot.id },
    slot.field.variants.map((variant) => {
      const at = () => items().findIndex((each) => each.type === variant.type);
      const isOn = () => at() >= 0;
      const toggle = (/** @type {boolean} */ on) => {
        const others = items().filter((each) => each.type !== variant.type);
        slot.set(on ? [...others, emptyVariant(variant)] : others);
        slot.touch();
      };
      const pointer = `${slot.field.pointer}/${variant.type}`;
      const inner = variant.fields.map((field) =>
        slotWithin({ ...slot, id: `${slot.id}-${variant.type}` }, { ...field, pointer: `${pointer}${field.pointer}` }, {
          get: () => field.path.reduce((place, part) => place?.[part], items()[at()]),
          set: (value) =>
            slot.set(items().map((each, index) => (index === at() ? setAt(each, field.path, value) : each))),
          pointer: () => `${slot.field.pointer}/${at()}${field.pointer}`,
        })
      );
      return h(
        "div.form-variant",
        switchFor({ id: `${slot.id}-${variant.type}`, label: noteOf(pointer).label, isOn, toggle }),
        h("p.field-help", richText(variant.description)),
        variant.fields.length > 0 &&
          h("div.form-nested", { hidden: () => !isOn() }, inner.map((each) => slotRow(each))),
        h("p.field-problem", () => (isOn() && slot.form.problemExactlyAt(`${slot.field.pointer}/${at()}/type`)) || ""),
      );
    }),
  );
}

/**
 * @param {{id: string, label: string, isOn: () => boolean, toggle: (on: boolean) => void, labelledBy?: string}} parts
 */
function switchFor({ id, label, isOn, toggle, labelledBy }) {
  return h(
    "label.check",
    h("input", {
      id,
      type: "checkbox",
      ".checked": isOn,
      "aria-labelledby": labelledBy ?? null,
      onchange: (/** @type {Event} */ event) => toggle(/** @type {HTMLInputElement} */ (event.target).checked),
    }),
    h("span", label),
  );
}

/** @param {Slot} slot */
function startOf(slot) {
  const needed = slot.field.fields.filter((field) => field.required);
  return Object.fromEntries(needed.map((field) => [field.name, noteOf(field.pointer).suggested ?? ""]));
}

/** @param {import("../../pure/schema_fields.js").Variant} variant */
function emptyVariant({ type, fields }) {
  let found = /** @type {Record<string, any>} */ ({ type });
  for (const field of fields.filter((each) => each.required)) found = setAt(found, field.path, "");
  return found;
}
