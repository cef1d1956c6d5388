import { readFields } from "../../../app/page/static/js/pure/schema_fields.js";
import { arrange, buildRequest, placeOf, pointersOf } from "../../../app/page/static/js/pure/schema_layout.js";
import {
  checkValue,
  getAt,
  parseNumber,
  readValue,
  setAt,
  withoutDefaults,
  writeNumber,
  writeValue,
} from "../../../app/page/static/js/pure/schema_values.js";
import { explainWait } from "../../../app/page/static/js/pure/schema_wait.js";
import { assertEquals } from "./assert.js";

/** A small schema with each kind of field. @type {Record<string, any>} */
const SCHEMAS = {
  Spec: {
    required: ["base_model", "training"],
    properties: {
      base_model: { type: "string", minLength: 1 },
      method: { type: "string", enum: ["qlora", "lora", "full"], default: "qlora" },
      limit: { anyOf: [{ type: "integer", minimum: 1 }, { type: "null" }] },
      adapter: { anyOf: [{ $ref: "#/components/schemas/Adapter" }, { type: "null" }] },
      training: { $ref: "#/components/schemas/Training" },
      resources: { $ref: "#/components/schemas/Resources", default: { device: "cpu", gpu: [] } },
      metadata: { type: "object", additionalProperties: { type: "string" } },
      integrations: { type: "array", items: { oneOf: [{ $ref: "#/components/schemas/Tracker" }] } },
      novelty: { anyOf: [{ type: "integer" }, { type: "array", items: { type: "integer" } }] },
    },
  },
  Adapter: {
    properties: {
      rank: { type: "integer", minimum: 1, maximum: 64, default: 16 },
      alpha: { anyOf: [{ type: "string", const: "auto" }, { type: "number", exclusiveMinimum: 0 }], default: "auto" },
    },
  },
  Training: {
    properties: {
      epochs: { anyOf: [{ type: "number" }, { type: "null" }] },
      stopping: { anyOf: [{ $ref: "#/components/schemas/Stopping" }, { type: "null" }] },
    },
  },
  Stopping: { required: ["patience"], properties: { patience: { type: "integer", minimum: 1 } } },
  Resources: {
    properties: {
      device: { type: "string", enum: ["auto", "cpu"] },
      gpu: { type: "array", items: { type: "string" } },
    },
  },
  Tracker: {
    required: ["type", "run"],
    properties: { type: { type: "string", const: "tracker" }, run: { $ref: "#/components/schemas/Run" } },
  },
  Run: { required: ["project"], properties: { project: { type: "string", minLength: 1 } } },
};
const FIELDS = readFields(SCHEMAS.Spec, SCHEMAS);

/** @param {string} pointer */
function field(pointer) {
  const found = FIELDS.find((each) => each.pointer === pointer);
  if (!found) throw new Error(`There is no field ${pointer}.`);
  return found;
}

Deno.test("the kinds of fields are read from the schema; objects without required fields are opened", () => {
  assertEquals(FIELDS.map((each) => [each.pointer, each.kind]), [
    ["/base_model", "text"],
    ["/method", "enum"],
    ["/limit", "number"],
    ["/adapter/rank", "number"],
    ["/adapter/alpha", "choice"],
    ["/training/epochs", "number"],
    ["/training/stopping", "optional"],
    ["/resources/device", "enum"],
    ["/resources/gpu", "list"],
    ["/metadata", "pairs"],
    ["/integrations", "variants"],
    ["/novelty", "unknown"],
  ]);
  assertEquals(field("/integrations").variants[0].fields.map((each) => each.pointer), ["/run/project"]);
  assertEquals(field("/adapter/alpha").other?.kind, "number");
});

Deno.test("defaults come from the field, the object around it, or the kind", () => {
  assertEquals(field("/adapter/rank").standard, 16);
  assertEquals(field("/resources/device").standard, "cpu");
  assertEquals(field("/limit").standard, null);
  assertEquals(field("/metadata").standard, {});
  assertEquals(field("/base_model").standard, undefined);
});

