/** One job in the list: a row of the table, or a card on narrow screens. */

import { pickStyle } from "../../chart/colors.js";
import { h, icon } from "../../dom.js";
import { formatDuration, formatNumber, formatValue } from "../../format.js";
import { now, progressBar, relativeTime, stateBadge } from "../../parts/basic.js";
import { copyText } from "../../parts/basic.js";
import { showMessage } from "../../parts/overlay.js";
import { actionsFor, describeReason } from "../../pure/jobs_actions.js";
import { colorOf } from "../../pure/jobs_selection.js";
import { may } from "../../session.js";
import { computed, effect } from "../../signals.js";
import { linkTo, navigate } from "../../url.js";
import { nameOf, runAction } from "./actions.js";
import { openMenu } from "./menu.js";
import { sparkline } from "./sparkline.js";

/**
 * @typedef {import("../../pure/jobs_filter.js").Job} Job
 * @typedef {{
 *   store: import("./store.js").JobStore, selection: import("./selection.js").Selection,
 *   details: import("./details.js").RowDetails, current: import("../../signals.js").Signal<string | null>,
 * }} Context
 */

const ACTIVE = ["running", "pausing", "cancelling"];

/**
 * @param {string} id
 * @param {Context} context
 * @returns {HTMLElement}
 */
export function jobRow(id, context) {
  const { store, selection, details, current } = context;
  const job = store.jobOf(id);
  const isSelected = computed(() => selection.has(id));
  const row = h(
    "tr.job-row",
    {
      role: "row",
      "data-id": id,
      "aria-selected": () => String(isSelected.value),
      class: () => [isSelected.value && "selected", current.value === id && "current"].filter(Boolean).join(" "),
      onclick: (/** @type {MouseEvent} */ event) => openRow(event, id),
      onfocusin: () => (current.value = id),
    },
    cell("select", selectBox(id, job, isSelected, context)),
    cell("name", nameCell(id, job)),
    cell("state", stateCell(job)),
    cell("progress", progressCell(job, details.waitOf(id))),
    cell("curve", curveCell(id, job, context)),
    cell(
      "loss",
      h(
        "span",
        { title: "Latest training loss", class: () => ("loss" in job.value.last_metrics ? "" : "faint") },
        () => formatValue(job.value.last_metrics.loss),
      ),
    ),
    cell(
      "owner",
      h(
        "span.truncate",
        { title: () => ownerTitle(job.value), class: () => (job.value.created_by ? "" : "faint") },
        () => job.value.created_by?.key_name ?? "–",
      ),
    ),
    cell("created", () => relativeTime(job.value.created_at)),
    cell("menu", menuButton(job, store)),
  );
  details.watch(row, () => job.peek());
  effect(() => details.update(job.value, row));
  return row;
}

/**
 * @param {string} name
 * @param {...import("../../dom.js").Child} children
 */
function cell(name, ...children) {
  return h(`td.list-${name}`, { role: "cell" }, children);
}

/**
 * @param {MouseEvent} event
 * @param {string} id
 */
function openRow(event, id) {
  const target = /** @type {Element} */ (event.target);
  if (event.defaultPrevented || target.closest("a, button, input, label") || getSelection()?.toString()) return;
  if (event.metaKey || event.ctrlKey) open(linkTo(`/jobs/${id}`), "_blank", "noopener");
  else navigate(linkTo(`/jobs/${id}`));
}

/**
 * @param {string} id
 * @param {{value: Job}} job
 * @param {{readonly value: boolean}} isSelected
 * @param {Context} context
 */
function selectBox(id, job, isSelected, { store, selection }) {
  return h(
    "label.job-check",
    h("input", {
      type: "checkbox",
      "aria-label": () => `Select ${nameOf(job.value)}`,
      ".checked": () => isSelected.value,
      onclick: (/** @type {MouseEvent} */ event) => selection.toggle(id, store.order.peek(), event.shiftKey),
    }),
  );
}

/**
 * @param {string} id
 * @param {{value: Job}} job
 */
function nameCell(id, job) {
  return [
    h("a.main-link.truncate", { href: linkTo(`/jobs/${id}`), title: () => nameOf(job.value) }, () => nameOf(job.value)),
    h(
      "span.job-sub.truncate",
      { title: () => `${job.value.base_model}, ${methodOf(job.value)}` },
      () => `${job.value.base_model} · ${methodOf(job.value)}`,
    ),
  ];
}

/** @param {Job} job */
function methodOf({ method, spec }) {
  const names = /** @type {Record<string, string>} */ ({ qlora: "QLoRA", lora: "LoRA", full: "full" });
  return `${names[method] ?? method}${spec.objective === "dpo" ? " DPO" : ""}`;
}

/** @param {{value: Job}} job */
function stateCell(job) {
  const below = computed(() => {
    const { phase, attempt, state } = job.value;
    if (!ACTIVE.includes(state)) return "";
    return [phase !== "training" && phase, attempt > 1 && `attempt ${attempt}`].filter(Boolean).join(" · ");
  });
  return [stateBadge(() => job.value.state), h("span.job-sub", { hidden: () => !below.value }, () => below.value)];
}

