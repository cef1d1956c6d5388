/** One webhook: its deliveries, and what can be done about them. */

import { get, post, request } from "../api.js";
import { h, icon } from "../dom.js";
import { copyButton, emptyState, identifier, relativeTime, stateBadge } from "../parts/basic.js";
import { confirmAction, showDialog } from "../parts/overlay.js";
import { may } from "../session.js";
import { setTitle, viewHeader } from "../shell.js";
import { computed, effect, signal, untracked } from "../signals.js";
import { linkTo, navigate, query, setQuery } from "../url.js";
import { act, rememberKeys } from "./admin/act.js";
import { askValues, showSecret } from "./admin/dialogs.js";
import { moreButton, poll, polled, readPages } from "./admin/poll.js";
import { dataTable } from "./admin/table.js";
import { eventOptions, shortEvent, VERIFY_TEXT } from "./admin/webhook_events.js";

/**
 * @typedef {import("../../../api.d.ts").WebhookOut} Webhook
 * @typedef {import("../../../api.d.ts").DeliveryOut} Delivery
 * @typedef {{webhook: Webhook, items: Delivery[], hasMore: boolean, state: string}} Found
 */

const COLUMNS = [
  { label: "Event", isMain: true },
  { label: "State" },
  { label: "Tries", isNumber: true },
  { label: "Last answer" },
  { label: "Created" },
  { label: "Actions", isHidden: true },
];
const STATES = ["pending", "delivered", "failed"];
const GRACE = [{ value: "0", label: "End at once" }, { value: "3600", label: "Valid for an hour" }, {
  value: "86400",
  label: "Valid for a day",
}];

/** @param {Record<string, string>} params */
export function render({ id }) {
  setTitle("Webhook");
  const base = `/webhooks/${encodeURIComponent(id)}`;
  const pages = signal(1);
  const source = poll(async (ending) => {
    const state = query.peek().get("state") ?? "";
    const [webhook, deliveries] = await Promise.all([
      get(base, { signal: ending }),
      readPages(`${base}/deliveries`, { query: { state }, signal: ending, pages: pages.peek() }),
    ]);
    return /** @type {Found} */ ({ webhook, ...deliveries, state });
  });
  followState(source.refresh);
  const webhook = computed(() => source.data.value?.webhook);
  effect(() => setTitle(titleOf(webhook.value)));
  const items = () => source.data.value?.items ?? [];
  return h(
    "div",
    viewHeader(() => titleOf(webhook.value), {
      back: { to: "/webhooks", label: "Webhooks" },
      below: () => webhook.value && factsOf(/** @type {Webhook} */ (webhook.value)),
      actions: () =>
        may("write") && webhook.value && actionsOf(base, /** @type {Webhook} */ (webhook.value), source.refresh),
    }),
    polled(source, () =>
      h(
        "div.stack",
        h("div.row.between", h("h2", "Deliveries"), stateFilter()),
        () => items().length ? null : nothing(source.data.value?.state ?? ""),
        h(
          "div",
          { hidden: () => !items().length },
          dataTable({
            label: "Deliveries",
            columns: COLUMNS,
            items,
            keyOf: (delivery) => delivery.id,
            cells: (item) => cellsOf(item, base, source.refresh),
          }),
        ),
        moreButton(() => source.data.value?.hasMore ?? false, () => {
          pages.value = pages.peek() + 1;
          source.refresh();
        }),
      )),
  );
}

/** @param {Webhook | undefined} webhook */
function titleOf(webhook) {
  return webhook?.name ?? webhook?.url ?? "Webhook";
}

/** @param {() => void} refresh */
function followState(refresh) {
  let last = query.peek().get("state");
  effect(() => {
    const present = query.value.get("state");
    if (present !== last) untracked(refresh);
    last = present;
  });
}

function stateFilter() {
  const chosen = () => query.value.get("state") ?? "";
  return h(
    "div.segmented",
    { role: "group", "aria-label": "State" },
    ["", ...STATES].map((state) =>
      h(
        "button",
        { type: "button", "aria-pressed": () => String(chosen() === state), onclick: () => setQuery({ state }) },
        state ? state.charAt(0).toUpperCase() + state.slice(1) : "All",
      )
    ),
  );
}

/** @param {string} state */
function nothing(state) {
  return emptyState({
    icon: "webhook",
    title: state ? `No delivery is ${state}` : "No delivery yet",
    text: state
      ? "Deliveries are kept for seven days."
      : "A delivery is made when a job ends or is paused. Send a test to try the URL now.",
  });
}

/** @param {Webhook} webhook */
function factsOf(webhook) {
  const { id, url, events, enabled, previous_secret_expires_at: previous } = webhook;
  const isOverlapping = previous && new Date(previous).getTime() > Date.now();
  return [
    stateBadge(enabled ? "enabled" : "disabled"),
    h("span.break", h("code", url)),
    h("span.row", events.map((event) => h("span.chip", shortEvent(event)))),
    identifier(id),
    isOverlapping && h("span", "The previous secret signs too; it ends ", relativeTime(previous), "."),
    !may("webhooks") && h("span.faint", "The path is hidden: it needs the scope webhooks."),
  ];
}

/**
 * @param {string} base
 * @param {Webhook} webhook
 * @param {() => Promise<void>} refresh
 */
