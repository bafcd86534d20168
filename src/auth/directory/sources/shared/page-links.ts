/**
 * Page links: the addresses of next pages that a directory sends, checked before they are requested. Pure.
 *
 * A link is kept as its path and query below the base of the API. So a directory cannot send credentials to another
 * host, and a cursor never says where to connect to.
 */
import { DirectoryError } from "../../directory-error.ts";

const linkCharsMax = 4_096;

/** RFC 8288: the target of `rel="next"` or `rel="prev"`. @returns null: there is none */
export function linkInHeader(header: string | null, relation: "next" | "prev"): string | null {
  if (header === null) return null;
  if (header.length > 4 * linkCharsMax) throw malformed("the Link header is too long");
  for (const [, target = "", parameters = ""] of header.matchAll(/<([^<>]*)>((?:\s*;\s*[^,;<>"]+(?:"[^"]*")?)*)/g)) {
    const [, quoted, plain] = /;\s*rel\s*=\s*(?:"([^"]*)"|([^\s;]+))/i.exec(parameters) ?? [];
    if ((quoted ?? plain ?? "").toLowerCase().split(/\s+/).includes(relation)) return target;
  }
  return null;
}

/** @returns path and query below `base` @throws DirectoryError `malformed` */
export function relativeLink(link: string, base: URL): string {
  const url = link.length <= linkCharsMax && URL.canParse(link, base) ? new URL(link, base) : null;
  const root = base.pathname.endsWith("/") ? base.pathname : `${base.pathname}/`;
  if (url === null || url.origin !== base.origin || !url.pathname.startsWith(root) || url.username !== "")
    throw malformed(`${base.host} names a next page that is not its own`);
  return url.pathname.slice(root.length) + url.search;
}

/** The address of a path below `base`, such as one that `relativeLink` has checked. */
export function addressOf(link: string, base: URL): URL {
  const root = base.pathname.endsWith("/") ? base.pathname : `${base.pathname}/`;
  const url = new URL(base.origin + root + link);
  if (url.origin !== base.origin || !url.pathname.startsWith(root)) throw malformed("a cursor leads out of the API");
  return url;
}

/** An id as a part of a path. Ids of directories are words; one that is not could name another resource. */
export function pathPart(id: string): string {
  if (!/^[\w@~:=-][\w.@~:=+-]{0,127}$/.test(id))
    throw malformed("an id has characters that ids of this directory lack");
  return encodeURIComponent(id);
}

function malformed(problem: string): DirectoryError {
  return new DirectoryError(problem, { kind: "malformed" });
}
