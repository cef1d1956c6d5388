/** The names of the compared jobs: each shows, hides and highlights its lines in all charts. */

import { each, h, icon } from "../../dom.js";
import { addJob } from "../../pure/compare_url.js";
import { swatch } from "./swatch.js";

/**
 * @typedef {import("./charts.js").Board} Board
 * @typedef {import("./model.js").Entry} Entry
 */

/**
 * @param {Board} board
 * @returns {Node}
 */
export function legend(board) {
  return h(
    "ul.compare-legend",
    { "aria-label": "Compared jobs" },
    each(() => board.entries(), (entry) => entry.id, (item) => legendItem(item.peek(), board)),
  );
}

/**
 * @param {Entry} entry
 * @param {Board} board
 */
function legendItem(entry, board) {
  const { hidden, highlighted, options } = board;
  const isHidden = () => hidden.value.includes(entry.id);
  const place = () => options.ids.value.indexOf(entry.id);
  const toggle = () => {
    hidden.value = isHidden() ? hidden.peek().filter((id) => id !== entry.id) : addJob(hidden.peek(), entry.id);
  };
  const isolate = () => {
    const others = options.ids.peek().filter((id) => id !== entry.id);
    const isAlone = others.every((id) => hidden.peek().includes(id));
    hidden.value = isAlone ? [] : others;
  };
  return h(
    "li.compare-name",
    {
      class: () => [isHidden() && "off", highlighted.value === entry.id && "highlighted"].filter(Boolean).join(" "),
      onpointerenter: () => (highlighted.value = entry.id),
      onpointerleave: () => (highlighted.value = null),
      onfocusin: () => (highlighted.value = entry.id),
      onfocusout: () => (highlighted.value = null),
    },
    h(
      "button.ghost",
      {
        type: "button",
        "aria-pressed": () => String(!isHidden()),
        title: () => `${entry.name}\nClick to hide, double-click to show only this job`,
        onclick: (/** @type {MouseEvent} */ event) => (event.detail > 1 ? isolate() : toggle()),
      },
      () => swatch(Math.max(0, place()), options.baseline.value === entry.id),
      h("span.truncate", () => entry.name),
      () => options.baseline.value === entry.id && h("span.chip", "baseline"),
    ),
    h(
      "button.ghost.icon-only",
      {
        type: "button",
        "aria-label": () => `Remove ${entry.name} from the comparison`,
        title: "Remove from the comparison",
        onclick: () => options.change({ ids: options.ids.peek().filter((id) => id !== entry.id) }),
      },
      icon("cross"),
    ),
  );
}
