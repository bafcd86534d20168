/**
 * Adapter contract: how a directory source is configured and opened, by the name of its `provider`.
 *
 * - An adapter is one constant in `sources/NAME/NAME-adapter.ts`, and one line in directory-adapters.ts.
 * - Its settings stand beside the common keys in its section of `directories`. Its schema is strict, so a misspelt key
 *   is refused. A setting listed in `secrets` may be written as `NAME_file` instead, with the path of a file.
 */
import { createHash } from "node:crypto";
import * as z from "zod";
import type { LocalFetch } from "../authenticate/provider/local-fetch.ts";
import { DirectoryError } from "./directory-error.ts";
import type { createDirectoryHttp, DirectoryHttp } from "./directory-fetch.ts";
import type { DirectorySource } from "./source.ts";

/** What a process gives to a source. */
export type SourceParts = Readonly<{
  /** The name of the directory in the configuration. */
  name: string;
  /** A client with the time-outs and trusted authorities of this installation. */
  http(options?: Pick<Parameters<typeof createDirectoryHttp>[0], "bytesMax" | "limitOf">): DirectoryHttp;
  fetch: LocalFetch["fetch"];
  /** The wall clock (ms). */
  now(): number;
  log: Readonly<{ info(fields: object, message: string): void; warn(fields: object, message: string): void }>;
}>;

export type DirectoryAdapter<Settings = unknown> = Readonly<{
  /** As `provider` in the configuration. */
  provider: string;
  settings: z.ZodType<Settings>;
  secrets: readonly string[];
  /** Opens nothing by itself: the first `read` connects. */
  open(settings: Settings, parts: SourceParts): DirectorySource;
}>;

/** A problem of one section of `directories`, with the key at fault. */
export type SettingProblem = Readonly<{ key: string; problem: string }>;

/**
 * Hides the type of an adapter's settings, so that one list holds the adapters of all providers. Each adapter opens
 * only settings that its own schema has parsed.
 *
 * A `delta` is bound to the settings besides secrets. With others, such as another organization or filter, it would
 * leave the people of the earlier ones in place, so the next run is full.
 */
export function defineAdapter<Settings>(adapter: DirectoryAdapter<Settings>): DirectoryAdapter {
  return {
    ...adapter,
    settings: adapter.settings,
    open: (settings, parts) =>
      boundTo(fingerprintOf(adapter, settings), adapter.open(adapter.settings.parse(settings), parts)),
  };
}

/** Characters that a `delta` gains. */
export const fingerprintChars = 17;

function fingerprintOf(
  { provider, secrets }: Pick<DirectoryAdapter, "provider" | "secrets">,
  settings: unknown,
): string {
  const section = Object.entries(settings as Readonly<Record<string, unknown>>)
    .filter(([key]) => !secrets.includes(key))
    .sort(([a], [b]) => (a < b ? -1 : 1));
  const hash = createHash("sha256")
    .update(JSON.stringify([provider, section]))
    .digest("hex");
  return `${hash.slice(0, fingerprintChars - 1)} `;
}

function boundTo(fingerprint: string, source: DirectorySource): DirectorySource {
  return {
    ...source,
    async read(request) {
      const { since } = request;
      if (since !== null && !since.startsWith(fingerprint))
        throw new DirectoryError("the settings of the directory have changed; it is read whole", {
          kind: "deltaExpired",
        });
      const page = await source.read({ ...request, since: since?.slice(fingerprint.length) ?? null });
      return page.delta === null ? page : { ...page, delta: fingerprint + page.delta };
    },
  };
}

/** @returns the parsed settings, or every problem */
export function parseSettings(
  adapter: DirectoryAdapter,
  section: Readonly<Record<string, unknown>>,
): Readonly<{ settings: unknown }> | Readonly<{ problems: readonly SettingProblem[] }> {
  const parsed = adapter.settings.safeParse(section);
  if (parsed.success) return { settings: section };
  return {
    problems: parsed.error.issues.map(({ path, message, ...issue }) => {
      const unknown = issue.code === "unrecognized_keys" ? issue.keys : [];
      const [first] = path;
      const isMissing = issue.code === "invalid_type" && path.length === 1 && section[String(first)] === undefined;
      return {
        key: [...path, ...unknown].map(String).join("."),
        problem: isMissing ? "is missing" : unknown.length > 0 ? "is not a known key" : message,
      };
    }),
  };
}

/** A text setting that must not be empty. */
export const text = (): z.ZodString => z.string().trim().min(1).max(4_096);

/** An HTTPS URL; plain HTTP only to loopback, because it would carry credentials and people's data in clear. */
export const httpsUrl = (): z.ZodType<URL> =>
  z
    .string()
    .refine((value) => URL.canParse(value), "is not a URL")
    .transform((value) => new URL(value))
    .refine(
      ({ protocol, hostname }) =>
        protocol === "https:" ||
        (protocol === "http:" && /^(localhost|.*\.localhost|127(\.\d+){3}|\[::1\])$/.test(hostname)),
      "must be https; plain HTTP is possible only to loopback",
    )
    .refine(({ username, password }) => username === "" && password === "", "must not contain a name or password");
