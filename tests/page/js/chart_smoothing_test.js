import { assert, assertClose, assertEquals } from "./assert.js";
import { clampWeight, smoothValues } from "../../../app/page/static/js/chart/smoothing.js";

Deno.test("the average agrees with one worked by hand", () => {
  // Weight 0.5: sums 0.5, 1.25, 2.625; divided by 1 - 0.5, 1 - 0.25, 1 - 0.125.
  const [first, second, third] = smoothValues([1, 2, 4], 0.5);
  assertClose(first, 1);
  assertClose(second, 5 / 3);
  assertClose(third, 3);
});

Deno.test("equal values stay as they are from the first one on", () => {
  for (const value of smoothValues([3, 3, 3, 3], 0.999)) assertClose(value, 3);
});

Deno.test("the weight 0 changes nothing", () => {
  assertEquals([...smoothValues([1, 5, -2], 0)], [1, 5, -2]);
});

Deno.test("missing values are skipped and stay missing", () => {
  const smoothed = smoothValues([1, NaN, 2, Infinity, 4], 0.5);
  assert(Number.isNaN(smoothed[1]) && Number.isNaN(smoothed[3]));
  assertClose(smoothed[2], 5 / 3);
  assertClose(smoothed[4], 3);
});

Deno.test("the average begins again at each attempt", () => {
  const smoothed = smoothValues([1, 2, 10, 20], 0.5, [2]);
  assertClose(smoothed[2], 10);
  assertClose(smoothed[3], 50 / 3);
});

Deno.test("weights are held between 0 and 0.999", () => {
  assertEquals([-1, NaN, 0.6, 1].map(clampWeight), [0, 0, 0.6, 0.999]);
});
