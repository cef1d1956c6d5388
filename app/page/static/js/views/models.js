/** Base models: what jobs can train, and what is being fetched. */

import { post, request } from "../api.js";
import { h, icon } from "../dom.js";
import { formatBytes, formatCount, formatNumber, formatPercent } from "../format.js";
import { emptyState, progressBar, relativeTime, stateBadge } from "../parts/basic.js";
import { confirmAction } from "../parts/overlay.js";
import { may } from "../session.js";
import { setTitle, viewHeader } from "../shell.js";
import { computed, signal } from "../signals.js";
import { linkTo } from "../url.js";
import { act, encodePath, rememberKeys } from "./admin/act.js";
import { askValues } from "./admin/dialogs.js";
import { moreButton, poll, polled, readPages } from "./admin/poll.js";
import { dataTable } from "./admin/table.js";

/**
 * @typedef {import("../../../api.d.ts").ModelSummary} Model
 * @typedef {import("../signals.js").Signal<Model>} Item
 */

const COLUMNS = [
  { label: "Model", isMain: true },
  { label: "State" },
  { label: "License" },
  { label: "Parameters", isNumber: true },
  { label: "Max length", isNumber: true },
  { label: "Size", isNumber: true },
  { label: "Added" },
  { label: "Actions", isHidden: true },
];

export function render() {
  setTitle("Base models");
  const pages = signal(1);
  const source = poll((ending) => readPages("/models", { signal: ending, pages: pages.peek() }));
  const models = () =>
    /** @type {Model[]} */ (source.data.value?.items ?? []).filter((each) => each.state !== "removed");
  const add = () => addModel().then((made) => made && source.refresh());
  const addButton = () =>
    may("admin") && h("button.primary", { type: "button", onclick: add }, icon("plus"), "Add base model");
  return h(
    "div",
    viewHeader("Base models", {
      actions: addButton,
      below: "Frozen starting weights that jobs train. One registry serves all projects.",
    }),
    polled(source, () =>
      h(
        "div",
        () => models().length ? null : nothing(addButton()),
        h(
          "div",
          { hidden: () => !models().length },
          dataTable({
            label: "Base models",
            columns: COLUMNS,
            items: models,
            keyOf: (model) => model.name,
            cells: (item) => cellsOf(item, source.refresh),
          }),
        ),
        moreButton(() => source.data.value?.hasMore ?? false, () => {
          pages.value = pages.peek() + 1;
          source.refresh();
        }),
      )),
  );
}

/** @param {any} action */
function nothing(action) {
  return emptyState({
    icon: "model",
    title: "No base model yet",
    text: may("admin")
      ? "Add one from the hub or from a folder. A light worker fetches it once for all machines; then jobs can train it."
      : "A key with the scope admin adds base models, here or with `tunewright models add`.",
    action,
  });
}

/**
 * @param {Item} item
 * @param {() => Promise<void>} refresh
 */
function cellsOf(item, refresh) {
  const read = () => item.value;
  // What can have the focus is made again only when the state changes.
  const state = computed(() => item.value.state);
  return [
    [
      h("span.main-text.break", item.peek().name),
      h("span.sub.one-line", { title: () => sourceOf(read()) }, () => sourceOf(read())),
      h("span.sub.bad.break", () => read().failure?.message ?? ""),
    ],
    () => stateOf(item, state.value),
    () => read().license ? h("span.keep", read().license) : h("span.faint", read().state === "ready" ? "unknown" : "–"),
    () => formatCount(read().num_parameters),
    () => formatNumber(read().max_seq_len),
    () => formatBytes(read().num_bytes),
    relativeTime(item.peek().created_at),
    h("div.row-actions", () => actionsOf(item.peek(), state.value, refresh)),
  ];
}

/** @param {Model} model */
function sourceOf({ hub, path, hub_name, revision, projects }) {
  const origin = hub ?? path ?? hub_name ?? "from a folder";
  const parts = [revision ? `${origin} @ ${revision.slice(0, 7)}` : origin, projects && `only ${projects.join(", ")}`];
  return parts.filter(Boolean).join(" · ");
}

/**
 * @param {Item} item
 * @param {Model["state"]} state
 */
