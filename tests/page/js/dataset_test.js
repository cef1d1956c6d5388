import { ADVICE, countSeverities, severityOf, sortCodes } from "../../../app/page/static/js/pure/dataset_advice.js";
import { lengthBars, namedBars, quantile, turnBars } from "../../../app/page/static/js/pure/dataset_bars.js";
import { EXAMPLES, formatRows, parseColumns, parseRows } from "../../../app/page/static/js/pure/dataset_options.js";
import {
  groupTokens,
  isSpecialText,
  pairAnswers,
  signOf,
  splitAtOmitted,
  splitSpaces,
} from "../../../app/page/static/js/pure/dataset_tokens.js";
import { warnOfTotals } from "../../../app/page/static/js/pure/dataset_warnings.js";
import { assert, assertEquals } from "./assert.js";

/**
 * @param {number} min
 * @param {number} max
 * @param {number} num_rows
 */
const bin = (min, max, num_rows) => ({ min, max, num_rows });
/** @param {...[string, boolean]} texts */
const tokens = (...texts) => texts.map(([text, labelled], id) => ({ id, text, labelled }));

Deno.test("bars of lengths have the empty bins between others", () => {
  const bars = lengthBars([bin(64, 127, 30), bin(256, 511, 60), bin(8192, 16383, 3)]);
  assertEquals(bars.map((bar) => bar.count), [30, 0, 60, 0, 0, 0, 0, 3]);
  assertEquals(bars.map((bar) => bar.share).slice(0, 3), [0.5, 0, 1]);
  assertEquals([bars[0]?.label, bars.at(-1)?.label], ["64–127", "8,192–16.4k"]);
  assertEquals(lengthBars([]), []);
  assertEquals(lengthBars([bin(0, 0, 2), bin(1, 1, 1)]).map((bar) => bar.label), ["0", "1"]);
});

Deno.test("bars of turns are single numbers, then ranges", () => {
  const bars = turnBars([bin(2, 2, 5), bin(4, 4, 1), bin(17, 32, 2), bin(65, 128, 1)]);
  assertEquals(bars.map((bar) => bar.label).slice(0, 3), ["2", "3", "4"]);
  assertEquals(bars.map((bar) => bar.label).slice(-4), ["16", "17–32", "33–64", "65–128"]);
});

Deno.test("a long gap is not filled without end", () => {
  assert(lengthBars([bin(1, 1, 1), bin(2 ** 40, 2 ** 41 - 1, 1)]).length < 20);
});

Deno.test("bars by name are sorted and cut", () => {
  const bars = namedBars({ user: 2, assistant: 4, tool: 2 });
  assertEquals(bars.map(({ label, share }) => [label, share]), [["assistant", 1], ["tool", 0.5], ["user", 0.5]]);
  assertEquals(namedBars({ a: 3 }, { total: 12 })[0]?.share, 0.25);
  assertEquals(namedBars(Object.fromEntries("abcdefgh".split("").map((name) => [name, 1])), { most: 3 }).length, 3);
  assertEquals([quantile([bin(1, 1, 1), bin(2, 3, 8)], 0.5), quantile([], 0.5)], [3, null]);
});

Deno.test("tokens are grouped by whether they are trained", () => {
  const runs = groupTokens(tokens(["<s>", false], ["Hi", false], ["yes", true], ["</s>", true], ["\n", false]));
  assertEquals(runs.map((run) => [run.labelled, run.tokens.map((each) => each.number)]), [
    [false, [0, 1]],
    [true, [2, 3]],
    [false, [4]],
  ]);
  assertEquals(runs[1]?.tokens.map((each) => each.isSpecial), [false, true]);
  assertEquals(groupTokens([]), []);
});

Deno.test("tokens that are left out are in the middle", () => {
  const five = tokens(["a", false], ["b", false], ["c", true], ["d", true], ["e", true]);
  const { head, tail } = splitAtOmitted({ tokens: five, num_omitted_tokens: 100 });
  assertEquals(head.flatMap((run) => run.tokens.map((each) => each.number)), [0, 1, 2]);
  assertEquals(tail.flatMap((run) => run.tokens.map((each) => each.number)), [103, 104]);
  assertEquals(splitAtOmitted({ tokens: five, num_omitted_tokens: 0 }).tail, []);
});

Deno.test("special tokens are told from text", () => {
  const special = [
    "<s>",
    "</s>",
    "<|im_start|>",
    "<|eot_id|>",
    "<start_of_turn>",
    "<｜Assistant｜>",
    "[INST]",
    "[/INST]",
    "<bos>\n",
  ];
  const plain = ["a", "<", "<a href>", "< s >", "[1]", "[a]", "x<s>", "", "<|", "[]"];
  assertEquals(special.filter((text) => !isSpecialText(text)), []);
  assertEquals(plain.filter(isSpecialText), []);
});

