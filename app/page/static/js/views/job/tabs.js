/** The parts of a job's page, one at a time, chosen in the address. */

import { h } from "../../dom.js";
import { formatNumber } from "../../format.js";
import { addShortcut } from "../../shortcuts.js";
import { computed, effect, untracked } from "../../signals.js";
import { path, query, setQuery } from "../../url.js";
import { artifactsTab } from "./artifacts_tab.js";
import { curvesTab } from "./curves/tab.js";
import { eventsTab } from "./events_tab.js";
import { logTab } from "./log/tab.js";
import { specTab } from "./spec_tab.js";

/** @typedef {import("./model.js").JobModel} JobModel */

/**
 * @type {readonly {
 *   id: string, label: string, render: (model: JobModel, now: () => number) => Node, count?: (model: JobModel) => number,
 * }[]}
 */
const TABS = [
  { id: "curves", label: "Curves", render: curvesTab },
  { id: "events", label: "Events", render: eventsTab, count: (model) => model.events.value.length },
  { id: "log", label: "Log", render: logTab },
  { id: "spec", label: "Spec", render: specTab },
  { id: "artifacts", label: "Artifacts", render: artifactsTab },
];

/**
 * @param {JobModel} model
 * @param {() => number} now
 */
export function jobTabs(model, now) {
  const present = computed(() => TABS.find(({ id }) => id === query.value.get("tab")) ?? TABS[0]);
  for (const [index, { id, label }] of TABS.entries()) {
    const run = () => setQuery({ tab: id === "curves" ? null : id }, { replace: false });
    addShortcut({ keys: String(index + 1), description: `Show ${label.toLowerCase()}`, group: "This job", run });
  }
  effect(() => {
    const { id } = present.value;
    requestAnimationFrame(() => showInRow(document.getElementById(`tab-${id}`)));
  });
  return h(
    "div.job-body",
    h(
      "nav.job-tabs",
      { "aria-label": "Parts of this job" },
      TABS.map(({ id, label, count }) =>
        h(
          "a.job-tab",
          {
            id: `tab-${id}`,
            href: () => addressOf(id),
            "aria-current": () => (present.value.id === id ? "page" : null),
          },
          label,
          count && h("span.job-tab-count.tabular", () => count(model) ? formatNumber(count(model)) : ""),
        )
      ),
    ),
    h("div.job-tab-body", () => {
      const { render } = present.value;
      return untracked(() => render(model, now));
    }),
  );
}

/** @param {string} tab */
function addressOf(tab) {
  const search = new URLSearchParams(query.value);
  search.delete("event");
  if (tab === "curves") search.delete("tab");
  else search.set("tab", tab);
  return `/ui${path.peek()}${search.size ? `?${search}` : ""}`;
}

/**
 * Scroll the row of tabs, and nothing else, until a tab is in view.
 * @param {HTMLElement | null} tab
 */
function showInRow(tab) {
  const row = tab?.parentElement;
  if (!tab || !row) return;
  const [left, right] = [tab.offsetLeft - row.offsetLeft, tab.offsetLeft - row.offsetLeft + tab.offsetWidth];
  if (left < row.scrollLeft) row.scrollLeft = left;
  else if (right > row.scrollLeft + row.clientWidth) row.scrollLeft = right - row.clientWidth;
}
