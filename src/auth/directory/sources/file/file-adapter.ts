/** File adapter: `provider: file`, a JSON or CSV document at a path or URL (docs/directories.md). */
import * as z from "zod";
import { defineAdapter, httpsUrl, text } from "../../adapter-contract.ts";
import { documentBytesMax, openDocumentFile } from "./document-file.ts";
import { openDocumentUrl } from "./document-url-client.ts";

const settings = z
  .strictObject({
    path: text().optional(),
    url: httpsUrl().optional(),
    /** Absent: by the ending of the path or URL. */
    format: z.enum(["json", "csv"]).optional(),
    bearer_token: text().optional(),
  })
  .refine(({ path, url }) => (path === undefined) !== (url === undefined), "needs either path or url")
  .refine(({ bearer_token, url }) => bearer_token === undefined || url !== undefined, {
    message: "is sent to a url alone",
    path: ["bearer_token"],
  });

export const fileAdapter = defineAdapter({
  provider: "file",
  settings,
  secrets: ["bearer_token"],
  open({ path, url, format, bearer_token }, parts) {
    const named = path ?? url?.pathname ?? "";
    const used = format ?? (named.toLowerCase().endsWith(".csv") ? "csv" : "json");
    if (url === undefined) return openDocumentFile({ path: path ?? "", format: used }, { log: parts.log });
    const http = parts.http({ bytesMax: documentBytesMax });
    return openDocumentUrl({ url, format: used, token: bearer_token ?? null }, { http });
  },
});
