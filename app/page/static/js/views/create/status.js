/** Says whether the job can be created and what it would wait for, and creates it. */

import { h, icon } from "../../dom.js";
import { formatPlural } from "../../format.js";
import { errorBox } from "../../parts/basic.js";
import { noteOf } from "../../pure/schema_layout.js";
import { explainWait } from "../../pure/schema_wait.js";
import { may } from "../../session.js";
import { signal } from "../../signals.js";
import { linkTo, navigate } from "../../url.js";
import { focusField, idOf } from "./slot.js";

/** @typedef {import("./form.js").Form} Form */

/**
 * Show the summary of the problems after an attempt to create the job; each links to its field.
 * @param {Form} form
 */
export function problemSummary(form) {
  const list = () => form.visibleProblems();
  return h(
    "div",
    { id: "problems", tabindex: -1 },
    () =>
      form.isSubmitted.value && list().length > 0 && h(
        "div.notice.tone-bad.form-summary",
        { role: "alert" },
        icon("error"),
        h(
          "div.notice-text",
          h("strong", `${formatPlural(list().length, "field")} must be changed`),
          h("ul", list().map((problem) => h("li", summaryLine(problem)))),
        ),
      ),
  );
}

/** @param {ReturnType<Form["visibleProblems"]>[number]} problem */
function summaryLine({ place, message }) {
  if (!place) return message;
  const go = (/** @type {Event} */ event) => {
    event.preventDefault();
    focusField(place);
  };
  return [h("a", { href: `#${idOf(place)}`, onclick: go }, noteOf(place).label), `: ${message}`];
}

/**
 * @param {Form} form
 * @param {import("../../signals.js").Signal<unknown>} failure
 */
export function statusCard(form, failure) {
  return h(
    "section.card.form-status",
    { "aria-label": "Create the job" },
    may("write") ? verdictLine(form) : null,
    () => failure.value ? errorBox(failure.value) : null,
    may("write")
      ? h(
        "button.primary.wide",
        { type: "submit", disabled: () => form.isBusy.value },
        () => (form.isBusy.value ? "Creating the job…" : "Create job"),
      )
      : h(
        "p.quiet",
        "The key you signed in with can only read. To create jobs, sign in with a key that has the scope ",
        h("code", "write"),
        ".",
      ),
    changesLine(form),
  );
}

/** @param {Form} form */
function verdictLine(form) {
  const known = signal(form.verdict.peek());
  return h("div.verdict", { role: "status" }, () => {
    const present = form.verdict.value;
    // While the server is asked again, the last answer stays.
    if (present.state !== "checking") known.value = present;
    const { state, waitingFor, error } = known.value;
    const problems = form.problems();
    if (state === "failed") {
      return verdict("warning", "warn", "Not checked", error instanceof Error ? error.message : String(error));
    }
    if (problems.length) {
      const missing = problems.filter((each) => each.code === "missing");
      const others = problems.length - missing.length;
      if (others) {
        return verdict("cross", "bad", `${formatPlural(others, "problem")} to solve`, "Shown at their fields.");
      }
      const names = missing.map((each) => (each.place ? noteOf(each.place).label.toLowerCase() : each.pointer));
      return verdict("edit", "quiet", `Still needed: ${names.join(", ")}`, "");
    }
    if (state !== "valid") return verdict("clock", "quiet", "Checking…", "");
    const { isNow, text } = explainWait(waitingFor);
    return verdict(
      isNow ? "check" : "clock",
      isNow ? "good" : "warn",
      isNow ? "Ready" : "Ready, but it would wait",
      text,
    );
  });
}

/**
 * @param {string} name
 * @param {string} tone
 * @param {string} title
 * @param {string} text
 */
function verdict(name, tone, title, text) {
  return h(`div.verdict-line.${tone}`, icon(name), h("div", h("strong", title), text && h("p", text)));
}

/** @param {Form} form */
function changesLine(form) {
  return () => {
    const count = form.changes().length;
    return count > 0 && h(
      "p.form-changes",
      h("span", `${formatPlural(count, "unsaved change")}`),
      h("button.ghost", { type: "button", onclick: form.resetAll }, icon("retry"), "Reset all"),
    );
  };
}

/**
 * Return the function that creates the job and shows it; problems get the focus.
 * @param {Form} form
 * @param {import("../../signals.js").Signal<unknown>} failure
 */
export function submitter(form, failure) {
  return async () => {
    if (form.isBusy.peek() || !may("write")) return;
    failure.value = null;
    try {
      const job = await form.submit();
      if (job) navigate(linkTo(`/jobs/${job.id}`));
      else requestAnimationFrame(() => focusFirst(form));
    } catch (error) {
      failure.value = error;
    }
  };
}

/** @param {Form} form */
function focusFirst(form) {
  document.getElementById("problems")?.scrollIntoView({ block: "nearest" });
  const first = form.visibleProblems().find((each) => each.place);
  if (first?.place) focusField(first.place);
  else document.getElementById("problems")?.focus();
}
