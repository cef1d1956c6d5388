import { assertEquals } from "./assert.js";
import {
  describeX,
  formatCount,
  formatDuration,
  formatValue,
  formatX,
  labelCounts,
  labelValues,
  labelXTicks,
} from "../../../app/page/static/js/chart/ticks.js";

Deno.test("counts are short", () => {
  assertEquals([0, 950, 1000, 1234, 12_345, 3_400_000, 2e9].map((value) => formatCount(value)), [
    "0",
    "950",
    "1k",
    "1.2k",
    "12.3k",
    "3.4M",
    "2B",
  ]);
});

Deno.test("the labels of an axis are exact", () => {
  assertEquals(labelCounts([0, 500, 1000, 1500]), ["0", "500", "1k", "1.5k"]);
  assertEquals(labelCounts([12_340, 12_350, 12_360]), ["12.34k", "12.35k", "12.36k"]);
  assertEquals(labelCounts([12_345, 12_346]), ["12,345", "12,346"]);
});

Deno.test("the labels of values have the same number of digits", () => {
  assertEquals(labelValues([0.5, 1, 1.5]), ["0.5", "1.0", "1.5"]);
  assertEquals(labelValues([0, 1e-4, 2e-4]), ["0", "1e-4", "2e-4"]);
  assertEquals(labelValues([0, 5e-5, 1e-4]), ["0", "5e-5", "1e-4"]);
  assertEquals(labelValues([-2, 0, 2]), ["−2", "0", "2"]);
  assertEquals(labelValues([10_000, 20_000]), ["10k", "20k"]);
});

Deno.test("the labels of a logarithmic axis have their own digits", () => {
  assertEquals(labelValues([1e-5, 0.001, 0.1, 1, 1000, 100_000], true), ["1e-5", "0.001", "0.1", "1", "1000", "100k"]);
});

Deno.test("durations have two units", () => {
  assertEquals([0, 2.5, 45, 60, 200, 3600, 12_000, 86_400, 187_200, 59.9, 3599.9].map(formatDuration), [
    "0 s",
    "2.5 s",
    "45 s",
    "1 min",
    "3 min 20 s",
    "1 h",
    "3 h 20 min",
    "1 d",
    "2 d 4 h",
    "1 min",
    "1 h",
  ]);
});

Deno.test("values have four significant digits", () => {
  assertEquals([1.23456, 12.3456, 0, 0.01234567, 2e-4, 12_345.6, 1234.56, NaN, Infinity, -Infinity].map(formatValue), [
    "1.235",
    "12.35",
    "0",
    "0.01235",
    "2.000e-4",
    "12,346",
    "1,234.6",
    "NaN",
    "∞",
    "-∞",
  ]);
});

Deno.test("positions are exact", () => {
  assertEquals(formatX(12_400, "step"), "12,400");
  assertEquals(describeX(1240, "step"), "Step 1,240");
  assertEquals(describeX(1240, "tokens"), "1,240 tokens");
  assertEquals(describeX(12_000, "time"), "3 h 20 min");
  assertEquals(labelXTicks([0, 1e6, 2e6], "tokens"), ["0", "1M", "2M"]);
});
