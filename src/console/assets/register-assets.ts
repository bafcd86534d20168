/**
 * Asset endpoint, `/.pomerium/assets/`: scripts and pictures of the pages, for everyone. It reveals nothing that a page
 * without sign-in does not, except pictures to those who know their URLs.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { PageAssets } from "./page-assets.ts";
import type { PictureStore } from "./picture-store.ts";

/** A picture is never a document of this host: an SVG runs no script, also when it is opened by itself. */
const picturePolicy = "default-src 'none'; style-src 'unsafe-inline'; sandbox";

export function registerAssets(app: FastifyInstance, assets: Pick<PageAssets, "find">, pictures: PictureStore): void {
  app.route({
    method: ["GET", "HEAD"],
    url: "/.pomerium/assets/:file",
    handler: async (request, reply) => {
      const { file } = request.params as Readonly<{ file: string }>;
      reply.header("x-content-type-options", "nosniff").header("cross-origin-resource-policy", "same-origin");
      if (file.startsWith("picture.")) {
        const picture = await pictures.find(file.slice("picture.".length));
        if (picture === undefined) return reply.code(404).type("text/plain").send("No such picture.\n");
        return reply
          .header("cache-control", "max-age=3600")
          .header("content-security-policy", picturePolicy)
          .type(picture.type)
          .send(picture.body);
      }
      const asset = assets.find(file);
      if (asset === undefined) return reply.callNotFound();
      reply
        .header("cache-control", asset.isExact ? "public, max-age=31536000, immutable" : "no-store")
        .header("vary", "accept-encoding")
        .type(asset.type);
      return acceptsGzip(request) ? sendGzip(reply, asset.gzip) : reply.send(asset.body);
    },
  });
}

function sendGzip(reply: FastifyReply, body: Buffer): FastifyReply {
  return reply.header("content-encoding", "gzip").send(body);
}

function acceptsGzip(request: FastifyRequest): boolean {
  return String(request.headers["accept-encoding"] ?? "")
    .split(",")
    .some((coding) => /^\s*gzip\s*(?:;\s*q=(?!0(?:\.0*)?\s*$).*)?$/i.test(coding));
}
