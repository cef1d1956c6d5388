import { shareEqual } from "../../../app/page/static/js/pure/share.js";
import { assertEquals } from "./assert.js";

Deno.test("what is equal is kept, what differs is new", () => {
  const present = { items: [{ id: "a", tags: ["x"] }, { id: "b", tags: [] }], more: null };
  const next = { items: [{ id: "c", tags: [] }, { id: "a", tags: ["x"] }, { id: "b", tags: ["y"] }], more: null };
  const shared = shareEqual(present, next);
  assertEquals(shared, next);
  assertEquals([Object.is(shared.items[1], present.items[0]), Object.is(shared.items[2], present.items[1])], [
    true,
    false,
  ]);
});

Deno.test("equal data is the same data", () => {
  const present = { a: [1, { b: null }] };
  assertEquals(Object.is(shareEqual(present, { a: [1, { b: null }] }), present), true);
  assertEquals(Object.is(shareEqual(present, { a: [1, { b: null }], c: 1 }), present), false);
  assertEquals(shareEqual(null, { a: 1 }), { a: 1 });
});
