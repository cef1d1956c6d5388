import { actionsFor, secondsLeft } from "../../../app/page/static/js/pure/job_actions.js";
import { planCharts } from "../../../app/page/static/js/pure/job_charts.js";
import { explainEmpty, filterEvents } from "../../../app/page/static/js/pure/job_events.js";
import { explainFailure } from "../../../app/page/static/js/pure/job_failures.js";
import { findInLog, formatLines, mergeTail, parseLines, splitLog } from "../../../app/page/static/js/pure/job_log.js";
import { listMarks } from "../../../app/page/static/js/pure/job_marks.js";
import { joinShortSpans, listPhases } from "../../../app/page/static/js/pure/job_phases.js";
import { compareSpec, hideEmptyFields, shortenSpec, writeCall } from "../../../app/page/static/js/pure/job_spec.js";
import { assert, assertEquals } from "./assert.js";

const START = Date.parse("2026-01-05T10:00:00Z");

/**
 * @param {number} second
 * @param {string} type
 * @param {Record<string, any>} [data]
 * @param {string} [level]
 */
function event(second, type, data = {}, level = "info") {
  const created_at = new Date(START + second * 1000).toISOString();
  return { number: second + 1, type, level, message: `${type}.`, data, created_at };
}

const LOST = [
  event(0, "job_created"),
  event(10, "job_claimed", { attempt: 1, worker: "w-1" }),
  event(11, "phase_changed", { phase: "preparing" }),
  event(30, "phase_changed", { phase: "training" }),
  event(90, "checkpoint_saved", { step: 50 }),
  event(100, "checkpoint_saved", { step: 60 }),
  event(130, "attempt_lost", { attempt: 1 }, "warn"),
  event(150, "job_claimed", { attempt: 2, worker: "w-2" }),
  event(160, "job_resumed", { attempt: 2, step: 50 }),
  event(160, "phase_changed", { phase: "training" }),
  event(200, "pause_requested"),
  event(205, "job_paused"),
];

Deno.test("a timeline has the phases of each attempt and the time between them", () => {
  const { spans, attempts } = listPhases(LOST, START + 300_000);
  assertEquals(spans.map(({ phase, from, to }) => [phase, (to - from) / 1000]), [
    ["queued", 10],
    ["preparing", 20],
    ["training", 100],
    ["queued", 20],
    ["preparing", 10],
    ["training", 40],
    ["stopping", 5],
    ["paused", 95],
  ]);
  assertEquals(attempts.map(({ outcome, waitedSeconds, resumedFrom }) => [outcome, waitedSeconds, resumedFrom]), [
    ["lost", 10, null],
    ["paused", 20, 50],
  ]);
  assertEquals(attempts[1].seconds, { preparing: 10, training: 40, stopping: 5 });
});

Deno.test("short phases are joined with their neighbours, and attempts stay apart", () => {
  const events = [event(0, "job_claimed", { attempt: 1, worker: "w" })];
  for (let i = 0; i < 500; i++) {
    events.push(event(10 + i * 20, "phase_changed", { phase: "training" }));
    events.push(event(29 + i * 20, "phase_changed", { phase: "evaluating" }));
  }
  const { spans } = listPhases(events, START + 10_100_000);
  assert(spans.length > 900);
  assert(joinShortSpans(spans, 0.004).length < 5);
});

Deno.test("marks after the step of a resume are left out", () => {
  const marks = listMarks(LOST, { step: 40, value: 0.512345 }, 70);
  assertEquals(marks.map(({ kind, step }) => [kind, step]), [["best", 40], ["checkpoint", 50], ["resumed", 50]]);
});

Deno.test("events are filtered by level and text, and an empty list says why", () => {
  assertEquals(filterEvents(LOST, { level: "warn", text: "" }).length, 1);
  assertEquals(filterEvents(LOST, { level: "all", text: " CHECKPOINT" }).length, 2);
  assertEquals(filterEvents(LOST, { level: "all", text: "" }), LOST);
  assertEquals(explainEmpty(0, { level: "all", text: "" }), "This job has no events yet.");
  assert(explainEmpty(5, { level: "warn", text: "x" }).includes("“x”"));
});

