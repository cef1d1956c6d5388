/**
 * The legend above a chart and the data table below it.
 *
 * @module
 */

/** @import { Series } from "../series.js" */
/** @import { ValueColumn } from "../rows.js" */

import { formatCsv, listPositions, thinPositions } from "../rows.js";
import { formatValue } from "../ticks.js";
import { makeElement, makeSample, setText } from "./tooltip.js";

/** The most rows of the data table. */
const MAX_ROWS = 200;

/**
 * @typedef {object} LegendHandler
 * @property {(id: string) => void} toggle
 * @property {(id: string, wasHidden: ReadonlySet<string>) => void} isolate
 * @property {(id: string | null) => void} highlight
 */

/** Buttons that hide, isolate and highlight series, each with its value. */
export class Legend {
  /** @param {LegendHandler} handler */
  constructor(handler) {
    this.element = makeElement("div", "lc-legend");
    this.element.setAttribute("role", "group");
    this.element.setAttribute("aria-label", "Series");
    this.handler = handler;
    /** @type {Map<string, { button: HTMLButtonElement, value: HTMLElement }>} */
    this.items = new Map();
    /** @type {ReadonlySet<string>} */
    this.hidden = new Set();
    /** @type {ReadonlySet<string>} */
    this.hiddenBefore = new Set();
    this.shape = "";
  }

  /**
   * Show these series. Buttons are made anew only if names or looks changed.
   * @param {readonly Series[]} series
   */
  setSeries(series) {
    const shape = JSON.stringify(series.map(({ id, label, color, dash, kind }) => [id, label, color, dash, kind]));
    if (shape === this.shape) return;
    this.shape = shape;
    this.items = new Map(series.map((each) => [each.id, this.#makeItem(each)]));
    this.element.replaceChildren(...[...this.items.values()].map(({ button }) => button));
  }

  /** @param {Series} series */
  #makeItem({ id, label, color, dash, kind }) {
    const button = makeElement("button", "lc-item");
    const value = makeElement("span", "lc-item-value");
    button.type = "button";
    button.title = `${label}\nClick to hide. Double-click or Alt+click to show only this series.`;
    button.setAttribute("aria-label", label);
    button.append(makeSample(color, dash, kind === "points"), makeElement("span", "lc-item-label", label), value);
    button.addEventListener("click", (event) => this.#click(id, event));
    button.addEventListener("pointerenter", (event) => {
      if (event.pointerType === "mouse") this.handler.highlight(id);
    });
    button.addEventListener("pointerleave", () => this.handler.highlight(null));
    button.addEventListener("focus", () => button.matches(":focus-visible") && this.handler.highlight(id));
    button.addEventListener("blur", () => this.handler.highlight(null));
    return { button, value };
  }

  /**
   * @param {string} id
   * @param {MouseEvent} event
   */
  #click(id, event) {
    if (event.detail > 2) return;
    if (event.altKey) return this.handler.isolate(id, this.hidden);
    if (event.detail === 2) return this.handler.isolate(id, this.hiddenBefore);
    this.hiddenBefore = this.hidden;
    this.handler.toggle(id);
  }

  /** @param {ReadonlySet<string>} hidden */
  setHidden(hidden) {
    this.hidden = hidden;
    for (const [id, { button }] of this.items) button.setAttribute("aria-pressed", String(!hidden.has(id)));
  }

  /** @param {(id: string) => number} read returns the value beside a series' name */
  setValues(read) {
    for (const [id, { value }] of this.items) {
      const number = read(id);
      setText(value, Number.isNaN(number) ? "–" : formatValue(number));
    }
  }
}

/**
 * @typedef {object} TableContent
 * @property {string} name of the chart
 * @property {string} xLabel
 * @property {(x: number) => string} formatX
 * @property {ValueColumn[]} columns
 * @property {() => ValueColumn[]} allColumns for the CSV, with bands
 */

/** The values behind a chart as a table, built when it is opened. */
export class DataTable {
  /** @param {() => TableContent} read */
  constructor(read) {
    this.read = read;
    this.element = makeElement("details", "lc-data");
    this.scroller = makeElement("div", "lc-data-scroller");
    this.scroller.tabIndex = 0;
    this.scroller.setAttribute("role", "region");
    this.table = makeElement("table", "lc-data-table");
    this.caption = this.table.createCaption();
    this.head = this.table.createTHead().insertRow();
    this.body = this.table.createTBody();
    this.status = makeElement("output", "lc-data-status");
    const actions = makeElement("div", "lc-data-actions");
    actions.append(
      this.#makeButton("Copy CSV", () => this.#copy()),
      this.#makeButton("Download CSV", () => this.#download()),
      this.status,
    );
    this.scroller.append(this.table);
    this.element.append(makeElement("summary", "", "Data"), actions, this.scroller);
    this.element.addEventListener("toggle", () => this.update());
  }

  /**
   * @param {string} text
   * @param {() => void} onClick
   */
  #makeButton(text, onClick) {
    const button = makeElement("button", "lc-button", text);
    button.type = "button";
    button.addEventListener("click", onClick);
    return button;
  }

  /** Show the present values, if the table is open. Rows and cells are kept, so that selection and scroll stay. */
  update() {
    if (!this.element.open) return;
    const { name, xLabel, formatX, columns } = this.read();
    const all = listPositions(columns);
    const shown = thinPositions(all, MAX_ROWS);
    const count = all.length.toLocaleString("en-US");
    const rest = shown.length < all.length ? `${shown.length} of ${count} rows; the CSV has all.` : `${count} rows.`;
    setText(this.caption, `${name}: the values in view. ${rest}`);
    this.scroller.setAttribute("aria-label", `${name}: data`);
    fillRow(this.head, [xLabel, ...columns.map(({ label }) => label)], "col");
    while (this.body.rows.length > shown.length) this.body.deleteRow(-1);
    shown.forEach((x, i) => {
      const row = this.body.rows[i] ?? this.body.insertRow();
      fillRow(row, [
        formatX(x),
        ...columns.map(({ values }) => values.has(x) ? formatValue(values.get(x) ?? NaN) : ""),
      ]);
    });
  }

  #formatCsv() {
    const { xLabel, allColumns } = this.read();
    return formatCsv(xLabel, allColumns());
  }

