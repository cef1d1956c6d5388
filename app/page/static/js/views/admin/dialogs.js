/** Dialogs that create something: fields with the server's messages, and a secret that is shown once. */

import { ApiError } from "../../api.js";
import { h, icon } from "../../dom.js";
import { copyButton, errorBox } from "../../parts/basic.js";
import { showDialog } from "../../parts/overlay.js";
import { signal } from "../../signals.js";

/**
 * @typedef {{name: string, label: string, help?: import("../../dom.js").Child, isRequired?: boolean, value?: any,
 *   placeholder?: string, kind?: "text" | "select" | "checks" | "number", isShown?: (values: Record<string, any>) => boolean,
 *   options?: readonly {value: string, label: string, help?: string}[]}} DialogField
 */

/**
 * Ask for values and send them; the dialog stays open until the server has accepted them.
 * @param {{title: string, text?: import("../../dom.js").Child, fields: readonly DialogField[], action: string,
 *   send: (values: Record<string, any>) => Promise<any>}} parts
 * @returns {Promise<any>} what `send` returned, or undefined
 */
export function askValues({ title, text, fields, action, send }) {
  return showDialog({
    title,
    body: (close) => {
      const values = signal(
        Object.fromEntries(fields.map(({ name, value, kind }) => [name, value ?? (kind === "checks" ? [] : "")])),
      );
      const failure = signal(/** @type {unknown} */ (null));
      const isBusy = signal(false);
      const submit = async (/** @type {Event} */ event) => {
        event.preventDefault();
        isBusy.value = true;
        failure.value = null;
        try {
          close(await send(values.peek()));
        } catch (error) {
          failure.value = error;
          focusInvalid(form);
        } finally {
          isBusy.value = false;
        }
      };
      const form = h(
        "form.dialog-body",
        { onsubmit: submit, novalidate: true },
        text && h("p", text),
        fields.map((field, at) => fieldOf(field, values, failure, at === 0)),
        () => unplaced(failure.value, fields),
        h(
          "div.actions.end",
          h("button", { type: "button", onclick: () => close() }, "Cancel"),
          h("button.primary", { type: "submit", disabled: () => isBusy.value }, action),
        ),
      );
      return form;
    },
  });
}

/**
 * Show a secret that cannot be read again.
 * @param {{title: string, secret: string, text: import("../../dom.js").Child}} parts
 */
export function showSecret({ title, secret, text }) {
  return showDialog({
    title,
    body: (close) =>
      h(
        "div.dialog-body",
        h("p", text),
        h(
          "div.secret",
          h("textarea", {
            readonly: true,
            rows: 2,
            autofocus: true,
            spellcheck: "false",
            "aria-label": "Secret",
            ".value": secret,
            onfocus: (/** @type {Event} */ event) => /** @type {HTMLTextAreaElement} */ (event.target).select(),
          }),
          copyButton(() => secret, "Copy the secret"),
        ),
        h(
          "p.notice.tone-warn",
          icon("warning"),
          h("span", "It is shown only now. The server stores a hash of it or keeps it encrypted."),
        ),
        h("div.actions.end", h("button.primary", { type: "button", onclick: () => close() }, "I have copied it")),
      ),
  });
}

/**
 * @param {DialogField} field
 * @param {import("../../signals.js").Signal<Record<string, any>>} values
 * @param {import("../../signals.js").Signal<unknown>} failure
 * @param {boolean} isFirst
 */
function fieldOf(field, values, failure, isFirst) {
  const { name, label, help, kind = "text" } = field;
  const id = `dialog-${name}`;
  const problem = () => messageFor(failure.value, name);
  const set = (/** @type {any} */ value) => (values.value = { ...values.peek(), [name]: value });
  const isGroup = kind === "checks";
  return h(
    isGroup ? "fieldset.field" : "div.field",
    { hidden: () => field.isShown?.(values.value) === false },
    isGroup ? h("legend.field-label", label) : h("label", { for: id }, label),
    kind === "checks" ? checks(field, values, set) : kind === "select" ? select(field, id, values, set) : h("input", {
      id,
      type: "text",
      inputmode: kind === "number" ? "numeric" : null,
      autocomplete: "off",
      spellcheck: "false",
      placeholder: field.placeholder ?? null,
      ".value": String(field.value ?? ""),
      autofocus: isFirst,
      "aria-required": field.isRequired ? "true" : null,
      "aria-describedby": `${id}-help ${id}-problem`,
      "aria-invalid": () => (problem() ? "true" : null),
      oninput: (/** @type {Event} */ event) => set(/** @type {HTMLInputElement} */ (event.target).value),
    }),
    help && h("p.field-help", { id: `${id}-help` }, help),
    h("p.field-problem", { id: `${id}-problem`, role: "alert" }, () => problem() ?? ""),
  );
}

/**
 * @param {DialogField} field
 * @param {string} id
 * @param {import("../../signals.js").Signal<Record<string, any>>} values
 * @param {(value: any) => void} set
 */
function select({ name, options = [] }, id, values, set) {
  return h(
    "select",
    { id, onchange: (/** @type {Event} */ event) => set(/** @type {HTMLSelectElement} */ (event.target).value) },
    options.map(({ value, label }) => h("option", { value, ".selected": value === values.peek()[name] }, label)),
  );
}

/**
 * @param {DialogField} field
 * @param {import("../../signals.js").Signal<Record<string, any>>} values
 * @param {(value: any) => void} set
 */
function checks({ name, options = [] }, values, set) {
  return h(
    "div.check-list",
    options.map(({ value, label, help }) =>
      h(
        "label.check",
        h("input", {
          type: "checkbox",
          ".checked": () => values.value[name].includes(value),
          onchange: (/** @type {Event} */ event) => {
            const others = values.peek()[name].filter((/** @type {string} */ each) => each !== value);
            set(/** @type {HTMLInputElement} */ (event.target).checked ? [...others, value] : others);
          },
        }),
        h("span", h("span", label), help && h("span.field-help", ` ${help}`)),
      )
    ),
  );
}

/**
 * @param {unknown} failure
 * @param {string} name
 */
function messageFor(failure, name) {
  if (!(failure instanceof ApiError)) return null;
  const found = failure.errors.find(({ pointer }) => pointer === `/${name}` || pointer.startsWith(`/${name}/`));
  return found?.message ?? null;
}

/**
 * Show the error unless each of its messages stands at a field.
 * @param {unknown} failure
 * @param {readonly DialogField[]} fields
 */
function unplaced(failure, fields) {
  if (!failure) return null;
  if (!(failure instanceof ApiError) || !failure.errors.length) return errorBox(failure);
  const left = failure.errors.filter(({ pointer }) =>
    !fields.some(({ name }) => pointer === `/${name}` || pointer.startsWith(`/${name}/`))
  );
  return left.length ? errorBox(left.map((each) => each.message).join(" ")) : null;
}

/** @param {Element} form */
function focusInvalid(form) {
  requestAnimationFrame(() => /** @type {HTMLElement | null} */ (form.querySelector('[aria-invalid="true"]'))?.focus());
}
