/** An answer that is known by its bytes: nothing else is taken for it, and whatever comes before, behind or in place of it is read as on a fresh connection. */
import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { KeptAnswer } from "../../../src/proxy/http1/kept-answer.ts";
import { readBuffer } from "../../../src/proxy/http1/read-buffer.ts";
import { parseResponseHead } from "../../../src/proxy/http1/response-head.ts";
import { AnswerLines } from "../../../src/proxy/message/received-lines.ts";
import { fc } from "../../support/property.ts";
import { answerOf, ask, startUpstream } from "../upstream-by-hand.ts";

suite("a kept answer", () => {
  const answer = answerOf("body");
  const headBytes = answer.length - 4;
  const keep = (): KeptAnswer => {
    const lines = new AnswerLines(["Content-Length", "4", "X", "y"]);
    readBuffer.bytes.write(answer, "latin1");
    return new KeptAnswer(parseResponseHead(200, lines, true, "GET"), answer.length);
  };

  test("is known with any body of its length", () => {
    const kept = keep();
    readBuffer.bytes.write(answer.replace("body", "BODY"), "latin1");
    assert.equal(kept.isAll(answer.length), true);
    assert.equal(kept.head.bodyBytes, 4);
  });

  test("is another one with one byte of its head changed, wherever that is", () => {
    const kept = keep();
    for (let at = 0; at < headBytes; at++) {
      const was = readBuffer.bytes[at] ?? 0;
      readBuffer.bytes[at] = was ^ 0x20;
      assert.equal(kept.isAll(answer.length), false, `byte ${at}`);
      readBuffer.bytes[at] = was;
    }
    assert.equal(kept.isAll(answer.length), true);
  });

  test("is not known when a byte is missing, or something stands behind it", () => {
    const kept = keep();
    for (const length of [0, headBytes, answer.length - 1, answer.length + 1]) assert.equal(kept.isAll(length), false);
  });
});

/** What one upstream may say to one request, in one read or more. */
type Said = Readonly<{ pieces: readonly string[]; method: "GET" | "HEAD" }>;

const plain = answerOf("ab");
const whole = fc.constantFrom(
  plain,
  plain,
  plain,
  answerOf("cd"),
  answerOf("abc"),
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
/** Cut before its end: what comes a moment behind an answer would be taken for the next one. */
const said: fc.Arbitrary<Said> = fc
  .record({ text: whole, cutAt: fc.option(fc.nat(40), { freq: 4 }), isHead: fc.nat(9) })
  .map(({ text, cutAt, isHead }) =>
    isHead === 0
      ? { pieces: [text.slice(0, text.lastIndexOf("\r\n\r\n") + 4)], method: "HEAD" }
      : { pieces: cutAt === null || cutAt === 0 ? [text] : [text.slice(0, cutAt), text.slice(cutAt)], method: "GET" },
  );

test("whatever an upstream says, one connection reads of it what fresh ones read", { timeout: 240_000 }, async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.array(said, { minLength: 3, maxLength: 9 }), async (all) => {
      const kept = await startUpstream(t);
      for (const { pieces, method } of all) {
        const fresh = await startUpstream(t);
        const seen: string[] = [];
        for (const { pool, answerWith } of [fresh, kept]) {
          answerWith(...pieces);
          seen.push(await ask(pool, { method }).catch((error: Error) => `${error.name}: ${error.message}`));
        }
        assert.equal(seen[1], seen[0], JSON.stringify(pieces));
        fresh.close();
      }
      kept.close();
    }),
    { numRuns: 60 },
  );
});

test("a body that looks like the answer before it is a body", async (t) => {
  const { pool, answerWith, opened } = await startUpstream(t);
  answerWith(plain);
  for (let n = 0; n < 3; n++) assert.equal(await ask(pool), "200 ab");
  answerWith(`HTTP/1.1 200 OK\r\nContent-Length: ${plain.length}\r\n\r\n`, plain);
  assert.equal(await ask(pool), `200 ${plain}`);
  assert.equal(opened(), 1);
});

test("an answer to HEAD is its head alone, also when it comes with the body that it would have", async (t) => {
  const { pool, answerWith, opened } = await startUpstream(t);
  answerWith(plain);
  for (let n = 0; n < 3; n++) assert.equal(await ask(pool), "200 ab");
  assert.equal(await ask(pool, { method: "HEAD" }), "200 ");
  assert.equal(await ask(pool), "200 ab");
  assert.equal(opened(), 2);
});
