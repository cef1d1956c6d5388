/** Shows tokens as text: trained ones are underlined on a coloured ground, so that colour alone says nothing. */

import { fill, h } from "../../dom.js";
import { formatNumber } from "../../format.js";
import { signOf, splitAtOmitted, splitSpaces } from "../../pure/dataset_tokens.js";

/**
 * @typedef {import("../../../../api.d.ts").PreviewRow} PreviewRow
 * @typedef {import("../../pure/dataset_tokens.js").NumberedToken} NumberedToken
 * @typedef {import("../../pure/dataset_tokens.js").Run} Run
 * @typedef {{special: boolean, spaces: boolean, borders: boolean}} Shown  what is shown besides the text
 */

/**
 * @param {PreviewRow} row
 * @param {Shown} how
 */
export function tokenText(row, how) {
  const { head, tail } = splitAtOmitted(row);
  return h(
    "div.token-text",
    { class: how.borders ? "borders" : "" },
    head.map((run) => runOf(run, how)),
    row.num_omitted_tokens > 0 && h("p.omitted", `${formatNumber(row.num_omitted_tokens)} tokens are not shown here`),
    tail.map((run) => runOf(run, how)),
  );
}

/**
 * @param {Run} run
 * @param {Shown} how
 */
function runOf(run, how) {
  const tokens = run.tokens.map((each) => tokenOf(each, how));
  if (!run.labelled) return h("span", tokens);
  return h("mark.trained", spoken("trained: "), tokens, spoken(" (end of trained) "));
}

/**
 * @param {NumberedToken} numbered
 * @param {Shown} how
 */
function tokenOf({ token, number, isSpecial }, how) {
  if (isSpecial && !how.special) return null;
  const title = `Token ${number + 1}, id ${token.id}, ${token.labelled ? "trained" : "context"}`;
  if (isSpecial) return h("code.token.special", { title }, token.text);
  if (!how.spaces) return h("span.token", { title }, token.text);
  return h(
    "span.token",
    { title },
    splitSpaces(token.text).map((piece) => {
      if (piece.kind === "text") return piece.text;
      const sign = h("span.sign", { "aria-hidden": "true" }, signOf(piece));
      return piece.kind === "newline" ? [sign, "\n"] : [sign, h("span.signed", piece.text)];
    }),
  );
}

/** @param {string} text */
function spoken(text) {
  return h("span.visually-hidden.unselectable", text);
}

const MOST_LISTED = 2000;

/**
 * The tokens as a table, made when it is opened: ids for the keyboard and for screen readers.
 * @param {PreviewRow} row
 */
export function tokenTable(row) {
  const place = h("div.table-scroll", { tabindex: 0, role: "region", "aria-label": "Tokens" });
  const middle = row.num_omitted_tokens ? Math.ceil(row.tokens.length / 2) : Infinity;
  const make = () => {
    if (!details.open || place.firstChild) return;
    const lines = row.tokens.slice(0, MOST_LISTED).map((token, index) => {
      const number = index < middle ? index : index + row.num_omitted_tokens;
      return h(
        "tr",
        h("td.number", formatNumber(number + 1)),
        h("td.number", token.id),
        h("td", h("code.token-cell", JSON.stringify(token.text))),
        h("td", token.labelled ? "trained" : "context"),
      );
    });
    const heads = [["Number", "number"], ["Id", "number"], ["Text", ""], ["Loss", ""]];
    fill(
      place,
      h(
        "table",
        h("thead", h("tr", heads.map(([head, kind]) => h("th", { scope: "col", class: kind }, head)))),
        h("tbody", lines),
      ),
    );
  };
  const details = h("details.token-table", { ontoggle: make }, h("summary", "List the tokens with their ids"), place);
  return details;
}
