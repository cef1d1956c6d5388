/** The small loss curve in a row. */

import { dashPattern } from "../../chart/colors.js";
import { h } from "../../dom.js";
import { formatValue } from "../../format.js";
import { drawSparkline } from "../../pure/jobs_sparkline.js";
import { effect } from "../../signals.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 108;
const HEIGHT = 30;

/**
 * @param {{
 *   points: () => readonly import("../../pure/jobs_sparkline.js").Point[] | null,
 *   color: () => number | null, dash: () => number, isLive: () => boolean,
 * }} options  `color` is one of the eight series colours; null: none; `dash` is one of the eight dash patterns
 * @returns {Node}
 */
export function sparkline({ points, color, dash, isLive }) {
  const [svg, line, end] = [createShape("svg"), createShape("path"), createShape("circle")];
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("role", "img");
  svg.append(line, end);
  end.setAttribute("r", "2");
  effect(() => {
    const present = points();
    const drawn = drawSparkline(present ?? [], WIDTH, HEIGHT);
    line.setAttribute("d", drawn?.path ?? "");
    end.setAttribute("cx", String(drawn?.end[0] ?? 0));
    end.setAttribute("cy", String(drawn?.end[1] ?? 0));
    end.toggleAttribute("hidden", !drawn || !isLive());
    svg.setAttribute("aria-label", describe(present));
  });
  effect(() => {
    const present = color();
    svg.style.setProperty("color", present === null ? "var(--text-3)" : `var(--series-${present}, var(--accent))`);
  });
  effect(() => line.setAttribute("stroke-dasharray", dashPattern(dash()).join(" ")));
  svg.setAttribute("class", "sparkline");
  return h("div.sparkline-box", svg);
}

/** @param {readonly import("../../pure/jobs_sparkline.js").Point[] | null} points */
function describe(points) {
  const [first, last] = [points?.[0], points?.at(-1)];
  if (!first || !last) return "No loss measured yet";
  return `Training loss ${formatValue(first.value)} at step ${first.step}, ${
    formatValue(last.value)
  } at step ${last.step}`;
}

/**
 * @param {string} name
 * @returns {SVGElement}
 */
function createShape(name) {
  return /** @type {SVGElement} */ (document.createElementNS(SVG, name));
}
