/** Shows one dataset: its report, problems, previews and overlaps. */

import { ApiError, get } from "../api.js";
import { h, icon } from "../dom.js";
import { formatBytes, formatNumber, formatPlural } from "../format.js";
import { emptyState, errorBox, identifier, relativeTime, skeleton, stateBadge } from "../parts/basic.js";
import { countSeverities } from "../pure/dataset_advice.js";
import { setTitle, viewHeader } from "../shell.js";
import { addShortcut } from "../shortcuts.js";
import { computed, effect, onEnd, signal, untracked } from "../signals.js";
import { linkTo, navigate, query } from "../url.js";
import { datasetActions } from "./datasets/actions.js";
import { overlapsTab } from "./datasets/overlaps.js";
import { previewTab } from "./datasets/preview.js";
import { problemsTab } from "./datasets/problems.js";
import { repeat } from "./datasets/repeat.js";
import { reportTab } from "./datasets/report.js";

/** @typedef {import("../../../api.d.ts").DatasetOut} DatasetOut */

/** @type {readonly {name: string, label: string, render: (dataset: DatasetOut) => import("../dom.js").Child}[]} */
const TABS = [
  { name: "report", label: "Report", render: reportTab },
  { name: "problems", label: "Problems", render: problemsTab },
  { name: "preview", label: "Preview", render: previewTab },
  { name: "overlaps", label: "Overlaps", render: overlapsTab },
];
const CHANGING = ["uploading", "inspecting"];

/** @param {import("../views.js").Params} params */
export function render({ id }) {
  setTitle("Dataset");
  const dataset = signal(/** @type {DatasetOut | null} */ (null));
  const error = signal(/** @type {unknown} */ (null));
  const again = followDataset(id ?? "", dataset, error);
  const isMissing = computed(() => error.value instanceof ApiError && error.value.status === 404);
  const isKnown = computed(() => dataset.value !== null);
  effect(() => {
    if (dataset.value) setTitle(dataset.value.filename);
  });
  return h("div.dataset", () => {
    if (isMissing.value) return missing();
    if (!isKnown.value) return error.value ? errorBox(error.value, again) : loading();
    return untracked(() => view(/** @type {{value: DatasetOut, peek: () => DatasetOut}} */ (dataset), error, again));
  });
}

/**
 * Read the dataset, and once a second while a worker assembles or inspects it.
 * @param {string} id
 * @param {import("../signals.js").Signal<DatasetOut | null>} dataset
 * @param {import("../signals.js").Signal<unknown>} error
 */
function followDataset(id, dataset, error) {
  const abort = new AbortController();
  onEnd(() => abort.abort());
  return repeat(async () => {
    try {
      const fresh = await get(`/datasets/${id}`, { signal: abort.signal });
      if (JSON.stringify(fresh) !== JSON.stringify(dataset.peek())) dataset.value = fresh;
      error.value = null;
      return CHANGING.includes(fresh.state) ? 1 : null;
    } catch (problem) {
      if (abort.signal.aborted) return null;
      error.value = problem;
      return problem instanceof ApiError && problem.status === 404 ? null : 5;
    }
  });
}

/**
 * @param {{value: DatasetOut, peek: () => DatasetOut}} dataset
 * @param {{value: unknown}} error
 * @param {() => void} again
 */
function view(dataset, error, again) {
  const tab = computed(() => TABS.find((each) => each.name === query.value.get("tab")) ?? TABS[0]);
  const inspection = computed(() => `${dataset.value.state} ${dataset.value.sha256}`);
  TABS.forEach((each, index) => {
    const run = () => navigate(linkTo(`/datasets/${dataset.peek().id}`, { tab: index ? each.name : null }));
    addShortcut({ keys: String(index + 1), description: `Show ${each.label.toLowerCase()}`, group: "Dataset", run });
  });
  const problems = computed(() => countSeverities(dataset.value.problem_counts));
  return [
    header(dataset),
    () => (error.value ? errorBox(error.value, again) : null),
    tabs(dataset.peek().id, tab, problems),
    h("section.tab-content", { "aria-label": () => tab.value?.label }, () => {
      const [shown] = [tab.value, inspection.value];
      return untracked(() => shown?.render(dataset.peek()));
    }),
  ];
}

/** @param {{value: DatasetOut, peek: () => DatasetOut}} dataset */
function header(dataset) {
  const present = dataset.peek();
  const facts = () => {
    const { format, format_reason, num_examples, bytes, sha256, state } = dataset.value;
    return [
      format && h("span", { title: format_reason }, h("code", format)),
      num_examples !== null && h("span.tabular", formatPlural(num_examples, "row")),
      h("span.tabular", { title: `${formatNumber(bytes)} bytes` }, bytes ? formatBytes(bytes) : "No bytes yet"),
      sha256 && state !== "uploading" &&
      h("span.sha", { title: `SHA-256 ${sha256}` }, "SHA-256 ", h("code", sha256.slice(0, 12))),
    ];
  };
  return viewHeader([h("span.break", () => dataset.value.filename), stateBadge(() => dataset.value.state)], {
    back: { to: "/datasets", label: "Datasets" },
    actions: datasetActions(dataset),
    below: [
      identifier(present.id),
      facts,
      h("span", "Created ", relativeTime(present.created_at)),
      () => dataset.value.expires_at && h("span", "Expires ", relativeTime(dataset.value.expires_at)),
      present.cleaned_from &&
      h(
        "span",
        "Cleaned from ",
        h("a", { href: linkTo(`/datasets/${present.cleaned_from}`) }, h("code", present.cleaned_from)),
      ),
    ],
  });
}

/**
 * @param {string} id
 * @param {{value: typeof TABS[number] | undefined}} present
 * @param {{value: {error: number, warning: number}}} problems
 */
function tabs(id, present, problems) {
  const count = () => problems.value.error + problems.value.warning;
  return h(
    "nav.dataset-tabs",
    { "aria-label": "Parts of the dataset" },
    TABS.map((each, index) =>
      h(
        "a.tab",
        {
          href: linkTo(`/datasets/${id}`, { tab: index ? each.name : null }),
          "aria-current": () => (present.value === each ? "page" : null),
          title: `${each.label} (${index + 1})`,
        },
        each.label,
        () =>
          each.name === "problems" && count() > 0 &&
          h("span.tab-count", { class: problems.value.error ? "tone-bad" : "tone-warn" }, formatNumber(count())),
      )
    ),
  );
}

function loading() {
  return [
    viewHeader("Dataset", { back: { to: "/datasets", label: "Datasets" }, below: "Loading…" }),
    skeleton(8, "Loading the dataset"),
  ];
}

function missing() {
  return [
    viewHeader("Dataset", { back: { to: "/datasets", label: "Datasets" } }),
    emptyState({
      icon: "search",
      title: "There is no such dataset",
      text: "It was deleted, has expired, or belongs to another project.",
      action: h("a.button", { href: linkTo("/datasets") }, icon("left"), "Show the datasets"),
    }),
  ];
}
