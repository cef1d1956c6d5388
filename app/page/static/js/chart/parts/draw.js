/**
 * Paints a chart on a canvas: grid, axes, marks, and the layer of the crosshair.
 *
 * @module
 */

/** @import { Series } from "../series.js" */
/** @import { View } from "../view.js" */
/** @import { MarkGroup } from "./marks.js" */

import { SERIES_COUNT } from "../colors.js";
import { drawBand, drawGaps, drawSeries } from "./draw_lines.js";
import { nameMark, traceGlyph } from "./marks.js";

/**
 * @typedef {object} Palette
 * @property {string[]} series
 * @property {string} grid
 * @property {string} axis
 * @property {string} text
 * @property {string} surface
 * @property {string} crosshair
 * @property {string} selection
 * @property {string} mark
 * @property {string} font
 */

/**
 * @typedef {object} Scene
 * @property {View} view
 * @property {Palette} palette
 * @property {readonly Series[]} series those that are shown, the highlighted one last
 * @property {string | null} highlight
 * @property {number} weight of the smoothing
 * @property {readonly MarkGroup[]} marks those that share a glyph are one group
 * @property {string} xName
 * @property {string} unit
 * @property {number} width
 * @property {number} height
 */

/** The most marks with a line each. */
const MAX_LINES = 16;

/** @typedef {{ px: number, py: number, color: number }} Dot */
/** @typedef {{ x: number | null, isPinned: boolean, dots: Dot[], selection: [number, number] | null }} Pointer */

/**
 * Read the colours of the present theme.
 * @param {Element} element
 * @returns {Palette}
 */
export function readPalette(element) {
  const style = getComputedStyle(element);
  /** @param {string} name */
  const read = (name) => style.getPropertyValue(name).trim() || "gray";
  return {
    series: Array.from({ length: SERIES_COUNT }, (_, i) => read(`--series-${i}`)),
    grid: read("--chart-grid"),
    axis: read("--chart-axis"),
    text: read("--chart-text"),
    surface: read("--chart-surface"),
    crosshair: read("--chart-crosshair"),
    selection: read("--chart-selection"),
    mark: read("--chart-mark"),
    font: `11px ${style.fontFamily || "sans-serif"}`,
  };
}

/**
 * Prepare a canvas of this size in CSS pixels and return its cleared context.
 * @param {HTMLCanvasElement} canvas
 * @param {number} width
 * @param {number} height
 */
export function prepareCanvas(canvas, width, height) {
  const ratio = Math.min(3, globalThis.devicePixelRatio || 1);
  const [deviceWidth, deviceHeight] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== deviceWidth) canvas.width = deviceWidth;
  if (canvas.height !== deviceHeight) canvas.height = deviceHeight;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

/**
 * Draw everything but the crosshair.
 * @param {CanvasRenderingContext2D} context
 * @param {Scene} scene
 */
export function drawScene(context, scene) {
  drawGrid(context, scene);
  const { box } = scene.view;
  context.save();
  context.beginPath();
  context.rect(box.left, box.top - 4, box.right - box.left + 5, box.bottom - box.top + 5);
  context.clip();
  drawMarkLines(context, scene);
  for (const series of scene.series) drawBand(context, scene, series);
  for (const series of scene.series) drawSeries(context, scene, series);
  for (const series of scene.series) drawGaps(context, scene, series);
  context.restore();
  drawMarks(context, scene);
  nameMarks(context, scene);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Scene} scene
 */
function drawGrid(context, { view, palette, xName, unit, width }) {
  const { box } = view;
  const hairline = 1 / Math.min(3, globalThis.devicePixelRatio || 1);
  context.fillStyle = palette.grid;
  for (const { px } of view.yLabels) fillRow(context, px, box, hairline);
  context.globalAlpha = 0.45;
  for (const px of view.yMinor) fillRow(context, px, box, hairline);
  context.globalAlpha = 1;
  context.fillStyle = palette.axis;
  fillRow(context, box.bottom, box, Math.max(hairline, 0.75));
  if (!view.hasValues) return;
  for (const { px } of view.xLabels) context.fillRect(snap(px, hairline), box.bottom, hairline, 4);
  context.font = palette.font;
  context.fillStyle = palette.text;
  context.textBaseline = "middle";
  context.textAlign = "right";
  for (const { px, label } of view.yLabels) context.fillText(label, box.left - 8, px);
  context.textAlign = "left";
  const nameWidth = context.measureText(xName).width;
  context.fillText(xName, 0, box.bottom + 15);
  if (unit) context.fillText(unit, 0, 7);
  context.textAlign = "center";
  for (const { px, label } of view.xLabels) {
    const half = context.measureText(label).width / 2;
    const center = Math.min(px, width - half - 1);
    if (center - half > nameWidth + 6) context.fillText(label, center, box.bottom + 15);
  }
}

