/** Workers: what trains, on which device, and why a job waits. */

import { get } from "../api.js";
import { each, h, icon } from "../dom.js";
import { formatDuration, formatNumber, formatPlural } from "../format.js";
import { emptyState, progressBar, relativeTime, stateBadge } from "../parts/basic.js";
import { setTitle, viewHeader } from "../shell.js";
import { computed, effect, untracked } from "../signals.js";
import { linkTo, query, setQuery } from "../url.js";
import { poll, polled } from "./admin/poll.js";

/**
 * @typedef {import("../../../api.d.ts").WorkerOut & {job_id?: string | null}} Worker
 * @typedef {import("../../../api.d.ts").Queues} Queues
 * @typedef {import("../../../api.d.ts").JobOut} JobOut
 * @typedef {import("../signals.js").Signal<Worker>} Item
 * @typedef {{workers: Worker[], queues: Queues, job: JobOut | null}} Found
 */

const PASSING = ["offline", "draining", "disk_full", "busy"];

export function render() {
  setTitle("Workers");
  const asked = () => query.value.get("job");
  const source = poll(async (ending) => {
    const job = query.peek().get("job");
    const [workers, queues, found] = await Promise.all([
      get("/workers", { query: { job }, signal: ending }),
      get("/queues", { signal: ending }),
      job ? get(`/jobs/${encodeURIComponent(job)}`, { signal: ending }) : null,
    ]);
    return /** @type {Found} */ ({ workers: workers.items, queues, job: found });
  });
  let last = asked();
  effect(() => {
    const present = asked();
    if (present !== last) untracked(source.refresh);
    last = present;
  });
  const all = () => source.data.value?.workers ?? [];
  const online = () => all().filter((worker) => worker.online);
  const offline = () => all().filter((worker) => !worker.online);
  return h(
    "div",
    viewHeader("Workers", { below: "Processes that train jobs and inspect datasets, for all projects." }),
    polled(source, () =>
      h(
        "div.stack",
        queueStrip(() => /** @type {Found} */ (source.data.value).queues),
        () => asked() && source.data.value?.job ? jobNotice(source.data.value) : null,
        () => online().length ? null : nothing(offline().length),
        h("div.worker-cards", each(online, (worker) => worker.id, workerCard)),
        h(
          "details.card.fold",
          { hidden: () => !offline().length },
          h(
            "summary",
            icon("right", "turn"),
            h("h2", () => `${formatPlural(offline().length, "worker")} offline, seen within a day`),
          ),
          h("div.card-body", h("div.worker-cards", each(offline, (worker) => worker.id, workerCard))),
        ),
      )),
  );
}

/** @param {number} numOffline */
function nothing(numOffline) {
  return emptyState({
    icon: "worker",
    title: "No worker is online",
    text: [
      numOffline ? "The last ones are listed below. " : "",
      "Start the server with ",
      h("code", "tunewright up"),
      ", which starts workers too, or start a worker on a machine with a GPU. Jobs wait until then.",
    ],
  });
}

/** @param {() => Queues} read */
function queueStrip(read) {
  /** @type {[string, () => string | number][]} */
  const facts = [
    ["Jobs running", () => read().training.running],
    ["Jobs queued", () => read().training.queued],
    ["Datasets to inspect", () => read().light.datasets],
    ["Uploads to assemble", () => read().light.uploads],
    ["Dataset checks", () => read().light.dataset_checks],
    ["Webhook deliveries", () => read().light.webhook_deliveries],
  ];
  const late = () => read().wakeups.oldest_seconds ?? 0;
  return h(
    "div.stack",
    h(
      "dl.strip",
      { "aria-label": "Queues" },
      facts.map(([label, value]) => h("div", h("dt", label), h("dd.tabular", () => number(value())))),
    ),
    () =>
      late() > 30 && h(
        "p.notice.tone-warn",
        { role: "status" },
        icon("warning"),
        h("span", `The dispatcher has not sent a wake-up for ${formatDuration(late())}. Check that it and Redis run.`),
      ),
  );
}

/** @param {string | number} value */
function number(value) {
  return typeof value === "number" ? formatNumber(value) : value;
}

