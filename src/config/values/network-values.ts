/**
 * Value types of the network: durations, addresses, URLs, header maps, upstreams, regular expressions.
 *
 * Pure. Regular expressions are RE2's (re2js), as in Envoy: no back references, so no input can stall a match.
 */
import { isIP } from "node:net";
import { RE2JS } from "re2js";
import {
  formatValue,
  isRefused,
  parseJson,
  parseStringList,
  parseStringMap,
  type Refuse,
  type RefusedValue,
  type ValueType,
  valueType,
} from "./value-type.ts";

export type HostPort = Readonly<{ host: string; port: number }>;

export type Upstream = Readonly<{ url: URL; weight: number | null }>;

const durationUnitsMs: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  μs: 1e-3,
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
};

/** Go's `time.ParseDuration`, in milliseconds; undefined when it is none. Negative ones are none here. */
export function parseDuration(text: string): number | undefined {
  if (/^\+?0$/.test(text)) return 0;
  if (text.length > 60 || !/^\+?(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+$/.test(text)) return undefined;
  let ms = 0;
  for (const [, number, unit] of text.matchAll(/(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)/g)) {
    ms += Number(number) * (durationUnitsMs[unit ?? ""] ?? Number.NaN);
  }
  const rounded = Math.round(ms);
  return Number.isSafeInteger(rounded) ? (rounded === 0 && ms > 0 ? 1 : rounded) : undefined;
}

/** `90000` as `1m30s` */
export function formatDuration(ms: number): string {
  if (ms === 0) return "0s";
  const parts: string[] = [];
  let rest = ms;
  for (const [unit, size] of [
    ["h", 3_600_000],
    ["m", 60_000],
    ["s", 1_000],
    ["ms", 1],
  ] as const) {
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count > 0) parts.push(`${count}${unit}`);
  }
  return parts.join("");
}

/** Bounds are written in Go's form too; `max` defaults to ten years. `allowsNone`: 0 is allowed below `min` too. */
export const duration = (bounds: Readonly<{ min?: string; max?: string; allowsNone?: true }> = {}): ValueType<number> =>
  valueType(
    { label: "duration", json: { type: ["string", "integer"], examples: ["30s", "1h30m"] } },
    (value, refuse) => {
      const typed = typeof value === "string" ? value.trim() : value === 0 ? "0" : undefined;
      const ms = typed === undefined ? undefined : parseDuration(typed);
      if (ms === undefined)
        return refuse(`${formatValue(value)} is not a duration`, "write one such as 250ms, 30s or 1h30m");
      const min = parseDuration(bounds.min ?? "0s") ?? 0;
      const max = parseDuration(bounds.max ?? "87600h") ?? 0;
      if (ms === 0 && bounds.allowsNone) return ms;
      if (ms < min) return refuse(`${formatDuration(ms)} is too short`, `write ${bounds.min} or more`);
      if (ms > max) return refuse(`${formatDuration(ms)} is too long`, `write ${bounds.max ?? "87600h"} or less`);
      return ms;
    },
  );

/** `host:port`, `[::1]:port`, or `:port` for every IPv4 address of the machine. */
export function parseHostPort(text: string): HostPort | undefined {
  const found = /^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9_.-]*)):(\d{1,5})$/.exec(text);
  const port = Number(found?.[3]);
  if (found === null || port > 65_535) return undefined;
  return { host: (found[1] ?? found[2] ?? "").toLowerCase() || "0.0.0.0", port };
}

const hostPortRemedy = "write host:port, such as 127.0.0.1:8443, or :443 for every address";

export const hostPort = (): ValueType<HostPort> =>
  valueType({ label: "host:port", json: { type: "string", examples: [":443", "127.0.0.1:8443"] } }, (value, refuse) => {
    const parsed = typeof value === "string" ? parseHostPort(value.trim()) : undefined;
    return parsed ?? refuse(`${formatValue(value)} is not an address`, hostPortRemedy);
  });

