import {
  formatBytes,
  formatCount,
  formatDuration,
  formatNumber,
  formatPercent,
  formatPlural,
  formatRelative,
  formatValue,
} from "../../../app/page/static/js/format.js";
import { assertEquals } from "./assert.js";

/**
 * @param {string} name
 * @param {(value: any) => string} format
 * @param {[any, string][]} cases
 */
function check(name, format, cases) {
  Deno.test(name, () => {
    for (const [value, text] of cases) assertEquals(format(value), text);
  });
}

check("numbers have separators", (value) => formatNumber(value, 1), [
  [1234567, "1,234,567"],
  [0.25, "0.3"],
  [null, "–"],
  [NaN, "–"],
  [0, "0"],
]);
check("values have four significant digits", formatValue, [
  [0, "0"],
  [2.345678, "2.346"],
  [-0.5, "−0.5"],
  [0.00012345, "1.23e−4"],
  [12345.6, "12,346"],
  [1e9, "1.00e9"],
  [Infinity, "∞"],
  [-Infinity, "−∞"],
  [NaN, "NaN"],
  [undefined, "–"],
]);
check("counts are short", formatCount, [
  [0, "0"],
  [950, "950"],
  [999.9, "1k"],
  [12_340, "12.3k"],
  [4_200_000_000, "4.2B"],
  [150_000, "150k"],
  [null, "–"],
]);
check("sizes are in decimal units", formatBytes, [
  [0, "0 B"],
  [999, "999 B"],
  [1234567, "1.2 MB"],
  [999_999, "1 MB"],
  [5e12, "5 TB"],
  [null, "–"],
]);
check("durations have two units", formatDuration, [
  [0, "0 s"],
  [0.2, "< 1 s"],
  [59.6, "1 min"],
  [3723, "1 h 2 min"],
  [3600, "1 h"],
  [90_000, "1 d 1 h"],
  [Infinity, "–"],
]);
check("shares are percents", formatPercent, [[0.4217, "42%"], [1, "100%"], [null, "–"]]);
check("a noun follows its number", (count) => formatPlural(count, "row"), [[1, "1 row"], [0, "0 rows"], [
  2000,
  "2,000 rows",
]]);

Deno.test("instants are told from now", () => {
  const now = Date.UTC(2026, 10, 26, 12, 0, 0);
  const cases = /** @type {[number, string][]} */ ([
    [5, "just now"],
    [-5, "just now"],
    [59, "59 s ago"],
    [60, "1 min ago"],
    [7200, "2 h ago"],
    [-7200, "in 2 h"],
    [3 * 86_400, "3 d ago"],
  ]);
  for (const [seconds, text] of cases) assertEquals(formatRelative(now - seconds * 1000, now), text);
  assertEquals(formatRelative(null), "–");
});
