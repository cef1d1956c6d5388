/** The list of jobs, kept up to date while it is shown. */

import { each, h, icon } from "../dom.js";
import { formatPlural } from "../format.js";
import { emptyState, errorBox } from "../parts/basic.js";
import { countFilters, NO_FILTER, readFilter } from "../pure/jobs_filter.js";
import { may } from "../session.js";
import { setTitle, viewHeader } from "../shell.js";
import { addShortcut } from "../shortcuts.js";
import { computed, effect, flush, onEnd, signal, untracked } from "../signals.js";
import { linkTo, navigate, path, query } from "../url.js";
import { RowDetails } from "./jobs/details.js";
import { filterBar, setFilter } from "./jobs/filters.js";
import { jobRow } from "./jobs/row.js";
import { Selection, selectionBar } from "./jobs/selection.js";
import { JobStore } from "./jobs/store.js";

/**
 * @typedef {import("./jobs/row.js").Context} Context
 */

const COLUMNS = [["name", "Job"], ["state", "State"], ["progress", "Progress"], ["curve", "Loss"], ["loss", ""], [
  "owner",
  "Owner",
], ["created", "Created"]];
const SKELETON_ROWS = 8;
const TOP = 60;

/** @returns {Node} */
export function render() {
  setTitle("Jobs");
  const selection = new Selection();
  const details = new RowDetails();
  const store = new JobStore({
    isHeld: (id) => selection.isHeld(id),
    mayInsert: () => scrollY <= TOP,
    onDeleted: (id) => selection.forget(id),
  });
  const current = signal(/** @type {string | null} */ (null));
  const context = { store, selection, details, current };
  const filter = followFilter(store);
  effect(() => {
    if (store.generation.value) untracked(() => details.refresh());
  });
  effect(() => {
    if (selection.ids.value) untracked(() => store.dropUnheld());
  });
  store.follow();
  const shown = () => store.order.value.map((id) => store.jobOf(id).peek());
  const { bar, focusSearch } = filterBar(filter, shown);
  const list = h("div.job-list");
  addShortcuts(context, list, focusSearch);
  list.append(jobTable(context), listEnd(store, filter));
  return h(
    "div.jobs-view",
    viewHeader("Jobs", {
      actions: may("write") && h("a.button.primary.only-narrow", { href: linkTo("/new") }, icon("plus"), "New job"),
    }),
    bar,
    () => store.error.value ? errorBox(store.error.value, () => store.reload()) : null,
    newJobsButton(store),
    list,
    selectionBar(selection, store),
  );
}

/**
 * Show what the address asks for.
 * @param {JobStore} store
 */
function followFilter(store) {
  const filter = computed(() => readFilter(query.value));
  let last = "";
  effect(() => {
    const present = filter.value;
    const text = JSON.stringify(present);
    if (text === last || !/^\/(jobs)?$/.test(path.peek())) return;
    last = text;
    untracked(() => store.show(present));
  });
  return filter;
}

/** @param {JobStore} store */
function newJobsButton(store) {
  const show = () => {
    store.showWaiting();
    flush();
    scrollTo({ top: 0, behavior: "smooth" });
    /** @type {HTMLElement | null} */ (document.querySelector(".job-row .main-link"))?.focus({ preventScroll: true });
  };
  const showAtTop = () => {
    if (scrollY <= TOP && store.numWaiting.peek()) store.showWaiting();
  };
  addEventListener("scroll", showAtTop, { passive: true });
  onEnd(() => removeEventListener("scroll", showAtTop));
  return h(
    "div.new-jobs",
    { role: "status" },
    () =>
      store.numWaiting.value > 0 &&
      h("button", { type: "button", onclick: show }, icon("up"), () => formatPlural(store.numWaiting.value, "new job")),
  );
}

/** @param {Context} context */
function jobTable(context) {
  const { store, selection } = context;
  const isEmpty = computed(() => store.order.value.length === 0);
  return h(
    "table.job-table",
    {
      role: "table",
      "aria-label": "Jobs",
      "aria-busy": () => String(store.isBusy.value),
      hidden: () => isEmpty.value && store.state.value !== "loading",
    },
    h(
      "thead",
      { role: "rowgroup" },
      h(
        "tr.job-head",
        { role: "row" },
        h("th.list-select", { role: "columnheader", scope: "col" }, selectAll(store, selection)),
        COLUMNS.map(([name, label]) =>
          h(
            `th.list-${name}`,
            { role: "columnheader", scope: "col" },
            label || h("span.visually-hidden", "Latest loss"),
          )
        ),
        h("th.list-menu", { role: "columnheader", scope: "col" }, h("span.visually-hidden", "Actions")),
      ),
    ),
    h(
      "tbody",
      { role: "rowgroup" },
      () => store.state.value === "loading" && Array.from({ length: SKELETON_ROWS }, skeletonRow),
      each(() => store.order.value, (id) => id, (_, id) => jobRow(id, context)),
    ),
  );
}

