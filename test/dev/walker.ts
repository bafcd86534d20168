/**
 * Walker: a browser without scripts, for tests. It keeps cookies per host, submits forms and follows redirects up to a
 * URL.
 */
import { createLocalFetch } from "../../src/auth/index.ts";

export type Stop = Readonly<{ url: URL; status: number; body: string; headers: ReadonlyMap<string, string> }>;
export type Walker = Readonly<{
  /** Follows redirects until a response is not one, or until one leads to a URL that starts with `until`. */
  go(url: string | URL, options?: Readonly<{ form?: Record<string, string>; until?: string }>): Promise<Stop>;
  /** A cookie of a host by name, for any path. */
  cookies(host: string): readonly string[];
  close(): Promise<void>;
}>;

const hopsMax = 10;

export function createWalker(): Walker {
  const local = createLocalFetch({ timeoutMs: 5_000 });
  const jar = new Map<string, Map<string, { value: string; path: string }>>();

  async function go(
    start: string | URL,
    options: { form?: Record<string, string>; until?: string } = {},
  ): Promise<Stop> {
    let url = new URL(start);
    let form = options.form;
    for (let hop = 0; hop < hopsMax; hop++) {
      const cookies = [...(jar.get(url.hostname) ?? new Map())]
        .filter(([, cookie]) => url.pathname.startsWith(cookie.path))
        .map(([name, cookie]) => `${name}=${cookie.value}`);
      const response = await local.fetch(url, {
        method: form === undefined ? "GET" : "POST",
        headers: {
          accept: "text/html",
          ...(cookies.length > 0 ? { cookie: cookies.join("; ") } : {}),
          ...(form === undefined ? {} : { "content-type": "application/x-www-form-urlencoded", origin: url.origin }),
        },
        ...(form === undefined ? {} : { body: new URLSearchParams(form).toString() }),
      });
      for (const line of response.headers.getSetCookie()) keep(url.hostname, line);
      const body = await response.text();
      const location = response.headers.get("location");
      if (location === null) return { url, status: response.status, body, headers: new Map(response.headers) };
      url = new URL(location, url);
      form = undefined;
      if (options.until !== undefined && url.href.startsWith(options.until)) {
        return { url, status: response.status, body: "", headers: new Map(response.headers) };
      }
    }
    throw new Error(`more than ${hopsMax} redirects, the last to ${url.pathname}`);
  }

  function keep(host: string, line: string): void {
    const [pair = "", ...attributes] = line.split(";").map((part) => part.trim());
    const name = pair.slice(0, pair.indexOf("="));
    const path = attributes.find((attribute) => /^path=/i.test(attribute))?.slice(5) ?? "/";
    const cookies = jar.get(host) ?? new Map();
    jar.set(host, cookies);
    const value = pair.slice(pair.indexOf("=") + 1);
    if (value === "" || /expires=thu, 01 jan 1970/i.test(line)) cookies.delete(name);
    else cookies.set(name, { value, path });
  }

  return { go, cookies: (host) => [...(jar.get(host) ?? new Map()).keys()], close: local.close };
}
