import {
  choosePartBytes,
  countStoredBytes,
  findPending,
  isSameFile,
  MAX_PART_BYTES,
  MAX_PARTS,
  PART_BYTES,
  planParts,
  StoredParts,
} from "../../../app/page/static/js/pure/upload_plan.js";
import { Sha256, toBase64, toHex } from "../../../app/page/static/js/pure/upload_sha256.js";
import { isTransient, parseRetryAfter, retryDelay, SpeedMeter } from "../../../app/page/static/js/pure/upload_speed.js";
import { assert, assertClose, assertEquals } from "./assert.js";

/**
 * @param {string} id
 * @param {number} bytes
 */
const stored = (id, bytes) => ({ id, bytes, sha256: `hash of ${id}` });

Deno.test("parts cover the file without gaps", () => {
  const parts = planParts(25, 10);
  assertEquals(parts.map(({ start, end }) => [start, end]), [[0, 10], [10, 20], [20, 25]]);
  assertEquals(planParts(20, 10).length, 2);
  assertEquals(planParts(1, 10), [{ number: 0, start: 0, end: 1 }]);
});

Deno.test("the size of the parts", () => {
  assertEquals(choosePartBytes(20e6), PART_BYTES);
  const large = choosePartBytes(200e9);
  assert(large > PART_BYTES && large <= MAX_PART_BYTES);
  assert(Math.ceil(200e9 / large) <= MAX_PARTS);
});

Deno.test("an upload continues with the size of the parts that are stored", () => {
  const size = 100 * 2 ** 20;
  assertEquals(choosePartBytes(size, [stored("a", 2 ** 25), stored("b", size % 2 ** 25)]), 2 ** 25);
  assertEquals(choosePartBytes(1e12, [stored("a", 10)]), MAX_PART_BYTES, "with parts that are too small");
});

Deno.test("stored parts are found by hash and size", () => {
  const parts = new StoredParts([stored("a", 10), stored("b", 5)]);
  assertEquals(parts.find("hash of a", 10), "a");
  assertEquals(parts.find("hash of a", 9), null);
  assertEquals(parts.find("hash of c", 10), null);
  parts.add(stored("c", 10));
  assertEquals(parts.find("hash of c", 10), "c");
  assertEquals(countStoredBytes([stored("a", 10), stored("a", 10)], 15), 15);
});

Deno.test("an unfinished upload is found by name and size", () => {
  const upload = { state: "pending", filename: "rows.jsonl", bytes: 7 };
  const others = [{ ...upload, state: "completed" }, { ...upload, bytes: 8 }, { ...upload, filename: "other.jsonl" }];
  assertEquals(findPending([...others, upload, { ...upload }], { name: "rows.jsonl", size: 7 }), upload);
  assertEquals(findPending(others, { name: "rows.jsonl", size: 7 }), null);
  assert(
    isSameFile({ ...upload, filename: "rows.jsonl" }, { name: "ro\u202ews.jsonl", size: 7 }),
    "as the server keeps it",
  );
});

Deno.test("the speed is that of the last ten seconds", () => {
  const meter = new SpeedMeter();
  assertEquals([meter.speed(), meter.secondsLeft(10)], [null, null]);
  for (let second = 0; second <= 20; second++) meter.add(second * 100, second * 1000);
  assertClose(meter.speed() ?? 0, 100);
  for (let second = 21; second <= 40; second++) meter.add(2000 + (second - 20) * 500, second * 1000);
  assertClose(meter.speed() ?? 0, 500);
  assertClose(meter.secondsLeft(1000) ?? 0, 2);
});

Deno.test("bytes that are sent again start the measurement again", () => {
  const meter = new SpeedMeter();
  meter.add(0, 0);
  meter.add(1000, 1000);
  meter.add(400, 1100);
  assertEquals(meter.speed(), null);
  meter.add(900, 2100);
  assertClose(meter.speed() ?? 0, 500);
  meter.restart();
  assertEquals(meter.speed(), null);
});

Deno.test("tries become rarer, and the server's wish comes first", () => {
  assertEquals([1, 2, 3, 6, 20].map((tries) => retryDelay(tries, null, 0.5)), [1, 2, 4, 30, 30]);
  assert(retryDelay(1, null, 0) < retryDelay(1, null, 1));
  assertEquals([retryDelay(9, 5), retryDelay(1, 0)], [5, 0.2]);
});

Deno.test("Retry-After is a number or a date", () => {
  const now = Date.UTC(2026, 10, 26, 12, 0, 0);
  const values = ["7", " 120 ", "Thu, 26 Nov 2026 12:00:30 GMT", "Thu, 26 Nov 2026 11:00:00 GMT", "soon", "", null];
  assertEquals(values.map((value) => parseRetryAfter(value, now)), [7, 120, 30, 0, null, null, null]);
});

Deno.test("which failures may pass", () => {
  assertEquals([0, 429, 500, 503].map(isTransient), [true, true, true, true]);
  assertEquals([400, 401, 403, 404, 409, 413, 422, 507].some(isTransient), false);
});

Deno.test("SHA-256 is that of the platform, however the bytes come", async () => {
  for (const size of [0, 1, 55, 56, 63, 64, 65, 119, 128, 1000, 70_000]) {
    const bytes = Uint8Array.from({ length: size }, (_, index) => (index * 31 + size) % 256);
    const expected = toHex(new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)));
    assertEquals(toHex(new Sha256().update(bytes).digest()), expected, `${size} bytes`);
    const pieces = new Sha256();
    for (let at = 0; at < size; at += 37) pieces.update(bytes.subarray(at, at + 37));
    assertEquals(toHex(pieces.digest()), expected, `${size} bytes in pieces`);
  }
  assertEquals(toBase64(new Uint8Array([0, 255, 16])), "AP8Q");
});