/** As `hostPort`, or the word `off` (null). */
export const hostPortOrOff = (): ValueType<HostPort | null> =>
  valueType({ label: "host:port, or off", json: { type: ["string", "boolean"] } }, (value, refuse) => {
    if (value === false || value === "off" || value === "") return null;
    const parsed = typeof value === "string" ? parseHostPort(value.trim()) : undefined;
    return parsed ?? refuse(`${formatValue(value)} is not an address`, `${hostPortRemedy}, or off`);
  });

export function isLoopback(host: string): boolean {
  const name = host.toLowerCase().replace(/^\[|\]$/g, "");
  return name === "localhost" || name.endsWith(".localhost") || name === "::1" || /^127(?:\.\d{1,3}){3}$/.test(name);
}

export type UrlRules = Readonly<{ schemes: readonly string[]; path?: "none" | "any" }>;

export function checkUrl(
  value: unknown,
  how: UrlRules & Readonly<{ refuse: Refuse; at?: readonly (string | number)[] }>,
): URL | RefusedValue {
  const example = `${how.schemes[0]}://app.example.com`;
  const refuse = (problem: string, remedy: string): RefusedValue => how.refuse(problem, remedy, how.at ?? []);
  if (typeof value !== "string" || !URL.canParse(value.trim())) {
    return refuse(`${formatValue(value)} is not a URL`, `write one such as ${example}`);
  }
  const url = new URL(value.trim());
  const scheme = url.protocol.slice(0, -1);
  if (!how.schemes.includes(scheme)) {
    return refuse(`the scheme ${scheme} cannot be used here`, `use ${how.schemes.join(" or ")}`);
  }
  if (url.hostname === "") return refuse(`${formatValue(value)} names no host`, `write one such as ${example}`);
  if (url.username !== "" || url.password !== "") {
    return refuse("a URL contains a user name or password", "remove it from the URL");
  }
  if (how.path === "none" && (url.pathname !== "/" || url.search !== "" || url.hash !== "")) {
    return refuse(`${formatValue(value)} has a path`, `write only ${url.protocol}//${url.host}`);
  }
  return url;
}

export const url = (rules: UrlRules = { schemes: ["https", "http"] }): ValueType<URL> =>
  valueType({ label: "URL", json: { type: "string", format: "uri" } }, (value, refuse) =>
    checkUrl(value, { ...rules, refuse }),
  );

/** An empty text is no URL (null), as in Pomerium. */
export const urlOrNothing = (rules: UrlRules): ValueType<URL | null> =>
  valueType({ label: "URL", json: { type: "string" } }, (value, refuse) =>
    value === "" ? null : checkUrl(value, { ...rules, refuse }),
  );

export const urls = (rules: UrlRules): ValueType<readonly URL[]> =>
  valueType(
    { label: "list of URL", json: { type: ["array", "string"], items: { type: "string" } } },
    (value, refuse) => {
      const list = parseStringList(value, refuse);
      if (isRefused(list)) return list;
      const found: URL[] = [];
      let refused: RefusedValue | undefined;
      list.forEach((item, i) => {
        const one = checkUrl(item, { ...rules, refuse, at: Array.isArray(value) ? [i] : [] });
        if (isRefused(one)) refused = one;
        else found.push(one);
      });
      return refused ?? found;
    },
  );

const headerName = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}$/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused
const headerValue = /^[^\u0000-\u0008\u000a-\u001f\u007f]*$/;

export const headerNames = (): ValueType<readonly string[]> =>
  valueType(
    { label: "list of header names", json: { type: ["array", "string"], items: { type: "string" } } },
    (value, refuse) => {
      const list = parseStringList(value, refuse);
      if (isRefused(list)) return list;
      const bad = list.findIndex((name) => !headerName.test(name));
      if (bad < 0) return list.map((name) => name.toLowerCase());
      return refuse(
        `${formatValue(list[bad])} is not a header name`,
        "use letters, digits and -",
        Array.isArray(value) ? [bad] : [],
      );
    },
  );