Deno.test("a value that equals its default is not stored, and empty objects go", () => {
  const changed = writeValue({ base_model: "a" }, field("/adapter/rank"), 32);
  assertEquals(changed, { base_model: "a", adapter: { rank: 32 } });
  assertEquals(readValue(changed, field("/adapter/rank")), 32);
  assertEquals(writeValue(changed, field("/adapter/rank"), 16), { base_model: "a" });
  assertEquals(setAt({ a: { b: 1, c: 2 } }, ["a", "b"], undefined), { a: { c: 2 } });
  assertEquals(getAt({ a: null }, ["a", "b"]), undefined);
});

Deno.test("a whole spec loses its defaults and nulls", () => {
  const spec = {
    base_model: "m",
    method: "qlora",
    limit: null,
    adapter: { rank: 8, alpha: "auto" },
    training: { epochs: 2, stopping: null },
    resources: { device: "cpu", gpu: [] },
    metadata: {},
    integrations: [{ type: "tracker", run: { project: "p", tags: [], name: null } }],
  };
  assertEquals(withoutDefaults(spec, FIELDS), {
    base_model: "m",
    adapter: { rank: 8 },
    training: { epochs: 2 },
    integrations: [{ type: "tracker", run: { project: "p" } }],
  });
});

Deno.test("values are checked by the schema's bounds", () => {
  assertEquals(checkValue(field("/adapter/rank"), 0), "Enter 1 or more.");
  assertEquals(checkValue(field("/adapter/rank"), 65), "Enter 64 or less.");
  assertEquals(checkValue(field("/adapter/rank"), 1.5), "Enter a whole number.");
  assertEquals(checkValue(field("/adapter/rank"), "1o"), "Enter a whole number.");
  assertEquals(checkValue(field("/adapter/alpha"), "auto"), null);
  assertEquals(checkValue(field("/adapter/alpha"), 0), "Enter more than 0.");
  assertEquals(checkValue(field("/base_model"), undefined), "A value is required.");
  assertEquals(checkValue(field("/limit"), null), null);
});

Deno.test("numbers are read as people write them", () => {
  const cases = /** @type {[string, number | string][]} */ ([
    ["2e-4", 0.0002],
    [" 16 ", 16],
    ["-5", -5],
    ["−5", -5],
    ["0,1", 0.1],
    [".5", 0.5],
    ["1o", "1o"],
    ["1e", "1e"],
    ["0x10", "0x10"],
    ["1,000", "1,000"],
  ]);
  for (const [text, value] of cases) assertEquals(parseNumber(text), value, text);
  assertEquals([0.0002, 0.03, 1e-5, 100, 0].map(writeNumber), ["2e-4", "0.03", "1e-5", "100", "0"]);
});

Deno.test("fields that the layout does not know stand in a last section", () => {
  const sections = arrange(FIELDS);
  assertEquals(sections.at(-1)?.id, "more");
  assertEquals(
    sections.flatMap((each) => each.rows.flatMap(pointersOf)).sort(),
    FIELDS.map((each) => each.pointer).sort(),
  );
});

Deno.test("a request has no fields that do not apply to the method", () => {
  const sections = arrange(FIELDS);
  const values = { base_model: "m", method: "full", adapter: { rank: 8 }, novelty: 3 };
  assertEquals(buildRequest(values, sections, FIELDS), { base_model: "m", method: "full", novelty: 3, training: {} });
  assertEquals(buildRequest({ ...values, method: "lora" }, sections, FIELDS).adapter, { rank: 8 });
});

Deno.test("an error is shown at its field, the field around it, or the first below it", () => {
  const pointers = FIELDS.map((each) => each.pointer);
  const place = (/** @type {string} */ pointer, code = "x") => placeOf({ pointer, code }, pointers);
  assertEquals(place("/adapter/rank"), "/adapter/rank");
  assertEquals(place("/integrations/0/run/project"), "/integrations");
  assertEquals(place("/metadata/a"), "/metadata");
  assertEquals(place("/training", "epochs_or_max_steps"), "/training/epochs");
  assertEquals(place("/resources"), "/resources/device");
  assertEquals(place("", "adapter_with_full"), "/method");
  assertEquals(place(""), null);
});

Deno.test("a wait is explained", () => {
  assertEquals(explainWait("1st in queue").isNow, true);
  assertEquals(explainWait("12th in queue").text, "It would be 12th in the queue.");
  assertEquals(explainWait("no worker online with 24 GB"), { isNow: false, text: "No worker online with 24 GB." });
});
