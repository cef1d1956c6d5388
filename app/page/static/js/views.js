/** The views of the page, by path. Each is loaded when it is first shown. */

/**
 * @typedef {Record<string, string>} Params
 * @typedef {{render: (params: Params) => Node}} View  `render` runs in a scope of its own, which ends with the view
 * @typedef {{pattern: RegExp, section: string, styles: readonly string[], load: () => Promise<View>}} Route
 *   `styles` are files of css/, loaded with the view
 */

/**
 * @param {string} pattern  a path, with `:id` for a part that is passed to the view
 * @param {readonly string[]} styles
 * @param {() => Promise<View>} load
 * @returns {Route}
 */
function route(pattern, styles, load) {
  const section = /** @type {string} */ (pattern.split("/")[1]);
  return { pattern: new RegExp(`^${pattern.replace(":id", "(?<id>[^/]+)")}$`), section, styles, load };
}

const ROUTES = [
  route("/jobs", ["chart", "jobs"], () => import("./views/jobs.js")),
  route("/jobs/:id", ["chart", "job"], () => import("./views/job.js")),
  route("/compare", ["chart", "jobs"], () => import("./views/compare.js")),
  route("/new", ["create"], () => import("./views/create.js")),
  route("/datasets", ["datasets"], () => import("./views/datasets.js")),
  route("/datasets/:id", ["datasets"], () => import("./views/dataset.js")),
  route("/models", ["admin"], () => import("./views/models.js")),
  route("/adapters", ["admin"], () => import("./views/adapters.js")),
  route("/adapters/:id", ["admin"], () => import("./views/adapter.js")),
  route("/workers", ["admin"], () => import("./views/workers.js")),
  route("/webhooks", ["admin"], () => import("./views/webhooks.js")),
  route("/webhooks/:id", ["admin"], () => import("./views/webhook.js")),
  route("/keys", ["admin"], () => import("./views/keys.js")),
];

/**
 * Return the view of a path, or null.
 * @param {string} path
 * @returns {{route: Route, params: Params} | null}
 */
export function findView(path) {
  for (const route of ROUTES) {
    const match = route.pattern.exec(path === "/" ? "/jobs" : path);
    if (match) return { route, params: { ...match.groups } };
  }
  return null;
}

/**
 * Load a view with its styles, so that it is never shown without them.
 * @param {Route} route
 * @returns {Promise<View>}
 */
export async function loadView({ load, styles }) {
  const [view] = await Promise.all([load(), ...styles.map(loadStyle)]);
  return view;
}

/** @type {Map<string, Promise<void>>} */
const loadedStyles = new Map();

/** @param {string} name */
function loadStyle(name) {
  const present = loadedStyles.get(name) ?? addStyle(new URL(`../css/${name}.css`, import.meta.url).pathname);
  loadedStyles.set(name, present);
  return present;
}

/**
 * @param {string} href
 * @returns {Promise<void>}
 */
function addStyle(href) {
  return new Promise((resolve, reject) => {
    const link = document.createElement("link");
    Object.assign(link, {
      rel: "stylesheet",
      href,
      onload: () => resolve(),
      onerror: () => reject(new TypeError(href)),
    });
    document.head.append(link);
  });
}