/** Header name to value. Names keep their spelling; the same name twice in different spelling is refused. */
export const headers = (): ValueType<Readonly<Record<string, string>>> =>
  valueType({ label: "mapping of header to value", json: { type: ["object", "string"] } }, (value, refuse) => {
    const map = parseStringMap(value, { separator: /[:=]/, refuse });
    if (isRefused(map)) return map;
    return checkHeaderMap(map, refuse) ?? map;
  });

export type HeaderRewrite = Readonly<{ header: string; prefix: string; value: string }>;

/** A list of `{header, prefix, value}`, as YAML or as JSON text; header names are in lowercase. */
export const headerRewrites = (): ValueType<readonly HeaderRewrite[]> =>
  valueType(
    { label: "list of {header, prefix, value}", json: { type: ["array", "string"], items: { type: "object" } } },
    (value, refuse) => {
      const list = typeof value === "string" ? parseJson(value) : value;
      const remedy = "write - header: Location, prefix: http://inside/, value: https://app.example.com/";
      if (!Array.isArray(list)) return refuse("is not a list of rewrites", remedy);
      const found: HeaderRewrite[] = [];
      let refused: RefusedValue | undefined;
      list.forEach((item: unknown, i) => {
        const map = parseStringMap(item, {
          separator: /=/,
          refuse: (problem, how, path = []) => refuse(problem, how, [i, ...path]),
        });
        if (isRefused(map)) {
          refused = map;
          return;
        }
        const { header, prefix, value: becomes, ...rest } = map;
        const [unknown] = Object.keys(rest);
        if (unknown !== undefined) refused = refuse(`${unknown} is not known here`, remedy, [i, unknown]);
        else if (header === undefined || !headerName.test(header))
          refused = refuse(`${formatValue(header)} is not a header name`, remedy, [i]);
        else if (prefix === undefined || prefix === "" || becomes === undefined)
          refused = refuse("names no prefix or no value", remedy, [i]);
        else if (!headerValue.test(becomes))
          refused = refuse("the value contains control characters", "write it on one line", [i, "value"]);
        else found.push({ header: header.toLowerCase(), prefix, value: becomes });
      });
      return refused ?? found;
    },
  );

/**
 * Claims to pass on: a list of claim names, or a mapping of header to claim. The answer is header (lowercase) to claim.
 */
export const claimHeaders = (): ValueType<Readonly<Record<string, string>>> =>
  valueType(
    { label: "list of claims, or mapping of header to claim", json: { type: ["array", "object", "string"] } },
    (value, refuse) => {
      const asMap = typeof value === "object" && !Array.isArray(value);
      const textual = typeof value === "string" && (value.trim().startsWith("{") || value.includes("="));
      if (asMap || textual) {
        const map = parseStringMap(value, { separator: /=/, refuse });
        if (isRefused(map)) return map;
        const wrong = checkHeaderMap(map, refuse);
        if (wrong !== undefined) return wrong;
        return Object.fromEntries(Object.entries(map).map(([name, claim]) => [name.toLowerCase(), claim]));
      }
      const list = parseStringList(typeof value === "string" ? value.replaceAll(/\s+/g, ",") : value, refuse);
      if (isRefused(list)) return list;
      const map = Object.fromEntries(list.map((claim) => [`x-pomerium-claim-${claim.toLowerCase()}`, claim]));
      return checkHeaderMap(map, refuse) ?? map;
    },
  );

function checkHeaderMap(map: Readonly<Record<string, string>>, refuse: Refuse): RefusedValue | undefined {
  const seen = new Set<string>();
  for (const [name, value] of Object.entries(map)) {
    const folded = name.toLowerCase();
    if (!headerName.test(name))
      return refuse(`${formatValue(name)} is not a header name`, "use letters, digits and -", [name]);
    if (seen.has(folded)) return refuse(`the header ${name} is written twice`, "keep one of them", [name]);
    if (!headerValue.test(value))
      return refuse(`the value of ${name} contains control characters`, "write it on one line", [name]);
    seen.add(folded);
  }
  return undefined;
}

