/**
 * Bench: what a head of very many header lines costs the event loop before it is refused, beside a head at the limit.
 *
 *   node bench/header-lines.ts
 *
 * The parser of a caller's connection reads 1,000, 5,000 and 31,000 lines in reads of 64 KiB. Prints the outcome and
 * the milliseconds for a head.
 */

import { createParser, freeParser, type ParseError } from "../src/proxy/http1/parser.ts";
import { headerLinesMax } from "../src/proxy/message/canonical-request.ts";

const readBytes = 65_536;

for (const lines of [headerLinesMax - 1, 5_000, 31_000]) {
  const head = Buffer.from(`GET / HTTP/1.1\r\nHost: a\r\n${"x-a: b\r\n".repeat(lines - 1)}\r\n`, "latin1");
  let best = Infinity;
  let outcome = "";
  for (let round = 0; round < 30; round++) {
    const started = process.hrtime.bigint();
    outcome = read(head);
    best = Math.min(best, Number(process.hrtime.bigint() - started) / 1e6);
  }
  console.log(`${String(lines).padStart(6)} lines   ${head.length} bytes   ${best.toFixed(2)} ms   ${outcome}`);
}

function read(head: Buffer): string {
  let outcome = "no end";
  const parser = createParser(
    "request",
    { bytesMax: 131_072, linesMax: headerLinesMax },
    {
      onHead(_major, _minor, lines) {
        outcome = `${(lines?.length ?? 0) / 2} lines`;
        return 0;
      },
      onBody() {},
      onComplete() {},
      onTrailers() {},
      onTooManyLines({ code }: ParseError) {
        outcome = code;
      },
    },
  );
  // Like a connection: reads nothing after a refusal.
  for (let at = 0; at < head.length && outcome === "no end"; at += readBytes)
    parser.execute(head.subarray(at, at + readBytes));
  freeParser(parser);
  return outcome;
}