/**
 * @param {number} px
 * @param {number} size
 */
function snap(px, size) {
  return Math.round(px / size) * size;
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {number} py
 * @param {import("../view.js").Box} box
 * @param {number} size
 */
function fillRow(context, py, box, size) {
  context.fillRect(box.left, snap(py, size), box.right - box.left, size);
}

/**
 * Draw a thin line for each glyph; if there are many, only for those that have a name.
 * @param {CanvasRenderingContext2D} context
 * @param {Scene} scene
 */
function drawMarkLines(context, { view: { box }, palette, marks }) {
  context.lineWidth = 1;
  context.strokeStyle = palette.axis;
  context.setLineDash([2, 3]);
  context.beginPath();
  for (const { px, mark } of marks) {
    if (marks.length > MAX_LINES && nameMark(mark) === "") continue;
    context.moveTo(Math.round(px) + 0.5, box.top - 4);
    context.lineTo(Math.round(px) + 0.5, box.bottom);
  }
  context.globalAlpha = 0.7;
  context.stroke();
  context.globalAlpha = 1;
  context.setLineDash([]);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Scene} scene
 */
function drawMarks(context, { view, palette, marks }) {
  context.lineJoin = "round";
  for (const { px, mark } of marks) {
    context.beginPath();
    traceGlyph(context, mark.kind, px, view.box.bottom);
    context.strokeStyle = palette.surface;
    context.lineWidth = 3.5;
    context.stroke();
    context.fillStyle = palette.mark;
    context.fill();
  }
}

/**
 * Write the names of rare marks at the top of their lines, where there is room.
 * @param {CanvasRenderingContext2D} context
 * @param {Scene} scene
 */
function nameMarks(context, { view, palette, marks }) {
  let end = -Infinity;
  context.font = palette.font;
  context.textAlign = "left";
  context.textBaseline = "middle";
  context.lineWidth = 4;
  context.strokeStyle = palette.surface;
  context.fillStyle = palette.text;
  for (const { px, mark } of marks) {
    const name = nameMark(mark);
    if (!name) continue;
    const width = context.measureText(name).width;
    const left = px + 5 + width > view.box.right ? px - 5 - width : px + 5;
    if (left < end + 8) continue;
    context.strokeText(name, left, view.box.top + 2);
    context.fillText(name, left, view.box.top + 2);
    end = left + width;
  }
}

/**
 * Draw the crosshair, its dots and the range being selected.
 * @param {CanvasRenderingContext2D} context
 * @param {View} view
 * @param {Palette} palette
 * @param {Pointer} pointer
 */
export function drawPointer(context, { box, x }, palette, { x: at, isPinned, dots, selection }) {
  if (selection) {
    const [from, to] = [Math.min(...selection), Math.max(...selection)];
    context.fillStyle = palette.selection;
    context.globalAlpha = 0.14;
    context.fillRect(from, box.top, to - from, box.bottom - box.top);
    context.globalAlpha = 0.9;
    context.fillRect(from, box.top, 1, box.bottom - box.top);
    context.fillRect(to - 1, box.top, 1, box.bottom - box.top);
    context.globalAlpha = 1;
  }
  if (at === null || at < x.min || at > x.max) return;
  context.strokeStyle = palette.crosshair;
  context.lineWidth = 1;
  if (!isPinned) context.setLineDash([3, 3]);
  context.beginPath();
  context.moveTo(Math.round(x.px(at)) + 0.5, box.top - 4);
  context.lineTo(Math.round(x.px(at)) + 0.5, box.bottom);
  context.stroke();
  context.setLineDash([]);
  for (const dot of dots) {
    if (dot.py < box.top - 4 || dot.py > box.bottom + 1) continue;
    context.beginPath();
    context.arc(dot.px, dot.py, 4, 0, 7);
    context.fillStyle = palette.series[dot.color];
    context.strokeStyle = palette.surface;
    context.lineWidth = 4;
    context.stroke();
    context.fill();
  }
}

/** @type {Set<() => void>} */
const themeListeners = new Set();

/**
 * Call a function when the theme changes: the system's, or the one chosen by `data-theme` on the root element.
 * @param {() => void} listener
 * @returns {() => void} stops it
 */
export function watchTheme(listener) {
  if (themeListeners.size === 0) startThemeWatch();
  themeListeners.add(listener);
  return () => themeListeners.delete(listener);
}

let isWatching = false;

function startThemeWatch() {
  if (isWatching) return;
  isWatching = true;
  const notify = () => themeListeners.forEach((listener) => listener());
  for (const query of ["(prefers-color-scheme: dark)", "(forced-colors: active)", "(prefers-contrast: more)"]) {
    matchMedia(query).addEventListener("change", notify);
  }
  const observer = new MutationObserver(notify);
  observer.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme", "class"] });
}
