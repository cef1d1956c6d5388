/** Writes the call that creates a job for curl and for the Python client. Pure: no DOM. */

import { quoteForShell, writeJson, writePythonCall } from "./call_text.js";

/** @typedef {Record<string, any>} Request  the body of `POST /jobs` */

/**
 * @param {string} origin  the server's address
 * @param {Request} request
 */
export function writeCurl(origin, request) {
  return [
    `curl ${quoteForShell(`${origin}/jobs`)}`,
    `-H "Authorization: Bearer $TUNEWRIGHT_API_KEY"`,
    `-H 'Content-Type: application/json'`,
    `-d ${quoteJson(request)}`,
  ].join(" \\\n  ");
}

/**
 * @param {string} origin
 * @param {Request} request
 */
export function writeClient(origin, request) {
  return [
    "from tunewright import Client",
    "",
    `with Client(${JSON.stringify(origin)}) as client:`,
    `    job = ${writePythonCall("client.create_job", request, "    ")}`,
    "    print(job.id)",
  ].join("\n");
}

/** @param {Request} request */
function quoteJson(request) {
  return `'${writeJson(request).replaceAll("'", "'\\''")}'`;
}
