/** API keys of all projects: for administrators. */

import { get, post } from "../api.js";
import { h, icon } from "../dom.js";
import { emptyState, relativeTime, stateBadge } from "../parts/basic.js";
import { confirmAction } from "../parts/overlay.js";
import { may, session } from "../session.js";
import { setTitle, viewHeader } from "../shell.js";
import { computed, signal } from "../signals.js";
import { query, setQuery } from "../url.js";
import { act, rememberKeys } from "./admin/act.js";
import { askValues, showSecret } from "./admin/dialogs.js";
import { moreButton, poll, polled, readPages } from "./admin/poll.js";
import { dataTable } from "./admin/table.js";

/** @typedef {import("../../../api.d.ts").KeyOut} Key */

const DAY = 86_400;
const COLUMNS = [
  { label: "Key", isMain: true },
  { label: "Project" },
  { label: "Scopes" },
  { label: "State" },
  { label: "Last used" },
  { label: "Expires" },
  { label: "Actions", isHidden: true },
];
const SCOPES = [
  { value: "read", label: "read", help: "see everything of its project" },
  { value: "write", label: "write", help: "create and change" },
  { value: "webhooks", label: "webhooks", help: "see webhooks' whole URLs" },
  { value: "admin", label: "admin", help: "base models, projects and keys of all projects; includes the others" },
];
const LIVES = [
  { value: "", label: "Never" },
  { value: String(7 * DAY), label: "In 7 days" },
  { value: String(30 * DAY), label: "In 30 days" },
  { value: String(90 * DAY), label: "In 90 days" },
  { value: String(365 * DAY), label: "In a year" },
];
const OVERLAPS = [
  { value: "0", label: "Ends at once" },
  { value: "3600", label: "Works for another hour" },
  { value: String(DAY), label: "Works for another day" },
  { value: String(7 * DAY), label: "Works for another 7 days" },
];

export function render() {
  setTitle("API keys");
  if (!may("admin")) return h("div", viewHeader("API keys"), forbidden());
  const pages = signal(1);
  const showsAll = () => query.value.get("all") === "1";
  const source = poll((ending) => readPages("/keys", { signal: ending, pages: pages.peek() }));
  const keys = () => /** @type {Key[]} */ (source.data.value?.items ?? []);
  const shown = () => keys().filter((key) => showsAll() || key.state === "active");
  const numEnded = () => keys().filter((key) => key.state !== "active").length;
  return h(
    "div",
    viewHeader("API keys", {
      actions: h(
        "button.primary",
        { type: "button", onclick: () => createKey().then(source.refresh) },
        icon("plus"),
        "Create key",
      ),
      below: "A key belongs to one project and is shown only when it is created.",
    }),
    polled(source, () =>
      h(
        "div.stack",
        h(
          "label.check",
          { hidden: () => !numEnded() },
          h("input", {
            type: "checkbox",
            ".checked": showsAll,
            onchange: (/** @type {Event} */ event) =>
              setQuery({ all: /** @type {HTMLInputElement} */ (event.target).checked && "1" }),
          }),
          h("span", () => `Show expired and revoked keys (${numEnded()})`),
        ),
        dataTable({
          label: "API keys",
          columns: COLUMNS,
          items: shown,
          keyOf: (key) => key.id,
          isFaint: (key) => key.state !== "active",
          cells: (item) => cellsOf(item, source.refresh),
        }),
        moreButton(() => source.data.value?.hasMore ?? false, () => {
          pages.value = pages.peek() + 1;
          source.refresh();
        }),
      )),
  );
}

function forbidden() {
  return emptyState({
    icon: "key",
    title: "Only for administrators",
    text: [
      "Keys are managed by keys with the scope ",
      h("code", "admin"),
      ", or with ",
      h("code", "tunewright keys"),
      " on the server.",
    ],
  });
}

/**
 * @param {import("../signals.js").Signal<Key>} item
 * @param {() => Promise<void>} refresh
 */
