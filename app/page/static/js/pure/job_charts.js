/** Sorts a job's metrics into charts. Pure: no DOM. */

/** @typedef {{name: string, label: string, color: number, dash: number, kind: "line" | "points", divisor: number}} ChartSeries */
/**
 * @typedef {{
 *   id: string, title: string, unit: string, series: ChartSeries[], isSmoothed: boolean, canBeLog: boolean,
 * }} ChartPlan
 */

/**
 * @typedef {{id: string, title: string, names: readonly string[], unit?: string, isSmoothed?: boolean, canBeLog?: boolean,
 *   divisor?: number}} Known
 */

/** @type {readonly Known[]} */
const PREFERENCES = [
  { id: "margin", title: "Reward margin", names: ["reward_margin", "validation_reward_margin"], isSmoothed: true },
  {
    id: "accuracy",
    title: "Reward accuracy",
    names: ["reward_accuracy", "validation_reward_accuracy"],
    isSmoothed: true,
  },
  { id: "rewards", title: "Rewards", names: ["chosen_reward", "rejected_reward"], isSmoothed: true },
];

/** @type {readonly Known[]} */
const LOSSES = [{ id: "loss", title: "Loss", names: ["loss", "validation_loss"], isSmoothed: true, canBeLog: true }];

/** @type {readonly Known[]} */
const COMMON = [
  {
    id: "token_accuracy",
    title: "Token accuracy",
    names: ["token_accuracy", "validation_token_accuracy"],
    isSmoothed: true,
  },
  { id: "learning_rate", title: "Learning rate", names: ["learning_rate"] },
  { id: "grad_norm", title: "Gradient norm", names: ["grad_norm"], isSmoothed: true, canBeLog: true },
  { id: "speed", title: "Speed", names: ["tokens_per_second"], unit: "tokens/s", isSmoothed: true },
];

/** @type {Record<string, string>} */
const LABELS = {
  loss: "training",
  validation_loss: "validation",
  reward_margin: "training",
  validation_reward_margin: "validation",
  reward_accuracy: "training",
  validation_reward_accuracy: "validation",
  token_accuracy: "training",
  validation_token_accuracy: "validation",
  chosen_reward: "chosen",
  rejected_reward: "rejected",
  learning_rate: "learning rate",
  grad_norm: "gradient norm",
  tokens_per_second: "tokens/s",
  peak_memory_bytes: "peak memory",
  num_tokens: "tokens",
};

/**
 * Return the charts of a job's metrics: those that are always looked at, and the others.
 * @param {readonly string[]} names
 * @param {string} objective
 * @returns {{main: ChartPlan[], others: ChartPlan[]}}
 */
export function planCharts(names, objective) {
  const memory = names.filter((name) => /memory.*bytes/.test(name));
  const known = [
    ...(objective === "dpo" ? [...PREFERENCES, ...LOSSES] : [...LOSSES, ...PREFERENCES]),
    ...COMMON,
    { id: "memory", title: "Memory", names: memory, unit: "GB", divisor: 1e9 },
  ];
  const main = known.map((each) => plan(each, names)).filter(({ series }) => series.length > 0);
  const shown = new Set(main.flatMap(({ series }) => series.map(({ name }) => name)));
  const others = names.filter((name) => !shown.has(name)).map((name) =>
    plan({ id: name, title: sayName(name), names: [name] }, names)
  );
  return { main, others };
}

/**
 * @param {Known} known
 * @param {readonly string[]} present
 * @returns {ChartPlan}
 */
function plan({ id, title, names, unit = "", isSmoothed = false, canBeLog = false, divisor = 1 }, present) {
  /** @type {ChartSeries[]} */
  const series = [];
  for (const [index, name] of names.entries()) {
    if (!present.includes(name)) continue;
    const isSparse = name.startsWith("validation_");
    const label = LABELS[name] ?? sayName(name).toLowerCase();
    series.push({ name, label, color: index, dash: 0, kind: isSparse ? "points" : "line", divisor });
  }
  return { id, title, unit, series, isSmoothed, canBeLog };
}

/** @param {string} name  `gpu_use` → "Gpu use" */
export function sayName(name) {
  const words = name.replaceAll("_", " ").trim();
  return LABELS[name] && !name.startsWith("validation_") && name !== "loss"
    ? capitalize(LABELS[name])
    : capitalize(words);
}

/** @param {string} text */
function capitalize(text) {
  return text.slice(0, 1).toUpperCase() + text.slice(1);
}