/** `path` is as written, empty when there is none: `http://a/` and `http://a` differ in Pomerium. */
export type WrittenUpstream = Upstream & Readonly<{ path: string }>;

/** `http://a,10` or a list of such: URL and optional weight; all have one or none has. */
export const upstreams = (): ValueType<readonly WrittenUpstream[]> =>
  valueType(
    { label: "URL or list of URL", json: { type: ["string", "array"], items: { type: "string" } } },
    (value, refuse) => {
      const parts = Array.isArray(value)
        ? value
        : typeof value === "string"
          ? value.split(/,(?=\s*[a-z][a-z0-9+.-]*:)/i)
          : [value];
      const found: WrittenUpstream[] = [];
      let refused: RefusedValue | undefined;
      parts.forEach((part: unknown, i) => {
        const at = Array.isArray(value) ? [i] : [];
        const [, address = part, weight = null] =
          typeof part === "string" ? (/^([^,]*)(?:,\s*(\d{1,9}))?$/.exec(part.trim()) ?? []) : [];
        const scheme = typeof address === "string" ? /^([a-z0-9+]+):/i.exec(address)?.[1]?.toLowerCase() : undefined;
        if (scheme === "tcp" || scheme === "udp") {
          const one = tunnelUpstream(String(address).trim(), scheme);
          if (one === undefined)
            refused = refuse(`${formatValue(address)} is not an address`, `write ${scheme}://host:port`, at);
          else if (weight !== null && Number(weight) === 0)
            refused = refuse("a weight of 0", "give a weight of 1 or more, or leave the URL out", at);
          else found.push({ url: one, weight: weight === null ? null : Number(weight), path: "" });
          return;
        }
        if (scheme === "unix" || scheme === "https+unix") {
          const one = socketUpstream(String(address).trim(), scheme);
          if (one === undefined)
            refused = refuse(`${formatValue(address)} is not a socket`, `write ${scheme}:///run/app.sock`, at);
          else if (weight !== null && Number(weight) === 0)
            refused = refuse("a weight of 0", "give a weight of 1 or more, or leave the URL out", at);
          else found.push({ url: one, weight: weight === null ? null : Number(weight), path: "" });
          return;
        }
        if (scheme === "ssh") {
          refused = refuse(
            `${scheme} upstreams are not supported by this build yet`,
            "use http, https, h2, h2c, unix, https+unix, tcp or udp",
            at,
          );
          return;
        }
        // HTTP/2, with TLS and without; in everything else a URL of https and of http.
        const http2 = scheme === "h2" || scheme === "h2c" ? scheme : undefined;
        const plain = { h2: "https", h2c: "http" } as const;
        const one = checkUrl(http2 === undefined ? address : String(address).trim().replace(/^h2c?/i, plain[http2]), {
          schemes: ["http", "https"],
          refuse,
          at,
        });
        if (isRefused(one)) refused = one;
        else if (weight !== null && Number(weight) === 0)
          refused = refuse("a weight of 0", "give a weight of 1 or more, or leave the URL out", at);
        else if (one.search !== "" || one.hash !== "")
          refused = refuse("an upstream has a query", "write only scheme, host and path", at);
        else {
          const path = /^[^:]+:\/\/[^/]*(\/.*)?$/.exec(String(address))?.[1] ?? "";
          found.push({
            url: new URL(http2 === undefined ? one.origin : `${http2}://${one.host}`),
            weight: weight === null ? null : Number(weight),
            path: path === "" ? "" : one.pathname,
          });
        }
      });
      if (refused !== undefined) return refused;
      if (found.length === 0) return refuse("names no upstream", "write a URL such as http://127.0.0.1:8080");
      if (new Set(found.map((upstream) => upstream.weight === null)).size > 1) {
        return refuse("some upstreams have a weight and some have none", "give every one a weight, or none");
      }
      return found;
    },
  );

/** Whether the scheme of an upstream requests HTTP/2. gRPC over TLS uses HTTP/2 in any case. */
export function speaksHttp2({ protocol }: URL): boolean {
  return protocol === "h2:" || protocol === "h2c:";
}

