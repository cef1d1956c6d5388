import { assert, assertClose, assertEquals } from "./assert.js";
import { decimate } from "../../../app/page/static/js/chart/parts/draw_lines.js";
import { Scale } from "../../../app/page/static/js/chart/scale.js";
import { Series } from "../../../app/page/static/js/chart/series.js";
import { smoothValues } from "../../../app/page/static/js/chart/smoothing.js";

/**
 * @param {number[]} x
 * @param {number[]} y
 * @param {number[]} [breaks]
 */
function makeSeries(x, y, breaks = []) {
  const base = { id: "loss", label: "loss", color: 0, dash: 0 };
  return new Series({ ...base, x: Float64Array.from(x), y: Float64Array.from(y), breaks });
}

Deno.test("reducing a line keeps each column's lowest and highest value", () => {
  const x = Float64Array.from({ length: 10_000 }, (_, i) => i);
  const y = x.map((i) => Math.sin(i * 12.9898) * 5);
  y[1234] = 50;
  y[7777] = -50;
  const scale = new Scale("linear", { min: 0, max: 9999 }, 0, 100);
  const kept = decimate(x, y, 0, x.length, scale);
  assert(kept.length <= 101 * 4, String(kept.length));
  assert(kept.includes(1234) && kept.includes(7777) && kept.includes(0) && kept.includes(9999));
  assert(kept.every((index, i) => i === 0 || index > kept[i - 1]), "ascending, each once");
  const column = kept.filter((i) => Math.floor(scale.px(i)) === 40).map((i) => y[i]);
  const all = [...y].filter((_, i) => Math.floor(scale.px(i)) === 40);
  assertEquals([Math.min(...column), Math.max(...column)], [Math.min(...all), Math.max(...all)]);
});

Deno.test("reducing a line keeps its gaps", () => {
  const x = Float64Array.from({ length: 9 }, (_, i) => i);
  const y = Float64Array.from([1, 2, NaN, Infinity, 3, 4, 0, 5, 6]);
  const scale = new Scale("linear", { min: 0, max: 8 }, 0, 0.5);
  assertEquals(decimate(x, y, 0, 9, scale), [0, 1, 2, 4, 6, 8]);
  assertEquals(decimate(x, y, 0, 9, scale, 0), [0, 1, 2, 4, 5, 6, 7, 8]);
});

Deno.test("breaks cut a series into attempts", () => {
  const series = makeSeries([1, 2, 3, 2, 3, 4], [1, 1, 1, 2, 2, 2], [3]);
  assertEquals(series.listSegments(), [{ start: 0, end: 3 }, { start: 3, end: 6 }]);
  assertEquals(makeSeries([], []).listSegments(), []);
  assertEquals(makeSeries([1, 2], [1, 2], [0, 2]).listSegments(), [{ start: 0, end: 2 }]);
});

Deno.test("where attempts overlap, the later one is read", () => {
  const series = makeSeries([1, 2, 3, 2, 3, 4], [1, 1, 1, 2, 2, 2], [3]);
  assertEquals([1, 2, 3, 9].map((x) => series.findNearest(x)), [0, 3, 4, 5]);
  assertEquals(series.findNearest(9, 2), -1);
  assertEquals([series.findNext(2, 1), series.findNext(2, -1), series.findNext(4, 1)], [3, 1, NaN]);
});

Deno.test("points are appended, and a step back begins an attempt", () => {
  const series = makeSeries([1, 2], [5, 6]);
  for (let i = 3; i <= 200; i++) series.append(i, i);
  series.append(150, 1);
  series.isBreakNext = true;
  series.append(151, 2);
  assertEquals(series.length, 202);
  assertEquals(series.breaks, [200, 201]);
  assertEquals([series.x[0], series.x[199], series.y[200]], [1, 200, 1]);
});

Deno.test("appended points are smoothed like all at once", () => {
  const series = makeSeries([1, 2, 3], [3, 1, 2]);
  series.smooth(0.8);
  for (const value of [5, NaN, 4, 1]) series.append(series.length + 1, value);
  series.append(2, 9);
  const expected = smoothValues(series.y, 0.8, [7]);
  series.smooth(0.8).forEach((value, i) => {
    if (Number.isNaN(expected[i])) assert(Number.isNaN(value));
    else assertClose(value, expected[i]);
  });
});

Deno.test("changed arrays are read again", () => {
  const series = makeSeries([1, 2], [3, 1]);
  series.smooth(0.5);
  series.source.y[0] = 7;
  series.refresh();
  assertEquals(series.smooth(0.5)[0], 7);
});

Deno.test("the last value is the last finite one", () => {
  assertEquals(makeSeries([1, 2, 3], [4, 5, NaN]).findLastValue(), 5);
  assert(Number.isNaN(makeSeries([1], [NaN]).findLastValue()));
});
