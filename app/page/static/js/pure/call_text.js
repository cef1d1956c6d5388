/** Writes values as source text: for a shell, as JSON and as Python. Pure: no DOM. */

const WIDTH = 48;

/**
 * Return a word that a POSIX shell reads as the text.
 * @param {string} text
 */
export function quoteForShell(text) {
  if (/^[A-Za-z0-9_./:@%+,-]+$/.test(text)) return text;
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/**
 * Return JSON that puts short objects and lists on one line.
 * @param {any} value
 * @param {string} [indent]
 * @returns {string}
 */
export function writeJson(value, indent = "") {
  return writeValue(value, indent, JSON_WORDS);
}

/**
 * Return a Python expression.
 * @param {any} value
 * @param {string} [indent]
 * @returns {string}
 */
export function writePython(value, indent = "") {
  return writeValue(value, indent, PYTHON_WORDS);
}

/**
 * Return a Python call with one keyword argument a line.
 * @param {string} name
 * @param {Record<string, any>} values
 * @param {string} [indent]
 */
export function writePythonCall(name, values, indent = "") {
  const lines = Object.entries(values).map(([key, value]) =>
    `${indent}    ${key}=${writePython(value, `${indent}    `)},`
  );
  return lines.length ? `${name}(\n${lines.join("\n")}\n${indent})` : `${name}()`;
}

/**
 * @typedef {{true: string, false: string, null: string, comma: string, text: (text: string) => string}} Words
 * @type {Words}
 */
const JSON_WORDS = { true: "true", false: "false", null: "null", comma: "", text: (text) => JSON.stringify(text) };
/** Python reads JSON's strings as they are, its words for constants differ. @type {Words} */
const PYTHON_WORDS = { true: "True", false: "False", null: "None", comma: ",", text: (text) => JSON.stringify(text) };

/**
 * @param {any} value
 * @param {string} indent
 * @param {Words} words
 * @returns {string}
 */
function writeValue(value, indent, words) {
  if (value === null || value === undefined) return words.null;
  if (typeof value === "boolean") return words[value ? "true" : "false"];
  if (typeof value === "number") return writeNumber(value);
  if (typeof value === "string") return words.text(value);
  const isList = Array.isArray(value);
  const [open, close] = isList ? "[]" : "{}";
  const inner = `${indent}${words.comma ? "    " : "  "}`;
  const write = (/** @type {string} */ within) =>
    isList
      ? value.map((each) => writeValue(each, within, words))
      : Object.entries(value).map(([name, each]) => `${words.text(name)}: ${writeValue(each, within, words)}`);
  const short = `${open}${write("").join(", ")}${close}`;
  if (short.length + indent.length <= WIDTH && !short.includes("\n")) return short;
  return `${open}\n${write(inner).map((line) => inner + line).join(",\n")}${words.comma}\n${indent}${close}`;
}

/** @param {number} value */
function writeNumber(value) {
  if (!Number.isFinite(value)) return "null";
  const size = Math.abs(value);
  return size > 0 && size < 1e-3 ? value.toExponential() : String(value);
}
