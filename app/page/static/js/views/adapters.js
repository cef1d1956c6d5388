/** Adapters: what the project's jobs have made. */

import { h } from "../dom.js";
import { formatBytes } from "../format.js";
import { emptyState, relativeTime } from "../parts/basic.js";
import { may } from "../session.js";
import { setTitle, viewHeader } from "../shell.js";
import { effect, signal, untracked } from "../signals.js";
import { linkTo, query, setQuery } from "../url.js";
import { moreButton, poll, polled, readPages } from "./admin/poll.js";
import { dataTable } from "./admin/table.js";

/** @typedef {import("../../../api.d.ts").AdapterSummary} Adapter */

const COLUMNS = [
  { label: "Adapter", isMain: true },
  { label: "Base model" },
  { label: "Job" },
  { label: "Size", isNumber: true },
  { label: "Created" },
];

export function render() {
  setTitle("Adapters");
  const pages = signal(1);
  const chosen = () => query.value.get("base_model") ?? "";
  const bases = signal(/** @type {readonly string[]} */ ([]));
  const source = poll(async (ending) => {
    const found = await readPages("/adapters", {
      query: { base_model: query.peek().get("base_model") },
      signal: ending,
      pages: pages.peek(),
    });
    const names = new Set([...bases.peek(), ...found.items.map((/** @type {Adapter} */ each) => each.base_model)]);
    if (names.size !== bases.peek().length) bases.value = [...names].sort();
    return { ...found, base: query.peek().get("base_model") ?? "" };
  });
  let last = chosen();
  effect(() => {
    const present = chosen();
    if (present !== last) untracked(source.refresh);
    last = present;
  });
  const adapters = () => /** @type {Adapter[]} */ (source.data.value?.items ?? []);
  return h(
    "div",
    viewHeader("Adapters", {
      actions: () => (bases.value.length > 1 || chosen()) && baseFilter(bases, chosen),
      below: "Trained LoRA weights in PEFT's format.",
    }),
    polled(source, () =>
      h(
        "div",
        () => adapters().length ? null : nothing(source.data.value?.base ?? ""),
        h(
          "div",
          { hidden: () => !adapters().length },
          dataTable({
            label: "Adapters",
            columns: COLUMNS,
            items: adapters,
            keyOf: (adapter) => adapter.id,
            cells: (item) => cellsOf(item.peek()),
          }),
        ),
        moreButton(() => source.data.value?.hasMore ?? false, () => {
          pages.value = pages.peek() + 1;
          source.refresh();
        }),
      )),
  );
}

/** @param {Adapter} adapter */
function cellsOf({ id, name, base_model, job_id, size, created_at }) {
  return [
    [h("a.main-link.break", { href: linkTo(`/adapters/${id}`) }, name), h("code.sub", id)],
    base_model,
    h("a", { href: linkTo(`/jobs/${job_id}`) }, h("code", `…${job_id.slice(-8)}`)),
    formatBytes(size),
    relativeTime(created_at),
  ];
}

/**
 * @param {{readonly value: readonly string[]}} bases
 * @param {() => string} chosen
 */
function baseFilter(bases, chosen) {
  const names = [...new Set([...bases.value, chosen()])].filter(Boolean).sort();
  return h(
    "select.filter",
    {
      "aria-label": "Base model",
      onchange: (/** @type {Event} */ event) =>
        setQuery({ base_model: /** @type {HTMLSelectElement} */ (event.target).value }, { replace: false }),
    },
    h("option", { value: "" }, "All base models"),
    names.map((name) => h("option", { value: name, ".selected": name === chosen() }, name)),
  );
}

/** @param {string} base */
function nothing(base) {
  if (base) {
    return emptyState({
      icon: "filter",
      title: `No adapter of ${base}`,
      text: "No job of this project has made one yet.",
      action: h("button", { type: "button", onclick: () => setQuery({ base_model: null }) }, "Show all"),
    });
  }
  return emptyState({
    icon: "adapter",
    title: "No adapter yet",
    text: "A job with the method qlora or lora makes one when it succeeds.",
    action: may("write") ? h("a.button.primary", { href: linkTo("/new") }, "New job") : null,
  });
}
