/** Shows the files on their way, and the uploads that were interrupted. */

import { each, fill, h, icon } from "../../dom.js";
import { formatBytes, formatDuration, formatPercent } from "../../format.js";
import { progressBar, relativeTime } from "../../parts/basic.js";
import { confirmAction, showMessage } from "../../parts/overlay.js";
import { countStoredBytes, isSameFile } from "../../pure/upload_plan.js";
import { may } from "../../session.js";
import { computed, effect, onEnd, signal } from "../../signals.js";
import {
  addFiles,
  cancelUnfinished,
  cancelUpload,
  continueUpload,
  dismissUpload,
  loadUnfinished,
  pauseUpload,
  unfinished,
  uploads,
  whenUploadEnds,
} from "../../upload.js";
import { linkTo, navigate, path } from "../../url.js";
import { repeat } from "./repeat.js";

/**
 * @typedef {import("../../upload.js").Upload} Upload
 * @typedef {import("../../../../api.d.ts").UploadOut} UploadOut
 */

const SECONDS_BETWEEN_READS = 10;
/** @type {Partial<Record<import("../../upload.js").UploadState, [string, string]>>} */
const ICONS = {
  done: ["check", "good"],
  failed: ["error", "error"],
  retrying: ["warning", "warning"],
  paused: ["pause", ""],
  waiting: ["clock", ""],
};

// Uploads go on while other views are shown: these tell how they end.
whenUploadEnds((upload) => {
  if (path.peek() === "/datasets") return;
  const show = { label: "Show", run: () => navigate(linkTo("/datasets")) };
  if (upload.state.peek() === "done") {
    const id = upload.datasetId.peek();
    showMessage(`${upload.name} was uploaded.`, {
      tone: "good",
      action: { label: "Show", run: () => navigate(linkTo(`/datasets/${id}`)) },
    });
  } else showMessage(`The upload of ${upload.name} has failed.`, { tone: "bad", action: show });
});

export function uploadList() {
  const abort = new AbortController();
  onEnd(() => abort.abort());
  if (may("write")) {
    repeat(async () => {
      try {
        await loadUnfinished(abort.signal);
      } catch {
        // The list below shows errors of the server; this one is read again.
      }
      return SECONDS_BETWEEN_READS;
    });
  }
  const isEmpty = computed(() => !uploads.value.length && !unfinished.value.length);
  return h(
    "section.card.uploads",
    { hidden: () => isEmpty.value, "aria-label": "Uploads" },
    h(
      "ul",
      each(() => uploads.value, (upload) => upload.key, (upload) => uploadRow(upload.peek())),
      each(() => unfinished.value, (upload) => upload.id, unfinishedRow),
    ),
  );
}

/** @param {Upload} upload */
function uploadRow(upload) {
  const { state } = upload;
  const isFailed = () => state.value === "failed";
  return h(
    "li.upload",
    () => icon(ICONS[state.value]?.[0] ?? "upload", ICONS[state.value]?.[1]),
    h(
      "div.upload-text",
      h("p.upload-name", h("strong.break", upload.name), " ", h("span.faint.nowrap", formatBytes(upload.size))),
      h("p.upload-note", { class: () => (isFailed() ? "bad" : ""), role: "status" }, () => describe(upload)),
      h("p.tabular.faint", () => numbers(upload)),
      () =>
        ["done", "failed"].includes(state.value)
          ? null
          : progressBar(() => (upload.size ? upload.sent.value / upload.size : 0), `Upload of ${upload.name}`),
    ),
    uploadActions(upload),
  );
}

/** @param {Upload} upload */
function describe(upload) {
  const texts = {
    waiting: "Waits for the file before it",
    checking: "Reading the file",
    sending: "Sending",
    completing: "All parts are stored; creating the dataset",
    paused: upload.note.value || "Paused. What is stored is kept for a day.",
    failed: upload.note.value,
    retrying: upload.note.value,
    done: upload.sameAs.value ? "Uploaded. The same bytes were uploaded before: " : "Uploaded",
  };
  const text = texts[upload.state.value];
  const other = upload.state.value === "done" && upload.sameAs.value;
  return other ? h("span", text, h("a", { href: linkTo(`/datasets/${other}`) }, "show that dataset")) : text;
}

/** @param {Upload} upload */
function numbers(upload) {
  const sent = `${formatBytes(upload.sent.value)} of ${formatBytes(upload.size)}`;
  if (["done", "failed", "waiting"].includes(upload.state.value)) return "";
  if (upload.state.value !== "sending") return sent;
  const [speed, left] = [upload.meter.speed(), upload.meter.secondsLeft(upload.size - upload.sent.value)];
  return [sent, speed && `${formatBytes(Math.round(speed))}/s`, left !== null && `${formatDuration(left)} left`]
    .filter(Boolean).join(" · ");
}

/**
 * The buttons change with the state; the focus stays on the same one, or on the first.
 * @param {Upload} upload
 */
function uploadActions(upload) {
  const place = h("div.actions");
  effect(() => {
    const focused = place.contains(document.activeElement) ? document.activeElement?.getAttribute("aria-label") : null;
    fill(place, ...buttonsOf(upload, upload.state.value));
    const buttons = [...place.querySelectorAll("button, a")];
    if (focused) (buttons.find((each) => each.getAttribute("aria-label") === focused) ?? buttons[0])?.focus();
  });
  return place;
}

