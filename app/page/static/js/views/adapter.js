/** One adapter: its files, where it comes from, and how to load it. */

import { get, request } from "../api.js";
import { fill, h, icon } from "../dom.js";
import { formatBytes, formatNumber, formatValue } from "../format.js";
import { copyButton, errorBox, identifier, relativeTime, skeleton } from "../parts/basic.js";
import { confirmAction } from "../parts/overlay.js";
import { UNKNOWN_BASE, writeDownload, writeLoading } from "../pure/call_peft.js";
import { may } from "../session.js";
import { setTitle, viewHeader } from "../shell.js";
import { onEnd } from "../signals.js";
import { linkTo, navigate } from "../url.js";
import { act } from "./admin/act.js";

/**
 * @typedef {import("../../../api.d.ts").AdapterOut} Adapter
 * @typedef {import("../dom.js").Child} Child
 */

const FOLDER = "adapter";

/** @param {Record<string, string>} params */
export function render({ id }) {
  setTitle("Adapter");
  const controller = new AbortController();
  onEnd(() => controller.abort());
  const view = h("div");
  const load = async () => {
    fill(view, viewHeader("Adapter", { back: { to: "/adapters", label: "Adapters" } }), skeleton(10));
    try {
      const adapter = await get(`/adapters/${encodeURIComponent(id)}`, { signal: controller.signal });
      setTitle(adapter.name);
      fill(view, ...content(adapter));
    } catch (error) {
      if (!controller.signal.aborted) {
        fill(view, viewHeader("Adapter", { back: { to: "/adapters", label: "Adapters" } }), errorBox(error, load));
      }
    }
  };
  load();
  return view;
}

/** @param {Adapter} adapter */
function content(adapter) {
  return [
    viewHeader(adapter.name, {
      back: { to: "/adapters", label: "Adapters" },
      below: [identifier(adapter.id), h("span", "Created ", relativeTime(adapter.created_at))],
      actions: actionsOf(adapter),
    }),
    h(
      "div.with-aside.adapter",
      h("div.stack", loadingCard(adapter), filesCard(adapter), manifestCard(adapter)),
      factsCard(adapter),
    ),
  ];
}

/** @param {Adapter} adapter */
function actionsOf(adapter) {
  return [
    h(
      "a.button.primary",
      { href: adapter.archive.url, download: "" },
      icon("download"),
      `Download (${formatBytes(adapter.archive.size)})`,
    ),
    may("write") &&
    h("a.button", {
      href: linkTo("/new", { model: adapter.base_model, init_from: adapter.id }),
      title: "New job that starts from this adapter",
    }, "New job from it"),
    may("write") &&
    h("button.danger-quiet", { type: "button", onclick: () => remove(adapter) }, icon("trash"), "Delete"),
  ];
}

/** @param {Adapter} adapter */
async function remove({ id, name }) {
  const isSure = await confirmAction({
    title: "Delete this adapter?",
    text: `${name} and its files are deleted. Its job and the job's metrics stay.`,
    action: "Delete",
    isDangerous: true,
  });
  if (isSure) {
    act(() => request("DELETE", `/adapters/${encodeURIComponent(id)}`), {
      done: "Deleted the adapter.",
      then: () => navigate(linkTo("/adapters")),
    });
  }
}

/** @param {Adapter} adapter */
function loadingCard(adapter) {
  const download = writeDownload(location.origin, adapter, FOLDER);
  const code = writeLoading(adapter, FOLDER);
  return h(
    "section.card",
    { "aria-labelledby": "loading" },
    h("div.card-header", h("h2", { id: "loading" }, "Load it with PEFT and transformers")),
    h(
      "div.card-body.stack",
      codeBlock("Download and unpack", download),
      codeBlock("Load", code),
      code.includes(UNKNOWN_BASE) && h(
        "p.field-help",
        `The base model ${adapter.base_model} was added from a folder. Put the path of the same model in place of `,
        h("code", UNKNOWN_BASE),
        "; the adapter's README.md says how to check that it is the same.",
      ),
    ),
  );
}

/**
 * @param {string} label
 * @param {string} text
 */
