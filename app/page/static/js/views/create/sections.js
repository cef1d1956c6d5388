/** Shows the sections of the form: the essential ones open, the others folded with what they change. */

import { h, icon } from "../../dom.js";
import { formatPlural } from "../../format.js";
import { noteOf, pointersOf } from "../../pure/schema_layout.js";
import { fieldRow } from "./rows.js";
import { labelOf } from "./slot.js";

/**
 * @typedef {import("./form.js").Form} Form
 * @typedef {import("../../pure/schema_layout.js").Section} Section
 */

/**
 * @param {Form} form
 * @returns {Node[]}
 */
export function formSections(form) {
  const essential = form.sections.filter((each) => each.isEssential);
  const others = form.sections.filter((each) => !each.isEssential);
  return [
    ...essential.map((section) => openSection(form, section)),
    h("div.card.form-more", others.map((section) => foldedSection(form, section))),
  ];
}

/**
 * @param {Form} form
 * @param {Section} section
 */
function openSection(form, section) {
  return h(
    "section.card.form-section",
    { "aria-labelledby": `section-${section.id}` },
    h("h2", { id: `section-${section.id}` }, section.title),
    section.rows.map((row) => fieldRow(form, row)),
  );
}

/**
 * @param {Form} form
 * @param {Section} section
 */
function foldedSection(form, section) {
  const pointers = section.rows.flatMap(pointersOf);
  const isShown = () => section.isShown?.(form.values.value) !== false;
  return h(
    "details.form-section",
    { hidden: () => !isShown() },
    h(
      "summary",
      { class: () => (form.changes().some((field) => pointers.includes(field.pointer)) ? "changed" : "") },
      icon("right", "turn"),
      h("h2", section.title),
      h("span.form-differs", () => summaryOf(form, pointers)),
      () => {
        const count = form.countProblems(pointers);
        return count > 0 && h("span.badge.tone-bad", icon("cross"), formatPlural(count, "problem"));
      },
    ),
    section.rows.map((row) => fieldRow(form, row)),
  );
}

/**
 * Tell the values of a section that are not defaults.
 * @param {Form} form
 * @param {readonly string[]} pointers
 */
function summaryOf(form, pointers) {
  const parts = pointers.flatMap((pointer) => {
    const field = form.find(pointer);
    const stored = field.path.reduce((place, part) => place?.[part], /** @type {any} */ (form.values.value));
    if (stored === undefined || noteOf(pointer).isShown?.(form.values.value) === false) return [];
    return [`${noteOf(pointer).label}: ${labelOf(field, stored)}`];
  });
  return parts.length ? parts.join(" · ") : "Defaults";
}
