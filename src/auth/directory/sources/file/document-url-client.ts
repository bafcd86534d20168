/** Document URL: a directory's document behind HTTPS. With an `ETag`, an unchanged document is not sent again. */
import type { DirectoryHttp } from "../../directory-fetch.ts";
import type { DirectorySource } from "../../source.ts";
import { type DocumentFormat, parseDocument } from "./document.ts";
import { digestOf, pause } from "./document-file.ts";
import { createDocumentSource } from "./document-source.ts";

const etagMax = 500;

export function openDocumentUrl(
  { url, format, token }: Readonly<{ url: URL; format: DocumentFormat; token: string | null }>,
  { http, size }: Readonly<{ http: DirectoryHttp; size?: number }>,
): DirectorySource {
  return createDocumentSource({
    ...(size === undefined ? {} : { size }),
    async load(unless, signal) {
      const etag = unless?.startsWith("etag:") === true ? unless.slice("etag:".length) : null;
      const answer = await http.request({
        url,
        signal,
        accept: [304],
        headers: {
          accept: format === "json" ? "application/json" : "text/csv",
          ...(token === null ? {} : { authorization: `Bearer ${token}` }),
          ...(etag === null ? {} : { "if-none-match": etag }),
        },
      });
      if (answer.status === 304) return null;
      const sent = answer.headers.get("etag")?.trim();
      const isUsable = sent !== undefined && sent !== "" && sent.length <= etagMax;
      const version = isUsable ? `etag:${sent}` : `sha256:${await digestOf(answer.body)}`;
      return { version, parse: () => parseDocument(answer.body, format, pause) };
    },
  });
}
