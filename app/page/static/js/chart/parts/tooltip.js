/**
 * The tooltip at the crosshair: a small table, sorted by value, that stays within the viewport.
 *
 * @module
 */

import { DASHES } from "../colors.js";

/**
 * @typedef {object} TooltipRow
 * @property {number} color
 * @property {number} dash
 * @property {boolean} isPoint
 * @property {string} label
 * @property {string[]} cells
 */

/**
 * @typedef {object} TooltipContent
 * @property {string} title
 * @property {string} note labels of the marks here
 * @property {string[]} heads names of the cells, or none
 * @property {TooltipRow[]} rows
 * @property {string} more what was left out
 */

const MARGIN = 8;
const SVG = "http://www.w3.org/2000/svg";

/**
 * Make an element with a class and a text.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {string} [className]
 * @param {string} [text]
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function makeElement(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

/**
 * Change a text only if it differs, so that a selection in it stays.
 * @param {Element} element
 * @param {string} text
 */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Make a picture of a series' line.
 * @param {number} color
 * @param {number} dash
 * @param {boolean} isPoint
 */
export function makeSample(color, dash, isPoint) {
  const svg = document.createElementNS(SVG, "svg");
  const line = document.createElementNS(SVG, "path");
  svg.append(line);
  svg.setAttribute("width", "26");
  svg.setAttribute("height", "10");
  svg.setAttribute("aria-hidden", "true");
  line.setAttribute("d", "M1 5H25");
  if (isPoint) {
    const dot = document.createElementNS(SVG, "circle");
    dot.setAttribute("cx", "13");
    dot.setAttribute("cy", "5");
    dot.setAttribute("r", "3.5");
    svg.append(dot);
  }
  setSample(svg, color, dash, isPoint);
  return svg;
}

/**
 * @param {Element} svg
 * @param {number} color
 * @param {number} dash
 * @param {boolean} isPoint
 */
function setSample(svg, color, dash, isPoint) {
  svg.setAttribute("class", `lc-sample lc-color-${color}${isPoint ? " lc-points" : ""}`);
  svg.firstElementChild?.setAttribute("stroke-dasharray", DASHES[dash].pattern.join(" ") || "none");
}

/** One tooltip. */
export class Tooltip {
  constructor() {
    this.element = makeElement("div", "lc-tooltip");
    this.element.setAttribute("popover", "manual");
    this.title = makeElement("div", "lc-tooltip-title");
    this.note = makeElement("div", "lc-tooltip-note");
    this.table = makeElement("table", "lc-tooltip-table");
    this.head = this.table.createTHead().insertRow();
    this.body = this.table.createTBody();
    this.more = makeElement("div", "lc-tooltip-note");
    this.element.append(this.title, this.note, this.table, this.more);
    this.isShown = false;
    this.shape = "";
  }

  /**
   * Show the tooltip beside a point of the viewport.
   * @param {TooltipContent} content
   * @param {{ x: number, y: number, top: number }} anchor the point, and the plot's top
   * @param {boolean} isPinned
   */
  show(content, anchor, isPinned) {
    this.element.classList.toggle("lc-pinned", isPinned);
    this.#fill(content);
    if (!this.isShown) this.element.showPopover?.();
    this.isShown = true;
    this.#place(anchor);
  }

  hide() {
    if (this.isShown && this.element.isConnected) this.element.hidePopover?.();
    this.isShown = false;
  }

  /** @param {TooltipContent} content */
  #fill({ title, note, heads, rows, more }) {
    setText(this.title, title);
    setText(this.note, note);
    setText(this.more, more);
    this.note.hidden = note === "";
    this.more.hidden = more === "";
    const shape = JSON.stringify([heads, rows.map((row) => [row.color, row.dash, row.isPoint])]);
    if (shape !== this.shape) this.#build(heads, rows);
    this.shape = shape;
    rows.forEach((row, i) => {
      const [, label, ...cells] = this.body.rows[i].cells;
      setText(label, row.label);
      cells.forEach((cell, k) => setText(cell, row.cells[k]));
    });
  }

  /**
   * @param {string[]} heads
   * @param {TooltipRow[]} rows
   */
  #build(heads, rows) {
    const titles = heads.length > 0 ? ["", "", ...heads] : [];
    this.head.replaceChildren(...titles.map((text) => makeElement(text ? "th" : "td", "", text)));
    this.body.replaceChildren(...rows.map(({ color, dash, isPoint, cells }) => {
      const row = makeElement("tr");
      row.insertCell().append(makeSample(color, dash, isPoint));
      row.append(makeElement("th"), ...cells.map(() => makeElement("td")));
      return row;
    }));
  }

  /** @param {{ x: number, y: number, top: number }} anchor */
  #place({ x, y, top }) {
    const { offsetWidth: width, offsetHeight: height } = this.element;
    const root = document.documentElement;
    const right = Math.min(root.clientWidth, root.getBoundingClientRect().right);
    const [maxLeft, maxTop] = [right - width - MARGIN, root.clientHeight - height - MARGIN];
    let [left, place] = [x + 16, y - height / 2];
    if (left > maxLeft) left = x - 16 - width;
    if (left < MARGIN) [left, place] = [x - width / 2, top - height - MARGIN];
    this.element.style.left = `${Math.round(Math.max(MARGIN, Math.min(left, maxLeft)))}px`;
    this.element.style.top = `${Math.round(Math.max(MARGIN, Math.min(place, maxTop)))}px`;
  }
}
