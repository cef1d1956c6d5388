/** Reads the fields of the forms for datasets: column mappings, rows to show, expiry. */

export const FORMATS = ["messages", "prompt_completion", "alpaca", "sharegpt", "text", "preference"];

/** One line of each format, to start from. */
export const EXAMPLES = [
  {
    format: "messages",
    use: "Conversations, as OpenAI writes them",
    line:
      `{"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi, how can I help?"}]}`,
  },
  {
    format: "prompt_completion",
    use: "A text and how it continues",
    line: `{"prompt": "Translate to French: good morning\\n", "completion": "bonjour"}`,
  },
  {
    format: "alpaca",
    use: "Instructions, with or without an input",
    line: `{"instruction": "Name the capital.", "input": "Norway", "output": "Oslo"}`,
  },
  {
    format: "sharegpt",
    use: "Conversations from human and gpt",
    line: `{"conversations": [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hi, how can I help?"}]}`,
  },
  { format: "text", use: "Plain documents", line: `{"text": "The whole document. It is learned from start to end."}` },
  {
    format: "preference",
    use: "Two answers, the better one first, for dpo",
    line: `{"prompt": "Is it late?", "chosen": "Yes, it is past ten.", "rejected": "no"}`,
  },
];

/** Fields that a column can be mapped to. */
export const TARGETS = [
  "prompt",
  "completion",
  "messages",
  "instruction",
  "input",
  "output",
  "system",
  "history",
  "conversations",
  "text",
  "tools",
  "chosen",
  "rejected",
  "preferred_output",
  "non_preferred_output",
];

/** @type {readonly {label: string, seconds: number | null}[]} */
export const EXPIRIES = [
  { label: "The server's default", seconds: null },
  { label: "After a day", seconds: 86_400 },
  { label: "After a week", seconds: 7 * 86_400 },
  { label: "After 30 days", seconds: 30 * 86_400 },
  { label: "After a year", seconds: 365 * 86_400 },
];

/**
 * Read a mapping such as `prompt=input, completion=output`, one pair on each line or between commas.
 * @param {string} text
 * @returns {{columns: Record<string, string> | null, problem: string}}
 */
export function parseColumns(text) {
  /** @type {Record<string, string>} */
  const columns = {};
  for (const pair of text.split(/[\n,]/).map((each) => each.trim()).filter(Boolean)) {
    const at = pair.indexOf("=");
    const [target, source] = [pair.slice(0, at).trim(), pair.slice(at + 1).trim()];
    if (at < 1 || !source) return failed(`Write “${pair}” as FIELD=COLUMN, for example prompt=input.`);
    if (!TARGETS.includes(target)) {
      return failed(`Training reads no field “${target}”. Use one of ${TARGETS.join(", ")}.`);
    }
    if (target in columns) return failed(`The field ${target} is mapped twice; keep one.`);
    columns[target] = source;
  }
  if (new Set(Object.values(columns)).size < Object.keys(columns).length) {
    return failed("A column is mapped to two fields; map it to one.");
  }
  return { columns: Object.keys(columns).length ? columns : null, problem: "" };
}

/** @param {string} problem */
function failed(problem) {
  return { columns: null, problem };
}

const MOST_ROWS = 20;

/**
 * Read which rows to show: a number of first rows such as `5`, or lines such as `17, 20-22`, `line 17` or `17,`.
 * @param {string} text
 * @returns {{rows: number | number[], problem: string}}
 */
export function parseRows(text) {
  const plain = text.replace(/lines?/gi, "").trim();
  const isCount = /^\d+$/.test(plain) && !/line/i.test(text);
  if (!plain || isCount) {
    const count = plain ? Number(plain) : 5;
    const problem = count >= 1 && count <= MOST_ROWS ? "" : "At most 20 rows can be shown. For a line write “line 40”.";
    return { rows: Math.min(MOST_ROWS, Math.max(1, count)), problem };
  }
  /** @type {number[]} */
  const lines = [];
  for (const each of plain.split(/[\s,;]+/).filter(Boolean)) {
    const match = /^(\d+)(?:[-–](\d+))?$/.exec(each);
    const [first, last] = [Number(match?.[1]), Number(match?.[2] ?? match?.[1])];
    if (!match || first < 1 || last < first) {
      return { rows: [], problem: `“${each}” is not a line; write 17 or 20-22.` };
    }
    for (let line = first; line <= last && lines.length <= MOST_ROWS; line++) lines.push(line);
  }
  if (lines.length > MOST_ROWS) return { rows: lines.slice(0, MOST_ROWS), problem: "At most 20 lines can be shown." };
  return { rows: lines, problem: "" };
}

/**
 * Return the text that `parseRows` reads as these rows.
 * @param {number | readonly number[] | undefined} rows
 */
export function formatRows(rows) {
  if (typeof rows === "number" || rows === undefined) return String(rows ?? 5);
  return rows.length === 1 ? `line ${rows[0]}` : rows.join(", ");
}