  async #copy() {
    setText(this.status, await copyText(this.#formatCsv(), this.element) ? "Copied." : "Could not copy. Download it.");
    setTimeout(() => setText(this.status, ""), 3000);
  }

  #download() {
    const link = makeElement("a");
    link.href = URL.createObjectURL(new Blob([this.#formatCsv()], { type: "text/csv" }));
    link.download = `${this.read().name.replaceAll(/[^\p{L}\p{N}]+/gu, "-").toLowerCase() || "chart"}.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }
}

/**
 * @param {HTMLTableRowElement} row
 * @param {string[]} texts
 * @param {"col" | null} [scope]
 */
function fillRow(row, texts, scope = null) {
  while (row.cells.length > texts.length) row.deleteCell(-1);
  texts.forEach((text, i) => {
    if (!row.cells[i]) {
      const cell = makeElement(scope || i === 0 ? "th" : "td");
      if (cell instanceof HTMLTableCellElement && cell.tagName === "TH") cell.scope = scope ?? "row";
      row.append(cell);
    }
    setText(row.cells[i], text);
  });
}

/**
 * Copy a text, also on plain HTTP, where there is no clipboard interface.
 * @param {string} text
 * @param {Element} host
 */
async function copyText(text, host) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = makeElement("textarea", "lc-hidden");
    const focused = /** @type {HTMLElement | null} */ (document.activeElement);
    field.value = text;
    field.setAttribute("aria-hidden", "true");
    host.append(field);
    field.select();
    const isDone = document.execCommand("copy");
    field.remove();
    focused?.focus();
    return isDone;
  }
}
