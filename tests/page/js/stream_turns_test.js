import { MOST_STREAMS, StreamTurns } from "../../../app/page/static/js/stream_turns.js";
import { assert, assertEquals } from "./assert.js";

/** Holds tabs that hear each other, and how often each gave up its stream. */
class Tabs {
  time = 0;
  /** @type {Map<string, {turns: StreamTurns, isOpen: boolean, hasGivenUp: number}>} */
  tabs = new Map();
  /** @type {string[]} */
  resting = [];

  /** @param {string} name */
  add(name) {
    const tell = (/** @type {any} */ turn) => {
      for (const [other, { turns }] of this.tabs) if (other !== name) turns.hear(turn);
    };
    const giveUp = () => {
      tab.isOpen = false;
      tab.hasGivenUp++;
      this.resting.push(name);
    };
    const tab = { turns: new StreamTurns(name, tell, giveUp, () => this.time), isOpen: false, hasGivenUp: 0 };
    this.tabs.set(name, tab);
    return tab;
  }

  /** @param {string} name */
  open(name) {
    this.time++;
    const tab = this.tabs.get(name) ?? this.add(name);
    tab.isOpen = true;
    tab.turns.open();
  }

  get openNames() {
    return [...this.tabs].filter(([, { isOpen }]) => isOpen).map(([name]) => name);
  }
}

Deno.test("up to four tabs keep their streams", () => {
  const tabs = new Tabs();
  for (const name of ["a", "b", "c", "d"]) tabs.open(name);
  assertEquals(tabs.openNames.length, MOST_STREAMS);
});

Deno.test("one more takes the stream of the tab that has had it longest", () => {
  const tabs = new Tabs();
  for (const name of ["a", "b", "c", "d", "e"]) tabs.open(name);
  assertEquals(tabs.openNames, ["b", "c", "d", "e"]);
  tabs.open("a");
  assertEquals(tabs.openNames, ["a", "c", "d", "e"]);
});

Deno.test("seven tabs all have turns", () => {
  const tabs = new Tabs();
  const names = ["a", "b", "c", "d", "e", "f", "g"];
  for (const name of names) tabs.open(name);
  for (let round = 0; round < 20; round++) {
    tabs.open(/** @type {string} */ (tabs.resting.shift()));
    assertEquals(tabs.openNames.length, MOST_STREAMS);
  }
  for (const [name, { hasGivenUp }] of tabs.tabs) assert(hasGivenUp >= 2, `${name} had only ${hasGivenUp} turns`);
});

Deno.test("a tab that closes or falls silent is not counted", () => {
  const tabs = new Tabs();
  for (const name of ["a", "b", "c", "d"]) tabs.open(name);
  tabs.tabs.get("d")?.turns.close();
  /** @type {any} */ (tabs.tabs.get("d")).isOpen = false;
  tabs.open("e");
  assertEquals(tabs.openNames, ["a", "b", "c", "e"]);

  tabs.tabs.delete("b");
  for (let beat = 0; beat < 4; beat++) {
    tabs.time += 4_000;
    for (const { turns } of tabs.tabs.values()) turns.beat();
  }
  tabs.open("f");
  assertEquals(tabs.openNames, ["a", "c", "e", "f"]);
});
