/** The page of one job: /jobs/ID. */

import { ApiError } from "../api.js";
import { h, when } from "../dom.js";
import { emptyState, errorBox, skeleton } from "../parts/basic.js";
import { effect } from "../signals.js";
import { setTitle, viewHeader } from "../shell.js";
import { linkTo } from "../url.js";
import { JobActions } from "./job/actions.js";
import { deletedNotice, jobHeader } from "./job/header.js";
import { JobModel } from "./job/model.js";
import { jobNotices } from "./job/notices.js";
import { jobTabs } from "./job/tabs.js";
import { followClock } from "./job/clock.js";

/** @param {{id?: string}} params */
export function render({ id = "" }) {
  const model = new JobModel(id);
  const actions = new JobActions(model);
  const now = followClock();
  effect(() => setTitle(model.job.value?.name ?? id));
  return h(
    "div.job",
    () => (model.error.value ? notShown(model) : null),
    when(() => !model.job.value && !model.error.value, () => loading()),
    when(() => model.job.value, () => [
      deletedNotice(model),
      jobHeader(model, now, actions),
      h("div.job-notices", jobNotices(model, actions)),
      jobTabs(model, now),
    ]),
  );
}

function loading() {
  return h("div", viewHeader(" ", { back: { to: "/jobs", label: "Jobs" } }), skeleton(6));
}

/** @param {JobModel} model */
function notShown(model) {
  const error = model.error.peek();
  const isMissing = error instanceof ApiError && error.status === 404;
  const missing = () =>
    emptyState({
      icon: "search",
      title: "There is no such job",
      text: "It may have been deleted, or belong to another project.",
      action: h("a.button", { href: linkTo("/jobs") }, "Show the jobs"),
    });
  const back = { to: "/jobs", label: "Jobs" };
  return h("div", viewHeader("Job", { back }), isMissing ? missing() : errorBox(error, () => model.load()));
}
