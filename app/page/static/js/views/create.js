/** New job: a form made from the JobSpec's schema, checked by the server as one types. */

import { get } from "../api.js";
import { fill, h, icon } from "../dom.js";
import { errorBox, identifier, skeleton } from "../parts/basic.js";
import { arrange } from "../pure/schema_layout.js";
import { setAt, withoutDefaults } from "../pure/schema_values.js";
import { setTitle, viewHeader } from "../shell.js";
import { addShortcut } from "../shortcuts.js";
import { onEnd, scope, signal } from "../signals.js";
import { linkTo } from "../url.js";
import { callsCard } from "./create/calls.js";
import { createForm } from "./create/form.js";
import { loadFields, loadResources } from "./create/resources.js";
import { formSections } from "./create/sections.js";
import { problemSummary, statusCard, submitter } from "./create/status.js";

/**
 * @typedef {import("../../../api.d.ts").JobOut} JobOut
 * @typedef {import("../pure/schema_values.js").Values} Values
 */

const EPOCHS = 3;

export function render() {
  setTitle("New job");
  const search = new URLSearchParams(location.search);
  const body = h("div", skeletonForm());
  const title = signal("New job");
  const below = signal(/** @type {import("../dom.js").Child} */ (""));
  /** @type {() => void} */
  let end = () => {};
  let isOver = false;
  onEnd(() => {
    isOver = true;
    end();
  });
  const load = async () => {
    fill(body, skeletonForm());
    try {
      const { fields, source, reference, resources } = await loadForm(search);
      if (isOver) return;
      if (source) {
        title.value = "Clone with changes";
        below.value = cloneOf(source);
      }
      const made = scope(() =>
        showForm(createForm({ fields, sections: arrange(fields), reference, draftKey: search.toString(), resources }))
      );
      end = made.end;
      fill(body, made.value);
    } catch (error) {
      if (!isOver) fill(body, errorBox(error, load));
    }
  };
  load();
  return h(
    "div",
    viewHeader(() => title.value, { below: () => below.value, back: { to: "/jobs", label: "Jobs" } }),
    body,
  );
}

/** @param {URLSearchParams} search */
async function loadForm(search) {
  const from = search.get("from");
  const [fields, source] = await Promise.all([
    loadFields(),
    from ? /** @type {Promise<JobOut>} */ (get(`/jobs/${encodeURIComponent(from)}`)) : null,
  ]);
  let reference = source
    ? withoutDefaults(source.spec, fields)
    : /** @type {Values} */ ({ training: { epochs: EPOCHS } });
  for (const [name, field] of [["dataset", "dataset_id"], ["model", "base_model"], ["init_from", "init_from"]]) {
    const given = search.get(name);
    if (given) reference = setAt(reference, [field], given);
  }
  const resources = await loadResources({
    model: reference.base_model ?? null,
    datasets: [reference.dataset_id, reference.validation_dataset_id],
  });
  return { fields, source, reference: withOnlyModel(reference, resources), resources };
}

/**
 * Choose the base model if there is only one.
 * @param {Values} reference
 * @param {import("./create/resources.js").Resources} resources
 */
function withOnlyModel(reference, { models }) {
  const ready = models.peek().filter((each) => each.state === "ready");
  const only = ready.length === 1 ? ready[0] : null;
  return reference.base_model || !only ? reference : { ...reference, base_model: only.name };
}

/** @param {JobOut} source */
function cloneOf({ id, name }) {
  return [
    h("span", "From ", h("a", { href: linkTo(`/jobs/${id}`) }, name ?? id), "."),
    identifier(id),
    h("span", "What you change is marked; the original stays as it is."),
  ];
}

/** @param {import("./create/form.js").Form} form */
function showForm(form) {
  const failure = signal(/** @type {unknown} */ (null));
  const submit = submitter(form, failure);
  const isNoticeShown = signal(form.wasRestored);
  addShortcut({ keys: "c", description: "Create the job", group: "New job", run: submit });
  return h(
    "form.create",
    {
      novalidate: true,
      "aria-labelledby": "view-heading",
      onsubmit: (/** @type {Event} */ event) => {
        event.preventDefault();
        submit();
      },
      onkeydown: (/** @type {KeyboardEvent} */ event) => {
        const isField = event.target instanceof HTMLInputElement;
        // Enter in a field does not create a job; Ctrl+Enter does, everywhere in the form.
        if (event.key !== "Enter") return;
        if (event.ctrlKey || event.metaKey) submit();
        else if (!isField) return;
        event.preventDefault();
      },
    },
    h(
      "div.create-main",
      () =>
        isNoticeShown.value && form.changes().length > 0 && restoredNotice(form, () => (isNoticeShown.value = false)),
      problemSummary(form),
      formSections(form),
    ),
    h("div.create-side", statusCard(form, failure), callsCard(form.request)),
  );
}

/**
 * @param {import("./create/form.js").Form} form
 * @param {() => void} hide
 */
function restoredNotice(form, hide) {
  const startOver = () => {
    form.resetAll();
    hide();
  };
  return h(
    "div.notice.tone-info",
    { role: "status" },
    icon("info"),
    h("div.notice-text", h("p", "Your earlier input is back.")),
    h("button.ghost", { type: "button", onclick: startOver }, "Start over"),
    h("button.ghost.icon-only", { type: "button", "aria-label": "Dismiss", onclick: hide }, icon("cross")),
  );
}

function skeletonForm() {
  return h(
    "div.create",
    h("div.create-main", h("div.card.form-section", skeleton(12))),
    h("div.create-side", h("div.card.form-status", skeleton(4))),
  );
}
