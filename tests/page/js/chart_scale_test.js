import { assert, assertClose, assertEquals } from "./assert.js";
import {
  findLinearTicks,
  findLogTicks,
  findLowerBound,
  findNearest,
  findNiceStep,
  findRobustRange,
  findTimeTicks,
  padRange,
  Scale,
} from "../../../app/page/static/js/chart/scale.js";

Deno.test("a linear scale maps both ends and back", () => {
  const scale = new Scale("linear", { min: 10, max: 20 }, 100, 0);
  assertEquals([scale.px(10), scale.px(15), scale.px(20)], [100, 50, 0]);
  assertClose(scale.value(25), 17.5);
});

Deno.test("a logarithmic scale gives each factor the same length", () => {
  const scale = new Scale("log", { min: 0.01, max: 100 }, 0, 400);
  assertClose(scale.px(0.1), 100);
  assertClose(scale.px(1), 200);
  assertClose(scale.value(300), 10);
});

Deno.test("a scale without a width maps all to its start", () => {
  const scale = new Scale("linear", { min: 3, max: 3 }, 5, 100);
  assertEquals([scale.px(3), scale.value(50)], [5, 3]);
});

Deno.test("steps are 1, 2 or 5 times a power of ten", () => {
  assertEquals([[100, 10], [100, 7], [100, 3], [100, 2], [0.03, 4]].map(([span, n]) => findNiceStep(span, n)), [
    10,
    20,
    50,
    50,
    0.01,
  ]);
  assertEquals(findNiceStep(3, 10, 1), 1);
});

Deno.test("linear ticks carry no floating-point noise", () => {
  assertEquals(findLinearTicks({ min: 0.05, max: 0.41 }, 4).major, [0.1, 0.2, 0.3, 0.4]);
  assertEquals(findLinearTicks({ min: -1, max: 1 }, 4).major, [-1, -0.5, 0, 0.5, 1]);
  assertEquals(findLinearTicks({ min: 0, max: 2.1e-4 }, 3).major, [0, 1e-4, 2e-4]);
  assertEquals(findLinearTicks({ min: 7, max: 7 }, 4).major, [7]);
});

Deno.test("steps have no ticks between integers", () => {
  assertEquals(findLinearTicks({ min: 1, max: 4 }, 10, 1).major, [1, 2, 3, 4]);
});

Deno.test("many decades have ticks at powers of ten, and lines between", () => {
  const { major, minor } = findLogTicks({ min: 0.01, max: 100 }, 5);
  assertEquals(major, [0.01, 0.1, 1, 10, 100]);
  assert(minor.includes(0.05) && minor.includes(90) && !minor.includes(10));
});

Deno.test("few decades have more ticks in each", () => {
  assertEquals(findLogTicks({ min: 0.9, max: 12 }, 5).major, [1, 2, 5, 10]);
});

Deno.test("a narrow logarithmic range has linear ticks", () => {
  assertEquals(findLogTicks({ min: 1, max: 2 }, 5).major, [1, 1.2, 1.4, 1.6, 1.8, 2]);
});

Deno.test("very many decades are thinned evenly", () => {
  const { major } = findLogTicks({ min: 1e-12, max: 1 }, 5);
  assertEquals(major, [1e-12, 1e-9, 1e-6, 1e-3, 1]);
});

Deno.test("time ticks lie at whole minutes and hours", () => {
  assertEquals(findTimeTicks({ min: 0, max: 260 }, 5).major, [0, 60, 120, 180, 240]);
  assertEquals(findTimeTicks({ min: 100, max: 12000 }, 4).major, [3600, 7200, 10800]);
  assertEquals(findTimeTicks({ min: 0, max: 864000 }, 5).major, [0, 172800, 345600, 518400, 691200, 864000]);
});

Deno.test("the robust range leaves out one percent at each end", () => {
  const values = Float64Array.from({ length: 101 }, (_, i) => 100 - i);
  assertEquals(findRobustRange(values), { min: 1, max: 99 });
  assertEquals(findRobustRange(new Float64Array(0)), null);
});

Deno.test("a margin keeps values that are not negative above zero", () => {
  assertEquals(padRange({ min: 0.1, max: 10 }, "linear"), { min: 0, max: 10 + 9.9 * 0.06 });
  assertEquals(padRange({ min: 5, max: 5 }, "linear"), { min: 4.5, max: 5.5 });
  assertEquals(padRange({ min: 0, max: 0 }, "linear"), { min: 0, max: 1 });
  assertEquals(padRange({ min: 2, max: 2 }, "log"), { min: 1, max: 4 });
});

Deno.test("the nearest point is found, also at the ends", () => {
  const x = Float64Array.from([1, 5, 10, 20]);
  assertEquals([-3, 2, 3, 4, 16, 99].map((target) => findNearest(x, target)), [0, 0, 0, 1, 3, 3]);
  assertEquals(findNearest(x, 1, 2, 4), 2);
  assertEquals(findNearest(x, 1, 2, 2), -1);
  assertEquals([0, 5, 6, 21].map((target) => findLowerBound(x, target)), [0, 1, 2, 4]);
});
