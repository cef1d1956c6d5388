/** The lines of a log in the page: real text in chunks, with an address for each line. */

import { h } from "../../../dom.js";
import { formatLines, parseLines } from "../../../pure/job_log.js";
import { onEnd } from "../../../signals.js";

const CHUNK = 250;

export class LogLines {
  constructor() {
    this.element = h("pre.log-lines", { onclick: (/** @type {MouseEvent} */ event) => this.#click(event) });
    /** @type {HTMLElement[]} */
    this.rows = [];
    /** @type {readonly string[]} */
    this.lines = [];
    /** @type {Set<number>} */
    this.marked = new Set();
    this.isFirst = true;
    const onHash = () => this.#showChosen(true);
    addEventListener("hashchange", onHash);
    onEnd(() => removeEventListener("hashchange", onHash));
  }

  /**
   * Show other lines; the first `kept` ones are unchanged.
   * @param {readonly string[]} lines
   * @param {number} kept
   */
  update(lines, kept) {
    this.lines = lines;
    for (const row of this.rows.splice(kept)) row.remove();
    for (let i = kept; i < lines.length; i++) this.#addRow(i, lines[i]);
    while (this.element.lastElementChild && !this.element.lastElementChild.firstChild) {
      this.element.lastElementChild.remove();
    }
    this.#showChosen(this.isFirst && lines.length > 0);
    if (lines.length > 0) this.isFirst = false;
  }

  /**
   * @param {number} index
   * @param {string} line
   */
  #addRow(index, line) {
    const number = index + 1;
    const row = h(
      "div.log-line",
      { id: `L${number}` },
      h("a.log-number", { href: `#L${number}`, "aria-label": `Line ${number}`, "data-number": number }),
      h("span.log-text", line, "\n"),
    );
    let chunk = this.element.lastElementChild;
    if (!chunk || index % CHUNK === 0) this.element.append(chunk = h("div.log-chunk"));
    /** @type {Element} */ (chunk).append(row);
    this.rows.push(row);
  }

  /**
   * Mark where a text was found.
   * @param {readonly {line: number, at: number}[]} found
   * @param {number} length  of the text
   * @param {number} current  the index of the match that is looked at
   */
  mark(found, length, current) {
    for (const line of this.marked) this.rows[line]?.lastElementChild?.replaceChildren(`${this.lines[line]}\n`);
    this.marked.clear();
    const byLine = Map.groupBy(found.map((each, index) => ({ ...each, index })), ({ line }) => line);
    for (const [line, matches] of byLine) {
      const text = this.lines[line];
      /** @type {(string | Node)[]} */
      const parts = [];
      let end = 0;
      for (const { at, index } of matches) {
        parts.push(text.slice(end, at), h(index === current ? "mark.is-current" : "mark", text.slice(at, at + length)));
        end = at + length;
      }
      this.rows[line]?.lastElementChild?.replaceChildren(...parts, `${text.slice(end)}\n`);
      this.marked.add(line);
    }
  }

  /** Bring the match that is looked at into view. */
  showMatch() {
    requestAnimationFrame(() => {
      const [match, box] = [this.element.querySelector(".is-current"), this.element.parentElement];
      if (!match || !box) return;
      const [at, frame] = [match.getBoundingClientRect(), box.getBoundingClientRect()];
      if (at.top < frame.top || at.bottom > Math.min(frame.bottom, innerHeight)) {
        box.scrollTop += at.top - (frame.top + Math.min(frame.bottom, innerHeight)) / 2;
      }
    });
  }

  /** @param {MouseEvent} event */
  #click(event) {
    const link = /** @type {Element} */ (event.target).closest(".log-number");
    if (!link || event.metaKey || event.ctrlKey) return;
    event.preventDefault();
    const number = Number(link.getAttribute("data-number"));
    const before = event.shiftKey ? parseLines(location.hash) : null;
    const range = before
      ? { from: Math.min(before.from, number), to: Math.max(before.from, number) }
      : { from: number, to: number };
    history.replaceState(history.state, "", `${location.pathname}${location.search}${formatLines(range)}`);
    this.#showChosen(false);
  }

  /** @param {boolean} scrolls */
  #showChosen(scrolls) {
    const range = parseLines(location.hash);
    for (const [index, row] of this.rows.entries()) {
      row.classList.toggle("is-chosen", range !== null && index + 1 >= range.from && index + 1 <= range.to);
    }
    if (range && scrolls) requestAnimationFrame(() => this.rows[range.from - 1]?.scrollIntoView({ block: "center" }));
  }
}
