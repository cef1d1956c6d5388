import { computed, effect, flush, onEnd, scope, signal, untracked } from "../../../app/page/static/js/signals.js";
import { assertEquals } from "./assert.js";

Deno.test("an effect runs at once and again after a change, once for several changes", () => {
  const first = signal(1);
  const second = signal(10);
  /** @type {number[]} */
  const seen = [];
  const end = effect(() => void seen.push(first.value + second.value));
  first.value = 2;
  second.value = 20;
  flush();
  first.value = 2;
  flush();
  end();
  first.value = 3;
  flush();
  assertEquals(seen, [11, 22]);
});

Deno.test("an effect follows only what its last run read", () => {
  const isOn = signal(true);
  const inner = signal("a");
  /** @type {string[]} */
  const seen = [];
  effect(() => void seen.push(isOn.value ? inner.value : "off"));
  isOn.value = false;
  flush();
  inner.value = "b";
  flush();
  assertEquals(seen, ["a", "off"]);
});

Deno.test("effects inside an effect end before its next run", () => {
  const outer = signal(0);
  const inner = signal(0);
  let runs = 0;
  effect(() => {
    outer.value;
    effect(() => {
      inner.value;
      runs++;
    });
  });
  outer.value = 1;
  flush();
  inner.value = 1;
  flush();
  assertEquals(runs, 3);
});

Deno.test("a computed value follows its sources", () => {
  const count = signal(2);
  const double = computed(() => count.value * 2);
  /** @type {number[]} */
  const seen = [];
  effect(() => void seen.push(double.value));
  count.value = 5;
  flush();
  assertEquals(seen, [4, 10]);
});

Deno.test("a scope ends its effects and cleanups in reverse order", () => {
  const value = signal(0);
  /** @type {string[]} */
  const seen = [];
  const made = scope(() => {
    onEnd(() => seen.push("first cleanup"));
    effect(() => {
      seen.push(`run ${value.value}`);
      return () => seen.push("cleanup of the effect");
    });
    return "made";
  });
  assertEquals(made.value, "made");
  made.end();
  value.value = 1;
  flush();
  assertEquals(seen, ["run 0", "cleanup of the effect", "first cleanup"]);
});

Deno.test("what is read untracked does not run the effect again", () => {
  const value = signal(0);
  let runs = 0;
  effect(() => {
    untracked(() => value.value);
    runs++;
  });
  value.value = 1;
  flush();
  assertEquals(runs, 1);
});
