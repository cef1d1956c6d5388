import { pickStyle } from "../../../app/page/static/js/chart/colors.js";
import { listShared, planMetric } from "../../../app/page/static/js/pure/compare_metrics.js";
import {
  describeDifference,
  findBest,
  findBestPlaces,
  findMedian,
  measureDuration,
} from "../../../app/page/static/js/pure/compare_results.js";
import { compareSpecs, flattenSpec, labelField } from "../../../app/page/static/js/pure/compare_specs.js";
import { addJob, readComparison, writeComparison } from "../../../app/page/static/js/pure/compare_url.js";
import { assert, assertEquals } from "./assert.js";
import { linkTo } from "./linking.js";

/** @param {string} text */
const read = (text) => readComparison(new URLSearchParams(text));

Deno.test("A comparison survives its way through the address", () => {
  const text =
    "job=b&job=a&baseline=a&metric=grad_norm&metric=learning_rate&x=tokens&y=log&outliers=hide&smoothing=0.9&range=100-250.5&fields=all";
  const comparison = read(text);
  assertEquals(linkTo(writeComparison(comparison)), text);
  assertEquals(comparison.ids, ["b", "a"]);
  assertEquals(comparison.zoom, { from: 100, to: 250.5 });
});

Deno.test("The usual view leaves only the jobs in the address", () => {
  assertEquals(linkTo(writeComparison(read("job=a&x=nonsense&smoothing=&baseline=c&range=9-3"))), "job=a");
  assertEquals(read("smoothing=0").smoothing, 0);
  assertEquals(read("smoothing=7").smoothing, 0.99);
});

Deno.test("At most eight jobs are compared, each once", () => {
  assertEquals(read(Array.from({ length: 12 }, (_, index) => `job=${index >> 1}`).join("&")).ids.length, 6);
  const ids = Array.from({ length: 8 }, (_, index) => String(index));
  assertEquals(read([...ids, "x"].map((id) => `job=${id}`).join("&")).ids, ids);
  assertEquals(addJob(ids, "x"), ids);
  assertEquals(addJob(["a"], "b"), ["a", "b"]);
  assertEquals(addJob(["a"], "a"), ["a"]);
});

Deno.test("Eight jobs have eight colours and eight dash patterns", () => {
  const styles = Array.from({ length: 8 }, (_, place) => pickStyle(place));
  assertEquals(new Set(styles.map((style) => style.color)).size, 8);
  assertEquals(new Set(styles.map((style) => style.dash)).size, 8);
});

Deno.test("Nested fields of a spec are flattened, without empty ones and names", () => {
  const spec = { name: "x", base_model: "m", dpo: null, training: { epochs: 2, early_stopping: { patience: 3 } } };
  assertEquals([...flattenSpec(spec)], [["base_model", "m"], ["training.epochs", "2"], [
    "training.early_stopping.patience",
    "3",
  ]]);
});

Deno.test("Fields that differ come first; a field that one job lacks differs", () => {
  const rows = compareSpecs([
    { spec: { method: "lora", adapter: { rank: 8 }, training: { batch_size: 8 } }, resolved: [] },
    { spec: { method: "full", adapter: null, training: { batch_size: 8 } }, resolved: [] },
  ]);
  assertEquals(rows.map((row) => [row.field, row.differs, row.values]), [
    ["method", true, ["lora", "full"]],
    ["adapter.rank", true, ["8", ""]],
    ["training.batch_size", false, ["8", "8"]],
  ]);
});

Deno.test("A field that only a later job has stands beside its neighbour", () => {
  const rows = compareSpecs([
    { spec: { method: "lora", training: { epochs: 1, seed: 1 } }, resolved: [] },
    { spec: { method: "full", training: { epochs: 2, eval_every: 5, seed: 2 } }, resolved: [] },
  ]);
  assertEquals(rows.map((row) => row.field), ["method", "training.epochs", "training.eval_every", "training.seed"]);
});

Deno.test("What was decided for auto stands beside it, and counts", () => {
  /** @param {number} rate */
  const job = (rate) => ({
    spec: { training: { learning_rate: "auto" } },
    resolved: [{ training: { learning_rate: 1 } }, { training: { learning_rate: rate } }],
  });
  const [row] = compareSpecs([job(0.0002), job(0.0001)]);
  assertEquals(row?.values, ["auto (2e−4)", "auto (1e−4)"]);
  assertEquals(row?.differs, true);
});

Deno.test("Fields are named in plain words", () => {
  assertEquals(labelField("training.learning_rate"), "Learning rate");
  assertEquals(labelField("adapter.rank"), "LoRA rank");
  assertEquals(labelField("quantization.double_quant"), "Quantization double quant");
  assertEquals(labelField("max_retries"), "Max retries");
});

Deno.test("The best value is the lowest finite one, where it was first reached", () => {
  assertEquals(findBest([10, 20, 30, 40], [2, NaN, 1, 1]), { step: 30, value: 1 });
  assertEquals(findBest([10], [Infinity]), null);
  assertEquals(findBest([], []), null);
});

Deno.test("The best places need two values to compare", () => {
  assertEquals([...findBestPlaces([2, 1, null, 1], true)], [1, 3]);
  assertEquals([...findBestPlaces([2, 1, 3], false)], [2]);
  assertEquals([...findBestPlaces([2, null], true)], []);
  assertEquals([...findBestPlaces([2, 1], null)], []);
});

Deno.test("Differences from the baseline are short", () => {
  assertEquals(describeDifference(0.97, 1), "−3.0%");
  assertEquals(describeDifference(1.5, 1), "+50%");
  assertEquals(describeDifference(1, 1), "±0%");
  assertEquals(describeDifference(24, 1), "×24");
  assertEquals(describeDifference(null, 1), "");
  assertEquals(describeDifference(1, 0), "");
});

Deno.test("The median and the duration", () => {
  assertEquals(findMedian([3, 1, NaN, 2]), 2);
  assertEquals(findMedian([4, 1, 2, 3]), 2.5);
  assertEquals(findMedian([]), null);
  assertEquals(measureDuration({ started_at: "2026-01-01T00:00:00Z", finished_at: "2026-01-01T00:01:00Z" }, 0), 60);
  assertEquals(measureDuration({ started_at: null, finished_at: null }, 0), null);
});

Deno.test("Metrics that at least two jobs share can be compared, losses first", () => {
  assertEquals(
    listShared([["epoch", "grad_norm", "loss", "num_tokens"], ["loss", "validation_loss", "grad_norm"], [
      "reward_margin",
    ]]),
    ["loss", "validation_loss", "grad_norm"],
  );
  assertEquals(listShared([["loss", "learning_rate"]]), ["loss", "learning_rate"]);
  assertEquals(listShared([["loss", "learning_rate"], []]), ["loss", "learning_rate"]);
});

Deno.test("Evaluations are points without smoothing, bytes are shown as GB", () => {
  const validation = planMetric("validation_loss");
  assert(validation.isSparse && !validation.isSmoothed);
  assertEquals([planMetric("peak_memory_bytes").unit, planMetric("peak_memory_bytes").divisor], ["GB", 1e9]);
});
