/** What can be done with a job: buttons, shortcuts, and the server's answers. */

import { createIdempotencyKey, post, request } from "../../api.js";
import { h, icon, when } from "../../dom.js";
import { formatNumber } from "../../format.js";
import { confirmAction, showDialog, showMessage } from "../../parts/overlay.js";
import { actionsFor } from "../../pure/job_actions.js";
import { may } from "../../session.js";
import { addShortcut } from "../../shortcuts.js";
import { computed, signal } from "../../signals.js";
import { linkTo, navigate } from "../../url.js";

/** @typedef {import("./model.js").JobModel} JobModel */
/** @typedef {import("../../pure/job_actions.js").Action} Action */

const RETRY_KEY = "retry";

export class JobActions {
  /** @param {JobModel} model */
  constructor(model) {
    this.model = model;
    this.busy = signal(/** @type {Action | null} */ (null));
    this.addShortcuts();
  }

  /** @param {Action} action */
  applies(action) {
    const job = this.model.job.value;
    return job !== null && !this.model.isDeleted.value && may("write") && actionsFor(job.state).includes(action);
  }

  addShortcuts() {
    /** @type {[string, string, Action, () => void][]} */
    const keys = [
      ["p", "Pause", "pause", () => this.pause()],
      ["r", "Resume", "resume", () => this.resume()],
      ["x", "Cancel", "cancel", () => this.cancel()],
      ["t", "Retry", "retry", () => this.retry()],
    ];
    for (const [key, description, action, run] of keys) {
      addShortcut({ keys: key, description, group: "This job", run: () => this.applies(action) && run() });
    }
    addShortcut({
      keys: "c",
      description: "Clone with changes",
      group: "This job",
      run: () => may("write") && this.clone(),
    });
  }

  /**
   * Send a request and show what the server answers.
   * @param {Action} action
   * @param {() => Promise<any>} send
   * @returns {Promise<any>} null after an error
   */
  async run(action, send) {
    if (this.busy.peek()) return null;
    this.busy.value = action;
    try {
      return await send();
    } catch (error) {
      showMessage(error instanceof Error ? error.message : String(error), { tone: "bad" });
      this.model.readJob();
      return null;
    } finally {
      this.busy.value = null;
    }
  }

  /**
   * @param {Action} action
   */
  async change(action) {
    const job = await this.run(action, () => post(`${this.model.path}/${action}`));
    if (job) this.model.job.value = job;
  }

  pause() {
    return this.change("pause");
  }

  resume() {
    return this.change("resume");
  }

  async cancel() {
    const job = this.model.job.peek();
    const text = job?.state === "running"
      ? "The training process ends, and the job cannot be continued. Its checkpoints stay for a week. To stop for now, pause it."
      : "The job ends and cannot be continued.";
    const name = job?.name ?? this.model.id;
    if (
      await confirmAction({
        title: "Cancel this job?",
        text: [h("strong", name), h("br"), text],
        action: "Cancel job",
        isDangerous: true,
      })
    ) {
      await this.change("cancel");
    }
  }

  async retry() {
    const checkpoint = this.model.checkpoints.peek()?.[0] ?? null;
    const from = await askStart(checkpoint?.step ?? null);
    if (!from) return;
    const headers = { idempotencyKey: createIdempotencyKey() };
    const job = await this.run(RETRY_KEY, () => post(`${this.model.path}/retry`, { from }, headers));
    if (!job) return;
    showMessage("A new job was created from this one's spec.", { tone: "good" });
    navigate(linkTo(`/jobs/${job.id}`));
  }

  clone() {
    navigate(linkTo("/new", { from: this.model.id }));
  }

  async delete() {
    const job = this.model.job.peek();
    const text = [
      h("strong", job?.name ?? this.model.id),
      h("br"),
      "Its events, curves, checkpoints, artifacts and adapter are deleted too. This cannot be undone.",
    ];
    if (!await confirmAction({ title: "Delete this job?", text, action: "Delete job", isDangerous: true })) return;
    const isDone = await this.run("delete", async () => {
      await request("DELETE", this.model.path);
      return true;
    });
    if (!isDone) return;
    showMessage("The job was deleted.", { tone: "good" });
    navigate(linkTo("/jobs"));
  }

  adapterLink() {
    const id = computed(() => this.model.job.value?.adapter_id ?? null);
    return () =>
      id.value &&
      h("a.button.primary", { href: linkTo(`/adapters/${id.value}`) }, icon("adapter"), "Adapter");
  }

  /** The buttons that apply now. */
  buttons() {
    const { model } = this;
    return [
      this.adapterLink(),
      this.buttonFor("resume", "play", "Resume", "button", () => this.resume(), "r"),
      this.buttonFor("pause", "pause", "Pause", "button", () => this.pause(), "p"),
      this.buttonFor("cancel", "stop", "Cancel", "button.danger-quiet", () => this.cancel(), "x"),
      this.buttonFor("retry", "retry", "Retry", "button", () => this.retry(), "t"),
      when(
        () => may("write") && !model.isDeleted.value,
        () =>
          h(
            "a.button",
            { href: linkTo("/new", { from: model.id }), title: "New job with this one's spec (c)" },
            icon("clone"),
            "Clone",
          ),
      ),
      this.buttonFor("delete", "trash", "Delete", "button.ghost.icon-only", () => this.delete(), ""),
    ];
  }

  /**
   * @param {Action} action
   * @param {string} iconName
   * @param {string} label
   * @param {string} tag
   * @param {() => void} run
   * @param {string} key
   */
  buttonFor(action, iconName, label, tag, run, key) {
    const isIconOnly = tag.endsWith("icon-only");
    return when(() => this.applies(action), () =>
      h(
        tag,
        {
          type: "button",
          onclick: run,
          title: key ? `${label} (${key})` : label,
          "aria-label": isIconOnly ? `${label} this job` : null,
          "aria-busy": () => (this.busy.value === action ? "true" : null),
          disabled: () => this.busy.value !== null,
        },
        icon(iconName),
        !isIconOnly && label,
      ));
  }
}

/**
 * Ask where a retry starts.
 * @param {number | null} step  of the last checkpoint
 * @returns {Promise<"start" | "last_checkpoint" | undefined>}
 */
function askStart(step) {
  /**
   * @param {string} tag
   * @param {string} label
   * @param {() => void} run
   */
  const choice = (tag, label, run) => h(tag, { type: "button", autofocus: tag !== "button", onclick: run }, label);
  return showDialog({
    title: "Retry this job",
    body: (close) =>
      h(
        "div.dialog-body",
        h("p", "A new job is created with the same spec. To change something first, use Clone."),
        step === null && h("p.quiet", "No checkpoint is stored, so the new job starts at step 0."),
        h(
          "div.actions.end",
          choice(step === null ? "button.primary" : "button", "From the start", () => close("start")),
          step !== null && choice("button.primary", `From step ${formatNumber(step)}`, () => close("last_checkpoint")),
        ),
      ),
  });
}
