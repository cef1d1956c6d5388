/** Writes the call that creates a job for the command line. Pure: no DOM. */

import { quoteForShell, writeJson } from "./call_text.js";

/**
 * @typedef {Record<string, any>} Request
 * @typedef {{words: string[], rest: Request}} Split  the options, and what no option can say
 */

/** The options of `tunewright jobs create`, by the field that each sets. */
export const OPTIONS = {
  "base_model": "--model",
  "dataset_id": "--dataset",
  "validation_dataset_id": "--validation-dataset",
  "validation_split": "--validation-split",
  "method": "--method",
  "objective": "--objective",
  "init_from": "--init-from",
  "dpo.beta": "--beta",
  "training.train_on": "--train-on",
  "training.epochs": "--epochs",
  "training.max_steps": "--max-steps",
  "training.batch_size": "--batch-size",
  "training.learning_rate": "--learning-rate",
  "training.schedule": "--schedule",
  "training.warmup_ratio": "--warmup-ratio",
  "training.optimizer": "--optimizer",
  "training.weight_decay": "--weight-decay",
  "training.max_seq_len": "--max-seq-len",
  "training.seed": "--seed",
  "training.eval_every": "--eval-every",
  "training.save_every": "--save-every",
  "training.memory": "--memory",
  "adapter.rank": "--rank",
  "adapter.alpha": "--alpha",
  "adapter.dropout": "--dropout",
  "adapter.target_modules": "--target-modules",
  "resources.device": "--device",
  "resources.gpu": "--gpu",
  "resources.labels": "--label",
  "resources.min_memory_gb": "--min-memory-gb",
  "priority": "--priority",
  "max_retries": "--max-retries",
  "max_duration_seconds": "--max-duration",
  "name": "--name",
  "suffix": "--suffix",
  "metadata": "--metadata",
};

/**
 * @param {string} origin
 * @param {Request} request
 */
export function writeCommand(origin, request) {
  const { words, rest } = splitOptions(request);
  const isWhole = !Object.keys(rest).length;
  const all = isWhole ? words : [...words, "--spec /dev/stdin <<'JSON'"];
  const lines = [`TUNEWRIGHT_URL=${quoteForShell(origin)}`, "tunewright jobs create", ...all].join(" \\\n  ");
  return isWhole ? lines : `${lines}\n${writeJson(rest)}\nJSON`;
}

/**
 * Return the options for a request, and the fields that have none.
 * @param {Request} request
 * @returns {Split}
 */
export function splitOptions(request) {
  /** @type {string[]} */
  const words = [];
  /** @type {Request} */
  const rest = {};
  for (const [name, value] of Object.entries(request)) {
    if (name === "integrations") addTrackers(value, words, rest);
    else if (name === "on_bad_rows") addBadRows(value, words, rest);
    else addField(name, value, words, rest);
  }
  return { words, rest };
}

/**
 * @param {string} name  dotted
 * @param {any} value
 * @param {string[]} words
 * @param {Request} rest
 */
function addField(name, value, words, rest) {
  const option = /** @type {Record<string, string>} */ (OPTIONS)[name];
  const found = option && wordsFor(option, value);
  if (found) words.push(...found);
  else if (isObject(value) && !name.includes(".") && !option) {
    for (const [inner, each] of Object.entries(value)) addField(`${name}.${inner}`, each, words, rest);
  } else {
    const [first, second] = name.split(".");
    if (second === undefined) rest[/** @type {string} */ (first)] = value;
    else (rest[/** @type {string} */ (first)] ??= {})[second] = value;
  }
}

/**
 * @param {string} option
 * @param {any} value
 * @returns {string[] | null} null if the option cannot say it
 */
function wordsFor(option, value) {
  if (Array.isArray(value)) {
    const isPlain = value.length > 0 && !(value.length === 1 && value[0] === "all-linear");
    return isPlain ? value.map((each) => writeOption(option, String(each))) : null;
  }
  if (isObject(value)) {
    const pairs = Object.entries(value);
    const isPlain = pairs.length > 0 && pairs.every(([key, each]) => !key.includes("=") && typeof each === "string");
    return isPlain ? pairs.map(([key, each]) => writeOption(option, `${key}=${each}`)) : null;
  }
  if (typeof value === "boolean" || value === null || value === "") return null;
  return [writeOption(option, String(value))];
}

/**
 * @param {any} policy
 * @param {string[]} words
 * @param {Request} rest
 */
function addBadRows(policy, words, rest) {
  if (policy.action === "skip" && typeof policy.max_share === "number") {
    words.push(writeOption("--skip-bad-rows", String(policy.max_share)));
  } else rest.on_bad_rows = policy;
}

/**
 * @param {any[]} trackers
 * @param {string[]} words
 * @param {Request} rest
 */
function addTrackers(trackers, words, rest) {
  const found = trackers.map((each) => {
    if (each.type === "tensorboard") return "--tensorboard";
    if (each.type === "wandb" && hasOnly(each.wandb, "project")) return writeOption("--wandb", each.wandb.project);
    if (each.type === "mlflow" && hasOnly(each.mlflow, "experiment")) {
      return writeOption("--mlflow", each.mlflow.experiment);
    }
    return null;
  });
  if (found.every((each) => each !== null)) words.push(.../** @type {string[]} */ (found));
  else rest.integrations = trackers;
}

/**
 * @param {string} option
 * @param {string} value
 */
function writeOption(option, value) {
  return `${option}${value.startsWith("-") ? "=" : " "}${quoteForShell(value)}`;
}

/**
 * @param {any} value
 * @param {string} name
 */
function hasOnly(value, name) {
  return isObject(value) && Object.keys(value).length === 1 && typeof value[name] === "string" && value[name] !== "";
}

/**
 * @param {any} value
 * @returns {value is Record<string, any>}
 */
function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
