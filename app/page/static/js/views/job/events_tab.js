/** The events of a job, newest last. */

import { each, h, icon, when } from "../../dom.js";
import { formatNumber, formatTime } from "../../format.js";
import { errorBox, relativeTime, skeleton } from "../../parts/basic.js";
import { explainEmpty, filterEvents, iconOf } from "../../pure/job_events.js";
import { addShortcut } from "../../shortcuts.js";
import { computed, signal } from "../../signals.js";
import { query, setQuery } from "../../url.js";
import { followEnd } from "./follow_end.js";
import { timeline } from "./timeline.js";

/** @typedef {import("./model.js").JobModel} JobModel */
/** @typedef {import("../../../../api.d.ts").EventOut} EventOut */

const SHOWN_AT_ONCE = 300;

/**
 * @param {JobModel} model
 * @param {() => number} now
 */
export function eventsTab(model, now) {
  return h(
    "div.stack-large",
    () => model.historyError.value && errorBox(model.historyError.value, () => model.load()),
    when(() => !model.hasHistory.value && !model.historyError.value, () => skeleton(8, "Loading the events")),
    when(() => model.hasHistory.value, () => [timeline(model, now), eventList(model)]),
  );
}

/** @param {JobModel} model */
function eventList(model) {
  const filter = computed(() => {
    /** @type {"all" | "warn"} */
    const level = query.value.get("level") === "warn" ? "warn" : "all";
    return JSON.stringify({ level, text: query.value.get("q") ?? "" });
  });
  const readFilter = () => /** @type {import("../../pure/job_events.js").EventFilter} */ (JSON.parse(filter.value));
  const found = computed(() => filterEvents(model.events.value, readFilter()));
  const limit = signal(SHOWN_AT_ONCE);
  const wanted = Number(query.peek().get("event"));
  if (wanted) limit.value = Math.max(SHOWN_AT_ONCE, model.events.peek().length - wanted + 20);
  const shown = () => found.value.slice(-limit.value);
  const box = h(
    "div.event-box",
    { tabindex: 0, role: "region", "aria-label": "List of events" },
    when(
      () => found.value.length > limit.value,
      () =>
        h(
          "button.ghost.wide",
          { type: "button", onclick: () => (limit.value += 1000) },
          icon("up"),
          () => `Show earlier events (${formatNumber(found.value.length - limit.value)} more)`,
        ),
    ),
    h("ol.event-list", each(shown, ({ number }) => String(number), (event) => eventRow(event.peek(), wanted))),
    when(
      () => found.value.length === 0,
      () => h("p.event-none", () => explainEmpty(model.events.value.length, readFilter())),
    ),
  );
  followEnd(box, () => found.value, !wanted);
  if (wanted) requestAnimationFrame(() => box.querySelector(".is-wanted")?.scrollIntoView({ block: "center" }));
  return h(
    "section.events",
    { "aria-labelledby": "events-title" },
    h("div.row.between", h("h2", { id: "events-title" }, "Events"), filters(model, () => found.value.length)),
    box,
  );
}

/**
 * @param {JobModel} model
 * @param {() => number} count
 */
function filters(model, count) {
  const isWarn = () => query.value.get("level") === "warn";
  const numWarnings = computed(() => model.events.value.filter(({ level }) => level !== "info").length);
  const input = h("input", {
    type: "search",
    placeholder: "Search events (/)",
    "aria-label": "Search events",
    ".value": () => query.value.get("q") ?? "",
    oninput: (/** @type {Event} */ event) => setQuery({ q: /** @type {HTMLInputElement} */ (event.target).value }),
  });
  addShortcut({ keys: "/", description: "Search the events", group: "Events", run: () => input.focus() });
  /**
   * @param {string} label
   * @param {boolean} isFor
   * @param {() => number} number
   */
  const choice = (label, isFor, number) =>
    h(
      "button",
      {
        type: "button",
        "aria-pressed": () => String(isWarn() === isFor),
        onclick: () => setQuery({ level: isFor ? "warn" : null }),
      },
      label,
      h("span.faint.tabular", () => formatNumber(number())),
    );
  return h(
    "div.row",
    h("span.visually-hidden", { role: "status" }, () => (query.value.get("q") ? `${count()} found` : "")),
    h(
      "div.segmented",
      { role: "group", "aria-label": "Levels" },
      choice("All", false, () => model.events.value.length),
      choice("Warnings and errors", true, () => numWarnings.value),
    ),
    h("div.search", icon("search"), input),
  );
}

/**
 * @param {EventOut} event
 * @param {number} wanted  the number of the event to show
 */
function eventRow(event, wanted) {
  const tone = event.level === "error" ? "bad" : event.level === "warn" ? "warn" : "info";
  const isWanted = event.number === wanted;
  const levelName = { bad: "Error: ", warn: "Warning: ", info: "" }[tone];
  const line = [
    h("span.event-icon", icon(tone === "info" ? iconOf(event) : tone === "bad" ? "error" : "warning")),
    h("span.event-message", levelName && h("span.visually-hidden", levelName), event.message),
    h("span.event-time.faint.tabular", relativeTime(event.created_at)),
  ];
  const hasData = Object.keys(event.data).length > 0;
  return h(
    `li.event.event-${tone}`,
    { class: isWanted ? "is-wanted" : "" },
    hasData
      ? h("details", { open: isWanted }, h("summary.event-line", line, icon("right", "event-more")), eventData(event))
      : h("div.event-line", line),
  );
}

/** @param {EventOut} event */
function eventData(event) {
  return h(
    "dl.event-data",
    h("dt", "type"),
    h("dd", h("code", event.type)),
    h("dt", "time"),
    h("dd", formatTime(event.created_at)),
    Object.entries(event.data).map((
      [name, value],
    ) => [h("dt", name), h("dd", h("code", typeof value === "string" ? value : JSON.stringify(value)))]),
  );
}
