import { assertEquals } from "./assert.js";
import {
  collectColumns,
  describeReadings,
  formatCsv,
  listPositions,
  readAt,
  speakReadings,
  thinPositions,
} from "../../../app/page/static/js/chart/rows.js";
import { Series } from "../../../app/page/static/js/chart/series.js";

/**
 * @param {string} label
 * @param {number[]} x
 * @param {number[]} y
 * @param {number[]} [breaks]
 */
function makeSeries(label, x, y, breaks = []) {
  const [xs, ys] = [Float64Array.from(x), Float64Array.from(y)];
  return new Series({ id: label, label, color: 0, dash: 0, x: xs, y: ys, breaks });
}

const ALL = { min: -Infinity, max: Infinity };

Deno.test("CSV has a row for each position and empty cells where a series has no value", () => {
  const columns = collectColumns(
    [makeSeries("a", [1, 2, 3], [0.1, NaN, 0.3]), makeSeries("b", [2, 4], [5, 6])],
    ALL,
    0,
  );
  assertEquals(formatCsv("Step", columns), "Step,a,b\r\n1,0.1,\r\n2,NaN,5\r\n3,0.3,\r\n4,,6\r\n");
});

Deno.test("CSV holds what is in view", () => {
  const columns = collectColumns([makeSeries("a", [1, 2, 3, 4], [1, 2, 3, 4])], { min: 2, max: 3 }, 0);
  assertEquals(formatCsv("Step", columns), "Step,a\r\n2,2\r\n3,3\r\n");
});

Deno.test("CSV has smoothed values and the later attempt's", () => {
  const columns = collectColumns([makeSeries("a", [1, 2, 2], [1, 2, 8], [2])], ALL, 0.5);
  assertEquals(formatCsv("Step", columns), "Step,a,a (smoothed)\r\n1,1,1\r\n2,8,8\r\n");
});

Deno.test("labels in CSV are quoted, and none is a formula", () => {
  const columns = collectColumns([makeSeries('say "hi", you', [1], [2]), makeSeries("=1+1", [1], [3])], ALL, 0);
  assertEquals(formatCsv("Step", columns), 'Step,"say ""hi"", you",\'=1+1\r\n1,2,3\r\n');
});

Deno.test("a long table is thinned, and keeps its ends", () => {
  const columns = collectColumns([makeSeries("a", [...Array(2000).keys()], Array(2000).fill(1))], ALL, 0);
  const thin = thinPositions(listPositions(columns), 200);
  assertEquals([thin.length, thin[0], thin[199]], [200, 0, 1999]);
  assertEquals(thinPositions(Float64Array.from([1, 2]), 200).length, 2);
});

Deno.test("readings are sorted by value, those that are no numbers last", () => {
  const series = [
    makeSeries("low", [1, 2], [1, 1]),
    makeSeries("nan", [1, 2], [NaN, NaN]),
    makeSeries("high", [1, 2], [9, 9]),
    makeSeries("ended", [0], [5]),
  ];
  assertEquals(readAt(series, 2, 0.5, 0).map(({ series: { label } }) => label), ["high", "low", "nan"]);
});

Deno.test("the tooltip has only the columns that it needs", () => {
  const series = [makeSeries("a", [10, 20], [1, 2]), makeSeries("b", [12, 22], [3, 4])];
  const options = { x: 10, xKind: /** @type {const} */ ("step"), unit: "", weight: 0, note: "" };
  const plain = describeReadings(readAt(series.slice(0, 1), 10, 5, 0), options);
  assertEquals([plain.title, plain.heads, plain.rows[0].cells], ["Step 10", [], ["1.000"]]);
  const full = describeReadings(readAt(series, 10, 5, 0.5), { ...options, weight: 0.5, note: "Resumed" });
  assertEquals(full.heads, ["Smoothed", "Value", "Step"]);
  assertEquals(full.rows.map(({ cells }) => cells), [["3.000", "3.000", "12"], ["1.000", "1.000", "10"]]);
  assertEquals(
    speakReadings(full),
    "Step 10; Resumed; b Smoothed 3.000, Value 3.000, Step 12; a Smoothed 1.000, Value 1.000, Step 10.",
  );
  assertEquals(speakReadings(plain), "Step 10; a 1.000.");
});