/** An absolute path, and nothing else. */
function socketUpstream(address: string, scheme: "unix" | "https+unix"): URL | undefined {
  const path = /^[a-z+]+:\/\/(\/[!-"$-;=@-~]{1,100})$/i.exec(address)?.[1];
  return path === undefined || path.includes("/../") ? undefined : new URL(`${scheme}://${path}`);
}

/** Host and port, and nothing else. */
function tunnelUpstream(address: string, scheme: "tcp" | "udp"): URL | undefined {
  const at = parseHostPort(/^[a-z]+:\/\/([^/?#@]+)\/?$/i.exec(address)?.[1] ?? "");
  if (at === undefined || at.port === 0 || !URL.canParse(address)) return undefined;
  const host = at.host.includes(":") ? `[${at.host}]` : at.host;
  return new URL(`${scheme}://${host}:${at.port}`);
}

export const regularExpression = (): ValueType<string> =>
  valueType({ label: "regular expression (RE2)", json: { type: "string" } }, (value, refuse) => {
    if (typeof value !== "string" || value === "")
      return refuse(`${formatValue(value)} is not a regular expression`, "write text");
    try {
      RE2JS.compile(value);
      return value;
    } catch (error) {
      const why = error instanceof Error ? error.message : "unknown";
      return refuse(
        `is not a regular expression that RE2 can run: ${why.slice(0, 160)}`,
        "correct it; RE2 has no look-around and no back references",
      );
    }
  });

const hostName = /^(?=.{1,253}$)[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_-]{1,63})*$/;

/** Host name to where it really is: another name, or an address. Names are in lowercase, without port. */
export const hostAliases = (): ValueType<Readonly<Record<string, string>>> =>
  valueType({ label: "mapping of host to host", json: { type: ["object", "string"] } }, (value, refuse) => {
    const map = parseStringMap(value, { separator: /=/, refuse });
    if (isRefused(map)) return map;
    const found: Record<string, string> = {};
    for (const [written, target] of Object.entries(map)) {
      const name = written.toLowerCase();
      const at = target.trim().toLowerCase();
      if (!hostName.test(name) || isIP(name) !== 0)
        return refuse(`${formatValue(written)} is not a host name`, "write a name without scheme and port", [written]);
      if (isIP(at) === 0 && !hostName.test(at))
        return refuse(
          `${formatValue(target)} is neither a host name nor an address`,
          "write it without scheme and port",
          [written],
        );
      if (Object.hasOwn(found, name)) return refuse(`the host ${name} is written twice`, "keep one of them", [written]);
      found[name] = at;
    }
    return found;
  });

const pathPatternsMax = 64;
const pathPatternSegmentsMax = 32;

/** Paths with `*` for one segment and, at the end, `**` for all that follow. */
export const pathPatterns = (): ValueType<readonly string[]> =>
  valueType(
    { label: "list of path patterns", json: { type: ["array", "string"], items: { type: "string" } } },
    (value, refuse) => {
      const list = parseStringList(value, refuse);
      if (isRefused(list)) return list;
      const remedy = "write one such as /reset/*/confirm or /files/**";
      if (list.length > pathPatternsMax) return refuse(`has more than ${pathPatternsMax} patterns`, remedy);
      const bad = list.findIndex((pattern) => !isPathPattern(pattern));
      if (bad < 0) return list;
      return refuse(`${formatValue(list[bad])} is not a path pattern`, remedy, Array.isArray(value) ? [bad] : []);
    },
  );

function isPathPattern(pattern: string): boolean {
  const [first, ...segments] = pattern.split("/");
  if (first !== "" || segments.length > pathPatternSegmentsMax || !/^[!-~]{2,512}$/.test(pattern)) return false;
  const isSegment = (segment: string, i: number): boolean =>
    segment === "*" ||
    (segment === "**" && i === segments.length - 1) ||
    /^(?:[^*?#%\\;]|%[0-9a-f]{2})+$/i.test(segment);
  return segments.every(isSegment) && segments.some((segment) => segment.startsWith("*"));
}