function actionsOf(base, webhook, refresh) {
  const { enabled } = webhook;
  const toggle = () =>
    act(() => request("PATCH", base, { body: { enabled: !enabled } }), {
      done: enabled ? "Disabled the webhook." : "Enabled the webhook.",
      then: refresh,
    });
  const keyOf = rememberKeys();
  return [
    h("button", {
      type: "button",
      disabled: !enabled,
      onclick: () =>
        act(() => post(`${base}/test`), { done: "Sent a test. Its delivery appears below.", then: refresh }),
    }, "Send a test"),
    h(
      "button",
      { type: "button", onclick: () => change(base, webhook).then((made) => made && refresh()) },
      icon("edit"),
      "Change",
    ),
    h("button", { type: "button", onclick: toggle }, enabled ? "Disable" : "Enable"),
    h("button", { type: "button", onclick: () => rotate(base, keyOf).then(refresh) }, icon("retry"), "Rotate secret"),
    h("button.danger-quiet", { type: "button", onclick: () => remove(base, webhook) }, icon("trash"), "Delete"),
  ];
}

/**
 * @param {string} base
 * @param {Webhook} webhook
 */
function change(base, webhook) {
  const maySee = may("webhooks");
  return askValues({
    title: "Change the webhook",
    action: "Save",
    fields: [
      {
        name: "url",
        label: "URL",
        value: maySee ? webhook.url : "",
        help: maySee ? "" : "Leave it empty to keep the present one.",
      },
      { name: "name", label: "Name", value: webhook.name ?? "" },
      { name: "events", label: "Events", kind: "checks", value: webhook.events, options: eventOptions },
    ],
    send: ({ url, name, events }) => {
      const isKept = url.trim() === "" || url.trim() === webhook.url;
      return request("PATCH", base, {
        body: { name: name.trim() || null, events, ...(isKept ? {} : { url: url.trim() }) },
      });
    },
  });
}

/**
 * @param {string} base
 * @param {(body: unknown) => string} keyOf
 */
async function rotate(base, keyOf) {
  const made = await askValues({
    title: "Rotate the secret",
    text:
      "The webhook gets a new secret. Until the old one ends, each call is signed with both, so that your server can change without losing a call.",
    action: "Rotate",
    fields: [{ name: "grace_seconds", label: "The old secret", kind: "select", value: "86400", options: GRACE }],
    send: ({ grace_seconds }) =>
      post(`${base}/rotate`, undefined, { query: { grace_seconds }, idempotencyKey: keyOf(grace_seconds) }),
  });
  if (made) await showSecret({ title: "The new secret", secret: made.secret, text: VERIFY_TEXT });
}

/**
 * @param {string} base
 * @param {Webhook} webhook
 */
async function remove(base, { name, url }) {
  const isSure = await confirmAction({
    title: "Delete this webhook?",
    text: `${name ?? url} is not called any more. Its pending deliveries and its list of deliveries are deleted.`,
    action: "Delete",
    isDangerous: true,
  });
  if (isSure) {
    act(() => request("DELETE", base), {
      done: "Deleted the webhook.",
      then: () => navigate(linkTo("/webhooks")),
    });
  }
}

/**
 * @param {import("../signals.js").Signal<Delivery>} item
 * @param {string} base
 * @param {() => Promise<void>} refresh
 */
function cellsOf(item, base, refresh) {
  const { id, type, event_id, created_at } = item.peek();
  const state = computed(() => item.value.state);
  const again = () =>
    act(() => post(`${base}/deliveries/${encodeURIComponent(id)}/redeliver`), {
      done: "A new delivery of the event was created.",
      then: refresh,
    });
  return [
    [h("span.main-text", shortEvent(type)), h("code.sub", event_id)],
    () => stateBadge(state.value),
    () => String(item.value.num_tries),
    () => answerOf(item.value),
    relativeTime(created_at),
    h(
      "div.row-actions",
      h("button.ghost", { type: "button", onclick: () => showBody(item.peek()) }, "Show body"),
      () =>
        may("write") && state.value !== "pending" &&
        h("button.ghost", { type: "button", onclick: again }, icon("retry"), "Redeliver"),
    ),
  ];
}

/** @param {Delivery} delivery */
function answerOf({ last_status_code, last_error, last_tried_at, next_try_at, num_tries }) {
  const parts = [
    last_status_code !== null && h("span.tabular", String(last_status_code)),
    last_error && h("span.sub.bad.break", last_error),
    next_try_at && num_tries > 0 && h("span.sub", "Next try ", relativeTime(next_try_at)),
  ].filter(Boolean);
  if (!num_tries) return h("span.faint", "not tried yet");
  return parts.length ? h("div.answer", parts) : relativeTime(last_tried_at);
}

/** @param {Delivery} delivery */
function showBody({ body, event_id, type }) {
  return showDialog({
    title: "Body of the delivery",
    wide: true,
    body: () =>
      h(
        "div.dialog-body",
        h("dl.facts", h("dt", "Type"), h("dd", h("code", type)), h("dt", "webhook-id"), h("dd", identifier(event_id))),
        h(
          "div.code-block",
          h(
            "div.row.between",
            h("span.field-label", "Body, exactly as sent"),
            copyButton(() => body, "Copy the body"),
          ),
          h("pre.code.wrap", { tabindex: 0 }, h("code", body)),
        ),
      ),
  });
}
