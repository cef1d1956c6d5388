/** The state of the form: its values, what the server says about them, and the draft that survives a reload. */

import { ApiError, createIdempotencyKey, post } from "../../api.js";
import { buildRequest, noteOf, placeOf, pointersOf } from "../../pure/schema_layout.js";
import { checkValue, getAt, isEqual, MISSING, readValue, setAt, writeValue } from "../../pure/schema_values.js";
import { may } from "../../session.js";
import { computed, effect, onEnd, signal } from "../../signals.js";
import { clearDraft, readDraft, writeDraft } from "./draft.js";

/**
 * @typedef {import("../../pure/schema_fields.js").Field} Field
 * @typedef {import("../../pure/schema_layout.js").Section} Section
 * @typedef {import("../../pure/schema_notes.js").Context} Context
 * @typedef {import("../../pure/schema_values.js").Values} Values
 * @typedef {import("../../../../api.d.ts").JobOut} JobOut
 * @typedef {{pointer: string, place: string | null, message: string, code: string}} Problem
 * @typedef {{state: "unknown" | "checking" | "valid" | "invalid" | "failed", waitingFor: string, error: unknown}} Verdict
 * @typedef {ReturnType<typeof createForm>} Form
 */

const PAUSE = 300;

/**
 * @param {{fields: readonly Field[], sections: readonly Section[], reference: Values, draftKey: string,
 *   resources: import("./resources.js").Resources}} parts  `reference` holds the values that the form began with
 */
export function createForm({ fields, sections, reference, draftKey, resources }) {
  const draft = readDraft(draftKey);
  const values = signal(/** @type {Values} */ (draft?.values ?? reference));
  const served = signal(/** @type {readonly Problem[]} */ ([]));
  const verdict = signal(/** @type {Verdict} */ ({ state: "unknown", waitingFor: "", error: null }));
  const touched = signal(/** @type {ReadonlySet<string>} */ (new Set()));
  const isSubmitted = signal(false);
  const isBusy = signal(false);
  const pointers = fields.map((field) => field.pointer);
  const request = computed(() => buildRequest(values.value, sections, fields));
  const own = computed(() => checkAll(fields, sections, values.value));
  const changes = computed(() => fields.filter((field) => isChanged(field)));
  /** @type {Set<string>} */
  const edited = new Set();
  let sent = draft?.sent ?? null;
  let isDone = false;

  /** @param {Field} field */
  function isChanged(field) {
    return !isEqual(getAt(values.value, field.path), getAt(reference, field.path));
  }

  /** @param {readonly import("../../api.js").FieldProblem[]} errors */
  function locate(errors) {
    return errors.map((error) => ({ ...error, place: placeOf(error, pointers) }));
  }

  /** @param {Problem} problem */
  function isVisible({ pointer, place, code }) {
    if (isSubmitted.value || !place || touched.value.has(place)) return true;
    // A field without a value is wrong only because of others, unless it is missing.
    const isSet = getAt(values.value, place.slice(1).split("/")) !== undefined;
    return code !== "missing" && (isSet || pointer !== place);
  }

  const problems = computed(() => {
    const mine = own.value;
    const places = new Set(mine.map((each) => each.place));
    return [...mine, ...served.value.filter((each) => !places.has(each.place))];
  });
  const visible = computed(() => problems.value.filter(isVisible));

  function keepDraft() {
    if (!isDone) writeDraft(draftKey, changes.peek().length ? { values: values.peek(), sent } : null);
  }

  // The last input is kept also if the page or the view is left before the pause.
  addEventListener("pagehide", keepDraft);
  onEnd(() => {
    removeEventListener("pagehide", keepDraft);
    keepDraft();
  });
  followChecks({
    request,
    isComplete: () => !own.peek().some((each) => each.code === "missing"),
    onPause: () => {
      touched.value = new Set([...touched.peek(), ...edited]);
      keepDraft();
    },
    onVerdict: (found, errors) => {
      verdict.value = found;
      if (errors) served.value = locate(errors);
    },
  });
  askBeforeLeaving(() => changes.peek().length > 0 && !isDone);

  /** @returns {Promise<JobOut | null>} null if the spec must be changed */
  async function submit() {
    isSubmitted.value = true;
    if (own.peek().length) return null;
    const body = request.peek();
    const text = JSON.stringify(body);
    if (sent?.body !== text) sent = { body: text, key: createIdempotencyKey() };
    writeDraft(draftKey, { values: values.peek(), sent });
    isBusy.value = true;
    try {
      const job = await post("/jobs", body, { idempotencyKey: sent.key });
      isDone = true;
      clearDraft(draftKey);
      return job;
    } catch (error) {
      if (!(error instanceof ApiError) || !error.errors.length) throw error;
      served.value = locate(error.errors);
      verdict.value = { state: "invalid", waitingFor: "", error: null };
      return null;
    } finally {
      isBusy.value = false;
    }
  }

  return {
    fields,
    sections,
    reference,
    resources,
    context: () => contextOf(values.value, resources),
    values,
    request,
    verdict,
    isBusy,
    isSubmitted,
    wasRestored: draft !== null,
    changes: () => changes.value,
    isChanged,
    problems: () => problems.value,
    visibleProblems: () => visible.value,
    submit,
    find: (/** @type {string} */ pointer) => /** @type {Field} */ (fields.find((field) => field.pointer === pointer)),
    read: (/** @type {Field} */ field) => readValue(values.value, field),
    /** @type {(field: Field, value: any) => void} */
    write: (field, value) => {
      edited.add(field.pointer);
      values.value = writeValue(values.peek(), field, value);
    },
    reset: (/** @type {Field} */ field) => {
      values.value = setAt(values.peek(), field.path, getAt(reference, field.path));
    },
    resetAll: () => {
      values.value = reference;
      touched.value = new Set();
      isSubmitted.value = false;
    },
    touch: (/** @type {string} */ pointer) => {
      if (!touched.peek().has(pointer)) touched.value = new Set([...touched.peek(), pointer]);
    },
    /** @type {(pointer: string) => string | null} */
    problemAt: (pointer) => visible.value.find((each) => each.place === pointer)?.message ?? null,
    /** @type {(pointer: string) => string | null} */
    problemExactlyAt: (pointer) => visible.value.find((each) => each.pointer === pointer)?.message ?? null,
    /** @type {(pointers: readonly string[]) => number} */
    countProblems: (some) => visible.value.filter((each) => each.place && some.includes(each.place)).length,
  };
}

