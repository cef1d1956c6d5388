/** Shows the control of a field by its kind. */

import { h } from "../../dom.js";
import { parseNumber, writeNumber } from "../../pure/schema_values.js";
import { effect } from "../../signals.js";
import { cards, radios, selectOf } from "./choices.js";
import { describedBy, helpOf, richText } from "./bits.js";
import { groupControl, variantsControl } from "./groups.js";
import { listControl, pairsControl } from "./lists.js";
import { adapterPicker, datasetPicker, modelPicker } from "./pickers.js";

/**
 * @typedef {import("./slot.js").Slot} Slot
 * @typedef {import("../../pure/schema_fields.js").Field} Field
 */

export { radios };

/**
 * @param {Slot} slot
 * @returns {Node}
 */
export function control(slot) {
  const { kind } = slot.field;
  const { widget } = slot.note;
  if (widget === "model") return modelPicker(slot);
  if (widget === "dataset") return datasetPicker(slot);
  if (widget === "adapter") return adapterPicker(slot, describedBy(slot));
  if (kind === "enum") return enumControl(slot);
  if (kind === "boolean") return checkbox(slot);
  if (kind === "number") return numberInput(slot);
  if (kind === "choice") return choiceControl(slot);
  if (kind === "list") return listControl(slot);
  if (kind === "pairs") return pairsControl(slot);
  if (kind === "optional") return groupControl(slot);
  if (kind === "variants") return variantsControl(slot);
  return kind === "text" ? textInput(slot) : jsonInput(slot);
}

/**
 * Return whether the control consists of several elements, which a group names.
 * @param {Slot} slot
 */
export function isGrouped({ field, note }) {
  if (note.widget) return note.widget === "cards";
  return ["choice", "list", "pairs", "optional", "variants", "boolean"].includes(field.kind) ||
    isSegmented(field, note);
}

/** @param {Slot} slot */
function enumControl(slot) {
  const { field, note } = slot;
  const options = field.options.map((value) => ({
    value,
    label: note.options?.[value]?.label ?? (value === "auto" ? "Automatic" : value),
    help: note.options?.[value]?.help,
  }));
  if (note.widget === "cards") return cards(slot, options);
  const shared = { id: slot.id, options, get: slot.get, set: slot.set, describedBy: describedBy(slot) };
  const chosen = isSegmented(field, note)
    ? radios(shared)
    : selectOf({ ...shared, isInvalid: () => slot.problem() !== null });
  return h("div.form-inline", chosen, appliedText(slot));
}

/**
 * @param {Field} field
 * @param {Slot["note"]} note
 */
function isSegmented(field, note) {
  if (field.kind !== "enum" || note.widget) return false;
  const labels = field.options.map((value) => note.options?.[value]?.label ?? value);
  return labels.length <= 4 && labels.join("").length <= 40;
}

/** Tell the value that `auto` stands for. @param {Slot} slot */
function appliedText(slot) {
  const { note, form, field } = slot;
  if (!note.applies) return null;
  const isAutomatic = () => slot.get() === "auto" || (slot.get() === field.standard && !field.options.includes("auto"));
  return h("span.form-applies", () => {
    const text = isAutomatic() && note.applies?.(form.values.value, form.context());
    return text || "";
  });
}

/** @param {Slot} slot */
function checkbox(slot) {
  return h(
    "label.check",
    h("input", {
      id: slot.id,
      type: "checkbox",
      ".checked": () => slot.get() === true,
      "aria-describedby": `problem-${slot.id}`,
      onchange: (/** @type {Event} */ event) => slot.set(/** @type {HTMLInputElement} */ (event.target).checked),
    }),
    h("span", richText(helpOf(slot) || slot.note.label)),
  );
}

/** @param {Slot} slot */
function textInput(slot) {
  const { field } = slot;
  return inputFor(slot, {
    read: (text) => (text === "" && !field.required ? field.standard ?? undefined : text),
    write: (value) => String(value ?? ""),
    attributes: { maxlength: field.maxLength && field.maxLength * 2, spellcheck: field.pattern ? "false" : null },
  });
}

/**
 * @param {Slot} slot
 * @param {Field} [field]  whose bounds apply
 */
