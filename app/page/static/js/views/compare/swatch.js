/** The line that stands for a job: its colour and its dash pattern, as in the charts. */

import { dashPattern, pickStyle } from "../../chart/colors.js";

const SVG = "http://www.w3.org/2000/svg";

/**
 * @param {number} place  of the job in the comparison
 * @param {boolean} [isBaseline]
 * @returns {SVGElement}
 */
export function swatch(place, isBaseline = false) {
  const { color, dash } = pickStyle(place);
  const svg = document.createElementNS(SVG, "svg");
  const line = document.createElementNS(SVG, "path");
  svg.setAttribute("class", "compare-line");
  svg.setAttribute("viewBox", "0 0 26 8");
  svg.setAttribute("aria-hidden", "true");
  svg.style.setProperty("color", `var(--series-${color})`);
  line.setAttribute("d", "M1 4H25");
  line.setAttribute("stroke-dasharray", dashPattern(dash).join(" "));
  line.setAttribute("stroke-width", isBaseline ? "4" : "2");
  svg.append(line);
  return svg;
}
