import { appendPoint, drawSparkline, MOST_POINTS, pointsOf } from "../../../app/page/static/js/pure/jobs_sparkline.js";
import { assert, assertEquals } from "./assert.js";

/** @param {number} step */
const point = (step, value = 1) => ({ step, value });

Deno.test("Points without a finite value of the metric are left out", () => {
  const items = /** @type {any[]} */ ([
    { step: 1, values: { loss: 2 } },
    { step: 2, values: { validation_loss: 3 } },
    { step: 3, values: { loss: "NaN" } },
  ]);
  assertEquals(pointsOf(items, "loss"), [point(1, 2)]);
});

Deno.test("A step that is measured again replaces what followed it", () => {
  const points = [point(1), point(2), point(3), point(4)];
  assertEquals(appendPoint(points, point(3, 9)), [point(1), point(2), point(3, 9)]);
  assert(appendPoint(points, point(4)) === points);
});

Deno.test("A long curve keeps its first and last point", () => {
  /** @type {{step: number, value: number}[]} */
  let points = [];
  for (let step = 1; step <= 5000; step++) points = appendPoint(points, point(step));
  assert(points.length <= MOST_POINTS);
  assertEquals([points[0]?.step, points.at(-1)?.step], [1, 5000]);
});

Deno.test("A curve fills its box, and one point draws nothing", () => {
  const drawn = drawSparkline([point(0, 2), point(10, 1)], 100, 30);
  assertEquals(drawn?.end, [98, 28]);
  assert(drawn?.path.startsWith("M2 2L"));
  assertEquals(drawSparkline([point(1)], 100, 30), null);
  assert(drawSparkline([point(1, 5), point(2, 5)], 100, 30));
});