/**
 * @param {{value: Job}} job
 * @param {{value: string}} wait
 */
function progressCell(job, wait) {
  const kind = computed(() => {
    const { state, failure, step } = job.value;
    if (state === "failed" && failure) return "failure";
    if (state === "queued") return step ? "queued-part" : "queued";
    return ["succeeded", "cancelled"].includes(state) ? "ended" : "bar";
  });
  return () => {
    if (kind.value === "failure") return failureText(job);
    if (kind.value === "queued") return waitText(wait);
    if (kind.value === "ended") return endedText(job);
    const label = kind.value === "queued-part"
      ? waitText(wait)
      : h("span.job-numbers", h("span", () => stepsOf(job.value)), h("span", () => timeLeft(job.value)));
    return [progressBar(() => job.value.progress, "Progress"), label];
  };
}

/** @param {{value: Job}} job */
function failureText(job) {
  return h(
    "span.job-failure",
    { title: () => job.value.failure?.message ?? "" },
    h("strong.truncate", () => describeReason(job.value.failure?.reason ?? "")),
    h("span.job-sub.truncate", () => job.value.failure?.message ?? ""),
  );
}

/** @param {{value: string}} wait */
function waitText(wait) {
  const text = computed(() => wait.value && wait.value.charAt(0).toUpperCase() + wait.value.slice(1));
  return h("span.job-wait", { title: () => text.value || null }, () => text.value);
}

/** @param {{value: Job}} job */
function endedText(job) {
  return h("span.job-numbers", h("span", () => stepsOf(job.value)), h("span", () => durationOf(job.value)));
}

/** @param {Job} job */
function stepsOf({ step, total_steps: total, state }) {
  if (!total) return step ? `${formatNumber(step)} steps` : "";
  if (state === "succeeded" && step >= total) return `${formatNumber(step)} steps`;
  return `${formatNumber(step)} / ${formatNumber(total)}`;
}

/** @param {Job} job */
function durationOf({ started_at: start, finished_at: end }) {
  return start && end ? formatDuration((Date.parse(end) - Date.parse(start)) / 1000) : "";
}

/** @param {Job} job */
function timeLeft({ estimated_finish_at: finish, state }) {
  if (!finish || state !== "running") return "";
  const seconds = (Date.parse(finish) - now.value) / 1000;
  if (seconds < 2) return "";
  // Seconds beside minutes would change at each look and say nothing.
  const step = seconds > 90 ? 60 : seconds > 20 ? 10 : 1;
  return `${formatDuration(Math.ceil(seconds / step) * step)} left`;
}

/**
 * @param {string} id
 * @param {{value: Job}} job
 * @param {Context} context
 */
function curveCell(id, job, { selection, details }) {
  const curve = details.curveOf(id);
  // A selected job has the look that it will have in the comparison; the others step back.
  const place = computed(() => selection.places.value.get(id) ?? -1);
  const others = computed(() => selection.places.value.size > 0);
  const color = () => place.value >= 0 ? pickStyle(place.value).color : others.value ? null : colorOf(id);
  return sparkline({
    points: () => curve.value,
    color,
    dash: () => place.value >= 0 ? pickStyle(place.value).dash : 0,
    isLive: () => ACTIVE.includes(job.value.state),
  });
}

/** @param {Job} job */
function ownerTitle(job) {
  return job.created_by ? `Created with the API key ${job.created_by.key_name}` : null;
}

/**
 * @param {{value: Job, peek: () => Job}} job
 * @param {import("./store.js").JobStore} store
 */
function menuButton(job, store) {
  const show = (/** @type {MouseEvent} */ event) => {
    const anchor = /** @type {HTMLElement} */ (event.currentTarget);
    openMenu(anchor, `Actions for ${nameOf(job.peek())}`, menuItems(job.peek(), store));
  };
  return h(
    "button.ghost.icon-only",
    {
      type: "button",
      "aria-haspopup": "menu",
      "aria-expanded": "false",
      "aria-label": () => `Actions for ${nameOf(job.value)}`,
      onclick: show,
    },
    icon("more"),
  );
}

/**
 * @param {Job} job
 * @param {import("./store.js").JobStore} store
 * @returns {(import("./menu.js").MenuItem | null)[]}
 */
function menuItems(job, store) {
  const items = may("write")
    ? actionsFor(job.state).map((action) => ({
      label: action.label,
      icon: action.icon,
      isDangerous: action.isDangerous ?? false,
      run: () => void runAction(action, [job], store),
    }))
    : [];
  const clone = { label: "Clone with changes", icon: "clone", href: linkTo("/new", { from: job.id }) };
  return [
    { label: "Open", icon: "right", href: linkTo(`/jobs/${job.id}`) },
    ...(may("write") ? [clone] : []),
    { label: "Copy ID", icon: "copy", run: () => copyId(job.id) },
    ...(items.length ? [null, ...items] : []),
  ];
}

/** @param {string} id */
async function copyId(id) {
  await copyText(id);
  showMessage(`Copied ${id}.`);
}
