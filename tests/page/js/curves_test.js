import { Curves } from "../../../app/page/static/js/curves.js";
import { Curve, interpolate, measureRunningTime, thinColumns } from "../../../app/page/static/js/pure/job_curve.js";
import { assert, assertEquals } from "./assert.js";

/** @typedef {import("../../../app/page/api.d.ts").MetricPoint} MetricPoint */

const START = Date.parse("2026-01-05T10:00:00Z");

/**
 * @param {number} attempt
 * @param {number} number
 * @param {number} step
 * @param {Record<string, number>} [values]
 * @returns {MetricPoint}
 */
function point(attempt, number, step, values = { loss: step }) {
  return { attempt, number, step, measured_at: new Date(START + step * 1000).toISOString(), values };
}

/**
 * @param {number} from
 * @param {number} to
 * @param {number} [by]
 */
function points(from, to, by = 1) {
  const items = [];
  for (let step = from; step <= to; step += by) items.push(point(1, step, step));
  return items;
}

/**
 * @param {Curves} curves
 * @param {string} [name]
 */
function stepsOf(curves, name = "loss") {
  return curves.curve(name)?.read().steps ?? [];
}

Deno.test("the tail continues the overview without a gap or a repeat", () => {
  const curves = new Curves();
  curves.setOverview({ items: points(1, 5), downsampled: false, stream_cursor: "1.5" });
  assertEquals(curves.append(point(1, 5, 5)), false);
  assertEquals(curves.append(point(1, 6, 6)), true);
  assertEquals(curves.append(point(1, 6, 6)), false);
  assertEquals(curves.append(point(1, 7, 7)), true);
  assertEquals(stepsOf(curves), [1, 2, 3, 4, 5, 6, 7]);
});

Deno.test("points at the end do not change the revision, so that charts only add them", () => {
  const curves = new Curves();
  curves.setOverview({ items: points(1, 5), downsampled: false, stream_cursor: "1.5" });
  const before = curves.curve("loss")?.revision;
  curves.append(point(1, 6, 6));
  assertEquals(curves.curve("loss")?.revision, before);
  assertEquals([...curves.draw("loss", "step", 5).x], [6]);
});

Deno.test("a resume drops what was measured after its step", () => {
  const curves = new Curves();
  curves.setOverview({ items: points(1, 9), downsampled: false, stream_cursor: "1.9" });
  curves.resume(2, 6);
  assertEquals(stepsOf(curves), [1, 2, 3, 4, 5, 6]);
  assertEquals(curves.append(point(1, 10, 10)), false);
  curves.append(point(2, 1, 7, { loss: 70 }));
  assertEquals(stepsOf(curves), [1, 2, 3, 4, 5, 6, 7]);
  assertEquals(curves.draw("loss", "step").breaks, [6]);
});

Deno.test("a later attempt's points count even if its resume was not seen", () => {
  const curves = new Curves();
  curves.setOverview({ items: points(1, 9), downsampled: false, stream_cursor: "1.9" });
  curves.append(point(2, 1, 4, { loss: 40 }));
  assertEquals(stepsOf(curves), [1, 2, 3, 4]);
  assertEquals([...curves.draw("loss", "step").y], [1, 2, 3, 40]);
});

Deno.test("late points of a lost attempt find their place before the resume", () => {
  const curves = new Curves();
  curves.setOverview({ items: points(1, 4), downsampled: false, stream_cursor: "1.4" });
  curves.resume(2, 6);
  curves.append(point(2, 1, 7));
  curves.append(point(1, 5, 5));
  curves.append(point(1, 6, 6));
  assertEquals(curves.append(point(1, 8, 8)), false);
  assertEquals(stepsOf(curves), [1, 2, 3, 4, 5, 6, 7]);
});