function numberInput(slot, field = slot.field) {
  const { note, form } = slot;
  const input = inputFor(slot, {
    read: (text) => (text.trim() === "" ? (field.nullable ? null : "") : parseNumber(text)),
    write: (value) => (typeof value === "number" ? writeNumber(value) : String(value ?? "")),
    attributes: {
      inputmode: field.integer ? "numeric" : "decimal",
      placeholder: () =>
        note.placeholder ?? (field.nullable && note.applies ? note.applies(form.values.value, form.context()) : null),
    },
  });
  const isWide = field.nullable && note.applies;
  return h("div.number-input", { class: isWide ? "wide" : "" }, input, note.unit && h("span.unit", note.unit));
}

/**
 * @param {Slot} slot
 * @param {{read: (text: string) => any, write: (value: any) => string, attributes?: Record<string, any>}} parts
 * @returns {HTMLElement}
 */
export function inputFor(slot, { read, write, attributes = {} }) {
  const input = /** @type {HTMLInputElement} */ (h("input", {
    id: slot.id,
    type: "text",
    autocomplete: "off",
    "aria-describedby": describedBy(slot),
    "aria-invalid": () => (slot.problem() ? "true" : null),
    "aria-required": slot.field.required ? "true" : null,
    "aria-label": slot.name ?? null,
    oninput: () => slot.set(read(input.value)),
    onchange: () => slot.touch(),
    ...attributes,
  }));
  effect(() => {
    const value = slot.get();
    // What is being typed stays as it is: "1." is the number 1 already.
    const isTyped = document.activeElement === input && sameValue(read(input.value), value);
    if (!isTyped && input.value !== write(value)) input.value = write(value);
  });
  return input;
}

/**
 * @param {any} one
 * @param {any} two
 */
function sameValue(one, two) {
  return Object.is(one ?? null, two ?? null);
}

/** A word such as "auto", or a value. @param {Slot} slot */
function choiceControl(slot) {
  const { field, note } = slot;
  const other = /** @type {Field} */ (field.other);
  const isWord = () => slot.get() === field.word;
  const word = field.word === "auto" ? "Automatic" : field.word;
  if (other.kind === "boolean") {
    const options = [{ value: field.word, label: word }, { value: "true", label: "On" }, {
      value: "false",
      label: "Off",
    }];
    const set = (/** @type {string} */ text) => slot.set(text === field.word ? text : text === "true");
    const get = () => String(slot.get());
    return h(
      "div.form-inline",
      radios({ id: slot.id, options, get, set, describedBy: describedBy(slot) }),
      appliedText(slot),
    );
  }
  const suggested = other.kind === "list" ? [] : undefined;
  /** @type {any} */
  let former;
  const switchTo = (/** @type {string} */ text) => {
    if (text === field.word) {
      former = slot.get();
      slot.set(field.word);
    } else {slot.set(
        former ?? suggested ?? note.suggested ?? numberIn(note.applies?.(slot.form.values.peek(), slot.form.context())),
      );}
  };
  const options = [{ value: "word", label: word }, {
    value: "other",
    label: other.kind === "list" ? "Choose" : "Custom",
  }];
  const inner = { ...slot, id: `${slot.id}-value`, field: other };
  return h(
    "div.form-inline",
    radios({
      id: slot.id,
      options,
      get: () => (isWord() ? "word" : "other"),
      set: (text) => switchTo(text === "word" ? field.word : text),
      describedBy: describedBy(slot),
    }),
    appliedText(slot),
    h(
      other.kind === "list" ? "div.form-full" : "div",
      { hidden: isWord, role: "group", "aria-label": note.label },
      labelled(note.label, inner.id, control({ ...inner, note: { ...note, widget: undefined } })),
    ),
  );
}

/**
 * @param {string} label
 * @param {string} id
 * @param {Node} element
 */
function labelled(label, id, element) {
  return [h("label.visually-hidden", { for: id }, label), element];
}

/** @param {string | undefined} text */
function numberIn(text) {
  const found = parseNumber(text ?? "");
  return typeof found === "number" ? found : "";
}

/** For a kind that this page does not know. @param {Slot} slot */
function jsonInput(slot) {
  const area = /** @type {HTMLTextAreaElement} */ (h("textarea", {
    id: slot.id,
    spellcheck: "false",
    "aria-describedby": describedBy(slot),
    ".value": JSON.stringify(slot.get() ?? null),
    onchange: () => {
      try {
        slot.set(JSON.parse(area.value));
      } catch {
        slot.set(area.value);
      }
      slot.touch();
    },
  }));
  return area;
}
