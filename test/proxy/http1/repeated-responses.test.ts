/** Responses on a reused upstream connection: each is read as on a new connection, whatever preceded it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { fc } from "../../support/property.ts";
import { responseOf, sendRequest, startUpstream } from "../upstream-by-hand.ts";

/** One response of an upstream, in one read or more. */
type ScriptedResponse = Readonly<{ pieces: readonly string[]; method: "GET" | "HEAD" }>;

const plain = responseOf("ab");
const whole = fc.constantFrom(
  plain,
  plain,
  plain,
  responseOf("cd"),
  responseOf("abc"),
  plain.replace("200 OK", "404 OK"),
  plain.replace("200 OK", "304 OK"), // which has no body, so that there is something behind it
  plain.replace("X: y", "X: z"),
  plain.replace("X: y", "x: y"),
  plain.replace("X: y", "Connection: close"),
  plain.replace("HTTP/1.1", "HTTP/1.0"),
  `HTTP/1.1 103 Early Hints\r\n\r\n${plain}`,
  `\r\n${plain}`,
  `${plain}\r\n`,
  `${plain}x`,
  plain + plain,
  plain.replace("Content-Length: 2", "Content-Length: 2\r\nContent-Length: 2"),
  plain.replace("Content-Length: 2\r\n", "Transfer-Encoding: chunked\r\n").replace(/ab$/, "2\r\nab\r\n0\r\n\r\n"),
);
/** Cut before its end, because bytes shortly after a response would be read as the next one. */
const scriptedResponse: fc.Arbitrary<ScriptedResponse> = fc
  .record({ text: whole, cutAt: fc.option(fc.nat(40), { freq: 4 }), isHead: fc.nat(9) })
  .map(({ text, cutAt, isHead }) =>
    isHead === 0
      ? { pieces: [text.slice(0, text.lastIndexOf("\r\n\r\n") + 4)], method: "HEAD" }
      : { pieces: cutAt === null || cutAt === 0 ? [text] : [text.slice(0, cutAt), text.slice(cutAt)], method: "GET" },
  );

test("a reused connection reads any response as a new connection does", { timeout: 240_000 }, async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.array(scriptedResponse, { minLength: 3, maxLength: 9 }), async (all) => {
      const reused = await startUpstream(t);
      for (const { pieces, method } of all) {
        const fresh = await startUpstream(t);
        const seen: string[] = [];
        for (const { pool, respondWith } of [fresh, reused]) {
          respondWith(...pieces);
          seen.push(await sendRequest(pool, { method }).catch((error: Error) => `${error.name}: ${error.message}`));
        }
        assert.equal(seen[1], seen[0], JSON.stringify(pieces));
        fresh.close();
      }
      reused.close();
    }),
    { numRuns: 60 },
  );
});

test("a body that looks like the previous response is read as a body", async (t) => {
  const { pool, respondWith, connections } = await startUpstream(t);
  respondWith(plain);
  for (let n = 0; n < 3; n++) assert.equal(await sendRequest(pool), "200 ab");
  respondWith(`HTTP/1.1 200 OK\r\nContent-Length: ${plain.length}\r\n\r\n`, plain);
  assert.equal(await sendRequest(pool), `200 ${plain}`);
  assert.equal(connections(), 1);
});

test("a response to HEAD is its head alone, even if a body follows it", async (t) => {
  const { pool, respondWith, connections } = await startUpstream(t);
  respondWith(plain);
  for (let n = 0; n < 3; n++) assert.equal(await sendRequest(pool), "200 ab");
  assert.equal(await sendRequest(pool, { method: "HEAD" }), "200 ");
  assert.equal(await sendRequest(pool), "200 ab");
  assert.equal(connections(), 2);
});
