/** The address is the state of the view: a path for what is shown, and a query for how. Back works, links can be sent. */

import { signal } from "./signals.js";

/**
 * @typedef {Record<string, string | number | boolean | null | undefined | readonly string[]>} QueryChanges
 */

/** @type {import("./signals.js").Signal<string>} */
export const path = signal(pathOf(location.pathname));

/** @type {import("./signals.js").Signal<URLSearchParams>} */
export const query = signal(new URLSearchParams(location.search));

/**
 * Return the address of a view: `linkTo("/jobs", {state: ["running", "queued"]})`.
 * @param {string} to  a path such as `/jobs/ftjob-1`
 * @param {QueryChanges} [values]
 * @returns {string}
 */
export function linkTo(to, values = {}) {
  const search = changed(new URLSearchParams(), values).toString();
  return `/ui${to}${search ? `?${search}` : ""}`;
}

/**
 * Show another view.
 * @param {string} href  an address on this page, as `linkTo` returns it
 * @param {{replace?: boolean}} [options]
 */
export function navigate(href, { replace = false } = {}) {
  const target = new URL(href, location.href);
  if (target.href === location.href) return;
  if (replace) history.replaceState(null, "", target);
  else {
    history.replaceState({ scroll: scrollY }, "");
    history.pushState(null, "", target);
  }
  read();
}

/**
 * Change some values of the query and keep the others; null, false and "" remove a value.
 * @param {QueryChanges} changes
 * @param {{replace?: boolean}} [options]  by default the present entry of the history is replaced
 */
export function setQuery(changes, { replace = true } = {}) {
  const search = changed(new URLSearchParams(location.search), changes).toString();
  navigate(`${location.pathname}${search ? `?${search}` : ""}`, { replace });
}

/** Follow the browser's back and forward, and clicks on links to this page. */
export function startRouting() {
  addEventListener("popstate", read);
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button !== 0) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = /** @type {Element} */ (event.target).closest?.("a[href]");
    if (!(link instanceof HTMLAnchorElement) || link.target || link.hasAttribute("download")) return;
    const isOurs = link.origin === location.origin && (link.pathname === "/" || /^\/ui(\/|$)/.test(link.pathname));
    if (!isOurs || (link.hash && link.pathname === location.pathname)) return;
    event.preventDefault();
    navigate(link.href);
  });
}

function read() {
  const search = new URLSearchParams(location.search);
  path.value = pathOf(location.pathname);
  if (search.toString() !== query.peek().toString()) query.value = search;
}

/** @param {string} pathname */
function pathOf(pathname) {
  return pathname.replace(/^\/ui(?=\/|$)/, "").replace(/\/+$/, "") || "/";
}

/**
 * @param {URLSearchParams} search
 * @param {QueryChanges} changes
 */
function changed(search, changes) {
  for (const [name, value] of Object.entries(changes)) {
    search.delete(name);
    if (Array.isArray(value)) { for (const each of value) search.append(name, each); }
    else if (value !== null && value !== undefined && value !== false && value !== "") search.set(name, String(value));
  }
  return search;
}
