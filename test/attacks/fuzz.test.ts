/**
 * Fuzzing of requests on raw sockets: valid requests, pipelined, with random edits to their bytes.
 *
 * Whatever the edits do, two properties hold:
 * - what reaches the upstream is what was permitted, which the oracle verifies
 * - the permitted requests are a subsequence of those that a strict parser reads, and no answer lacks a request
 *
 *   FUZZ_SEED=… FUZZ_PATH=… FUZZ_RUNS=… node test/attacks/fuzz.test.ts     a failure prints the first two
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { fc } from "../support/property.ts";
import { readAnswers, readRequests } from "../support/strict-http1.ts";
import { type Arena, handleOf, startArena } from "./oracle.ts";
import { sendAndReadAll } from "./socket.ts";

const { FUZZ_SEED, FUZZ_PATH, FUZZ_RUNS } = process.env;
let arena: Arena;
before(async () => {
  arena = await startArena({
    upstream: "node",
    transport: "plain",
    config: { timeouts: { readMs: 200, readLimit: "request", writeMs: 0, idleMs: 200 } },
  });
});
after(() => arena.close());

const cookie = `Cookie: _pomerium=${handleOf(1)}`;
const target = fc.constantFrom("/", "/a", "/a/b?c=d", "/admin", "//a", "/%61", "/a%20b");
const host = fc.constantFrom("app.localhost", "public.localhost", "eng.localhost", "unknown.localhost");
const extra = fc.constantFrom(
  ...[
    "X: y",
    "Accept: application/json",
    "X-Pomerium-Claim-Email: evil",
    "Connection: X-Request-Id",
    "Connection: keep-alive",
  ],
  ...[
    "TE: trailers",
    "Expect: 100-continue",
    "Upgrade: foo",
    "Connection: Upgrade",
    `Authorization: Pomerium ${handleOf(2)}`,
  ],
  ...["X-Forwarded-For: 6.6.6.6", "Content-Type: application/grpc", "Range: bytes=0-1"],
);
const body = fc.constantFrom("", "hello", `GET /hidden HTTP/1.1\r\nHost: public.localhost\r\n\r\n`, "0\r\n\r\n");
const request = fc
  .record({
    method: fc.constantFrom("GET", "POST", "HEAD", "OPTIONS", "DELETE"),
    target,
    host,
    body,
    extras: fc.array(extra, { maxLength: 3 }),
    chunked: fc.boolean(),
    signedIn: fc.boolean(),
  })
  .map(({ method, target: path, host: name, body: bytes, extras, chunked, signedIn }) => {
    const framing = bytes === "" ? [] : [chunked ? "Transfer-Encoding: chunked" : `Content-Length: ${bytes.length}`];
    const lines = [`${method} ${path} HTTP/1.1`, `Host: ${name}`, ...(signedIn ? [cookie] : []), ...extras, ...framing];
    const sent = chunked && bytes !== "" ? `${bytes.length.toString(16)}\r\n${bytes}\r\n0\r\n\r\n` : bytes;
    return `${lines.join("\r\n")}\r\n\r\n${sent}`;
  });

/** One edit: removes up to three bytes at a relative position and inserts others. */
const splice = fc.record({
  at: fc.double({ min: 0, max: 1, noNaN: true }),
  take: fc.integer({ min: 0, max: 3 }),
  put: fc.constantFrom(
    ...[
      "",
      "\r",
      "\n",
      "\r\n",
      "\0",
      " ",
      "\t",
      ":",
      ";",
      ",",
      "_",
      "/",
      "..",
      "%2f",
      "%",
      "#",
      "?",
      "\x0b",
      "\xa0",
      "0",
      "5",
    ],
    ...["\r\n ", "\r\n\r\n", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", "\r\nHost: eng.localhost"],
    ...[
      "\r\nContent-Length: 0",
      "\r\nTransfer-Encoding: identity",
      "0\r\n\r\n",
      "GET /hidden HTTP/1.1\r\n",
      "HTTP/1.0",
    ],
  ),
});
const attack = fc.record({
  requests: fc.array(request, { minLength: 1, maxLength: 3 }),
  splices: fc.array(splice, { maxLength: 3 }),
});

test("only permitted requests reach the upstream, whatever is done to their bytes", {
  timeout: 560_000,
}, async () => {
  await fc.assert(
    fc.asyncProperty(attack, async ({ requests, splices }) => {
      let bytes = requests.join("");
      for (const { at, take, put } of splices) {
        const position = Math.floor(at * bytes.length);
        bytes = bytes.slice(0, position) + put + bytes.slice(position + take);
      }
      const recordsBefore = arena.rig.records.length;
      const received = await sendAndReadAll(
        arena.connect(),
        `${bytes}GET /end HTTP/1.1\r\nHost: public.localhost\r\nConnection: close\r\n\r\n`,
      );
      const decided = arena.rig.records.slice(recordsBefore).filter(({ occasion }) => occasion === "request");
      await arena.verify();

      const heads = decided.map(({ method }) => method);
      const { messages: answers, problem } = readAnswers(received, (n) => heads[n] === "HEAD");
      assert.ok(problem === null || problem.startsWith("incomplete"), `${problem}: ${received}`);
      const finals = answers.filter(({ status }) => status >= 200);
      // A request that cannot be parsed gets no decision and one error reply.
      assert.ok(
        finals.length <= decided.length + 1,
        `${finals.length} answers to ${decided.length} decisions: ${received}`,
      );

      const strict = readRequests(`${bytes}GET /end HTTP/1.1\r\nHost: public.localhost\r\nConnection: close\r\n\r\n`);
      if (strict.problem !== null) return;
      const permitted = decided.filter(({ result }) => result === "permit").map(({ method }) => method);
      const requested = strict.messages.map(({ method }) => method);
      assert.ok(isSubsequence(permitted, requested), `permitted ${permitted} of the requests ${requested}`);
    }),
    {
      numRuns: Number(FUZZ_RUNS ?? 2_000),
      seed: Number(FUZZ_SEED ?? 4),
      ...(FUZZ_PATH === undefined ? {} : { path: FUZZ_PATH }),
    },
  );
});

function isSubsequence(part: readonly string[], whole: readonly string[]): boolean {
  let at = 0;
  for (const one of whole) if (one === part[at]) at++;
  return at === part.length;
}
