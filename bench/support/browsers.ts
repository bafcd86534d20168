/**
 * Browsers: the requests of several people who use one application, head by head, for the programs that load a proxy.
 *
 * - On one person's connections the lines that identify the person and the browser are equal: cookie, user agent,
 *   client hints and languages.
 * - Path, query, `Accept`, `Sec-Fetch-*` and `Referer` differ from one request to the next, as for a page and its
 *   resources.
 * - No two requests of one list are equal. A list has a prime number of them, so its order shifts against connections
 *   and routes.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";

export const peopleCount = 8;
export const requestsPerPerson = 509;

/** What all browsers share. */
export type Application = Readonly<{
  /** Host and port of the URL. */
  host: string;
  /** Scheme, host and port. */
  origin: string;
  /** `name=value` of the session cookie of each person. */
  cookies: readonly string[];
  /** Path prefixes that requests use in turn; each starts and ends with a slash. */
  prefixes?: readonly string[];
}>;

const browsers = [
  { agent: "Mozilla/5.0 (Windows NT 10.0; Win64; x64)", system: "Windows", languages: "en-US,en;q=0.9" },
  { agent: "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)", system: "macOS", languages: "de-DE,de;q=0.9,en;q=0.7" },
  { agent: "Mozilla/5.0 (X11; Linux x86_64)", system: "Linux", languages: "fr-FR,fr;q=0.9,en-US;q=0.8,en;q=0.7" },
  { agent: "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0)", system: "Chrome OS", languages: "ja,en-US;q=0.9,en;q=0.8" },
];

/** A page and its resources: the form of each address, and the browser's `Accept` for it. */
const resources = [
  {
    path: (n: number) => `projects/${n}?tab=overview&since=${1_700_000_000 + n * 61}`,
    accept: "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    mode: "navigate",
    destination: "document",
  },
  {
    path: (n: number) => `assets/${hexOf(n)}/main.css?v=${n}`,
    accept: "text/css,*/*;q=0.1",
    mode: "no-cors",
    destination: "style",
  },
  { path: (n: number) => `assets/${hexOf(n)}/main.js?v=${n}`, accept: "*/*", mode: "no-cors", destination: "script" },
  {
    path: (n: number) => `avatars/${hexOf(n * 7)}.png?size=${32 + (n % 5) * 16}`,
    accept: "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8",
    mode: "no-cors",
    destination: "image",
  },
  {
    path: (n: number) => `api/items?project=${n}&page=${n % 9}&q=budget%20${n}`,
    accept: "application/json, text/plain, */*",
    mode: "cors",
    destination: "empty",
  },
];

export type BrowserRequest = Readonly<{ path: string; referer: string; accept: string }>;

/** @returns names and values of the lines that are equal on all connections of a person, except `Host` */
export function personLines(person: number, { cookies }: Application): readonly (readonly [string, string])[] {
  const { agent, system, languages } = browsers[person % browsers.length] ?? { agent: "", system: "", languages: "" };
  const version = 128 + person;
  return [
    ["sec-ch-ua", `"Chromium";v="${version}", "Not;A=Brand";v="24", "Google Chrome";v="${version}"`],
    ["sec-ch-ua-mobile", "?0"],
    ["sec-ch-ua-platform", `"${system}"`],
    ["User-Agent", `${agent} AppleWebKit/537.36 (KHTML, like Gecko) Chrome/${version}.0.0.0 Safari/537.36`],
    ["Accept-Encoding", "gzip, deflate, br, zstd"],
    ["Accept-Language", languages],
    ["Cookie", `theme=dark; visitor=${hexOf(person * 104_729)}; ${cookies[person % cookies.length]}`],
  ];
}

/** @returns the request heads of one person, in the order in which they are sent */
export function requestsOf(person: number, application: Application): readonly string[] {
  const lines = personLines(person, application).map(([name, value]) => `${name}: ${value}`);
  return Array.from({ length: requestsPerPerson }, (_, n) => {
    const { path, referer, accept } = requestOf(person, n, application);
    const { mode, destination } = resources[n % resources.length] ?? { mode: "", destination: "" };
    return [
      `GET ${path} HTTP/1.1`,
      `Host: ${application.host}`,
      "Connection: keep-alive",
      ...lines,
      `Accept: ${accept}`,
      "Sec-Fetch-Site: same-origin",
      `Sec-Fetch-Mode: ${mode}`,
      `Sec-Fetch-Dest: ${destination}`,
      `Referer: ${application.origin}${referer}`,
      "",
      "",
    ].join("\r\n");
  });
}

/** @param n which request of the person; every fifth is a page, the four after it are its resources */
export function requestOf(person: number, n: number, { prefixes = ["/"] }: Application): BrowserRequest {
  const kind = n % resources.length;
  const page = person * requestsPerPerson + (n - kind);
  const prefix = prefixes[((page / 5) % prefixes.length) | 0] ?? "/";
  const resource = resources[kind] ?? resources[0];
  const pathOf = (at: number): string => `${prefix}projects/${at}?tab=overview&since=${1_700_000_000 + at * 61}`;
  return {
    path: `${prefix}${resource?.path(page) ?? ""}`,
    referer: pathOf(kind === 0 ? page - 5 : page),
    accept: resource?.accept ?? "*/*",
  };
}

/**
 * Writes a script for wrk with one thread per person, whose connections belong to that person.
 * @returns its file
 */
export function writeBrowserScript(folder: string, name: string, application: Application): string {
  for (let person = 0; person < peopleCount; person++) {
    const list = requestsOf(person, application).map((head) => JSON.stringify(head));
    writeFileSync(join(folder, `${name}-${person}.lua`), `return {\n${list.join(",\n")}\n}\n`);
  }
  const script = join(folder, `${name}.lua`);
  writeFileSync(
    script,
    `local threads, n = 0, 0
function setup(thread) thread:set("person", threads); threads = threads + 1 end
function init() requests = dofile("${folder}/${name}-" .. person .. ".lua") end
function request() n = n % #requests + 1; return requests[n] end\n`,
  );
  return script;
}

function hexOf(n: number): string {
  return (Math.imul(n + 1, 2_654_435_761) >>> 0).toString(16).padStart(8, "0");
}
