/** The curves of a job: charts that share their crosshair and zoom. */

import { ChartGroup } from "../../../chart/group.js";
import { each, h, when } from "../../../dom.js";
import { emptyState, errorBox } from "../../../parts/basic.js";
import { isFinal } from "../../../pure/job_actions.js";
import { planCharts } from "../../../pure/job_charts.js";
import { listMarks } from "../../../pure/job_marks.js";
import { addShortcut } from "../../../shortcuts.js";
import { computed, effect, onEnd, signal, untracked } from "../../../signals.js";
import { setQuery } from "../../../url.js";
import { chartPanel } from "./panel.js";
import { ChartOptions, chartToolbar } from "./options.js";
import { FinerCurves } from "./finer.js";

/** @typedef {import("../model.js").JobModel} JobModel */
/** @typedef {import("../../../pure/job_charts.js").ChartPlan} ChartPlan */
/** @typedef {import("../../../pure/job_marks.js").StepMark} StepMark */

/** The shortest time between two changes of what is drawn, in milliseconds. */
const PACE = 150;
/** @type {Record<string, string>} */
const EMPTY = {
  queued: "Curves begin with the first step, once a worker has claimed the job.",
  running: "Curves begin with the first step. The events say what the job does until then.",
  paused: "The job was paused before its first step.",
};

/** What all charts of a job share. */
export class ChartBoard {
  /** @param {JobModel} model */
  constructor(model) {
    this.model = model;
    this.options = new ChartOptions();
    this.group = new ChartGroup();
    const { slow, catchUp } = followSlowly(() => model.curvesVersion.value);
    this.version = slow;
    this.areOthersOpen = signal(false);
    /** @type {{from: number, to: number} | null} the range in view, in the axis' unit */
    this.zoom = null;
    const names = computed(() => {
      this.version.value;
      return model.curves.names().join(" ");
    });
    const objective = computed(() => model.job.value?.spec.objective ?? "sft");
    this.plans = computed(() => planCharts(names.value.split(" ").filter(Boolean), objective.value));
    this.marks = this.#followMarks();
    /** The title of the chart in which the user has zoomed last. */
    this.zoomed = "";
    this.finer = new FinerCurves(model, () => this.#listGroups(), catchUp);
    this.#followRange();
  }

  /** @returns {{readonly value: readonly StepMark[]}} */
  #followMarks() {
    const { model } = this;
    const best = computed(() => {
      this.version.value;
      const found = model.curves.findLowest("validation_loss");
      return found ? `${found.step} ${found.value}` : "";
    });
    return computed(() => {
      const events = model.events.value;
      const [step, value] = best.value.split(" ").map(Number);
      return untracked(() => listMarks(events, best.peek() ? { step, value } : null, model.job.peek()?.step ?? 0));
    });
  }

  #followRange() {
    const { options, model, group } = this;
    effect(() => {
      const kind = options.xKind.value;
      const { range } = options;
      this.areOthersOpen.value;
      this.plans.value;
      if (!model.hasHistory.value) return;
      untracked(() => {
        const place = (/** @type {number} */ step) => model.curves.positionOf(step, kind);
        group.zoom = this.zoom = range && { from: place(range.from), to: place(range.to) };
        this.finer.show(range);
      });
    });
    group.addEventListener("zoom", (event) => {
      const { from, to, chart } = /** @type {CustomEvent} */ (event).detail;
      this.zoomed = chart.label;
      const kind = options.xKind.peek();
      options.setRange(
        from === null ? null : { from: model.curves.stepAt(from, kind), to: model.curves.stepAt(to, kind) },
      );
    });
    addShortcut({ keys: "0", description: "Show all steps", group: "Curves", run: () => options.setRange(null) });
  }

  #listGroups() {
    const { main, others } = this.plans.peek();
    const shown = this.areOthersOpen.peek() ? [...main, ...others] : [...main];
    shown.sort((a, b) => Number(b.title === this.zoomed) - Number(a.title === this.zoomed));
    return shown.map(({ series }) => series.map(({ name }) => name));
  }

  /** @param {string} id  of a mark */
  openMark(id) {
    const mark = this.marks.value.find((each) => each.id === id);
    if (mark && mark.event !== null) setQuery({ tab: "events", event: mark.event }, { replace: false });
  }
}

/**
 * Return a signal that follows another one, but not at every change, and a function that lets it catch up at once.
 * @param {() => number} read
 */
function followSlowly(read) {
  const slow = signal(untracked(read));
  let [timer, changedAt] = [0, -PACE];
  const catchUp = () => {
    clearTimeout(timer);
    timer = 0;
    changedAt = performance.now();
    slow.value = untracked(read);
  };
  effect(() => {
    if (read() === slow.peek()) return;
    if (!timer) timer = setTimeout(catchUp, Math.max(0, changedAt + PACE - performance.now()));
  });
  onEnd(() => clearTimeout(timer));
  return { slow, catchUp };
}

/** @param {JobModel} model */
export function curvesTab(model) {
  const board = new ChartBoard(model);
  const hasCurves = computed(() => board.plans.value.main.length + board.plans.value.others.length > 0);
  const state = computed(() => model.job.value?.state ?? "queued");
  const hasBegun = computed(() => (model.job.value?.attempt ?? 0) > 0);
  const isLoading = () => !model.hasHistory.value && !model.historyError.value;
  return h(
    "div.curves",
    () => model.historyError.value && errorBox(model.historyError.value, () => model.load()),
    when(() => isLoading() && hasBegun.value, chartSkeletons),
    () => !hasCurves.value && (model.hasHistory.value || !hasBegun.value) && noCurves(state.value),
    when(() => model.hasHistory.value && hasCurves.value, () => [
      chartToolbar(board.options, {
        hasTokens: () => board.plans.value.others.some(({ id }) => id === "num_tokens"),
        csvPath: `${model.path}/metrics.csv`,
      }),
      h("div.job-chart-grid", charts(() => board.plans.value.main, board)),
      when(() => board.plans.value.others.length > 0, () => otherCharts(board)),
    ]),
  );
}

/**
 * @param {() => readonly ChartPlan[]} plans
 * @param {ChartBoard} board
 */
function charts(plans, board) {
  const keyOf = (/** @type {ChartPlan} */ plan) => `${plan.id} ${plan.series.map(({ name }) => name).join(" ")}`;
  return each(plans, keyOf, (plan) => chartPanel(plan.peek(), board));
}

/** @param {ChartBoard} board */
function otherCharts(board) {
  return h(
    "details.job-other-charts",
    {
      ontoggle: (
        /** @type {Event} */ event,
      ) => (board.areOthersOpen.value = /** @type {HTMLDetailsElement} */ (event.target).open),
    },
    h("summary", () => `Other metrics (${board.plans.value.others.length})`),
    when(() => board.areOthersOpen.value, () => h("div.job-chart-grid", charts(() => board.plans.value.others, board))),
  );
}

function chartSkeletons() {
  const places = Array.from({ length: 5 }, () => h("div.job-chart-panel.job-chart-skeleton", h("div.bar")));
  return h(
    "div",
    { role: "status", "aria-label": "Loading the curves" },
    h("div.job-chart-toolbar"),
    h("div.job-chart-grid", places),
  );
}

/** @param {import("../../../../../api.d.ts").JobState} state */
function noCurves(state) {
  const [title, text] = isFinal(state)
    ? ["No curves", "The job ended before its first step."]
    : ["No curves yet", EMPTY[state] ?? "Curves begin with the first step."];
  return emptyState({ icon: "jobs", title, text });
}
