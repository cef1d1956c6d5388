/** Formats numbers, sizes and times for people. Pure: no DOM. */

const UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];

/**
 * Return a number with thin separators, at most `digits` decimals: 1234567 → "1,234,567".
 * @param {number | null | undefined} value
 * @param {number} [digits]
 */
export function formatNumber(value, digits = 0) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  return value.toLocaleString("en-US", { maximumFractionDigits: digits, minimumFractionDigits: 0 });
}

/**
 * Return a metric's value in 4 significant digits; small and large ones in scientific notation.
 * @param {number | null | undefined} value
 */
export function formatValue(value) {
  if (value === null || value === undefined) return "–";
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "NaN" : value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  if (value === 0) return "0";
  if (size < 1e-3 || size >= 1e7) return value.toExponential(2).replace("e+", "e").replace("-", "−");
  if (size >= 1e4) return formatNumber(Math.round(value));
  return String(Number(value.toPrecision(4))).replace("-", "−");
}

/**
 * Return a short count: 950 → "950", 12,340 → "12.3k", 4.2e9 → "4.2B".
 * @param {number | null | undefined} value
 */
export function formatCount(value) {
  if (value === null || value === undefined) return "–";
  for (const [limit, unit] of /** @type {[number, string][]} */ ([[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"]])) {
    if (Math.abs(value) >= limit * 0.9995) return `${trim(value / limit)}${unit}`;
  }
  return formatNumber(value, 1);
}

/**
 * Return a size in decimal units: 1,234,567 → "1.2 MB".
 * @param {number | null | undefined} bytes
 */
export function formatBytes(bytes) {
  if (bytes === null || bytes === undefined) return "–";
  let [value, unit] = [bytes, 0];
  while (value >= 999.5 && unit < UNITS.length - 1) [value, unit] = [value / 1000, unit + 1];
  return `${unit === 0 ? value : trim(value)} ${UNITS[unit]}`;
}

/**
 * Return a share as percent: 0.4217 → "42%".
 * @param {number | null | undefined} share
 * @param {number} [digits]
 */
export function formatPercent(share, digits = 0) {
  if (share === null || share === undefined) return "–";
  return `${(share * 100).toFixed(digits)}%`;
}

/**
 * Return a duration in its two largest units: 3,723 → "1 h 2 min".
 * @param {number | null | undefined} seconds
 */
export function formatDuration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 1) return seconds > 0 ? "< 1 s" : "0 s";
  const parts = /** @type {[number, string][]} */ ([
    [Math.floor(whole / 86_400), "d"],
    [Math.floor(whole / 3_600) % 24, "h"],
    [Math.floor(whole / 60) % 60, "min"],
    [whole % 60, "s"],
  ]);
  const first = parts.findIndex(([count]) => count > 0);
  return parts.slice(first, first + 2).filter(([count]) => count > 0).map(([count, unit]) => `${count} ${unit}`).join(
    " ",
  );
}

/**
 * Return how long ago or ahead an instant is: "just now", "5 min ago", "in 2 h", "3 d ago"; a date after four weeks.
 * @param {string | number | Date | null | undefined} instant
 * @param {number} [now]  milliseconds
 */
export function formatRelative(instant, now = Date.now()) {
  if (!instant) return "–";
  const seconds = (now - new Date(instant).getTime()) / 1000;
  const size = Math.abs(seconds);
  if (size < 10) return "just now";
  if (size > 28 * 86_400) return formatDate(instant);
  const text = size < 60
    ? `${Math.floor(size)} s`
    : size < 3_600
    ? `${Math.floor(size / 60)} min`
    : size < 86_400
    ? `${Math.floor(size / 3_600)} h`
    : `${Math.floor(size / 86_400)} d`;
  return seconds > 0 ? `${text} ago` : `in ${text}`;
}

/** @param {string | number | Date} instant */
export function formatDate(instant) {
  return new Date(instant).toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" });
}

/**
 * Return an instant in local time: "26 Nov 2026, 14:03:22".
 * @param {string | number | Date | null | undefined} instant
 */
export function formatTime(instant) {
  if (!instant) return "–";
  return new Date(instant).toLocaleString("en-GB", {
    day: "numeric",
    month: "short",
    year: "numeric",
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
  });
}

/**
 * Return "1 row" or "3 rows".
 * @param {number} count
 * @param {string} noun
 * @param {string} [plural]
 */
export function formatPlural(count, noun, plural = `${noun}s`) {
  return `${formatNumber(count)} ${count === 1 ? noun : plural}`;
}

/** @param {number} value */
function trim(value) {
  const digits = Math.abs(value) >= 99.95 ? 0 : 1;
  return value.toFixed(digits).replace(/\.0$/, "");
}
