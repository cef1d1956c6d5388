/** Connects a control to a value of the form: a field, or a field inside a group. */

import { noteOf } from "../../pure/schema_layout.js";
import { isEqual, writeValueText } from "../../pure/schema_values.js";

/**
 * @typedef {import("../../pure/schema_fields.js").Field} Field
 * @typedef {import("../../pure/schema_notes.js").Note & {label: string}} Note
 * @typedef {{
 *   form: import("./form.js").Form, field: Field, note: Note, id: string, pointer: () => string,
 *   get: () => any, set: (value: any) => void, touch: () => void,
 *   problem: () => string | null, isChanged: () => boolean, reset: () => void, former: () => string, name?: string,
 * }} Slot  `former` is the text of the value that a reset restores; `name` is set if no label names the control
 */

/**
 * @param {import("./form.js").Form} form
 * @param {Field} field
 * @returns {Slot}
 */
export function slotOf(form, field) {
  return {
    form,
    field,
    note: noteOf(field.pointer),
    id: idOf(field.pointer),
    pointer: () => field.pointer,
    get: () => form.read(field),
    set: (value) => form.write(field, value),
    touch: () => form.touch(field.pointer),
    // A group shows the problems inside it at its own fields.
    problem: () => (hasFields(field) ? form.problemExactlyAt(field.pointer) : form.problemAt(field.pointer)),
    isChanged: () => hasFormer(form, field) && form.isChanged(field),
    reset: () => form.reset(field),
    former: () => labelOf(field, readReference(form, field)),
  };
}

/**
 * Return the slot of a field inside an object that another slot holds.
 * @param {Slot} outer
 * @param {Field} field
 * @param {{get: () => any, set: (value: any) => void, pointer: () => string}} access
 * @returns {Slot}
 */
export function slotWithin(outer, field, { get, set, pointer }) {
  return {
    ...outer,
    field,
    note: noteOf(field.pointer),
    id: `${outer.id}-${idOf(field.pointer)}`,
    pointer,
    get: () => get() ?? field.standard,
    set: (value) => set(isEqual(value, field.standard) && !field.required ? undefined : value),
    problem: () => outer.form.problemExactlyAt(pointer()),
    isChanged: () => false,
  };
}

/**
 * A required field that was empty has nothing to go back to.
 * @param {import("./form.js").Form} form
 * @param {Field} field
 */
function hasFormer(form, field) {
  return !field.required || readReference(form, field) !== undefined;
}

/** @param {Field} field */
function hasFields({ kind }) {
  return kind === "optional" || kind === "variants";
}

/** @param {string} pointer */
export function idOf(pointer) {
  return `field${pointer.replaceAll("/", "-")}`;
}

/**
 * Return a value of a field as its options show it.
 * @param {Field} field
 * @param {any} value
 * @returns {string}
 */
export function labelOf(field, value) {
  if (value === "auto") return "automatic";
  return noteOf(field.pointer).options?.[value]?.label ?? writeValueText(value);
}

/**
 * @param {import("./form.js").Form} form
 * @param {Field} field
 */
function readReference(form, field) {
  const stored = field.path.reduce((place, part) => place?.[part], /** @type {any} */ (form.reference));
  return stored === undefined ? field.standard : stored;
}

/**
 * Put the focus on a field, and open the group around it.
 * @param {string} pointer
 */
export function focusField(pointer) {
  const element = document.getElementById(`row-${idOf(pointer)}`);
  const group = element?.closest("details");
  if (!element) return;
  if (group) group.open = true;
  const control = element.querySelector(".form-control") ?? element;
  const focusable = "input:checked, input:not([type=radio]), select, textarea, button, input";
  const target = control.querySelector('[aria-invalid="true"]') ?? control.querySelector(focusable) ?? element;
  element.scrollIntoView({ block: "center" });
  /** @type {HTMLElement} */ (target).focus({ preventScroll: true });
}
