/** Sets a job's spec beside what was decided. Pure: no DOM. */

/** @typedef {import("../../../api.d.ts").JobSpec} JobSpec */
/** @typedef {import("../../../api.d.ts").Resolved} Resolved */
/** @typedef {{field: string, asked: unknown, decided: unknown, isDecided: boolean, differs: boolean}} SpecRow */
/** @typedef {{title: string, rows: SpecRow[]}} SpecGroup */

/** @type {readonly [string, string][]} the parts of a spec that `resolved` has too, and their titles */
const PARTS = [
  ["training", "Training"],
  ["adapter", "Adapter"],
  ["quantization", "Quantization"],
  ["resources", "Resources"],
];

/**
 * Return the fields of a spec, each with what was asked and what the latest attempt decided.
 * @param {JobSpec} spec
 * @param {Resolved | null} resolved
 * @returns {SpecGroup[]}
 */
export function compareSpec(spec, resolved) {
  const asked = /** @type {Record<string, any>} */ (spec);
  const decided = /** @type {Record<string, any>} */ (resolved ?? {});
  const isPart = (/** @type {string} */ name) => PARTS.some(([part]) => part === name);
  const general = Object.entries(asked).filter(([name]) => !isPart(name));
  const groups = [
    { title: "Job", rows: listRows("", Object.fromEntries(general), {}) },
    ...PARTS.map(([part, title]) => ({ title, rows: listRows(`${part}.`, asked[part], decided[part]) })),
    { title: "Engine", rows: listRows("engine.", {}, decided.engine) },
  ];
  return groups.filter(({ rows }) => rows.length > 0);
}

/**
 * @param {string} prefix
 * @param {Record<string, any> | null | undefined} asked
 * @param {Record<string, any> | null | undefined} decided
 * @returns {SpecRow[]}
 */
function listRows(prefix, asked, decided) {
  const names = new Set([...Object.keys(asked ?? {}), ...Object.keys(decided ?? {})]);
  return [...names].map((name) => {
    const wanted = asked?.[name];
    const isDecided = decided?.[name] !== undefined;
    const taken = isDecided ? decided?.[name] : wanted;
    const differs = isDecided && wanted !== undefined && formatField(wanted) !== formatField(taken);
    return { field: prefix + name, asked: wanted, decided: taken, isDecided, differs };
  });
}

/**
 * Leave out the fields that have no value.
 * @param {readonly SpecGroup[]} groups
 * @returns {{groups: SpecGroup[], numHidden: number}}
 */
export function hideEmptyFields(groups) {
  const hasValue = (/** @type {SpecRow} */ row) => row.isDecided || !isEmpty(row.asked);
  const kept = groups.map(({ title, rows }) => ({ title, rows: rows.filter(hasValue) }));
  const count = (/** @type {readonly SpecGroup[]} */ list) => list.reduce((sum, { rows }) => sum + rows.length, 0);
  return { groups: kept.filter(({ rows }) => rows.length > 0), numHidden: count(groups) - count(kept) };
}

/**
 * Return a field's value as a short text.
 * @param {unknown} value
 * @returns {string}
 */
export function formatField(value) {
  if (value === undefined) return "";
  if (value === null) return "null";
  if (typeof value === "string") return value;
  if (typeof value === "number") return formatPlain(value);
  if (Array.isArray(value) && value.every((each) => typeof each !== "object")) return value.join(", ") || "[]";
  return JSON.stringify(value);
}

/** @param {number} value */
function formatPlain(value) {
  return value !== 0 && Math.abs(value) < 1e-3 ? value.toExponential().replace("e-", "e−") : String(value);
}

/**
 * Return the parts of a spec that say something: without null, empty objects and empty lists.
 * @param {JobSpec} spec
 * @returns {Record<string, any>}
 */
export function shortenSpec(spec) {
  return /** @type {Record<string, any>} */ (prune(spec));
}

/**
 * @param {any} value
 * @returns {any}
 */
function prune(value) {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return value;
  const kept = Object.entries(value).map(([name, each]) => [name, prune(each)]).filter(([, each]) => !isEmpty(each));
  return Object.fromEntries(kept);
}

/** @param {any} value */
function isEmpty(value) {
  return value === null || (typeof value === "object" && Object.keys(value).length === 0);
}

/**
 * Write the call that creates the same job.
 * @param {"json" | "curl" | "python" | "cli"} language
 * @param {JobSpec} spec
 * @param {string} server  its URL
 */
export function writeCall(language, spec, server) {
  const short = shortenSpec(spec);
  const json = JSON.stringify(short, null, 2);
  if (language === "json") return json;
  if (language === "curl") {
    return `curl -H "Authorization: Bearer $TUNEWRIGHT_API_KEY" -H "Content-Type: application/json" \\\n` +
      `  ${server}/jobs -d '${json.replaceAll("'", `'\\''`)}'`;
  }
  if (language === "cli") {
    return `export TUNEWRIGHT_URL=${server}\ntunewright jobs create --spec /dev/stdin <<'SPEC'\n${json}\nSPEC`;
  }
  const fields = Object.entries(short).map(([name, value]) => `        ${name}=${writePython(value, 2)},\n`).join("");
  return `from tunewright import Client\n\nwith Client("${server}") as client:\n` +
    `    job = client.create_job(\n${fields}    )\n    print(job.id)`;
}

/**
 * @param {any} value
 * @param {number} depth
 * @returns {string}
 */
function writePython(value, depth) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map((each) => writePython(each, depth)).join(", ")}]`;
  if (typeof value !== "object") return JSON.stringify(value);
  const parts = Object.entries(value).map(([name, each]) => `${JSON.stringify(name)}: ${writePython(each, depth + 1)}`);
  const line = `{${parts.join(", ")}}`;
  if (line.length < 90) return line;
  const indent = "    ".repeat(depth + 1);
  return `{\n${parts.map((part) => `${indent}${part},\n`).join("")}${"    ".repeat(depth)}}`;
}
