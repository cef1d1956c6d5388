/** The selected jobs, and the bar with what can be done with them. */

import { h, icon } from "../../dom.js";
import { formatPlural } from "../../format.js";
import { ACTIONS } from "../../pure/jobs_actions.js";
import { MOST_COMPARED, selectRange, toggle } from "../../pure/jobs_selection.js";
import { may, session } from "../../session.js";
import { computed, signal } from "../../signals.js";
import { linkTo, navigate } from "../../url.js";
import { runAction } from "./actions.js";

/**
 * @typedef {import("./store.js").JobStore} JobStore
 * @typedef {import("../../pure/jobs_filter.js").Job} Job
 */

/** The selection stays while other filters and other views are shown. */
const selected = signal(/** @type {readonly string[]} */ ([]));
/** The selected jobs as they were last seen: they may not be in the list now. @type {Map<string, Job>} */
const known = new Map();
let owner = "";

export class Selection {
  constructor() {
    this.ids = selected;
    const present = `${session.peek()?.project_id} ${session.peek()?.key_id}`;
    if (owner !== present) this.ids.value = [];
    owner = present;
    /** Where each selected job stands in the selection: its colour and dash pattern in the comparison. */
    this.places = computed(() => new Map(this.ids.value.map((id, place) => [id, place])));
    /** @type {string | null} */
    this.anchor = null;
  }

  /** @param {string} id */
  has(id) {
    return this.places.value.has(id);
  }

  /** @param {string} id */
  isHeld(id) {
    return this.ids.peek().includes(id);
  }

  /**
   * @param {string} id
   * @param {readonly string[]} order
   * @param {boolean} withRange
   */
  toggle(id, order, withRange) {
    const isOn = !this.isHeld(id);
    this.ids.value = withRange
      ? selectRange(this.ids.peek(), order, this.anchor, id, isOn)
      : toggle(this.ids.peek(), id);
    this.anchor = id;
  }

  clear() {
    this.ids.value = [];
    this.anchor = null;
  }

  /** @param {readonly string[]} order */
  toggleAll(order) {
    const areAll = order.every((id) => this.isHeld(id));
    this.ids.value = areAll ? [] : [...this.ids.peek(), ...order.filter((id) => !this.isHeld(id))];
  }

  /**
   * Forget a job that was deleted.
   * @param {string} id
   */
  forget(id) {
    if (this.isHeld(id)) this.ids.value = this.ids.peek().filter((each) => each !== id);
    known.delete(id);
  }

  /**
   * Return the selected jobs with their latest known values.
   * @param {JobStore} store
   * @returns {Job[]}
   */
  jobsIn(store) {
    const shown = new Set(store.order.value);
    return this.ids.value.flatMap((id) => {
      if (shown.has(id)) known.set(id, store.jobOf(id).value);
      return known.get(id) ?? [];
    });
  }

  compare() {
    const ids = this.ids.peek();
    if (ids.length && ids.length <= MOST_COMPARED) navigate(linkTo("/compare", { job: ids }));
  }
}

/**
 * @param {Selection} selection
 * @param {JobStore} store
 * @returns {Node}
 */
export function selectionBar(selection, store) {
  const isBusy = signal(false);
  const count = computed(() => selection.ids.value.length);
  const hidden = computed(() => selection.ids.value.filter((id) => !store.order.value.includes(id)).length);
  const jobs = computed(() => selection.jobsIn(store));
  return h(
    "div.selection-bar",
    { hidden: () => count.value === 0, role: "region", "aria-label": "Selected jobs" },
    h(
      "p.selection-count",
      { role: "status" },
      h("strong", () => `${count.value} selected`),
      () => count.value > MOST_COMPARED && h("span.quiet", `Compare takes ${MOST_COMPARED} at most`),
      () => hidden.value > 0 && h("span.quiet", `${hidden.value} not in this list`),
    ),
    h(
      "div.actions",
      h(
        "button.primary",
        {
          type: "button",
          title: "Compare the selected jobs (c)",
          disabled: () => count.value > MOST_COMPARED,
          onclick: () => selection.compare(),
        },
        icon("compare"),
        "Compare",
      ),
      ACTIONS.filter((action) => action.name !== "retry").map((action) =>
        actionButton(action, () => jobs.value.filter((job) => action.states.includes(job.state)), count, isBusy, store)
      ),
      h("button.ghost.icon-only", {
        type: "button",
        "aria-label": "Clear the selection",
        title: "Clear the selection (Esc)",
        onclick: () => selection.clear(),
      }, icon("cross")),
    ),
  );
}

/**
 * @param {import("../../pure/jobs_actions.js").JobAction} action
 * @param {() => Job[]} fitting  those of the selected jobs to which the action applies
 * @param {{readonly value: number}} count
 * @param {import("../../signals.js").Signal<boolean>} isBusy
 * @param {JobStore} store
 */
function actionButton(action, fitting, count, isBusy, store) {
  const number = computed(() => fitting().length);
  const run = async () => {
    isBusy.value = true;
    await runAction(action, fitting(), store);
    isBusy.value = false;
  };
  return h(
    action.isDangerous ? "button.danger-quiet" : "button",
    {
      type: "button",
      hidden: () => number.value === 0 || !may("write"),
      disabled: () => isBusy.value,
      title: () =>
        number.value < count.value ? `${action.label} ${formatPlural(number.value, "job")} of ${count.value}` : null,
      onclick: run,
    },
    icon(action.icon),
    () => number.value < count.value ? `${action.label} ${number.value}` : action.label,
  );
}
