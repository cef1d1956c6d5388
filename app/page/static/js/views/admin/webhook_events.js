/** The events of webhooks, as the page names them. */

export const eventOptions = [
  { value: "fine_tuning.job.succeeded", label: "Succeeded", help: "the result can be downloaded" },
  { value: "fine_tuning.job.failed", label: "Failed", help: "no retry is left" },
  { value: "fine_tuning.job.cancelled", label: "Cancelled", help: "its process has ended" },
  { value: "fine_tuning.job.paused", label: "Paused", help: "its checkpoint is stored" },
];

export const VERIFY_TEXT =
  "Your server verifies calls with this secret, for example as `webhook_secret` of OpenAI's client.";

/**
 * Return an event's type without what all have in common.
 * @param {string} type
 */
export function shortEvent(type) {
  return type.replace(/^fine_tuning\.job\./, "").replace(/^webhook\./, "");
}
