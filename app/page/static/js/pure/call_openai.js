/** Writes the call that creates a job for OpenAI's client. Pure: no DOM. */

import { writePythonCall } from "./call_text.js";

/** @typedef {Record<string, any>} Request */

const MAX_EPOCHS = 50;
const MAX_BATCH = 256;
const BATCH = 8;

/**
 * @param {string} origin
 * @param {Request} request
 * @returns {{text: string, extra: string[]}} `extra` names the fields that OpenAI's API does not have
 */
export function writeOpenAi(origin, request) {
  const { body, extra } = translate(request);
  const isExtra = Object.keys(extra).length > 0;
  const values = isExtra ? { ...body, extra_body: { tunewright: extra } } : body;
  const text = [
    "import os",
    "from openai import OpenAI",
    "",
    "client = OpenAI(",
    `    base_url=${JSON.stringify(`${origin}/v1`)},`,
    `    api_key=os.environ["TUNEWRIGHT_API_KEY"],`,
    ")",
    `job = ${writePythonCall("client.fine_tuning.jobs.create", values)}`,
    "print(job.id)",
  ].join("\n");
  return { text, extra: namesOf(extra) };
}

/**
 * Return the body of `POST /v1/fine_tuning/jobs`, and the fields of the spec that it has no name for.
 * @param {Request} request
 * @returns {{body: Request, extra: Request}}
 */
export function translate(request) {
  const {
    base_model,
    dataset_id,
    validation_dataset_id,
    suffix,
    metadata,
    integrations,
    objective,
    dpo,
    training,
    ...extra
  } = request;
  const { seed, ...otherTraining } = training ?? {};
  const { hyperparameters, rest } = splitTraining(otherTraining, request);
  const isDpo = objective === "dpo";
  if (isDpo && dpo?.beta !== undefined) hyperparameters.beta = dpo.beta;
  const type = isDpo ? "dpo" : "supervised";
  const areForOpenAi = integrations?.every((/** @type {any} */ each) => each.type === "wandb");
  const body = withoutUndefined({
    model: base_model,
    training_file: dataset_id,
    validation_file: validation_dataset_id,
    method: { type, [type]: { hyperparameters } },
    suffix,
    seed: seed ?? 0,
    metadata,
    integrations: areForOpenAi ? integrations : undefined,
  });
  return {
    body,
    extra: withoutUndefined({
      ...extra,
      training: Object.keys(rest).length ? rest : undefined,
      integrations: areForOpenAi ? undefined : integrations,
    }),
  };
}

/**
 * @param {Request} training
 * @param {Request} request
 */
function splitTraining(training, request) {
  const { epochs, batch_size = BATCH, learning_rate, ...rest } = training;
  /** @type {Request} */
  const hyperparameters = {};
  if (Number.isInteger(epochs) && epochs <= MAX_EPOCHS) hyperparameters.n_epochs = epochs;
  else if (epochs !== undefined) rest.epochs = epochs;
  if (batch_size <= MAX_BATCH) hyperparameters.batch_size = batch_size;
  else rest.batch_size = batch_size;
  if (typeof learning_rate === "number") {
    const base = baseRate(request);
    const multiplier = Number((learning_rate / base).toPrecision(6));
    if (multiplier * base === learning_rate) hyperparameters.learning_rate_multiplier = multiplier;
    else rest.learning_rate = learning_rate;
  }
  return { hyperparameters, rest };
}

/** @param {Request} request */
function baseRate({ method, objective }) {
  if (method === "full") return objective === "dpo" ? 1e-6 : 1e-5;
  return objective === "dpo" ? 2e-5 : 2e-4;
}

/**
 * Return the dotted names of an object's fields, two levels deep.
 * @param {Request} values
 * @returns {string[]}
 */
function namesOf(values) {
  return Object.entries(values).flatMap(([name, value]) => {
    const isPart = ["adapter", "training", "quantization", "resources", "on_bad_rows"].includes(name);
    return isPart ? Object.keys(value).map((inner) => `${name}.${inner}`) : [name];
  });
}

/** @param {Request} values */
function withoutUndefined(values) {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));
}
