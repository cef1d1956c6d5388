/** The filters above the list. What is chosen is in the address. */

import { get } from "../../api.js";
import { h, icon } from "../../dom.js";
import { formatPlural } from "../../format.js";
import { countFilters, NO_FILTER, STATE_CHOICES, toggleState, writeFilter } from "../../pure/jobs_filter.js";
import { may } from "../../session.js";
import { computed, effect, onEnd, signal } from "../../signals.js";
import { setQuery } from "../../url.js";

/**
 * @typedef {import("../../pure/jobs_filter.js").JobFilter} JobFilter
 * @typedef {{value: string, label: string}} Choice
 */

const TYPING_MS = 250;

/** @param {JobFilter} filter */
export function setFilter(filter) {
  setQuery(writeFilter(filter));
}

/**
 * @param {{readonly value: JobFilter, peek: () => JobFilter}} filter
 * @param {() => import("../../pure/jobs_filter.js").Job[]} jobs  those that are shown: their models and owners can be chosen
 * @returns {{bar: Node, focusSearch: () => void}}
 */
export function filterBar(filter, jobs) {
  const search = searchField(filter);
  const count = computed(() => countFilters(filter.value));
  const known = loadChoices();
  const models = choicesOf(known.models, () => jobs().map(({ base_model: name }) => ({ value: name, label: name })));
  const owners = choicesOf(
    known.owners,
    () => jobs().flatMap(({ created_by: by }) => by ? [{ value: by.key_id, label: by.key_name }] : []),
  );
  const bar = h(
    "div.job-filters",
    { role: "search", "aria-label": "Filter jobs" },
    h("div.search", icon("search"), search),
    stateChips(filter),
    choiceField(
      "Base model",
      "Any model",
      models,
      () => filter.value.model,
      (model) => setFilter({ ...filter.peek(), model }),
    ),
    choiceField(
      "Owner",
      "Any owner",
      owners,
      () => filter.value.owner,
      (owner) => setFilter({ ...filter.peek(), owner }),
    ),
    h(
      "button.ghost",
      { type: "button", hidden: () => count.value === 0, onclick: () => setFilter(NO_FILTER) },
      icon("cross"),
      () => `Clear ${formatPlural(count.value, "filter")}`,
    ),
  );
  return { bar, focusSearch: () => search.select() };
}

/** @param {{readonly value: JobFilter, peek: () => JobFilter}} filter */
function searchField(filter) {
  /** @type {number | undefined} */
  let timer;
  onEnd(() => clearTimeout(timer));
  const field = /** @type {HTMLInputElement} */ (h("input", {
    type: "search",
    placeholder: "Name or ID",
    "aria-label": "Name or ID",
    title: "Search by name or ID (/)",
    spellcheck: "false",
    autocomplete: "off",
    oninput: () => {
      clearTimeout(timer);
      timer = setTimeout(() => setFilter({ ...filter.peek(), text: field.value }), TYPING_MS);
    },
    onkeydown: (/** @type {KeyboardEvent} */ event) => {
      if (event.key === "Escape" && !field.value) field.blur();
    },
  }));
  effect(() => {
    const { text } = filter.value;
    if (field.value.trim() !== text) field.value = text;
  });
  return field;
}

/** @param {{readonly value: JobFilter, peek: () => JobFilter}} filter */
function stateChips(filter) {
  return h(
    "div.state-chips",
    { role: "group", "aria-label": "State" },
    STATE_CHOICES.map((choice) =>
      h(
        "button",
        {
          type: "button",
          "aria-pressed": () => String(filter.value.states.includes(choice.value)),
          onclick: () => setFilter(toggleState(filter.peek(), choice.value)),
        },
        choice.label,
      )
    ),
  );
}

/**
 * @param {string} label
 * @param {string} any
 * @param {{readonly value: readonly Choice[]}} choices
 * @param {() => string} present
 * @param {(value: string) => void} choose
 */
function choiceField(label, any, choices, present, choose) {
  const field = h("select", {
    "aria-label": label,
    class: () => (present() ? "chosen" : ""),
    onchange: () => choose(field.value),
  });
  effect(() => {
    const value = present();
    const known = choices.value;
    const all = known.some((choice) => choice.value === value) || !value ? known : [{ value, label: value }, ...known];
    const options = [{ value: "", label: any }, ...all];
    field.replaceChildren(...options.map((choice) => h("option", { value: choice.value }, choice.label)));
    field.value = value;
  });
  return field;
}

/** Read the models and, if the key may see them, the API keys of the project. They only complete what the jobs show. */
function loadChoices() {
  const abort = new AbortController();
  onEnd(() => abort.abort());
  const models = signal(/** @type {readonly Choice[]} */ ([]));
  const owners = signal(/** @type {readonly Choice[]} */ ([]));
  /**
   * @param {string} path
   * @param {import("../../signals.js").Signal<readonly Choice[]>} target
   * @param {(item: any) => Choice} read
   */
  const load = async (path, target, read) => {
    try {
      const page = await get(path, { query: { limit: 100 }, signal: abort.signal });
      target.value = page.items.map(read);
    } catch {
      // The choices that the jobs give remain.
    }
  };
  load("/models", models, ({ name }) => ({ value: name, label: name }));
  if (may("admin")) load("/keys", owners, ({ id, name }) => ({ value: id, label: name }));
  return { models, owners };
}

/**
 * @param {{readonly value: readonly Choice[]}} known
 * @param {() => Choice[]} shown
 */
function choicesOf(known, shown) {
  let last = "";
  const choices = signal(/** @type {readonly Choice[]} */ ([]));
  effect(() => {
    const all = new Map([...known.value, ...shown()].map((choice) => [choice.value, choice]));
    const next = [...all.values()].sort((a, b) => a.label.localeCompare(b.label));
    const text = JSON.stringify(next);
    if (text === last) return;
    last = text;
    choices.value = next;
  });
  return choices;
}