Deno.test("white space is shown by signs", () => {
  const pieces = splitSpaces("a  b\t\n\r\nc");
  assertEquals(pieces.map((piece) => piece.kind === "text" ? piece.text : signOf(piece)).join(""), "a··b→↵↵c");
  assertEquals(pieces.map((piece) => piece.text).join(""), "a  b\t\n\r\nc");
  assertEquals(splitSpaces(""), []);
});

Deno.test("the two answers of a pair are together", () => {
  const row = (/** @type {number} */ line, /** @type {any} */ answer) => ({ line, answer });
  const rows = [row(1, "chosen"), row(1, "rejected"), row(2, null), row(3, "rejected"), row(3, "chosen")];
  assertEquals(pairAnswers(rows).map((group) => group.length), [2, 1, 1, 1]);
});

Deno.test("problems are counted by severity", () => {
  assertEquals(countSeverities({ not_json: 2, unused_key: 5, code_of_tomorrow: 1 }), { error: 3, warning: 5 });
  assertEquals(sortCodes({ unused_key: 9, not_json: 1, no_rows: 2 }).map((each) => each.code), [
    "no_rows",
    "not_json",
    "unused_key",
  ]);
  assertEquals(severityOf("duplicate_row"), "warning");
});

Deno.test("advice is short and has sentences", () => {
  for (const [code, advice] of Object.entries(ADVICE)) {
    assert(/^[A-Z].*[^.!]$/.test(advice.title) && advice.title.length <= 50, `${code}: ${advice.title}`);
    assert(/^[A-Z].*\.$/s.test(advice.instead) && advice.instead.length <= 160, `${code}: ${advice.instead}`);
    if (advice.wrong) assert(advice.right, `${code} says what to write instead`);
  }
  for (const { line } of EXAMPLES) JSON.parse(line);
});

Deno.test("column mappings", () => {
  assertEquals(parseColumns("prompt=question, completion = the answer").columns, {
    prompt: "question",
    completion: "the answer",
  });
  assertEquals(parseColumns(" \n ").columns, null);
  for (const wrong of ["prompt", "=a", "prompt=", "qwerty=a", "prompt=a,prompt=b", "prompt=a,completion=a"]) {
    const { columns, problem } = parseColumns(wrong);
    assert(columns === null && /\.$/.test(problem), `${wrong}: ${problem}`);
  }
  assertEquals(parseColumns("prompt=a=b").columns, { prompt: "a=b" });
});

Deno.test("rows to show are a number or lines", () => {
  /** @type {[string, number | number[]][]} */
  const cases = [["5", 5], ["", 5], ["line 17", [17]], ["17,", [17]], ["17, 20-22", [17, 20, 21, 22]], ["lines 3 4", [
    3,
    4,
  ]]];
  for (const [text, rows] of cases) assertEquals(parseRows(text), { rows, problem: "" }, text);
  for (const wrong of ["0", "21", "a", "3-1", "1-99", "0,1"]) assert(parseRows(wrong).problem, wrong);
  for (const rows of [5, [17], [3, 4]]) assertEquals(parseRows(formatRows(rows)).rows, rows);
  assertEquals(formatRows(undefined), "5");
});

const TOTALS = {
  chat_template: null,
  max_seq_len: 512,
  train_on: /** @type {const} */ ("assistant"),
  num_rows: 100,
  num_validation_rows: 0,
  num_dropped_rows: 0,
  skipped_rows: {},
  num_truncated_rows: 0,
  num_tokens: 1000,
  num_labelled_tokens: 400,
  num_template_mismatch_rows: 0,
  num_answers_without_end_token: 0,
  num_literal_special_tokens: 0,
  num_reasoning_turns: 0,
  num_unrendered_reasoning: 0,
  num_unrendered_names: 0,
  steps_per_epoch: 13,
  micro_batches_per_step: 1,
  max_micro_batches_per_step: 1,
  num_packed_tokens: 1000,
  num_padded_tokens: 2000,
  padding_saved_share: 0.5,
  device_plan: { worker: "w", device: /** @type {const} */ ("cpu"), device_name: null, micro_batch_tokens: 512 },
  predicted_failure: null,
  missing_lines: [],
};

Deno.test("totals without a fault have no warning", () => {
  assertEquals(warnOfTotals(TOTALS), []);
});

Deno.test("totals warn of each fault", () => {
  const found = warnOfTotals({
    ...TOTALS,
    num_dropped_rows: 1,
    num_truncated_rows: 2,
    skipped_rows: { not_json: 3 },
    num_labelled_tokens: 1,
    num_template_mismatch_rows: 1,
    num_answers_without_end_token: 1,
    num_literal_special_tokens: 1,
    num_unrendered_reasoning: 1,
    num_unrendered_names: 1,
    missing_lines: [1200],
  });
  assertEquals(found.length, 10);
  assertEquals(found[0]?.title, "1 row has nothing to learn from and is left out");
  for (const { title, advice } of found) assert(title && /\.$|not_json$/.test(advice), advice);
});
