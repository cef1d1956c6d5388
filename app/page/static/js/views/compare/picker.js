/** A dialog that adds jobs to the comparison. */

import { get } from "../../api.js";
import { each, h, icon } from "../../dom.js";
import { errorBox, relativeTime, skeleton, stateBadge } from "../../parts/basic.js";
import { showDialog } from "../../parts/overlay.js";
import { addJob } from "../../pure/compare_url.js";
import { MOST_COMPARED } from "../../pure/jobs_selection.js";
import { onEnd, signal } from "../../signals.js";

/**
 * @typedef {import("./options.js").Options} Options
 * @typedef {import("../../pure/jobs_filter.js").Job} Job
 */

const TYPING_MS = 200;
const MOST_FOUND = 50;

/** @param {Options} options */
export function pickJobs(options) {
  return showDialog({ title: "Add jobs", wide: true, body: (close) => picker(options, close) });
}

/**
 * @param {Options} options
 * @param {() => void} close
 */
function picker(options, close) {
  const found = signal(/** @type {readonly Job[] | null} */ (null));
  const error = signal(/** @type {unknown} */ (null));
  let abort = new AbortController();
  /** @type {number | undefined} */
  let timer;
  const search = async () => {
    abort.abort();
    abort = new AbortController();
    const { signal: aborted } = abort;
    try {
      const page = await get("/jobs", { query: { name: field.value.trim(), limit: MOST_FOUND }, signal: aborted });
      found.value = page.items;
      error.value = null;
    } catch (problem) {
      if (!aborted.aborted) error.value = problem;
    }
  };
  const field = h("input", {
    type: "search",
    placeholder: "Name or ID",
    "aria-label": "Name or ID",
    autofocus: true,
    spellcheck: "false",
    autocomplete: "off",
    oninput: () => {
      clearTimeout(timer);
      timer = setTimeout(search, TYPING_MS);
    },
  });
  onEnd(() => {
    clearTimeout(timer);
    abort.abort();
  });
  search();
  return h(
    "div.dialog-body.picker",
    h("div.search", icon("search"), field),
    () => error.value ? errorBox(error.value, search) : null,
    () => found.value === null && !error.value ? skeleton(6) : null,
    () => found.value?.length === 0 ? h("p.quiet", "No job matches.") : null,
    h("ul.picker-list", each(() => found.value ?? [], (job) => job.id, (job) => pickerItem(job.peek(), options))),
    h(
      "div.row.between",
      h("p.quiet.tabular", { role: "status" }, () => `${options.ids.value.length} of ${MOST_COMPARED} jobs`),
      h("button.primary", { type: "button", onclick: () => close() }, "Done"),
    ),
  );
}

/**
 * @param {Job} job
 * @param {Options} options
 */
function pickerItem(job, options) {
  const isOn = () => options.ids.value.includes(job.id);
  const toggle = () => {
    const ids = options.ids.peek();
    options.change({ ids: ids.includes(job.id) ? ids.filter((id) => id !== job.id) : addJob(ids, job.id) });
  };
  return h(
    "li",
    h(
      "label.picker-item",
      h("input", {
        type: "checkbox",
        ".checked": isOn,
        disabled: () => !isOn() && options.ids.value.length >= MOST_COMPARED,
        onchange: toggle,
      }),
      h(
        "span.picker-name",
        h("span.truncate", job.name || job.id),
        h("span.job-sub.truncate", `${job.base_model} · ${job.method}`),
      ),
      stateBadge(job.state),
      h("span.faint.nowrap", relativeTime(job.created_at)),
    ),
  );
}
