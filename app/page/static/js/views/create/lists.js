/** Controls for a list of texts, and for keys with values. */

import { each, h, icon } from "../../dom.js";
import { isEqual } from "../../pure/schema_values.js";
import { effect, signal } from "../../signals.js";
import { describedBy } from "./bits.js";

/**
 * @typedef {import("./slot.js").Slot} Slot
 * @typedef {{id: number, key: string, value: string}} Pair
 */

/** A list of texts: Enter or a comma adds one. @param {Slot} slot */
export function listControl(slot) {
  const input = /** @type {HTMLInputElement} */ (h("input", {
    id: slot.id,
    type: "text",
    autocomplete: "off",
    spellcheck: "false",
    placeholder: "Type a value, then Enter",
    "aria-describedby": describedBy(slot),
    "aria-invalid": () => (slot.problem() ? "true" : null),
    onchange: () => add(),
    onkeydown: (/** @type {KeyboardEvent} */ event) => {
      if (event.key !== "Enter" && event.key !== ",") return;
      event.preventDefault();
      add();
    },
  }));
  const items = () => /** @type {string[]} */ (Array.isArray(slot.get()) ? slot.get() : []);
  const add = () => {
    const given = input.value.split(",").map((text) => text.trim()).filter(Boolean);
    input.value = "";
    if (given.length) slot.set([...new Set([...items(), ...given])]);
    slot.touch();
  };
  const remove = (/** @type {string} */ text) => {
    slot.set(items().filter((each) => each !== text));
    input.focus();
  };
  return h(
    "div.list-input",
    () =>
      items().map((text) =>
        h(
          "span.chip",
          h("span.break", text),
          h("button.ghost.chip-remove", {
            type: "button",
            "aria-label": `Remove ${text}`,
            onclick: () => remove(text),
          }, icon("cross")),
        )
      ),
    input,
  );
}

/** Keys with values. A pair stays while its key is empty, and is not sent. @param {Slot} slot */
export function pairsControl(slot) {
  let number = 0;
  const pairsOf = (/** @type {Record<string, string>} */ stored) =>
    Object.entries(stored).map(([key, value]) => ({ id: ++number, key, value }));
  const pairs = signal(/** @type {readonly Pair[]} */ ([]));
  const valueOf = () =>
    Object.fromEntries(pairs.peek().filter(({ key }) => key !== "").map(({ key, value }) => [key, value]));
  effect(() => {
    const stored = slot.get() ?? {};
    // A reset changes the value from outside; what is typed here is the value already.
    if (!isEqual(stored, valueOf())) pairs.value = pairsOf(stored);
  });
  const keep = (/** @type {readonly Pair[]} */ next) => {
    pairs.value = next;
    slot.set(valueOf());
  };
  const change = (/** @type {number} */ id, /** @type {Partial<Pair>} */ part) =>
    keep(pairs.peek().map((pair) => (pair.id === id ? { ...pair, ...part } : pair)));
  const add = () => {
    keep([...pairs.peek(), { id: ++number, key: "", value: "" }]);
    requestAnimationFrame(() => {
      const rows = element.querySelectorAll(".pair");
      rows[rows.length - 1]?.querySelector("input")?.focus();
    });
  };
  const row = (/** @type {Pair} */ { id, key, value }) =>
    h(
      "div.pair",
      pairInput(slot, "Key", key, (text) => change(id, { key: text.trim() })),
      pairInput(slot, "Value", value, (text) => change(id, { value: text })),
      h("button.ghost.icon-only", {
        type: "button",
        "aria-label": `Remove a row of ${slot.note.label.toLowerCase()}`,
        onclick: () => keep(pairs.peek().filter((pair) => pair.id !== id)),
      }, icon("cross")),
    );
  const element = h(
    "div.pairs",
    { role: "group", "aria-labelledby": `label-${slot.id}`, id: slot.id },
    each(() => pairs.value, (pair) => String(pair.id), (pair) => row(pair.peek())),
    h("button", { type: "button", onclick: add }, icon("plus"), "Add"),
  );
  return element;
}

/**
 * @param {Slot} slot
 * @param {string} label
 * @param {string} value
 * @param {(text: string) => void} onChange
 */
function pairInput(slot, label, value, onChange) {
  return h("input", {
    type: "text",
    ".value": value,
    "aria-label": `${slot.note.label}: ${label.toLowerCase()}`,
    "aria-describedby": describedBy(slot),
    placeholder: label,
    autocomplete: "off",
    oninput: (/** @type {Event} */ event) => onChange(/** @type {HTMLInputElement} */ (event.target).value),
    onchange: slot.touch,
  });
}
