/** Dialogs and short messages above the page. */

import { h, icon } from "../dom.js";
import { scope } from "../signals.js";

/**
 * Show a dialog until it is closed. Escape and a click beside it close it.
 * @param {{title: string, body: (close: (result?: any) => void) => Node, wide?: boolean}} content
 * @returns {Promise<any>} what `close` was called with
 */
export function showDialog({ title, body, wide = false }) {
  return new Promise((resolve) => {
    /** @type {any} */
    let result;
    const dialog = /** @type {HTMLDialogElement} */ (h("dialog", { class: wide ? "wide" : "", "aria-label": title }));
    const close = (/** @type {any} */ value) => {
      result = value;
      dialog.close();
    };
    const content = scope(() => body(close));
    const header = h(
      "header.dialog-header",
      h("h2", title),
      h(
        "button.ghost.icon-only",
        { type: "button", "aria-label": "Close", onclick: () => close(undefined) },
        icon("cross"),
      ),
    );
    dialog.append(h("div.dialog-box", header, content.value));
    dialog.addEventListener("click", (event) => event.target === dialog && close(undefined));
    dialog.addEventListener("close", () => {
      content.end();
      dialog.remove();
      resolve(result);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/**
 * Ask before something that cannot be undone.
 * @param {{title: string, text: import("../dom.js").Child, action: string, isDangerous?: boolean}} question
 * @returns {Promise<boolean>}
 */
export async function confirmAction({ title, text, action, isDangerous = false }) {
  const answer = await showDialog({
    title,
    body: (close) =>
      h(
        "div.dialog-body",
        h("p", text),
        h(
          "div.actions.end",
          h("button", { type: "button", onclick: () => close(false) }, "Keep"),
          h(isDangerous ? "button.danger" : "button.primary", {
            type: "button",
            onclick: () => close(true),
            autofocus: true,
          }, action),
        ),
      ),
  });
  return answer === true;
}

/**
 * Show a short message for some seconds; screen readers announce it.
 * @param {string} text
 * @param {{tone?: "good" | "bad" | "info", action?: {label: string, run: () => void}}} [options]
 */
export function showMessage(text, { tone = "info", action } = {}) {
  const area = document.getElementById("messages");
  const names = { good: "check", bad: "error", info: "info" };
  const message = h(
    `div.message.tone-${tone}`,
    icon(names[tone]),
    h("span", text),
    action && h("button.ghost", { type: "button", onclick: () => (action.run(), message.remove()) }, action.label),
    h(
      "button.ghost.icon-only",
      { type: "button", "aria-label": "Dismiss", onclick: () => message.remove() },
      icon("cross"),
    ),
  );
  area?.append(message);
  setTimeout(() => message.remove(), tone === "bad" ? 12_000 : 6_000);
}
