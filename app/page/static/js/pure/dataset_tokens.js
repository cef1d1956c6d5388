/** Groups the tokens of a preview for showing: runs with and without loss, special tokens, white space. */

/**
 * @typedef {{id: number, text: string, labelled: boolean}} Token
 * @typedef {{kind: "text" | "special" | "space" | "newline", text: string}} Piece
 * @typedef {{token: Token, number: number, isSpecial: boolean}} NumberedToken
 * @typedef {{labelled: boolean, tokens: NumberedToken[]}} Run
 * @typedef {{line: number, answer: "chosen" | "rejected" | null}} AnsweredRow
 */

/** Tokens that chat templates add have such names: <|im_start|>, <start_of_turn>, <s>, [INST], <｜Assistant｜>. */
const SPECIAL = /^\s*(?:<[|｜][^<>]{1,60}[|｜]>|<\/?[A-Za-z][A-Za-z0-9_]{0,40}>|\[\/?[A-Z_]{2,30}\])\s*$/u;

/**
 * Return whether a token looks like one that a chat template adds. The API does not say so.
 * @param {string} text
 */
export function isSpecialText(text) {
  return SPECIAL.test(text);
}

/**
 * Return runs of consecutive tokens that all carry loss or all carry none.
 * @param {readonly Token[]} tokens
 * @param {number} [first]  number of the first token
 * @returns {Run[]}
 */
export function groupTokens(tokens, first = 0) {
  /** @type {Run[]} */
  const runs = [];
  tokens.forEach((token, index) => {
    let run = runs.at(-1);
    if (!run || run.labelled !== token.labelled) {
      run = { labelled: token.labelled, tokens: [] };
      runs.push(run);
    }
    run.tokens.push({ token, number: first + index, isSpecial: isSpecialText(token.text) });
  });
  return runs;
}

/**
 * Return the shown tokens before and after those that are left out of the middle of a long row.
 * @param {{tokens: readonly Token[], num_omitted_tokens: number}} row
 * @returns {{head: Run[], tail: Run[]}}
 */
export function splitAtOmitted({ tokens, num_omitted_tokens: omitted }) {
  if (!omitted) return { head: groupTokens(tokens), tail: [] };
  const middle = Math.ceil(tokens.length / 2);
  return { head: groupTokens(tokens.slice(0, middle)), tail: groupTokens(tokens.slice(middle), middle + omitted) };
}

/**
 * Split a token's text so that each space, tab and line break can be shown by a sign.
 * @param {string} text
 * @returns {Piece[]}
 */
export function splitSpaces(text) {
  return (text.match(/\r?\n|\r|[ \t\u00a0]|[^ \t\u00a0\r\n]+/gu) ?? []).map((part) => {
    if (/[\r\n]/.test(part)) return { kind: "newline", text: part };
    if (/^[ \t\u00a0]$/u.test(part)) return { kind: "space", text: part };
    return { kind: "text", text: part };
  });
}

/**
 * Return the sign for a space, a tab or a line break.
 * @param {Piece} piece
 */
export function signOf(piece) {
  if (piece.kind === "newline") return "↵";
  return piece.text === "\t" ? "→" : piece.text === "\u00a0" ? "⍽" : "·";
}

/**
 * Return the rows with the two answers of a pair together.
 * @template {AnsweredRow} R
 * @param {readonly R[]} rows
 * @returns {R[][]}
 */
export function pairAnswers(rows) {
  /** @type {R[][]} */
  const groups = [];
  for (const row of rows) {
    const last = groups.at(-1);
    if (row.answer === "rejected" && last?.length === 1 && last[0]?.line === row.line && last[0].answer === "chosen") {
      last.push(row);
    } else groups.push([row]);
  }
  return groups;
}
