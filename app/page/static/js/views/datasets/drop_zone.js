/** Takes files: by drag and drop over the whole view, or by a button; with the options for the next uploads. */

import { fill, h, icon } from "../../dom.js";
import { EXPIRIES, FORMATS, parseColumns } from "../../pure/dataset_options.js";
import { may } from "../../session.js";
import { addShortcut } from "../../shortcuts.js";
import { computed, onEnd, signal } from "../../signals.js";
import { addFiles } from "../../upload.js";

/** @typedef {import("../../upload.js").UploadOptions} UploadOptions */

/** They last while the tab is open. */
const format = signal("");
const mapping = signal("");
const expiry = signal("");
const parsed = computed(() => parseColumns(mapping.value));
const isOpen = signal(false);

/** @param {Iterable<File>} files */
function take(files) {
  if (parsed.value.problem) {
    isOpen.value = true;
    document.getElementById("upload-columns")?.focus();
    return;
  }
  addFiles(files, {
    format: format.peek() || null,
    columns: parsed.peek().columns,
    expiresAfterSeconds: expiry.peek() ? Number(expiry.peek()) : null,
  });
}

/** A button that chooses files to upload. */
export function fileButton() {
  const field = h("input", {
    type: "file",
    multiple: true,
    hidden: true,
    onchange: () => (take([...field.files]), field.value = ""),
  });
  const choose = () => field.click();
  addShortcut({ keys: "u", description: "Upload files", group: "Datasets", run: choose });
  return h(
    "span",
    field,
    h("button.primary", { type: "button", title: "Upload files (u)", onclick: choose }, icon("upload"), "Upload files"),
  );
}

/** Take files that are dropped anywhere on the page, and say so while they are dragged. */
export function dropZone() {
  if (!may("write")) return null;
  const isOver = signal(false);
  let depth = 0;
  const hasFiles = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files") ?? false;
  const abort = new AbortController();
  onEnd(() => abort.abort());
  const listen = (/** @type {string} */ name, /** @type {(event: DragEvent) => void} */ run) =>
    addEventListener(
      name,
      (event) => hasFiles(/** @type {DragEvent} */ (event)) && run(/** @type {DragEvent} */ (event)),
      {
        signal: abort.signal,
      },
    );
  listen("dragenter", (event) => {
    event.preventDefault();
    depth++;
    isOver.value = true;
  });
  listen("dragover", (event) => event.preventDefault());
  listen("dragleave", () => {
    if (--depth <= 0) [depth, isOver.value] = [0, false];
  });
  listen("drop", (event) => {
    event.preventDefault();
    [depth, isOver.value] = [0, false];
    take([...event.dataTransfer?.files ?? []]);
  });
  return h(
    "div.drop-zone",
    { hidden: () => !isOver.value, "aria-hidden": "true" },
    h(
      "div.drop-text",
      icon("upload", "icon-lg"),
      h("p", h("strong", "Drop files to upload them")),
      h("p", "Each becomes a dataset."),
    ),
  );
}

/** The options for the next uploads; the closed line says what they are. */
export function uploadOptions() {
  const summary = () =>
    [
      format.value ? `format ${format.value}` : "format detected",
      parsed.value.columns
        ? `columns ${Object.entries(parsed.value.columns).map((pair) => pair.join("=")).join(", ")}`
        : "",
      EXPIRIES.find((each) => String(each.seconds ?? "") === expiry.value && each.seconds)?.label.toLowerCase(),
    ].filter(Boolean).join(", ");
  const details = h(
    "details.upload-options",
    { open: () => isOpen.value, ontoggle: () => (isOpen.value = details.open) },
    h("summary", "Upload options", h("span.faint", ": ", summary)),
    h("div.upload-fields", formatField(), columnsField(), expiryField()),
  );
  return details;
}

function formatField() {
  const field = h("select", { id: "upload-format", onchange: () => (format.value = field.value) });
  fill(
    field,
    h("option", { value: "" }, "Detect from the first row"),
    FORMATS.map((each) => h("option", { value: each, selected: format.peek() === each }, each)),
  );
  return h(
    "div.field",
    h("label", { for: "upload-format" }, "Format"),
    field,
    h("p.field-help", "With a format, each row that lacks its keys is an error."),
  );
}

function columnsField() {
  const field = h("input", {
    id: "upload-columns",
    placeholder: "prompt=question, completion=answer",
    spellcheck: "false",
    autocapitalize: "off",
    ".value": mapping.peek(),
    oninput: () => (mapping.value = field.value),
    "aria-describedby": "upload-columns-help upload-columns-problem",
    "aria-invalid": () => (parsed.value.problem ? "true" : null),
  });
  return h(
    "div.field",
    h("label", { for: "upload-columns" }, "Column mapping"),
    field,
    h("p.field-problem", { id: "upload-columns-problem", role: "status" }, () => parsed.value.problem),
    h("p.field-help", { id: "upload-columns-help" }, "If the file has other names for the keys: FIELD=COLUMN."),
  );
}

function expiryField() {
  const field = h("select", { id: "upload-expiry", onchange: () => (expiry.value = field.value) });
  fill(
    field,
    EXPIRIES.map(({ label, seconds }) => {
      const value = String(seconds ?? "");
      return h("option", { value, selected: expiry.peek() === value }, label);
    }),
  );
  return h(
    "div.field",
    h("label", { for: "upload-expiry" }, "Delete"),
    field,
    h("p.field-help", "A dataset that an unfinished job uses is kept until the job ends."),
  );
}
