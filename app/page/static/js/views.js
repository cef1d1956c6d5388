/** The views of the page, by path. Each is loaded when it is first shown. */

/**
 * @typedef {Record<string, string>} Params
 * @typedef {{render: (params: Params) => Node}} View  `render` runs in a scope of its own, which ends with the view
 * @typedef {{pattern: RegExp, load: () => Promise<View>, section: string}} Route
 */

/** @type {readonly Route[]} */
const ROUTES = [
  { pattern: /^\/(?:jobs)?$/, section: "jobs", load: () => import("./views/jobs.js") },
  { pattern: /^\/jobs\/(?<id>[^/]+)$/, section: "jobs", load: () => import("./views/job.js") },
  { pattern: /^\/compare$/, section: "compare", load: () => import("./views/compare.js") },
  { pattern: /^\/new$/, section: "new", load: () => import("./views/create.js") },
  { pattern: /^\/datasets$/, section: "datasets", load: () => import("./views/datasets.js") },
  { pattern: /^\/datasets\/(?<id>[^/]+)$/, section: "datasets", load: () => import("./views/dataset.js") },
  { pattern: /^\/models$/, section: "models", load: () => import("./views/models.js") },
  { pattern: /^\/adapters$/, section: "adapters", load: () => import("./views/adapters.js") },
  { pattern: /^\/adapters\/(?<id>[^/]+)$/, section: "adapters", load: () => import("./views/adapter.js") },
  { pattern: /^\/workers$/, section: "workers", load: () => import("./views/workers.js") },
  { pattern: /^\/webhooks$/, section: "webhooks", load: () => import("./views/webhooks.js") },
  { pattern: /^\/webhooks\/(?<id>[^/]+)$/, section: "webhooks", load: () => import("./views/webhook.js") },
  { pattern: /^\/keys$/, section: "keys", load: () => import("./views/keys.js") },
];

/**
 * Return the view of a path, or null.
 * @param {string} path
 * @returns {{route: Route, params: Params} | null}
 */
export function findView(path) {
  for (const route of ROUTES) {
    const match = route.pattern.exec(path);
    if (!match) continue;
    const params = Object.entries(match.groups ?? {}).map(([name, value]) => [name, decodeURIComponent(value)]);
    return { route, params: Object.fromEntries(params) };
  }
  return null;
}