/**
 * @param {Values} values
 * @param {import("./resources.js").Resources} resources
 * @returns {Context}
 */
function contextOf(values, { models, datasets }) {
  return {
    model: models.value.find((each) => each.name === values.base_model) ?? null,
    dataset: datasets.value.find((each) => each.id === values.dataset_id) ?? null,
  };
}

/**
 * Return what is wrong with the values of the fields that are shown, as far as the schema says.
 * @param {readonly Field[]} fields
 * @param {readonly Section[]} sections
 * @param {Values} values
 * @returns {Problem[]}
 */
function checkAll(fields, sections, values) {
  const shown = sections.filter((section) => section.isShown?.(values) !== false);
  return shown.flatMap((section) => section.rows.flatMap(pointersOf)).flatMap((pointer) => {
    const field = fields.find((each) => each.pointer === pointer);
    if (!field || noteOf(pointer).isShown?.(values) === false) return [];
    return innerValues(field, getAt(values, field.path)).flatMap((each) => {
      const found = checkValue(each.field, each.value);
      return found ? [{ pointer: each.pointer, place: pointer, ...describe(each.field, found) }] : [];
    });
  });
}

/**
 * Return a field's value, or those inside the object or the list that it holds.
 * @param {Field} field
 * @param {any} value
 * @returns {{field: Field, value: any, pointer: string}[]}
 */
function innerValues(field, value) {
  const { pointer } = field;
  if (field.kind === "optional" && value) {
    return field.fields.map((each) => ({ field: each, value: value[each.name], pointer: each.pointer }));
  }
  if (field.kind !== "variants" || !value) return [{ field, value, pointer }];
  return value.flatMap((/** @type {any} */ item, /** @type {number} */ at) => {
    const variant = field.variants.find((each) => each.type === item.type);
    return (variant?.fields ?? []).map((each) => ({
      field: each,
      value: getAt(item, each.path),
      pointer: `${pointer}/${at}${each.pointer}`,
    }));
  });
}

/**
 * @param {Field} field
 * @param {string} found
 */
function describe({ pointer, required }, found) {
  const { widget } = noteOf(pointer);
  const isMissing = found === MISSING;
  const message = isMissing && widget ? `Select a ${widget === "model" ? "base model" : widget}.` : found;
  return { message, code: isMissing && required ? "missing" : "invalid" };
}

/**
 * Ask the server about each whole request, once nothing has changed for a moment. An answer to an older one is dropped.
 * @param {{request: {readonly value: Values}, isComplete: () => boolean, onPause: () => void,
 *   onVerdict: (verdict: Verdict, errors: readonly import("../../api.js").FieldProblem[] | null) => void}} parts
 */
function followChecks({ request, isComplete, onPause, onVerdict }) {
  let isFirst = true;
  effect(() => {
    const body = request.value;
    const controller = new AbortController();
    const timer = setTimeout(() => {
      onPause();
      if (!isComplete()) onVerdict({ state: "unknown", waitingFor: "", error: null }, []);
      else if (may("write")) check(body, controller.signal, onVerdict);
    }, isFirst ? 0 : PAUSE);
    isFirst = false;
    return () => {
      clearTimeout(timer);
      controller.abort();
    };
  });
}

/**
 * @param {Values} body
 * @param {AbortSignal} ending
 * @param {(verdict: Verdict, errors: readonly import("../../api.js").FieldProblem[] | null) => void} onVerdict
 */
async function check(body, ending, onVerdict) {
  onVerdict({ state: "checking", waitingFor: "", error: null }, null);
  try {
    const found = await post("/jobs", body, { query: { validate_only: true }, signal: ending });
    if (!ending.aborted) onVerdict({ state: "valid", waitingFor: found.waiting_for, error: null }, []);
  } catch (error) {
    if (ending.aborted) return;
    const isAboutFields = error instanceof ApiError && error.errors.length > 0;
    if (isAboutFields) onVerdict({ state: "invalid", waitingFor: "", error: null }, error.errors);
    else onVerdict({ state: "failed", waitingFor: "", error }, []);
  }
}

/** @param {() => boolean} hasChanges */
function askBeforeLeaving(hasChanges) {
  const ask = (/** @type {BeforeUnloadEvent} */ event) => {
    if (hasChanges()) event.preventDefault();
  };
  addEventListener("beforeunload", ask);
  onEnd(() => removeEventListener("beforeunload", ask));
}
