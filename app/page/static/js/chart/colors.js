/**
 * The eight colours and eight dash patterns of series. Pure: no DOM.
 *
 * A colour is a CSS variable, `--series-0` to `--series-7`, defined in css/chart.css for both themes. The hex values
 * are repeated here for tests. Each has a contrast of at least 3:1 with the backgrounds of its theme, and the colours
 * stay apart for people who see no difference between red and green. Dashes tell series apart without colour.
 *
 * @module
 */

export const SERIES_COUNT = 8;

/** The colours on light backgrounds (#ffffff, #f7f7f8). */
export const LIGHT_COLORS = Object.freeze([
  "#2f49af",
  "#cc791d",
  "#08816f",
  "#f339aa",
  "#805c00",
  "#7e46f2",
  "#343a47",
  "#0395d5",
]);

/** The colours on dark backgrounds (#0f1012, #17181b). */
export const DARK_COLORS = Object.freeze([
  "#3970ff",
  "#dd873d",
  "#17dea9",
  "#da4b77",
  "#dec61b",
  "#9c5fc6",
  "#d8eafe",
  "#40add1",
]);

/** Lengths of line and gap in pixels, for `setLineDash` and `stroke-dasharray`. */
export const DASHES = Object.freeze([
  Object.freeze({ name: "solid", pattern: [] }),
  Object.freeze({ name: "dashed", pattern: [7, 4] }),
  Object.freeze({ name: "dotted", pattern: [2, 3] }),
  Object.freeze({ name: "dash-dot", pattern: [8, 3, 2, 3] }),
  Object.freeze({ name: "long dashes", pattern: [13, 4] }),
  Object.freeze({ name: "dash-dot-dot", pattern: [8, 3, 2, 3, 2, 3] }),
  Object.freeze({ name: "short dashes", pattern: [4, 3] }),
  Object.freeze({ name: "long dash-dot", pattern: [13, 3, 3, 3] }),
]);

/** Short names of the colours, for texts. */
export const COLOR_NAMES = Object.freeze(["blue", "orange", "green", "pink", "gold", "purple", "grey", "sky blue"]);

/**
 * Return the CSS variable of a colour.
 * @param {number} color
 */
export function colorVariable(color) {
  return `--series-${color & 7}`;
}

/**
 * Return the dash pattern of a number, as `setLineDash` wants it.
 * @param {number} dash
 * @returns {number[]}
 */
export function dashPattern(dash) {
  return [...DASHES[dash & 7].pattern];
}

/**
 * Return a colour and a dash for the nth series, so that neighbours differ in both and 64 differ in one.
 * @param {number} index
 */
export function pickStyle(index) {
  return { color: index & 7, dash: (index + (index >> 3)) & 7 };
}
