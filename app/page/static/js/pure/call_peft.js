/** Writes the code that loads an adapter. Pure: no DOM. */

/** @typedef {import("../../../api.d.ts").AdapterOut} AdapterOut */

/** Stands for the base model of a folder, whose hub name is not known. */
export const UNKNOWN_BASE = "/path/to/the/base/model";

/**
 * @param {AdapterOut} adapter
 * @param {string} folder  where the archive is unpacked
 */
export function writeLoading(adapter, folder) {
  const { address, revision } = baseOf(adapter);
  const pinned = revision ? `,\n    revision=${JSON.stringify(revision)},\n` : "";
  const base = pinned ? `\n    ${JSON.stringify(address)}${pinned}` : JSON.stringify(address);
  return [
    "from peft import PeftModel",
    "from transformers import AutoModelForCausalLM, AutoTokenizer",
    "",
    `base = AutoModelForCausalLM.from_pretrained(${base})`,
    `model = PeftModel.from_pretrained(base, ${JSON.stringify(folder)})`,
    `tokenizer = AutoTokenizer.from_pretrained(${JSON.stringify(folder)})`,
  ].join("\n");
}

/**
 * @param {string} origin
 * @param {AdapterOut} adapter
 * @param {string} folder
 */
export function writeDownload(origin, adapter, folder) {
  return [
    `mkdir ${folder}`,
    `curl -H "Authorization: Bearer $TUNEWRIGHT_API_KEY" \\`,
    `  ${origin}${adapter.archive.url} | tar -x -C ${folder}`,
  ].join("\n");
}

/**
 * Return where transformers finds the base model: its hub id and commit, or a placeholder.
 * @param {AdapterOut} adapter
 * @returns {{address: string, revision: string | null}}
 */
export function baseOf({ manifest }) {
  const base = manifest?.base_model ?? {};
  if (base.hub) return { address: base.hub, revision: base.revision ?? null };
  if (base.hub_name) return { address: base.hub_name, revision: base.hub_revision ?? null };
  return { address: UNKNOWN_BASE, revision: null };
}
