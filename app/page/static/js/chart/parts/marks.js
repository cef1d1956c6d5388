/**
 * Marks on the x axis: their shapes, and the buttons over them.
 *
 * @module
 */

/** @import { View } from "../view.js" */

/**
 * @typedef {object} Mark
 * @property {string} id
 * @property {number} x
 * @property {string} label such as "Checkpoint at step 400"
 * @property {string} [short] one or two words beside its line; else a name made from the kind
 * @property {string} kind "checkpoint", "resumed", "fallback", "best", "failed", "paused"; others are drawn as a circle
 */

/** @typedef {{ px: number, mark: Mark, marks: Mark[] }} MarkGroup marks too near each other for two buttons */

/** The width of a button; nearer marks share one. */
const TARGET = 24;

const RANKS = ["failed", "fallback", "resumed", "paused", "best"];

/** @type {Record<string, string>} */
const NAMES = { failed: "Failed", fallback: "Memory reduced", resumed: "Resumed", paused: "Paused", best: "Best" };

/** @type {Record<string, [number, number][]>} corners of the glyphs in a box of 2 by 2 */
const SHAPES = {
  checkpoint: [[0, -1.1], [1.1, 0], [0, 1.1], [-1.1, 0]],
  resumed: [[-0.8, -1], [1, 0], [-0.8, 1]],
  fallback: [[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]],
  paused: [
    [-0.9, -1],
    [-0.25, -1],
    [-0.25, 0],
    [0.25, 0],
    [0.25, -1],
    [0.9, -1],
    [0.9, 1],
    [0.25, 1],
    [0.25, 0],
    [-0.25, 0],
    [-0.25, 1],
    [-0.9, 1],
  ],
  failed: [
    [-1, -0.5],
    [-0.5, -1],
    [0, -0.5],
    [0.5, -1],
    [1, -0.5],
    [0.5, 0],
    [1, 0.5],
    [0.5, 1],
    [0, 0.5],
    [-0.5, 1],
    [-1, 0.5],
    [-0.5, 0],
  ],
  best: Array.from({ length: 10 }, (_, i) => {
    const radius = i % 2 === 0 ? 1.3 : 0.55;
    return [Math.sin(i * Math.PI / 5) * radius, -Math.cos(i * Math.PI / 5) * radius];
  }),
};

/**
 * Return the words beside a mark's line, or "" if it has none.
 * @param {Mark} mark
 */
export function nameMark({ kind, short }) {
  return short ?? NAMES[kind] ?? "";
}

/**
 * Add the shape of a mark to the path.
 * @param {CanvasRenderingContext2D} context
 * @param {string} kind
 * @param {number} px
 * @param {number} py
 */
export function traceGlyph(context, kind, px, py) {
  const shape = SHAPES[kind];
  if (!shape) {
    context.moveTo(px + 4, py);
    context.arc(px, py, 4, 0, 7);
  } else for (const [dx, dy] of shape) context.lineTo(px + dx * 5, py + dy * 5);
  context.closePath();
}

/**
 * Join marks that lie too near each other for a button each. A group shows its rarest mark at its exact place.
 * @param {readonly Mark[]} marks
 * @param {View} view
 * @returns {MarkGroup[]}
 */
export function groupMarks(marks, { x }) {
  /** @type {MarkGroup[]} */
  const groups = [];
  for (const mark of [...marks].sort((a, b) => RANKS.indexOf(b.kind) - RANKS.indexOf(a.kind) || a.x - b.x)) {
    if (mark.x < x.min || mark.x > x.max) continue;
    const px = x.px(mark.x);
    const near = groups.find((group) => Math.abs(group.px - px) < TARGET);
    if (near) near.marks.push(mark);
    else groups.push({ px, mark, marks: [mark] });
  }
  return groups.sort((a, b) => a.px - b.px);
}

/** The row of buttons over the glyphs: one tab stop, arrow keys inside. */
export class MarkButtons {
  /** @param {(mark: Mark, group: MarkGroup) => void} onClick */
  constructor(onClick) {
    this.element = document.createElement("div");
    this.element.className = "lc-marks";
    this.element.setAttribute("role", "toolbar");
    this.element.setAttribute("aria-label", "Marks");
    this.onClick = onClick;
    /** @type {readonly MarkGroup[]} */
    this.groups = [];
    this.element.addEventListener("keydown", (event) => this.#moveFocus(event));
    this.element.addEventListener("click", (event) => this.#click(event));
  }

  /**
   * Show a button for each group. Buttons are kept, so that focus stays.
   * @param {readonly MarkGroup[]} groups
   * @param {number} top
   */
  update(groups, top) {
    this.groups = groups;
    const { element } = this;
    element.hidden = groups.length === 0;
    while (element.childElementCount > groups.length) element.lastElementChild?.remove();
    while (element.childElementCount < groups.length) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "lc-mark";
      button.tabIndex = element.childElementCount === 0 ? 0 : -1;
      element.append(button);
    }
    groups.forEach(({ px, mark, marks }, i) => {
      const button = /** @type {HTMLButtonElement} */ (element.children[i]);
      const text = marks.length > 1 ? `${mark.label}, and ${marks.length - 1} more` : mark.label;
      if (button.title !== text) {
        button.title = text;
        button.setAttribute("aria-label", text);
      }
      button.style.transform = `translate(${Math.round(px - TARGET / 2)}px, ${Math.round(top - TARGET / 2)}px)`;
    });
  }

  /** @param {Event} event */
  #click(event) {
    const button = /** @type {Element} */ (event.target).closest("button");
    const index = button ? [...this.element.children].indexOf(button) : -1;
    if (index >= 0) this.onClick(this.groups[index].mark, this.groups[index]);
  }

  /** @param {KeyboardEvent} event */
  #moveFocus(event) {
    const buttons = /** @type {HTMLElement[]} */ ([...this.element.children]);
    const index = buttons.indexOf(/** @type {HTMLElement} */ (event.target));
    const target = { ArrowLeft: index - 1, ArrowRight: index + 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (target === undefined || !buttons[target]) return;
    event.preventDefault();
    buttons[index].tabIndex = -1;
    buttons[target].tabIndex = 0;
    buttons[target].focus();
  }
}