/** @param {Found} found */
function jobNotice({ job, workers }) {
  const { id, name, waiting_for, state } = /** @type {JobOut} */ (job);
  const able = workers.filter((worker) => worker.can_take_job).length;
  const text = state === "queued"
    ? able
      ? `${formatPlural(able, "worker")} can take it now.`
      : `No worker can take it now: ${waiting_for ?? "see the reasons below"}.`
    : `It is ${state}; the reasons below are those for a job like it.`;
  return h(
    "div.notice.tone-info.worker-notice",
    icon("info"),
    h("div.notice-text", h("p", "Workers for ", h("a", { href: linkTo(`/jobs/${id}`) }, name ?? id), ". ", text)),
    h("button.ghost", { type: "button", onclick: () => setQuery({ job: null }) }, "Show without the job"),
  );
}

/** @param {Item} item */
function workerCard(item) {
  const worker = () => item.value;
  const isTraining = item.peek().queues.includes("training");
  const used = () => Math.max(0, worker().memory_gb - (worker().free_memory_gb ?? worker().memory_gb));
  const jobId = computed(() => worker().job_id ?? null);
  const title = () => worker().device_name ?? (worker().device === "cpu" ? "CPU" : worker().device);
  return h(
    "article.card.worker-card",
    { "aria-label": () => `Worker ${worker().id}` },
    h(
      "div.row.between",
      h("h3.break", title, () => worker().num_gpus > 1 && h("span.faint", ` 1 of ${worker().num_gpus}`)),
      h("span.row", () => statesOf(worker()).map((state) => stateBadge(state))),
    ),
    h("p.sub", h("code.break", item.peek().id)),
    () => verdictOf(worker()),
    isTraining && h(
      "div.worker-memory",
      h(
        "div.row.between.sub",
        h("span", () => (worker().device === "cpu" ? "RAM" : "GPU memory")),
        h("span.tabular", () => memoryText(worker(), used())),
      ),
      progressBar(() => (worker().memory_gb ? used() / worker().memory_gb : 0), `Memory in use on ${item.peek().id}`),
    ),
    h(
      "dl.facts",
      () =>
        jobId.value &&
        [h("dt", "Job"), h("dd", h("a", { href: linkTo(`/jobs/${jobId.value}`) }, `…${jobId.value.slice(-8)}`))],
      h("dt", "Work"),
      h("dd", isTraining ? "Trains jobs" : "Inspects datasets, fetches models, sends webhooks"),
      () => labelsOf(worker()),
      h("dt", "Seen"),
      h("dd", () => relativeTime(worker().seen_at), ", started ", () => relativeTime(worker().started_at)),
    ),
    h(
      "details.worker-more",
      h("summary", icon("right", "turn"), "Versions and machine"),
      h(
        "dl.facts",
        () => Object.entries(worker().versions).map(([name, version]) => [h("dt", name), h("dd", version)]),
      ),
      h(
        "dl.facts",
        h("dt", "Trackers"),
        h("dd", () => worker().integrations.join(", ") || "none"),
        h("dt", "Fingerprint"),
        h("dd", h("code", () => worker().machine_fingerprint)),
      ),
      h("p.field-help", "Checkpoints resume exactly on workers with the same fingerprint."),
    ),
  );
}

/**
 * @param {Worker} worker
 * @param {number} used
 */
function memoryText({ free_memory_gb, memory_gb, online }, used) {
  if (free_memory_gb === null || !online) return `${formatNumber(memory_gb, 1)} GB`;
  return `${formatNumber(used, 1)} of ${formatNumber(memory_gb, 1)} GB`;
}

/** @param {Worker} worker */
function statesOf({ online, busy, draining, disk_full }) {
  if (!online) return ["offline"];
  const found = [draining && "draining", disk_full && "disk full", busy && "busy"].filter((each) => each !== false);
  return found.length ? found : ["idle"];
}

/** @param {Worker} worker */
function verdictOf({ can_take_job, reasons }) {
  if (can_take_job === null) return null;
  if (can_take_job) return h("p.worker-verdict.good", icon("check"), h("span", "Can take the job now"));
  return h(
    "ul.worker-verdicts",
    sortReasons(reasons ?? []).map(({ message }) => h("li.worker-verdict", icon("cross"), h("span", message))),
  );
}

/** What does not pass by itself comes first. @param {readonly {code: string, message: string}[]} reasons */
function sortReasons(reasons) {
  const isPassing = (/** @type {{code: string}} */ { code }) => Number(PASSING.includes(code));
  return [...reasons].sort((one, other) => isPassing(one) - isPassing(other));
}

/** @param {Worker} worker */
function labelsOf({ labels }) {
  const pairs = Object.entries(labels);
  return pairs.length
    ? [h("dt", "Labels"), h("dd.row", pairs.map(([name, value]) => h("span.chip", `${name}=${value}`)))]
    : null;
}
