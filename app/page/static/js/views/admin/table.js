/** A table whose rows are kept while their data changes. On narrow screens each row is a block. */

import { each, h } from "../../dom.js";

/**
 * @typedef {import("../../dom.js").Child} Child
 * @typedef {{label: string, isNumber?: boolean, isHidden?: boolean, isMain?: boolean}} Column  `isHidden`: its label is
 *   only for assistive technology; `isMain`: it heads the row's block
 */

/**
 * @template T
 * @param {{label: string, columns: readonly Column[], items: () => readonly T[], keyOf: (item: T) => string,
 *   cells: (item: import("../../signals.js").Signal<T>) => readonly Child[], isFaint?: (item: T) => boolean}} parts
 * @returns {HTMLElement}
 */
export function dataTable({ label, columns, items, keyOf, cells, isFaint }) {
  return h(
    "div.table-scroll.data-table",
    { tabindex: 0, role: "region", "aria-label": label },
    h(
      "table",
      h(
        "thead",
        h(
          "tr",
          columns.map((column) =>
            h("th", { scope: "col", class: column.isNumber ? "number" : "" }, columnLabel(column))
          ),
        ),
      ),
      h(
        "tbody",
        each(items, keyOf, (item) =>
          h(
            "tr",
            { class: () => (isFaint?.(item.value) ? "faint-row" : "") },
            cells(item).map((cell, at) => dataCell(columns[at], cell)),
          )),
      ),
    ),
  );
}

/** @param {Column} column */
function columnLabel({ label, isHidden }) {
  return isHidden ? h("span.visually-hidden", label) : label;
}

/**
 * @param {Column} column
 * @param {Child} content
 */
function dataCell({ label, isNumber, isHidden, isMain }, content) {
  const classes = [isNumber && "number", isMain && "main-cell", isHidden && "action-cell"].filter(Boolean).join(" ");
  return h("td", { class: classes, "data-label": isHidden || isMain ? null : label }, content);
}
