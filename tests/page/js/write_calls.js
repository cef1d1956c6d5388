/** Prints the calls for the requests that it reads as JSON from its input: `tests/page/test_calls.py` runs them. */

import { OPTIONS, writeCommand } from "../../../app/page/static/js/pure/call_cli.js";
import { writeClient, writeCurl } from "../../../app/page/static/js/pure/call_curl.js";
import { writeOpenAi } from "../../../app/page/static/js/pure/call_openai.js";

const ORIGIN = "http://gpu.lan:8400";

const requests = JSON.parse(await new Response(Deno.stdin.readable).text());
const calls = requests.map((/** @type {Record<string, any>} */ request) => ({
  curl: writeCurl(ORIGIN, request),
  python: writeClient(ORIGIN, request),
  cli: writeCommand(ORIGIN, request),
  openai: writeOpenAi(ORIGIN, request).text,
}));
console.log(JSON.stringify({ options: OPTIONS, calls }));
