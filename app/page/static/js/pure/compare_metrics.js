/** Which metrics jobs have in common, and how their charts are named. */

/** @typedef {{name: string, label: string, unit: string, divisor: number, isSparse: boolean, canBeLog: boolean, isSmoothed: boolean}} MetricPlan */

export const LOSSES = ["loss", "validation_loss"];
export const TOKENS = "num_tokens";
export const SPEED = "tokens_per_second";
/** Metrics that only say how far a job is. */
const LEFT_OUT = new Set([TOKENS, "epoch"]);

/** @type {Record<string, string>} */
const LABELS = {
  loss: "Training loss",
  validation_loss: "Validation loss",
  learning_rate: "Learning rate",
  grad_norm: "Gradient norm",
  tokens_per_second: "Tokens per second",
  peak_memory_bytes: "Peak memory",
  token_accuracy: "Training token accuracy",
};

const SMOOTHED = /loss$|accuracy$|reward|margin$|grad_norm|per_second/;
const LOG = /loss$|learning_rate|grad_norm/;

/**
 * @param {string} name
 * @returns {MetricPlan}
 */
export function planMetric(name) {
  const isBytes = name.endsWith("_bytes");
  const isSparse = name.startsWith("validation_");
  return {
    name,
    label: labelMetric(name),
    unit: isBytes ? "GB" : "",
    divisor: isBytes ? 1e9 : 1,
    isSparse,
    canBeLog: LOG.test(name),
    isSmoothed: SMOOTHED.test(name) && !isSparse,
  };
}

/** @param {string} name */
export function labelMetric(name) {
  const words = name.replace(/_bytes$/, "").replaceAll("_", " ");
  return LABELS[name] ?? words.charAt(0).toUpperCase() + words.slice(1);
}

/**
 * Return the metrics that can be compared: the losses first, then those that most jobs have. With several jobs, at
 * least two must have a metric, but a loss is always offered.
 * @param {readonly (readonly string[])[]} namesByJob
 * @returns {string[]}
 */
export function listShared(namesByJob) {
  /** @type {Map<string, number>} */
  const counts = new Map();
  for (const names of namesByJob) for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  const least = Math.min(2, namesByJob.filter((names) => names.length).length);
  const shared = [...counts].filter(([name, count]) => !LEFT_OUT.has(name) && !LOSSES.includes(name) && count >= least);
  const others = shared.sort(([a], [b]) => labelMetric(a).localeCompare(labelMetric(b))).map(([name]) => name);
  return [...LOSSES.filter((name) => counts.has(name)), ...others];
}