function codeBlock(label, text) {
  return h(
    "div.code-block",
    h("div.row.between", h("span.field-label", label), copyButton(() => text, `Copy: ${label.toLowerCase()}`)),
    h("pre.code", { tabindex: 0, "aria-label": label }, h("code", text)),
  );
}

/** @param {Adapter} adapter */
function filesCard({ files, archive }) {
  return h(
    "section",
    { "aria-labelledby": "files" },
    h(
      "div.table-scroll",
      { tabindex: 0, role: "region", "aria-label": "Files" },
      h(
        "table",
        h(
          "thead",
          h(
            "tr",
            h("th", { scope: "col", id: "files" }, "File"),
            h("th.number", { scope: "col" }, "Size"),
            h("th", { scope: "col" }, "SHA-256"),
          ),
        ),
        h(
          "tbody",
          [...files, archive].map((file) =>
            h(
              "tr",
              h("td", h("a", { href: file.url, download: "" }, file.path)),
              h("td.number", formatBytes(file.size)),
              h(
                "td",
                h(
                  "span.id",
                  h("code", `${file.sha256.slice(0, 12)}…`),
                  copyButton(() => file.sha256, `Copy the SHA-256 of ${file.path}`),
                ),
              ),
            )
          ),
        ),
      ),
    ),
  );
}

/** @param {Adapter} adapter */
function factsCard(adapter) {
  const { manifest } = adapter;
  const { spec, resolved, validation } = manifest;
  /** @type {[string, Child][]} */
  const facts = [
    ["Job", h("a", { href: linkTo(`/jobs/${adapter.job_id}`) }, spec?.name ?? adapter.job_id)],
    ["Base model", h("a", { href: linkTo("/adapters", { base_model: adapter.base_model }) }, adapter.base_model)],
    ["Revision", adapter.base_model_revision && h("code.break", adapter.base_model_revision.slice(0, 12))],
    [
      "Dataset",
      spec?.dataset_id && h("a.break", { href: linkTo(`/datasets/${spec.dataset_id}`) }, h("code", spec.dataset_id)),
    ],
    ["Method", [spec?.method, spec?.objective === "dpo" && "dpo"].filter(Boolean).join(", ")],
    ["Rank, alpha", spec?.adapter && `${spec.adapter.rank}, ${resolved?.adapter?.alpha ?? spec.adapter.alpha}`],
    [
      "Result of step",
      manifest.result_step !== undefined &&
      `${formatNumber(manifest.result_step)} of ${formatNumber(manifest.num_steps)}`,
    ],
    ["Tokens", manifest.num_tokens !== undefined && formatNumber(manifest.num_tokens)],
    [
      "Training loss",
      manifest.first_loss !== undefined && `${formatValue(manifest.first_loss)} → ${formatValue(manifest.final_loss)}`,
    ],
    [
      "Validation loss",
      validation && `${formatValue(validation.validation_loss)} at step ${formatNumber(validation.step)}`,
    ],
    ["Chat template", manifest.chat_template],
    [
      "Exact",
      manifest.exact === undefined
        ? null
        : manifest.exact
        ? "Yes: equal to an uninterrupted training"
        : "No: it resumed on other hardware",
    ],
    [
      "Trained with",
      manifest.libraries &&
      Object.entries(manifest.libraries).map(([name, version]) => `${name} ${version}`).join(", "),
    ],
    ["Size", formatBytes(adapter.size)],
  ];
  return h(
    "section.card",
    { "aria-labelledby": "facts" },
    h("div.card-header", h("h2", { id: "facts" }, "Manifest")),
    h(
      "dl.facts.card-body",
      facts.filter(([, value]) => value !== null && value !== undefined && value !== false && value !== "").map((
        [label, value],
      ) => [h("dt", label), h("dd", value)]),
    ),
  );
}

/** @param {Adapter} adapter */
function manifestCard({ manifest }) {
  const text = JSON.stringify(manifest, null, 2);
  return h(
    "details.card.fold",
    h("summary", icon("right", "turn"), h("h2", "The whole manifest")),
    h("div.card-body", codeBlock("manifest.json", text)),
  );
}