Deno.test("charts show the losses first, the rewards first for dpo, and the rest apart", () => {
  const names = ["epoch", "loss", "validation_loss", "learning_rate", "peak_memory_bytes", "reward_margin", "odd_one"];
  const sft = planCharts(names, "sft");
  assertEquals(sft.main.map(({ id }) => id), ["loss", "margin", "learning_rate", "memory"]);
  assertEquals(sft.main[0].series.map(({ name, kind }) => [name, kind]), [
    ["loss", "line"],
    ["validation_loss", "points"],
  ]);
  assertEquals(sft.others.map(({ title }) => title), ["Epoch", "Odd one"]);
  assertEquals(planCharts(names, "dpo").main[0].id, "margin");
});

Deno.test("actions depend on the state", () => {
  assertEquals(actionsFor("running"), ["pause", "cancel"]);
  assertEquals(actionsFor("cancelling"), []);
  assertEquals(actionsFor("failed"), ["retry", "delete"]);
  const job = /** @type {const} */ ({ state: "running", estimated_finish_at: new Date(START + 5000).toISOString() });
  assertEquals(secondsLeft(job, START), 5);
  assertEquals(secondsLeft({ ...job, state: "paused" }, START), null);
});

Deno.test("a failure reason is explained, an unknown one is not", () => {
  assertEquals(explainFailure("out_of_memory")?.title, "Out of memory");
  assertEquals(explainFailure("new_reason"), null);
});

Deno.test("a log has no colours and no overwritten progress", () => {
  assertEquals(splitLog("\x1b[31mred\x1b[0m\r\n10%\r50%\r100%\nend\n"), ["red", "100%", "end"]);
  assertEquals(splitLog(""), []);
});

Deno.test("newer ends of a log are joined with the known lines", () => {
  const known = ["a", "b", "c", "d"];
  assertEquals(mergeTail(known, ["a", "b", "c", "d", "e"]), { lines: ["a", "b", "c", "d", "e"], kept: 4 });
  assertEquals(mergeTail(known, ["t of b", "c", "d", "e"]).lines, ["a", "b", "c", "d", "e"]);
  assertEquals(mergeTail(known, ["t of b", "c", "d", "e"]).kept, 4);
  assertEquals(mergeTail(known, ["a", "b", "c", "d and more"]), { lines: ["a", "b", "c", "d and more"], kept: 3 });
  assertEquals(mergeTail(known, ["x", "y"]), { lines: ["x", "y"], kept: 0 });
  assertEquals(mergeTail([], ["x"]), { lines: ["x"], kept: 0 });
});

Deno.test("lines of a log have addresses", () => {
  assertEquals(parseLines("#L12"), { from: 12, to: 12 });
  assertEquals(parseLines("#L20-L12"), { from: 12, to: 20 });
  assertEquals(parseLines("#main"), null);
  assertEquals(formatLines({ from: 3, to: 3 }), "#L3");
  assertEquals(formatLines({ from: 3, to: 7 }), "#L3-L7");
});

Deno.test("a log is searched in any case", () => {
  assertEquals(findInLog(["Step 1, step 2", "no"], "STEP"), [{ line: 0, at: 0 }, { line: 0, at: 8 }]);
  assertEquals(findInLog(["a"], ""), []);
});

const SPEC = /** @type {any} */ ({
  base_model: "qwen3-4b",
  dataset_id: "file-1",
  dpo: null,
  metadata: {},
  name: "it's",
  training: { epochs: 2, max_steps: null, max_seq_len: "auto", learning_rate: 0.0002 },
  adapter: { rank: 16, alpha: "auto", use_dora: false },
});

Deno.test("a spec is set beside what was decided", () => {
  const resolved = {
    attempt: 2,
    resources: {},
    training: { max_seq_len: 2048, learning_rate: 0.0002 },
    adapter: { alpha: 32 },
    quantization: null,
    engine: { fast_paths: ["loss", "norm"] },
  };
  const groups = compareSpec(SPEC, resolved);
  assertEquals(groups.map(({ title }) => title), ["Job", "Training", "Adapter", "Engine"]);
  const rows = groups.flatMap((group) => group.rows);
  assertEquals(rows.filter(({ differs }) => differs).map(({ field }) => field), [
    "training.max_seq_len",
    "adapter.alpha",
  ]);
  assertEquals(hideEmptyFields(groups).numHidden, 3);
});

Deno.test("the same job is written as a call", () => {
  assertEquals(shortenSpec(SPEC).training, { epochs: 2, max_seq_len: "auto", learning_rate: 0.0002 });
  assertEquals(JSON.parse(writeCall("json", SPEC, "http://h")), shortenSpec(SPEC));
  for (const language of /** @type {const} */ (["curl", "python", "cli"])) {
    assert(writeCall(language, SPEC, "http://h").includes("qwen3-4b"), language);
  }
});
