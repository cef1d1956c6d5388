/** Asks for an API key and changes it into a session. */

import { ApiError } from "../api.js";
import { h, icon } from "../dom.js";
import { signIn } from "../session.js";
import { signal } from "../signals.js";
import { setTitle } from "../shell.js";
import { themeButton } from "../theme_choice.js";

export function signInView() {
  setTitle("Sign in");
  const problem = signal("");
  const isBusy = signal(false);
  const field = h("input", {
    id: "key",
    name: "key",
    type: "password",
    autocomplete: "current-password",
    required: true,
    autofocus: true,
    spellcheck: "false",
    placeholder: "tw_…",
    "aria-describedby": "key-help key-problem",
    "aria-invalid": () => (problem.value ? "true" : null),
  });
  const submit = async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    isBusy.value = true;
    problem.value = "";
    try {
      await signIn(field.value.trim());
    } catch (error) {
      problem.value = explain(error);
      field.focus();
    } finally {
      isBusy.value = false;
    }
  };
  return h(
    "main.sign-in",
    h(
      "form.card",
      { onsubmit: submit },
      h("div.sign-in-mark", h("span.brand-mark.large", icon("logo"))),
      h("h1", "Sign in to Tunewright"),
      h(
        "div.field",
        h("label", { for: "key" }, "API key"),
        field,
        h("p.field-problem", { id: "key-problem", role: "alert" }, () => problem.value),
        h(
          "p.field-help",
          { id: "key-help" },
          "The server's first start wrote a key to the file ",
          h("code", "api_key"),
          " in its data folder. ",
          h("code", "tunewright keys create"),
          " on the server creates another.",
        ),
      ),
      h(
        "button.primary.wide",
        { type: "submit", disabled: () => isBusy.value },
        () => (isBusy.value ? "Signing in…" : "Sign in"),
      ),
      h("p.faint.center", "The key is exchanged for a cookie that scripts cannot read. It lasts twelve hours at most."),
    ),
    h("div.sign-in-theme", themeButton()),
  );
}

/** @param {unknown} error */
function explain(error) {
  if (error instanceof ApiError && error.status === 401) {
    return "The server does not know this key, or it has expired or was revoked.";
  }
  return error instanceof Error ? error.message : String(error);
}
