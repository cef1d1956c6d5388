import { splitOptions, writeCommand } from "../../../app/page/static/js/pure/call_cli.js";
import { writeCurl } from "../../../app/page/static/js/pure/call_curl.js";
import { translate } from "../../../app/page/static/js/pure/call_openai.js";
import { quoteForShell, writeJson, writePython } from "../../../app/page/static/js/pure/call_text.js";
import { assertEquals } from "./assert.js";

Deno.test("words are quoted for a shell where it is needed", () => {
  const cases = [["a-b_c.d/e:8", "a-b_c.d/e:8"], ["", "''"], ["a b", "'a b'"], ["$HOME", "'$HOME'"], [
    "it's",
    "'it'\\''s'",
  ], ["~", "'~'"]];
  for (const [text, quoted] of cases) assertEquals(quoteForShell(text), quoted);
});

Deno.test("short objects stand on one line, long ones on several", () => {
  assertEquals(writeJson({ a: [1, 2], b: null }), '{"a": [1, 2], "b": null}');
  const long = { first: "x".repeat(40), second: "y".repeat(40) };
  assertEquals(JSON.parse(writeJson(long)), long);
  assertEquals(writeJson(long).split("\n").length, 4);
});

Deno.test("Python has its own constants", () => {
  assertEquals(writePython({ a: true, b: false, c: null, d: 2e-4 }), '{"a": True, "b": False, "c": None, "d": 2e-4}');
});

Deno.test("a quote in a request does not end curl's argument", () => {
  assertEquals(writeCurl("http://a", { name: "it's" }).endsWith(`-d '{"name": "it'\\''s"}'`), true);
});

Deno.test("what no option can say goes into a spec", () => {
  const request = { base_model: "m", adapter: { rank: 8, use_dora: true }, metadata: { "a=b": "c" } };
  assertEquals(splitOptions(request), {
    words: ["--model m", "--rank 8"],
    rest: { adapter: { use_dora: true }, metadata: { "a=b": "c" } },
  });
  assertEquals(writeCommand("http://a", request).includes("--spec /dev/stdin <<'JSON'\n"), true);
  assertEquals(splitOptions({ name: "-x" }).words, ["--name=-x"]);
});

Deno.test("OpenAI's names are used where they exist, and its automatic values are replaced", () => {
  const { body, extra } = translate({
    base_model: "m",
    dataset_id: "file-1",
    method: "lora",
    training: { epochs: 2, learning_rate: 1e-3, warmup_ratio: 0.1 },
  });
  assertEquals(body, {
    model: "m",
    training_file: "file-1",
    method: {
      type: "supervised",
      supervised: { hyperparameters: { n_epochs: 2, batch_size: 8, learning_rate_multiplier: 5 } },
    },
    seed: 0,
  });
  assertEquals(extra, { method: "lora", training: { warmup_ratio: 0.1 } });
});