function cellsOf(item, refresh) {
  const { id, name, project, scopes, expires_at } = item.peek();
  const isOwn = id === session.peek()?.key_id;
  const state = computed(() => item.value.state);
  return [
    [h("span.main-text.break", name, isOwn && h("span.chip.own", "this session")), h("code.sub.break", id)],
    project,
    h("span.row", shortScopes(scopes).map((scope) => h("span.chip", scope))),
    () => [
      stateBadge(item.value.state),
      item.value.replaced_by && h("span.sub", `replaced by …${item.value.replaced_by.slice(-6)}`),
    ],
    () => item.value.last_used_at ? relativeTime(item.value.last_used_at) : h("span.faint", "never"),
    () =>
      item.value.state === "revoked"
        ? relativeTime(item.value.revoked_at)
        : expires_at
        ? relativeTime(expires_at)
        : h("span.faint", "never"),
    h("div.row-actions", () =>
      state.value === "active" && [
        h(
          "button.ghost",
          { type: "button", onclick: () => rotateKey(item.peek(), isOwn).then(refresh) },
          icon("retry"),
          "Rotate",
        ),
        !isOwn &&
        h("button.ghost.danger-quiet", { type: "button", onclick: () => revokeKey(item.peek(), refresh) }, "Revoke"),
      ]),
  ];
}

/** `admin` includes the others. @param {readonly string[]} scopes */
function shortScopes(scopes) {
  return scopes.includes("admin") ? ["admin"] : scopes;
}

async function createKey() {
  const { items } = await get("/projects", { query: { limit: 100 } }).catch(() => ({ items: [] }));
  const own = session.peek()?.project ?? "";
  const names = [...new Set([own, ...items.map((/** @type {{name: string}} */ each) => each.name)])];
  const keyOf = rememberKeys();
  const made = await askValues({
    title: "Create an API key",
    action: "Create",
    fields: [
      { name: "name", label: "Name", isRequired: true, placeholder: "ci", help: "What the key is used for." },
      {
        name: "project",
        label: "Project",
        kind: "select",
        value: own,
        options: names.map((name) => ({ value: name, label: name })),
      },
      { name: "scopes", label: "Scopes", kind: "checks", value: ["read", "write", "webhooks"], options: SCOPES },
      { name: "expires_after_seconds", label: "Expires", kind: "select", value: String(90 * DAY), options: LIVES },
    ],
    send: ({ name, project, scopes, expires_after_seconds }) => {
      const life = expires_after_seconds ? { expires_after_seconds: Number(expires_after_seconds) } : {};
      const body = { name: name.trim(), project, scopes, ...life };
      return post("/keys", body, { idempotencyKey: keyOf(body) });
    },
  });
  if (made) {
    await showSecret({
      title: `The key ${made.name}`,
      secret: made.secret,
      text: "Programs send it as a bearer token, or read it from TUNEWRIGHT_API_KEY.",
    });
  }
}

/**
 * @param {Key} key
 * @param {boolean} isOwn
 */
async function rotateKey({ id, name }, isOwn) {
  const keyOf = rememberKeys();
  const made = await askValues({
    title: `Rotate ${name}`,
    text: "A new key with the same project, name, scopes and lifetime is created.",
    action: "Rotate",
    fields: [{
      name: "overlap_seconds",
      label: "The old key",
      kind: "select",
      value: String(DAY),
      options: isOwn ? OVERLAPS.slice(1) : OVERLAPS,
    }],
    send: ({ overlap_seconds }) => {
      const body = { overlap_seconds: Number(overlap_seconds) };
      return post(`/keys/${encodeURIComponent(id)}/rotate`, body, { idempotencyKey: keyOf(body) });
    },
  });
  if (made) {
    await showSecret({
      title: `The new key ${made.name}`,
      secret: made.secret,
      text: "Put it in place of the old one before that ends.",
    });
  }
}

/**
 * @param {Key} key
 * @param {() => Promise<void>} refresh
 */
async function revokeKey({ id, name, last_used_at }, refresh) {
  const isSure = await confirmAction({
    title: `Revoke ${name}?`,
    text: [
      "Programs that use it are refused within a second. This cannot be undone. ",
      last_used_at ? ["It was last used ", relativeTime(last_used_at), "."] : "It was never used.",
    ],
    action: "Revoke",
    isDangerous: true,
  });
  if (isSure) act(() => post(`/keys/${encodeURIComponent(id)}/revoke`), { done: `Revoked ${name}.`, then: refresh });
}
