import { assertEquals } from "./assert.js";
import { groupMarks, nameMark } from "../../../app/page/static/js/chart/parts/marks.js";
import { Scale } from "../../../app/page/static/js/chart/scale.js";

/** A view of which only the x axis matters: a pixel a step. */
const VIEW = /** @type {any} */ ({ x: new Scale("linear", { min: 0, max: 500 }, 0, 500) });

/**
 * @param {string} kind
 * @param {number} x
 */
function makeMark(kind, x) {
  return { id: `${kind}-${x}`, x, kind, label: `${kind} at step ${x}` };
}

Deno.test("marks too near for two buttons share one, and the rarest is shown at its place", () => {
  const marks = [makeMark("checkpoint", 100), makeMark("best", 110), makeMark("checkpoint", 200)];
  const groups = groupMarks(marks, VIEW);
  assertEquals(groups.map(({ px, mark, marks }) => [px, mark.kind, marks.length]), [[110, "best", 2], [
    200,
    "checkpoint",
    1,
  ]]);
});

Deno.test("buttons are at least 24 pixels apart, and no mark is lost", () => {
  const marks = Array.from({ length: 100 }, (_, i) => makeMark(i % 7 === 0 ? "resumed" : "checkpoint", i * 5));
  const groups = groupMarks(marks, VIEW);
  groups.slice(1).forEach(({ px }, i) => assertEquals(px - groups[i].px >= 24, true));
  assertEquals(groups.reduce((count, group) => count + group.marks.length, 0), 100);
});

Deno.test("marks out of view are left out", () => {
  assertEquals(groupMarks([makeMark("best", -1), makeMark("best", 501)], VIEW), []);
});

Deno.test("rare marks have a name, checkpoints only a glyph", () => {
  assertEquals(["best", "checkpoint", "other"].map((kind) => nameMark(makeMark(kind, 1))), ["Best", "", ""]);
  assertEquals(nameMark({ ...makeMark("other", 1), short: "Moved" }), "Moved");
});
