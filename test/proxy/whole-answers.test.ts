/**
 * HTTP/1.1 responses, however they are split into reads and whatever surrounds them: the result is the same. Also
 * cached request heads.
 */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { HeaderLines } from "../../src/proxy/message/header-lines.ts";
import { type RequestOptions, responseOf, sendRequest, startUpstream } from "./upstream-by-hand.ts";

suite("an HTTP/1.1 response", () => {
  test("split in two at any byte has the same result, and its connection is reused", async (t) => {
    const { pool, respondWith, connections: opened } = await startUpstream(t);
    const answer = responseOf("a\r\n\r\nb\u00ff");
    for (let at = 1; at <= answer.length; at++) {
      respondWith(answer.slice(0, at), ...(at < answer.length ? [answer.slice(at)] : []));
      assert.equal(await sendRequest(pool), "200 a\r\n\r\nb\u00ff", `cut at ${at}`);
    }
    assert.equal(opened(), 1);
  });

  for (const length of [0, 1, 16_383, 16_384, 16_385, 65_000])
    test(`with a body of ${length} bytes in one write`, async (t) => {
      const { pool, respondWith, connections: opened } = await startUpstream(t);
      const body = "b".repeat(length);
      respondWith(responseOf(body));
      for (let n = 0; n < 3; n++) assert.equal(await sendRequest(pool), `200 ${body}`);
      assert.equal(opened(), 1);
    });

  const surroundings: readonly (readonly [what: string, text: string, seen: string, connections: number])[] = [
    [
      "after an early hint, in one read with it",
      `HTTP/1.1 103 Early Hints\r\n\r\n${responseOf("ab")}`,
      "103 200 ab",
      1,
    ],
    [
      "after an early hint of the same length as the response",
      `HTTP/1.1 103 E\r\n\r\n${responseOf("ab")}`,
      "103 200 ab",
      1,
    ],
    ["after empty lines", `\r\n\r\n${responseOf("ab")}`, "200 ab", 1],
    ["with another response after it", `${responseOf("ab")}${responseOf("cd")}`, "200 ab", 3],
    ["with one byte after it", `${responseOf("ab")}x`, "200 ab", 3],
    ["with an empty line after it", `${responseOf("ab")}\r\n\r\n`, "200 ab", 1],
    ["in chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", "200 ab", 1],
    ["with header names in another case", responseOf("ab").replace("Content-Length", "cONTENT-lENGTH"), "200 ab", 1],
  ];
  for (const [what, text, seen, connections] of surroundings)
    test(what, async (t) => {
      const { pool, respondWith, connections: opened } = await startUpstream(t);
      respondWith(text);
      for (let n = 0; n < 3; n++) assert.equal(await sendRequest(pool), seen);
      assert.equal(opened(), connections);
    });

  test("to HEAD, and a 304, has a length and no body", async (t) => {
    const { pool, respondWith, connections: opened } = await startUpstream(t);
    respondWith("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
    assert.equal(await sendRequest(pool, { method: "HEAD" }), "200 ");
    respondWith("HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n");
    assert.equal(await sendRequest(pool), "304 ");
    respondWith(responseOf("ab"));
    assert.equal(await sendRequest(pool), "200 ab");
    assert.equal(opened(), 1);
  });
});

test("a head that is sent repeatedly has its own method, path and request id each time", async (t) => {
  const { pool, requests, respondWith } = await startUpstream(t);
  respondWith(responseOf("ab"));
  const headers = new HeaderLines(["host", "a", "x-long", "l".repeat(2_000)]);
  const others = new HeaderLines(["host", "b"]);
  const id = (letter: string): string => letter.repeat(36);
  const calls: Required<RequestOptions>[] = [
    { method: "GET", path: "/", headers, requestId: id("a") },
    { method: "GET", path: "/", headers, requestId: id("b") },
    { method: "GET", path: "/", headers, requestId: id("c") },
    { method: "GET", path: "/", headers, requestId: "short" },
    { method: "GET", path: "/", headers, requestId: id("\u00e4") },
    { method: "GET", path: "/", headers, requestId: null },
    { method: "GET", path: "/", headers, requestId: id("d") },
    { method: "HEAD", path: "/", headers, requestId: id("e") },
    { method: "GET", path: "/x", headers, requestId: id("f") },
    { method: "GET", path: "/x", headers, requestId: id("g") },
    { method: "GET", path: "/x", headers: others, requestId: id("h") },
    { method: "GET", path: "/x", headers, requestId: id("i") },
    { method: "GET", path: "/x", headers: others, requestId: id("j") },
  ];
  for (const call of calls) {
    if (call.method === "HEAD") respondWith("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
    else respondWith(responseOf("ab"));
    await sendRequest(pool, call);
    const lines = call.headers.list.map((text, i) => (i % 2 === 0 ? `${text}: ` : `${text}\r\n`)).join("");
    const requestIdLine = call.requestId === null ? "" : `x-request-id: ${call.requestId}\r\n`;
    assert.equal(requests.at(-1), `${call.method} ${call.path} HTTP/1.1\r\n${lines}${requestIdLine}\r\n`);
  }
  assert.equal(requests.length, calls.length);
});
