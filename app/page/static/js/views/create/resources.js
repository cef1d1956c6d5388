/** Reads what the form offers: base models, datasets and adapters, and the schema itself. */

import { get } from "../../api.js";
import { readFields } from "../../pure/schema_fields.js";
import { signal } from "../../signals.js";

/**
 * @typedef {import("../../../../api.d.ts").ModelSummary} ModelSummary
 * @typedef {import("../../../../api.d.ts").DatasetOut} DatasetOut
 * @typedef {import("../../../../api.d.ts").AdapterSummary} AdapterSummary
 * @typedef {Awaited<ReturnType<typeof loadResources>>} Resources
 */

const PAGES = 5;

/** @type {Promise<any> | null} */
let document = null;

/** Read the fields of a JobSpec. The document is read once a page load. */
export async function loadFields() {
  document ??= get("/openapi.json");
  try {
    const { schemas } = (await document).components;
    return readFields(schemas.JobSpec, schemas);
  } catch (error) {
    document = null;
    throw error;
  }
}

/**
 * @param {{model: string | null, datasets: readonly (string | null | undefined)[]}} named  resources that are chosen already
 */
export async function loadResources(named) {
  const [models, datasets, adapters] = await Promise.all([
    readPages("/models"),
    readPages("/datasets", { state: ["ready", "inspecting"] }),
    readPages("/adapters"),
  ]);
  await addMissing(models, "name", "/models", [named.model]);
  await addMissing(datasets, "id", "/datasets", named.datasets);
  return {
    models: signal(/** @type {ModelSummary[]} */ (models)),
    datasets: signal(/** @type {DatasetOut[]} */ (datasets)),
    adapters: signal(/** @type {AdapterSummary[]} */ (adapters)),
  };
}

/**
 * @param {string} path
 * @param {Record<string, any>} [query]
 * @returns {Promise<any[]>}
 */
async function readPages(path, query = {}) {
  const items = [];
  let cursor = null;
  for (let page = 0; page < PAGES; page++) {
    const answer = await get(path, { query: { ...query, limit: 100, cursor } });
    items.push(...answer.items);
    cursor = answer.next_cursor;
    if (!cursor) break;
  }
  return items;
}

/**
 * Read the chosen ones that the lists do not have. One that does not exist is reported by the server's check.
 * @param {any[]} items
 * @param {string} key
 * @param {string} path
 * @param {readonly (string | null | undefined)[]} names
 */
async function addMissing(items, key, path, names) {
  for (const name of new Set(names)) {
    if (!name || items.some((each) => each[key] === name)) continue;
    const found = await get(`${path}/${encodeURIComponent(name)}`).catch(() => null);
    if (found) items.push(found);
  }
}
