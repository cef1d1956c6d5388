/** Shows the same job as a call: for curl, Python, the command line and OpenAI's client. */

import { h } from "../../dom.js";
import { copyButton } from "../../parts/basic.js";
import { writeCommand } from "../../pure/call_cli.js";
import { writeClient, writeCurl } from "../../pure/call_curl.js";
import { writeOpenAi } from "../../pure/call_openai.js";
import { signal } from "../../signals.js";

/**
 * @typedef {Record<string, any>} Request
 * @typedef {{id: string, label: string, write: (request: Request) => string, note: (request: Request) => import("../../dom.js").Child}} Tab
 */

const KEY = "tunewright.call-tab";

/** @type {readonly Tab[]} */
const TABS = [
  { id: "curl", label: "curl", write: (request) => writeCurl(location.origin, request), note: keyNote },
  { id: "python", label: "Python", write: (request) => writeClient(location.origin, request), note: keyNote },
  { id: "cli", label: "CLI", write: (request) => writeCommand(location.origin, request), note: keyNote },
  {
    id: "openai",
    label: "OpenAI client",
    write: (request) => writeOpenAi(location.origin, request).text,
    note: openAiNote,
  },
];

/** @param {{readonly value: Request}} request */
export function callsCard(request) {
  const chosen = signal(readChoice());
  const tab = () => /** @type {Tab} */ (TABS.find((each) => each.id === chosen.value) ?? TABS[0]);
  const choose = (/** @type {string} */ id) => {
    chosen.value = id;
    keepChoice(id);
  };
  const onkeydown = (/** @type {KeyboardEvent} */ event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const next = TABS[(TABS.indexOf(tab()) + step + TABS.length) % TABS.length];
    choose(next.id);
    document.getElementById(`call-${next.id}`)?.focus();
  };
  return h(
    "section.card.calls",
    { "aria-labelledby": "calls-title" },
    h(
      "div.calls-header",
      h("h2", { id: "calls-title" }, "The same as a call"),
      copyButton(() => tab().write(request.value), "Copy the call"),
    ),
    h(
      "div.tabs",
      { role: "tablist", "aria-labelledby": "calls-title", onkeydown },
      TABS.map(({ id, label }) =>
        h("button", {
          type: "button",
          role: "tab",
          id: `call-${id}`,
          "aria-controls": "call-panel",
          "aria-selected": () => String(chosen.value === id),
          tabindex: () => (chosen.value === id ? 0 : -1),
          onclick: () => choose(id),
        }, label)
      ),
    ),
    h(
      "div",
      { role: "tabpanel", id: "call-panel", "aria-labelledby": () => `call-${chosen.value}` },
      h("pre.code.call-text", { tabindex: 0, "aria-label": "Call" }, h("code", () => tab().write(request.value))),
      h("p.field-help", () => tab().note(request.value)),
    ),
  );
}

function keyNote() {
  return ["The API key is read from ", h("code", "TUNEWRIGHT_API_KEY"), ". Fields with their default are left out."];
}

/** @param {Request} request */
function openAiNote(request) {
  const { extra } = writeOpenAi(location.origin, request);
  if (!extra.length) return "Every field of this job has a name in OpenAI's API.";
  const names = extra.flatMap((name, at) => [at ? ", " : "", h("code", name)]);
  return [
    "OpenAI's API has no field for ",
    ...names,
    ". They are sent in ",
    h("code", "extra_body"),
    ", which only this server reads.",
  ];
}

function readChoice() {
  try {
    const kept = localStorage.getItem(KEY);
    return TABS.some((each) => each.id === kept) ? String(kept) : "curl";
  } catch {
    return "curl";
  }
}

/** @param {string} id */
function keepChoice(id) {
  try {
    localStorage.setItem(KEY, id);
  } catch {
    // The choice then lasts until the view is shown again.
  }
}
