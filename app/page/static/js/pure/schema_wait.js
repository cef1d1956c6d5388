/** Explains what a job would wait for. Pure: no DOM. */

/**
 * Return the text of a job's `waiting_for` as a sentence.
 * @param {string} waitingFor  such as "1st in queue" or "no worker online with 24 GB"
 * @returns {{isNow: boolean, text: string}} `isNow`: nothing but its turn is missing
 */
export function explainWait(waitingFor) {
  const position = /^([\d,]+)(?:st|nd|rd|th) in queue$/.exec(waitingFor);
  if (position?.[1] === "1") {
    return { isNow: true, text: "It would be the first in the queue and starts as soon as a worker is free." };
  }
  if (position) return { isNow: true, text: `It would be ${waitingFor.replace(" in queue", " in the queue")}.` };
  const text = waitingFor.charAt(0).toUpperCase() + waitingFor.slice(1);
  return { isNow: false, text: /[.!?]$/.test(text) ? text : `${text}.` };
}