function skeletonRow() {
  const bars = ["name", "state", "progress", "curve", "loss", "owner", "created"];
  return h(
    "tr.job-row.job-skeleton",
    { role: "row", "aria-hidden": "true" },
    h("td.list-select", { role: "cell" }),
    bars.map((name) => h(`td.list-${name}`, { role: "cell" }, h("div.bar"), name === "name" && h("div.bar.short"))),
    h("td.list-menu", { role: "cell" }),
  );
}

/**
 * @param {JobStore} store
 * @param {Selection} selection
 */
function selectAll(store, selection) {
  const count = computed(() => store.order.value.filter((id) => selection.has(id)).length);
  return h(
    "label.job-check",
    h("input", {
      type: "checkbox",
      "aria-label": "Select all jobs shown",
      ".checked": () => count.value > 0 && count.value === store.order.value.length,
      ".indeterminate": () => count.value > 0 && count.value < store.order.value.length,
      onclick: () => selection.toggleAll(store.order.peek()),
    }),
  );
}

/**
 * Show what stands below the rows: more of them, or why there are none.
 * @param {JobStore} store
 * @param {{readonly value: import("../pure/jobs_filter.js").JobFilter}} filter
 */
function listEnd(store, filter) {
  const sentinel = h("div.list-end");
  const observer = new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting)) store.loadMore();
  }, { rootMargin: "400px" });
  observer.observe(sentinel);
  onEnd(() => observer.disconnect());
  const isEmpty = computed(() => store.state.value === "ready" && store.order.value.length === 0);
  const isFiltered = computed(() => countFilters(filter.value) > 0);
  const more = () =>
    store.hasMore.value &&
    h("button", {
      type: "button",
      disabled: () => store.isLoadingMore.value,
      onclick: () => store.loadMore(),
    }, () => store.isLoadingMore.value ? "Loading…" : "Load more");
  sentinel.append(h("div.center", more));
  return h("div", () => isEmpty.value && (isFiltered.value ? noMatch() : noJobs()), sentinel);
}

function noMatch() {
  return emptyState({
    icon: "filter",
    title: "No job matches",
    text: "Change the filters, or clear them to see all jobs.",
    action: h("button", { type: "button", onclick: () => setFilter(NO_FILTER) }, "Clear filters"),
  });
}

function noJobs() {
  const action = h(
    "div.first-steps",
    may("write") && h(
      "div.actions",
      h("a.button.primary", { href: linkTo("/datasets") }, icon("upload"), "Upload a dataset"),
      h("a.button", { href: linkTo("/new") }, icon("plus"), "New job"),
    ),
    h("p.faint", "Or from a shell:"),
    h(
      "pre.code",
      { tabindex: 0, "aria-label": "Command" },
      "tunewright jobs create --model MODEL --dataset rows.jsonl --epochs 2",
    ),
  );
  return emptyState({
    icon: "jobs",
    title: "No jobs yet",
    text: "Upload a dataset, then create a job that trains a model on it. Its progress and loss appear here.",
    action,
  });
}

/**
 * @param {Context} context
 * @param {HTMLElement} list
 * @param {() => void} focusSearch
 */
function addShortcuts({ store, selection, current }, list, focusSearch) {
  const group = "Jobs";
  const move = (/** @type {number} */ step) => {
    const order = store.order.peek();
    const place = order.indexOf(current.peek() ?? "");
    const id = order[place < 0 ? 0 : Math.min(order.length - 1, Math.max(0, place + step))];
    if (!id) return;
    current.value = id;
    const link = /** @type {HTMLElement | null} */ (list.querySelector(`[data-id="${CSS.escape(id)}"] .main-link`));
    link?.focus({ preventScroll: true });
    link?.closest("tr")?.scrollIntoView({ block: "nearest" });
  };
  /** @param {(id: string) => void} run */
  const onCurrent = (run) => () => {
    const id = current.peek();
    if (id && store.order.peek().includes(id)) run(id);
  };
  const select = onCurrent((id) => selection.toggle(id, store.order.peek(), false));
  const selectTo = onCurrent((id) => selection.toggle(id, store.order.peek(), true));
  addShortcut({ keys: "j", description: "Next job", group, run: () => move(1) });
  addShortcut({ keys: "k", description: "Previous job", group, run: () => move(-1) });
  addShortcut({ keys: "x", description: "Select the job", group, run: select });
  addShortcut({ keys: "X", description: "Select all up to the job", group, run: selectTo });
  addShortcut({
    keys: "o",
    description: "Open the job (also Enter)",
    group,
    run: onCurrent((id) => navigate(linkTo(`/jobs/${id}`))),
  });
  addShortcut({ keys: "c", description: "Compare the selected jobs", group, run: () => selection.compare() });
  addShortcut({ keys: "/", description: "Search", group, run: focusSearch });
  addShortcut({ keys: "Escape", description: "Clear the selection", group, run: () => selection.clear() });
}