function stateOf(item, state) {
  if (state !== "fetching") return stateBadge(state);
  const share = () => (item.value.num_bytes ? item.value.num_bytes_done / item.value.num_bytes : 0);
  const done = () => `${formatPercent(share())} of ${formatBytes(item.value.num_bytes)}`;
  return h(
    "div.fetching",
    stateBadge(state),
    progressBar(share, `Fetching ${item.peek().name}`),
    h("span.sub.tabular", done),
  );
}

/**
 * @param {Model} model
 * @param {Model["state"]} state
 * @param {() => Promise<void>} refresh
 */
function actionsOf(model, state, refresh) {
  const { name } = model;
  return [
    state === "ready" && may("write") && h("a.button.ghost", { href: linkTo("/new", { model: name }) }, "New job"),
    state === "failed" && may("admin") &&
    h(
      "button.ghost",
      { type: "button", onclick: () => act(() => post("/models", again(model)), { then: refresh }) },
      icon("retry"),
      "Fetch again",
    ),
    may("admin") && h("button.ghost.icon-only", {
      type: "button",
      "aria-label": `Remove ${name}`,
      title: state === "fetching" ? "Stop and remove" : "Remove",
      onclick: () => remove(name, refresh),
    }, icon("trash")),
  ];
}

/** @param {Model} model */
function again({ name, hub, path, revision, hub_name, hub_revision, projects }) {
  const source = hub ? { hub, revision } : { path, hub_name, revision: hub_revision };
  const given = { name, ...source, projects: projects ?? [] };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== null));
}

/**
 * @param {string} name
 * @param {() => Promise<void>} refresh
 */
async function remove(name, refresh) {
  const isSure = await confirmAction({
    title: `Remove ${name}?`,
    text:
      "Its files leave the storage within a minute. Adapters that were trained on it stay. Jobs can no longer train it.",
    action: "Remove",
    isDangerous: true,
  });
  if (isSure) act(() => request("DELETE", `/models/${encodePath(name)}`), { done: `Removed ${name}.`, then: refresh });
}

function addModel() {
  const isFolder = (/** @type {Record<string, any>} */ values) => values.source === "path";
  const keyOf = rememberKeys();
  return askValues({
    title: "Add a base model",
    action: "Add",
    fields: [
      { name: "name", label: "Name", isRequired: true, placeholder: "qwen3-4b", help: "Jobs name the model by it." },
      {
        name: "source",
        label: "Source",
        kind: "select",
        value: "hub",
        options: [{ value: "hub", label: "Hub" }, { value: "path", label: "Folder on the light worker's machine" }],
      },
      { name: "hub", label: "Hub id", placeholder: "ORG/NAME", isShown: (values) => !isFolder(values) },
      {
        name: "revision",
        label: "Revision",
        placeholder: "main",
        help: "Branch, tag or commit. It is pinned to its commit.",
        isShown: (values) => !isFolder(values),
      },
      {
        name: "path",
        label: "Folder",
        placeholder: "/models/my-model",
        help: [
          "It has config.json, safetensors and a tokenizer, and is below one of ",
          h("code", "TUNEWRIGHT_MODEL_ROOTS"),
          ".",
        ],
        isShown: isFolder,
      },
      {
        name: "hub_name",
        label: "Hub name",
        placeholder: "ORG/NAME",
        help: "Optional: where the folder was copied from. Adapters then name it.",
        isShown: isFolder,
      },
      {
        name: "projects",
        label: "Projects",
        placeholder: "research, support",
        help: "Who may use it, separated by commas. Empty: all projects.",
      },
    ],
    send: ({ name, source, hub, revision, path, hub_name, projects }) => {
      const from = source === "path" ? { path, hub_name } : { hub, revision };
      const given = Object.entries({ name, ...from }).map(([key, value]) => [key, value.trim()]);
      const names = projects.split(",").map((/** @type {string} */ each) => each.trim()).filter(Boolean);
      const body = {
        ...Object.fromEntries(given.filter(([key, value]) => value || key === "name" || key === source)),
        projects: names,
      };
      return post("/models", body, { idempotencyKey: keyOf(body) });
    },
  });
}