/**
 * @param {Upload} upload
 * @param {import("../../upload.js").UploadState} state
 * @returns {Node[]}
 */
function buttonsOf(upload, state) {
  const button = (
    /** @type {string} */ name,
    /** @type {string} */ label,
    /** @type {() => void} */ run,
    /** @type {Node | string | null} */ text = null,
  ) =>
    h(
      `button${text ? "" : ".ghost.icon-only"}`,
      { type: "button", title: text ? null : label, "aria-label": `${label}: ${upload.name}`, onclick: run },
      icon(name),
      text,
    );
  const dismiss = () => (dismissUpload(upload), focusHeading());
  if (state === "done") {
    const href = linkTo(`/datasets/${upload.datasetId.peek()}`);
    return [h("a.button", { href, "aria-label": `Show: ${upload.name}` }, "Show"), button("cross", "Dismiss", dismiss)];
  }
  const next = {
    retrying: () => button("retry", "Try now", () => upload.tryNow(), countdown(upload)),
    failed: () => button("retry", "Try again", () => continueUpload(upload), "Try again"),
    paused: () => button("play", "Continue", () => continueUpload(upload), "Continue"),
  };
  const isStopped = state === "failed" || state === "paused";
  const first = state in next ? next[/** @type {keyof typeof next} */ (state)]() : null;
  const pause = isStopped ? null : button("pause", "Pause", () => pauseUpload(upload));
  const nodes = [first, pause, button("cross", "Cancel", () => cancel(upload))];
  return nodes.filter((each) => each !== null);
}

function focusHeading() {
  document.getElementById("view-heading")?.focus({ preventScroll: true });
}

/** @param {Upload} upload */
function countdown(upload) {
  const seconds = signal(0);
  const count = () => (seconds.value = Math.max(0, Math.ceil(((upload.retryAt.peek() ?? 0) - Date.now()) / 1000)));
  count();
  const timer = setInterval(count, 250);
  onEnd(() => clearInterval(timer));
  return h("span.tabular", "Try now (", () => seconds.value, " s)");
}

/** @param {Upload} upload */
async function cancel(upload) {
  const isWorthAsking = upload.sent.peek() > 64e6 && upload.state.peek() !== "failed";
  const title = "Cancel the upload?";
  const text = `${formatBytes(upload.sent.peek())} of ${upload.name} are stored. They are deleted.`;
  if (isWorthAsking && !await confirmAction({ title, text, action: "Cancel upload", isDangerous: true })) return;
  await tell(() => cancelUpload(upload));
  focusHeading();
}

/** @param {import("../../signals.js").Signal<UploadOut>} upload */
function unfinishedRow(upload) {
  const { filename } = upload.peek();
  const field = h("input", { type: "file", hidden: true, onchange: () => resume(upload.peek(), field) });
  const cancel = () => tell(() => cancelUnfinished(upload.peek()));
  return h(
    "li.upload",
    icon("warning", "warning"),
    unfinishedText(upload),
    h(
      "div.actions",
      field,
      h("button", { type: "button", onclick: () => field.click() }, icon("play"), "Choose file"),
      h(
        "button.ghost.icon-only",
        { type: "button", title: "Cancel", "aria-label": `Cancel: ${filename}`, onclick: cancel },
        icon("cross"),
      ),
    ),
  );
}

/** @param {import("../../signals.js").Signal<UploadOut>} upload */
function unfinishedText(upload) {
  const { filename, bytes, created_at, expires_at, parts } = upload.peek();
  const stored = () => countStoredBytes(upload.value.parts, bytes);
  const isGrowing = () => upload.value.parts.length > parts.length;
  return h(
    "div.upload-text",
    h("p.upload-name", h("strong.break", filename), " ", h("span.faint.nowrap", formatBytes(bytes))),
    h(
      "p.upload-note",
      () =>
        isGrowing()
          ? "Parts are arriving from another tab or program."
          : "Not finished. Choose the same file again to continue; stored parts are not sent twice.",
    ),
    h(
      "p.tabular.faint",
      () => `${formatBytes(stored())} of ${formatBytes(bytes)} stored (${formatPercent(stored() / bytes)})`,
      " · started ",
      relativeTime(created_at),
      " · expires ",
      relativeTime(expires_at),
    ),
  );
}

/**
 * @param {UploadOut} upload
 * @param {HTMLInputElement} field
 */
function resume(upload, field) {
  const file = field.files?.[0];
  field.value = "";
  if (!file) return;
  if (isSameFile(upload, file)) addFiles([file], { format: null, columns: null, expiresAfterSeconds: null });
  else {
    const wanted = `${upload.filename} with ${formatBytes(upload.bytes)}`;
    showMessage(`${file.name} (${formatBytes(file.size)}) is another file. Choose ${wanted}.`, { tone: "bad" });
  }
}

/** @param {() => Promise<void>} action */
async function tell(action) {
  try {
    await action();
  } catch (error) {
    showMessage(error instanceof Error ? error.message : String(error), { tone: "bad" });
  }
}
