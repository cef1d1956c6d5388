/** Writes the values of a query as the address holds them; `url.js` needs a browser. */

/** @param {Record<string, string | null | readonly string[]>} values */
export function linkTo(values) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    if (Array.isArray(value)) { for (const each of value) search.append(name, each); }
    else if (value) search.set(name, String(value));
  }
  return search.toString();
}