Deno.test("a finer answer replaces the overview and keeps the tail", () => {
  const curves = new Curves();
  curves.setOverview({ items: points(1, 9, 4), downsampled: true, stream_cursor: "1.9" });
  assert(curves.curve("loss")?.isPartial);
  curves.append(point(1, 10, 10));
  assert(curves.refine(["loss"], { items: points(1, 9), downsampled: false }, 9, curves.rewinds));
  assertEquals(stepsOf(curves), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  assert(!curves.curve("loss")?.isPartial);
});

Deno.test("an answer from before a resume is refused", () => {
  const curves = new Curves();
  curves.setOverview({ items: points(1, 9, 4), downsampled: true, stream_cursor: "1.9" });
  const { rewinds } = curves;
  curves.resume(2, 5);
  assertEquals(curves.refine(["loss"], { items: points(1, 9), downsampled: false }, 9, rewinds), false);
  assertEquals(curves.setDetail(["loss"], { from: 6, to: 9 }, points(6, 9), rewinds), false);
  assertEquals(stepsOf(curves), [1, 5]);
});

Deno.test("finer points of a range are shown until the zoom is reset", () => {
  const curves = new Curves();
  curves.setOverview({ items: points(0, 100, 10), downsampled: true, stream_cursor: "1.100" });
  curves.setDetail(["loss"], { from: 40, to: 60 }, points(40, 60, 5), curves.rewinds);
  assertEquals(stepsOf(curves), [0, 10, 20, 30, 40, 45, 50, 55, 60, 70, 80, 90, 100]);
  curves.append(point(1, 101, 101));
  assertEquals(stepsOf(curves).at(-1), 101);
  curves.resume(2, 50);
  assertEquals(stepsOf(curves), [0, 10, 20, 30, 40, 45, 50]);
  curves.clearDetail();
  assertEquals(stepsOf(curves), [0, 10, 20, 30, 40, 50]);
});

Deno.test("a range that ends after the last step does not hide later points", () => {
  const curves = new Curves();
  curves.setOverview({ items: points(1, 9, 4), downsampled: true, stream_cursor: "1.9" });
  curves.setDetail(["loss"], { from: 5, to: 50 }, points(5, 9), curves.rewinds);
  curves.append(point(1, 10, 10));
  assertEquals(stepsOf(curves), [1, 5, 6, 7, 8, 9, 10]);
});

Deno.test("a curve that grows for hours keeps its extremes and few points", () => {
  const curve = new Curve();
  for (let step = 1; step <= 30_000; step++) curve.add(1, step, step * 20, step === 12_345 ? 99 : Math.sin(step));
  assert(curve.length <= 4000, `${curve.length} points`);
  assert(curve.isPartial);
  assertEquals(Math.max(...curve.base.values), 99);
  assertEquals(curve.lastStep, 30_000);
  assert(curve.base.steps.every((step, index) => index === 0 || step > curve.base.steps[index - 1]));
});

Deno.test("thinning keeps the lowest and the highest value of each group", () => {
  const steps = Array.from({ length: 100 }, (_, index) => index);
  const values = steps.map((step) => (step === 33 ? -5 : step === 34 ? 5 : 0));
  const thin = thinColumns({ steps, values, times: steps, attempts: steps.map(() => 1) }, 20);
  assert(thin.steps.length <= 20);
  assertEquals([Math.min(...thin.values), Math.max(...thin.values)], [-5, 5]);
});

Deno.test("tokens and time are read from the curves, and back", () => {
  const curves = new Curves();
  const items = [0, 10, 20].map((step) => point(1, step + 1, step, { loss: 1, num_tokens: step * 100 }));
  curves.setOverview({ items, downsampled: true, stream_cursor: "1.21" });
  assertEquals(curves.positionOf(15, "tokens"), 1500);
  assertEquals(curves.stepAt(500, "tokens"), 5);
  assertEquals(curves.positionOf(15, "time"), 15);
  assertEquals([...curves.draw("loss", "tokens").x], [0, 1000, 2000]);
});

Deno.test("the time between two attempts does not count", () => {
  const times = [0, 1000, 2000, 902_000, 903_000];
  const seconds = measureRunningTime({ steps: [1, 2, 3, 4, 5], times, attempts: [1, 1, 1, 2, 2], values: [] });
  assertEquals(seconds, [0, 1, 2, 3, 4]);
});

Deno.test("interpolation holds the ends", () => {
  assertEquals(interpolate([], [], 1), NaN);
  assertEquals([0, 1, 2, 9].map((x) => interpolate([1, 3], [10, 30], x)), [10, 10, 20, 30]);
});

Deno.test("the lowest value and its step are found among finite ones", () => {
  const curves = new Curves();
  const items = [point(1, 1, 1, { validation_loss: NaN }), point(1, 2, 2, { validation_loss: 0.5 })];
  curves.setOverview({ items, downsampled: false, stream_cursor: "1.2" });
  assertEquals(curves.findLowest("validation_loss"), { step: 2, value: 0.5 });
  assertEquals(curves.findLowest("loss"), null);
});
