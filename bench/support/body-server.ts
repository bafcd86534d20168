/**
 * Body server: receives and sends bodies of any length at the pace of the other side. Argument: port.
 *
 * `GET /N` answers with N bytes. `PUT /` counts the bytes and answers with the count at the end. It stores nothing.
 */
import { createServer } from "node:http";
import { pipeline, Readable } from "node:stream";

const chunk = Buffer.alloc(65_536, "x");

createServer((request, response) => {
  if (request.method === "PUT") {
    let bytes = 0;
    request.on("data", (part: Buffer) => {
      bytes += part.length;
    });
    request.once("end", () => response.end(String(bytes)));
    return;
  }
  const length = Number((request.url ?? "").slice(1));
  response.writeHead(200, { "content-type": "application/octet-stream", "content-length": length });
  pipeline(Readable.from(chunksOf(length), { objectMode: false, highWaterMark: chunk.length }), response, () => {});
}).listen(Number(process.argv[2]), "127.0.0.1");

function* chunksOf(length: number): Generator<Buffer> {
  for (let left = length; left > 0; left -= chunk.length) yield left < chunk.length ? chunk.subarray(0, left) : chunk;
}
