/** The small loss curve of a row: its points, as they come, and the path that is drawn. */

/** @typedef {{step: number, value: number}} Point */

/** At most this many points are kept; then the later half of neighbours is left out. */
export const MOST_POINTS = 120;
const WEIGHT = 0.55;

/**
 * Return the points of an answer of `GET /jobs/{id}/metrics`.
 * @param {readonly {step: number, values: Record<string, number>}[]} items
 * @param {string} name
 * @returns {Point[]}
 */
export function pointsOf(items, name) {
  return items
    .filter((item) => Number.isFinite(item.values[name]))
    .map((item) => ({ step: item.step, value: /** @type {number} */ (item.values[name]) }));
}

/**
 * Return the points with a newer one at the end. A step that was measured before means that the job went back to it.
 * @param {readonly Point[]} points
 * @param {Point} next
 * @returns {Point[]}
 */
export function appendPoint(points, next) {
  const last = points.at(-1);
  if (last && last.step === next.step && last.value === next.value) return /** @type {Point[]} */ (points);
  const before = last && last.step >= next.step ? points.filter((point) => point.step < next.step) : points;
  return thinPoints([...before, next]);
}

/**
 * Leave out every second point when there are too many; the first and the last stay.
 * @param {Point[]} points
 * @returns {Point[]}
 */
export function thinPoints(points) {
  if (points.length <= MOST_POINTS) return points;
  return points.filter((_, index) => index % 2 === 0 || index === points.length - 1);
}

/**
 * Return the path of a curve in a box, smoothed a little; one value far above the rest does not flatten it.
 * @param {readonly Point[]} points
 * @param {number} width
 * @param {number} height
 * @param {number} [margin]
 * @returns {{path: string, end: [number, number]} | null}  null: there is nothing to draw
 */
export function drawSparkline(points, width, height, margin = 2) {
  const first = points[0];
  const last = points.at(-1);
  if (!first || !last || points.length < 2) return null;
  const values = smooth(points.map((point) => point.value));
  const [low, high] = rangeOf(values);
  const span = high - low || 1;
  const reach = last.step - first.step || 1;
  const places = values.map((value, index) => {
    const share = (/** @type {Point} */ (points[index]).step - first.step) / reach;
    const level = Math.min(1, Math.max(0, (value - low) / span));
    return /** @type {[number, number]} */ ([
      round(margin + share * (width - 2 * margin)),
      round(height - margin - level * (height - 2 * margin)),
    ]);
  });
  return {
    path: places.map(([x, y], index) => `${index ? "L" : "M"}${x} ${y}`).join(""),
    end: /** @type {[number, number]} */ (places.at(-1)),
  };
}

/** @param {readonly number[]} values */
function smooth(values) {
  let [sum, weight] = [0, 0];
  return values.map((value) => {
    sum = sum * WEIGHT + value;
    weight = weight * WEIGHT + 1;
    return sum / weight;
  });
}

/**
 * @param {readonly number[]} values
 * @returns {[number, number]}
 */
function rangeOf(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (/** @type {number} */ share) => /** @type {number} */ (sorted[Math.round(share * (sorted.length - 1))]);
  return [at(0), at(0.97)];
}

/** @param {number} value */
function round(value) {
  return Math.round(value * 10) / 10;
}
