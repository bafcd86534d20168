/** Receipt keys: serves the public keys of receipts on the authenticate host, without authentication. */
import { hash } from "node:crypto";
import type { FastifyInstance } from "fastify";
import { type ReceiptKeys, receiptKeysPath } from "../replication/wire/index.ts";

export function registerReceiptKeys(app: FastifyInstance, keys: ReceiptKeys): void {
  const text = JSON.stringify(keys);
  const etag = `"${hash("sha256", text, "hex").slice(0, 16)}"`;
  app.route({
    method: ["GET", "HEAD"],
    url: receiptKeysPath,
    handler: (request, reply) => {
      reply.header("access-control-allow-origin", "*").header("cache-control", "max-age=60").header("etag", etag);
      if (request.headers["if-none-match"] === etag) return reply.code(304).send();
      return reply.type("application/jwk-set+json").send(text);
    },
  });
}
