/** Reads the fields of a form from a JSON schema. Pure: no DOM. */

/**
 * @typedef {"enum" | "boolean" | "number" | "text" | "choice" | "list" | "pairs" | "optional" | "variants" | "unknown"} Kind
 * @typedef {{
 *   pointer: string, path: readonly string[], name: string, kind: Kind, title: string, description: string,
 *   required: boolean, nullable: boolean, standard: any,
 *   options: readonly string[], integer: boolean, minimum: number | null, maximum: number | null,
 *   exclusiveMinimum: number | null, exclusiveMaximum: number | null,
 *   minLength: number, maxLength: number | null, maxItems: number | null, pattern: string | null,
 *   word: string, other: Field | null, fields: readonly Field[], variants: readonly Variant[],
 * }} Field  `standard` is the default; a `choice` is the word `word` or a value of `other`; an `optional` is null or an
 *   object of `fields`; `variants` is a list of objects, each of a type of its own
 * @typedef {{type: string, description: string, fields: readonly Field[]}} Variant
 * @typedef {Record<string, any>} Schema
 */

/**
 * Return the fields of an object's schema. Objects without a required field are opened: their fields stand in their
 * place.
 * @param {Schema} schema
 * @param {Record<string, Schema>} schemas  what `$ref` names
 * @param {readonly string[]} [path]
 * @param {Record<string, any>} [defaults]  of the object around the fields
 * @returns {Field[]}
 */
export function readFields(schema, schemas, path = [], defaults = {}) {
  const object = resolve(schema, schemas);
  const required = new Set(object.required ?? []);
  return Object.entries(object.properties ?? {}).flatMap(([name, own]) => {
    const { inner, nullable, outer } = withoutNull(own, schemas);
    const here = [...path, name];
    const standard = defaults[name] ?? outer.default ?? inner.default;
    if (isConstant(inner)) return [];
    const isOpened = inner.properties && !(inner.required ?? []).length;
    if (isOpened) return readFields(inner, schemas, here, standard ?? {});
    const isNeeded = required.has(name);
    if (inner.properties && !nullable) return readFields(inner, schemas, here, standard ?? {});
    return [readField(name, here, { inner, outer, nullable, standard, isRequired: isNeeded }, schemas)];
  });
}

/**
 * @param {string} name
 * @param {readonly string[]} path
 * @param {{inner: Schema, outer: Schema, nullable: boolean, standard: any, isRequired: boolean}} read
 * @param {Record<string, Schema>} schemas
 * @returns {Field}
 */
function readField(name, path, { inner, outer, nullable, standard, isRequired }, schemas) {
  const kind = kindOf(inner, schemas);
  const other = kind === "choice" ? readOther(name, path, inner, schemas) : null;
  return {
    name,
    path,
    kind,
    other,
    pointer: pointerOf(path),
    title: outer.title ?? inner.title ?? name,
    description: tidy(outer.description ?? inner.description ?? ""),
    required: isRequired,
    nullable,
    standard: standard ?? emptyOf(kind, nullable),
    options: inner.enum ?? [],
    integer: inner.type === "integer",
    minimum: inner.minimum ?? null,
    maximum: inner.maximum ?? null,
    exclusiveMinimum: inner.exclusiveMinimum ?? null,
    exclusiveMaximum: inner.exclusiveMaximum ?? null,
    minLength: inner.minLength ?? 0,
    maxLength: inner.maxLength ?? null,
    maxItems: inner.maxItems ?? inner.maxProperties ?? null,
    pattern: inner.pattern ?? null,
    word: String(
      inner.anyOf?.map((/** @type {Schema} */ each) => each.const).find((/** @type {any} */ each) => each) ?? "",
    ),
    fields: kind === "optional" ? readFields(inner, schemas, path) : [],
    variants: kind === "variants" ? readVariants(inner, schemas) : [],
  };
}

/**
 * @param {string} name
 * @param {readonly string[]} path
 * @param {Schema} schema
 * @param {Record<string, Schema>} schemas
 * @returns {Field}
 */
function readOther(name, path, schema, schemas) {
  const inner = resolve(schema.anyOf.find((/** @type {Schema} */ each) => each.const === undefined), schemas);
  return readField(name, path, { inner, outer: {}, nullable: false, standard: undefined, isRequired: true }, schemas);
}

/**
 * @param {Schema} schema
 * @param {Record<string, Schema>} schemas
 * @returns {Variant[]}
 */
function readVariants(schema, schemas) {
  return schema.items.oneOf.map((/** @type {Schema} */ each) => {
    const object = resolve(each, schemas);
    return {
      type: String(object.properties.type.const),
      description: tidy(object.description ?? ""),
      fields: readFields(object, schemas),
    };
  });
}

/**
 * @param {Schema} schema
 * @param {Record<string, Schema>} schemas
 * @returns {Kind}
 */
function kindOf(schema, schemas) {
  if (schema.enum) return "enum";
  if (schema.anyOf) {
    const hasWord = schema.anyOf.some((/** @type {Schema} */ each) => typeof each.const === "string");
    return hasWord && schema.anyOf.length === 2 ? "choice" : "unknown";
  }
  if (schema.type === "boolean") return "boolean";
  if (schema.type === "integer" || schema.type === "number") return "number";
  if (schema.type === "string") return "text";
  if (schema.type === "array") {
    const items = resolve(schema.items ?? {}, schemas);
    if (items.type === "string") return "list";
    const isTyped = items.oneOf?.every((/** @type {Schema} */ each) => resolve(each, schemas).properties?.type?.const);
    return isTyped ? "variants" : "unknown";
  }
  if (schema.properties) return "optional";
  if (schema.type === "object" && (schema.additionalProperties || schema.patternProperties)) return "pairs";
  return "unknown";
}

/**
 * @param {Schema} schema
 * @param {Record<string, Schema>} schemas
 */
function withoutNull(schema, schemas) {
  const kinds = schema.anyOf?.filter((/** @type {Schema} */ each) => each.type !== "null") ?? [];
  const nullable = kinds.length > 0 && kinds.length < schema.anyOf.length;
  if (!nullable) return { inner: resolve(schema, schemas), outer: schema, nullable };
  const inner = kinds.length === 1 ? resolve(kinds[0], schemas) : { anyOf: kinds };
  return { inner, outer: schema, nullable };
}

/**
 * @param {Schema} schema
 * @param {Record<string, Schema>} schemas
 * @returns {Schema}
 */
function resolve(schema, schemas) {
  const name = schema.$ref?.split("/").pop();
  return name ? schemas[name] ?? {} : schema;
}

/** @param {Schema} schema */
function isConstant(schema) {
  return schema.const !== undefined;
}

/**
 * @param {Kind} kind
 * @param {boolean} nullable
 */
function emptyOf(kind, nullable) {
  if (nullable) return null;
  if (kind === "list" || kind === "variants") return [];
  return kind === "pairs" ? {} : undefined;
}

/**
 * Return the JSON pointer of a path: `["training", "epochs"]` → "/training/epochs".
 * @param {readonly (string | number)[]} path
 */
export function pointerOf(path) {
  return path.map((part) => `/${String(part).replaceAll("~", "~0").replaceAll("/", "~1")}`).join("");
}

/** @param {string} text */
function tidy(text) {
  return text.replace(/\s*\n\s*/g, " ").trim();
}
