/** Webhooks: who is told when jobs end or pause. */

import { post } from "../api.js";
import { h, icon } from "../dom.js";
import { emptyState, relativeTime, stateBadge } from "../parts/basic.js";
import { may } from "../session.js";
import { setTitle, viewHeader } from "../shell.js";
import { linkTo, navigate } from "../url.js";
import { rememberKeys } from "./admin/act.js";
import { askValues, showSecret } from "./admin/dialogs.js";
import { poll, polled, readPages } from "./admin/poll.js";
import { dataTable } from "./admin/table.js";
import { eventOptions, shortEvent, VERIFY_TEXT } from "./admin/webhook_events.js";

/** @typedef {import("../../../api.d.ts").WebhookOut} Webhook */

const COLUMNS = [{ label: "Webhook", isMain: true }, { label: "Events" }, { label: "State" }, { label: "Created" }];

export function render() {
  setTitle("Webhooks");
  const source = poll((ending) => readPages("/webhooks", { signal: ending }));
  const webhooks = () => /** @type {Webhook[]} */ (source.data.value?.items ?? []);
  const addButton = () =>
    may("write") && h("button.primary", { type: "button", onclick: addWebhook }, icon("plus"), "Add webhook");
  return h(
    "div",
    viewHeader("Webhooks", {
      actions: addButton,
      below: "Your server is called when a job ends or is paused, so that it need not poll.",
    }),
    polled(source, () =>
      h(
        "div",
        () =>
          webhooks().length ? null : emptyState({
            icon: "webhook",
            title: "No webhook yet",
            text: may("write")
              ? "Add the URL of your server. Each call is signed with a secret that you get once."
              : "A key with the scope write adds webhooks.",
            action: addButton() || null,
          }),
        h(
          "div",
          { hidden: () => !webhooks().length },
          dataTable({
            label: "Webhooks",
            columns: COLUMNS,
            items: webhooks,
            keyOf: (webhook) => webhook.id,
            isFaint: (webhook) => !webhook.enabled,
            cells: (item) => [
              [
                h("a.main-link.break", { href: linkTo(`/webhooks/${item.peek().id}`) }, () =>
                  item.value.name ?? item.value.url),
                h("span.sub.break", () =>
                  item.value.url),
              ],
              h("span.row", () =>
                item.value.events.map((event) => h("span.chip", shortEvent(event)))),
              () => stateBadge(item.value.enabled ? "enabled" : "disabled"),
              relativeTime(item.peek().created_at),
            ],
          }),
        ),
      )),
  );
}

async function addWebhook() {
  const keyOf = rememberKeys();
  const made = await askValues({
    title: "Add a webhook",
    action: "Add",
    fields: [
      {
        name: "url",
        label: "URL",
        isRequired: true,
        placeholder: "https://hooks.example.com/tunewright",
        help: "https or http, with a public address or one that the operator allows.",
      },
      { name: "name", label: "Name", placeholder: "deploys" },
      {
        name: "events",
        label: "Events",
        kind: "checks",
        value: eventOptions.map((each) => each.value),
        options: eventOptions,
      },
    ],
    send: ({ url, name, events }) => {
      const body = { url: url.trim(), events, ...(name.trim() ? { name: name.trim() } : {}) };
      return post("/webhooks", body, { idempotencyKey: keyOf(body) });
    },
  });
  if (!made) return;
  await showSecret({ title: "The webhook's secret", secret: made.secret, text: VERIFY_TEXT });
  navigate(linkTo(`/webhooks/${made.id}`));
}
