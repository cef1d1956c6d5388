/**
 * Texts of numbers: axis labels, values, steps, tokens and durations. Pure: no DOM.
 *
 * @module
 */

/** @typedef {"step" | "tokens" | "time"} XKind */

const UNITS = [{ size: 1e12, name: "T" }, { size: 1e9, name: "B" }, { size: 1e6, name: "M" }, { size: 1e3, name: "k" }];

/**
 * Return a count in few characters: "950", "1.2k", "3.45M".
 * @param {number} value
 * @param {number} [digits] the most digits after the point
 */
export function formatCount(value, digits = 1) {
  const size = Math.abs(value);
  const unit = UNITS.find((each) => size >= each.size);
  if (!unit) return trimZeros(value.toFixed(Number.isInteger(value) ? 0 : digits));
  return trimZeros((value / unit.size).toFixed(digits)) + unit.name;
}

/** @param {string} text */
function trimZeros(text) {
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}

/**
 * Return the labels of one axis of counts; all are exact, and no two are alike.
 * @param {number[]} values
 */
export function labelCounts(values) {
  for (const digits of [0, 1, 2]) {
    const labels = values.map((value) => formatCount(value, digits));
    if (labels.every((label, i) => readCount(label) === values[i])) return labels;
  }
  return values.map((value) => groupDigits(value));
}

/** @param {string} label */
function readCount(label) {
  const unit = UNITS.find((each) => label.endsWith(each.name));
  return unit ? Number((Number(label.slice(0, -1)) * unit.size).toPrecision(12)) : Number(label);
}

/** @param {number} value */
function groupDigits(value) {
  return value.toLocaleString("en-US", { maximumFractionDigits: 3 });
}

/**
 * Return the labels of a value axis with the same number of digits each: "0.5", "1.0", "1.5"; "1e-4", "2e-4".
 * @param {number[]} values
 * @param {boolean} [isLog] the values differ by orders of magnitude, so each gets its own digits
 */
export function labelValues(values, isLog = false) {
  const largest = Math.max(0, ...values.map(Math.abs));
  if (isLog) return values.map((value) => useMinus(labelLogValue(value)));
  if (largest >= 1e4) return labelCounts(values).map(useMinus);
  if (largest > 0 && largest < 1e-3) return labelSmallValues(values);
  const step = values.length > 1 ? values[1] - values[0] : largest;
  const digits = step > 0 ? Math.min(12, Math.max(0, -Math.floor(Math.log10(step) + 1e-9))) : 0;
  return values.map((value) => useMinus(value.toFixed(countDigits(value, digits))));
}

/**
 * @param {number} value
 * @param {number} digits
 */
function countDigits(value, digits) {
  return Number(value.toFixed(digits)) === value ? digits : Math.min(12, digits + 1);
}

/** @param {number[]} values */
function labelSmallValues(values) {
  for (const digits of [0, 1, 2, 3]) {
    const labels = values.map((value) => (value === 0 ? "0" : value.toExponential(digits)));
    if (labels.every((label, i) => Number(label) === values[i])) return labels.map(useMinus);
  }
  return values.map((value) => useMinus(value.toExponential(4)));
}

/** @param {number} value */
function labelLogValue(value) {
  if (value >= 1e4) return formatCount(value, 2);
  return value < 1e-3 ? String(Number(value.toPrecision(3)).toExponential()) : String(Number(value.toPrecision(4)));
}

/** @param {string} text */
function useMinus(text) {
  return text.startsWith("-") ? "−" + text.slice(1) : text;
}

/**
 * Return a measured value with four significant digits: "1.234", "12,340", "2.500e-4".
 * @param {number} value
 */
export function formatValue(value) {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "-∞";
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 1e9 || size < 1e-3) return value.toExponential(3);
  if (size >= 1000) return value.toLocaleString("en-US", { maximumFractionDigits: size < 1e4 ? 1 : 0 });
  return value.toPrecision(4);
}

/**
 * Return a duration in its two largest units: "45 s", "3 h 20 min", "2 d 4 h".
 * @param {number} seconds
 */
export function formatDuration(seconds) {
  const sign = seconds < 0 ? "-" : "";
  const size = Math.abs(seconds);
  if (size < 59.5) return sign + trimZeros(size.toFixed(size < 10 ? 1 : 0)) + " s";
  const whole = Math.round(size);
  if (whole < 3600) return sign + joinUnits(Math.floor(whole / 60), "min", whole % 60, "s");
  const minutes = Math.round(size / 60);
  if (minutes < 1440) return sign + joinUnits(Math.floor(minutes / 60), "h", minutes % 60, "min");
  const hours = Math.round(size / 3600);
  return sign + joinUnits(Math.floor(hours / 24), "d", hours % 24, "h");
}

/**
 * @param {number} large
 * @param {string} largeUnit
 * @param {number} small
 * @param {string} smallUnit
 */
function joinUnits(large, largeUnit, small, smallUnit) {
  return small === 0 ? `${large} ${largeUnit}` : `${large} ${largeUnit} ${small} ${smallUnit}`;
}

/**
 * Return the labels of the x axis.
 * @param {number[]} values
 * @param {XKind} kind
 */
export function labelXTicks(values, kind) {
  return kind === "time" ? values.map(formatDuration) : labelCounts(values);
}

/** @type {Record<XKind, string>} */
const X_NAMES = { step: "Step", tokens: "Tokens", time: "Time" };

/**
 * Return the name of the x axis.
 * @param {XKind} kind
 */
export function nameX(kind) {
  return X_NAMES[kind];
}

/**
 * Return an exact position: "1,240", "3 h 20 min".
 * @param {number} x
 * @param {XKind} kind
 */
export function formatX(x, kind) {
  return kind === "time" ? formatDuration(x) : groupDigits(x);
}

/**
 * Return a position with the name of its axis: "Step 1,240", "1,240 tokens", "3 h 20 min".
 * @param {number} x
 * @param {XKind} kind
 */
export function describeX(x, kind) {
  if (kind === "time") return formatDuration(x);
  return kind === "tokens" ? `${groupDigits(x)} tokens` : `Step ${groupDigits(x)}`;
}
