/** Header lines as HTTP/1.1 writes them: framing lines are left out, whatever names were written before. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { HeaderLines, UnwritableHeaderError } from "../../../src/proxy/message/header-lines.ts";
import { HeaderValueCheck } from "../../../src/proxy/message/header-values.ts";

test("lines are written in the same way each time, in the case of their names", () => {
  const values = new HeaderValueCheck();
  for (let i = 0; i < 2_000; i++) {
    const list = ["Date", "today", "X-a", `${i}`, "connection", "close", "Transfer-Encoding", "chunked"];
    const lines = new HeaderLines([...list, "Content-Length", "5", `X-Name-${i}`, "ä", "constructor", ""]);
    assert.deepEqual(lines.text(values), {
      text: `\r\nDate: today\r\nX-a: ${i}\r\nContent-Length: 5\r\nX-Name-${i}: ä\r\nconstructor: `,
      length: "5",
      hasDate: true,
      closesConnection: true,
    });
    for (const value of ["a\r\nb: c", "a\nb", "\u0000", "\u0100"])
      assert.throws(() => new HeaderLines(["X-a", value]).text(values), UnwritableHeaderError);
  }
  assert.deepEqual(new HeaderLines(["Connection", "keep-alive"]).text(values), {
    text: "",
    length: undefined,
    hasDate: false,
    closesConnection: false,
  });
});
