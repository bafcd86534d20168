/**
 * Config loader: reads the configuration file and the files that it names. It is the only file of this package with
 * I/O.
 *
 * - It keeps generated secrets in the data folder (`secrets.json`, mode 0600, written atomically).
 * - Relative paths are relative to the working directory, as in Pomerium.
 * - Reading is synchronous and limited to 4 MiB per file.
 * - It never throws because of a file's content or an unreadable file; the result then holds a problem.
 */
import { randomBytes, randomUUID } from "node:crypto";
import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  type Stats,
  statSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { type ParseOptions, type ParseResult, parseConfig } from "./parse-config.ts";
import type { FileContent, ReadFile } from "./resolve/key-material.ts";
import type { GeneratedSecrets } from "./resolve/secrets.ts";
import type { Environment, Overrides } from "./source/overrides.ts";
import { parseJson } from "./values/value-type.ts";

export type LoadOptions = Readonly<{
  env: Environment;
  /** Overrides the file's `data_dir`. */
  dataDir?: string;
  overrides?: Overrides;
  /**
   * What happens to secrets that the file omits, with `services: all`:
   * - keep (default): generated once and stored in the data folder
   * - forget: generated for this run and stored nowhere, for `cardea check`
   * - refuse: reported as a problem
   */
  missingSecrets?: "keep" | "forget" | "refuse";
  /** As in `ParseOptions`. */
  only?: "policies";
  /** Which secrets may be generated; `cardea dev` adds `idp_client_secret`, for its own identity provider. */
  generate?: readonly (keyof GeneratedSecrets)[];
}>;

/** `files`: every file that the configuration depends on, including those that could not be read. */
export type LoadResult = ParseResult & Readonly<{ files: readonly string[] }>;

/** @param path null: everything comes from the environment */
export function loadConfig(path: string | null, options: LoadOptions): LoadResult {
  const files = new Set<string>();
  if (path !== null) files.add(path);
  const readFile = (name: string): FileContent => {
    files.add(name);
    return readKeyFile(name);
  };
  return { ...load(path, options, readFile), files: [...files] };
}

function load(path: string | null, options: LoadOptions, readFile: ReadFile): ParseResult {
  const file = path ?? "environment";
  const content: FileContent = path === null ? { ok: true, text: "", mode: 0 } : readConfigFile(path);
  if (!content.ok) return refuse(file, `cannot be read: ${content.reason}`, "name the configuration file with -c");
  if (file.toLowerCase().endsWith(".toml")) return refuse(file, "is TOML, which is not supported", "write it as YAML");
  const dataDir = options.dataDir === undefined ? {} : { data_dir: options.dataDir };
  const names = options.generate ?? ["shared_secret", "cookie_secret"];
  const policy = options.missingSecrets ?? "keep";
  const parseOptions: ParseOptions = {
    env: options.env,
    readFile,
    mode: content.mode,
    now: Date.now(),
    ...(options.only === undefined ? {} : { only: options.only }),
    overrides: { ...options.overrides, values: { ...options.overrides?.values, ...dataDir } },
    ...(policy === "refuse"
      ? {}
      : {
          generate: (folder) => {
            const all =
              policy === "keep" ? readOrCreateSecrets(folder) : { ok: true as const, secrets: generateSecrets() };
            if (!all.ok) return all;
            return { ok: true, secrets: Object.fromEntries(names.map((name) => [name, all.secrets[name]])) };
          },
        }),
  };
  return parseConfig(content.text, file, parseOptions);
}

function refuse(file: string, problem: string, remedy: string): ParseResult {
  const location = { file, line: 0, column: 0 };
  return { ok: false, problems: [{ ...location, key: "(file)", problem, remedy, severity: "error" }], policies: [] };
}

const fileBytesMax = 4 * 1024 * 1024;

/** Reads the file of `-c`. It may be a pipe of the shell (`<(…)`), because the operator waits for it. */
function readConfigFile(path: string): FileContent {
  try {
    if (statSync(path).isFIFO()) return { ok: true, text: readFileSync(path, "utf8"), mode: 0 };
  } catch (error) {
    return { ok: false, reason: reasonOf(error) };
  }
  return readKeyFile(path);
}

/**
 * Reads a file that a key names. It opens only regular files: a pipe would block the process, and opening a device can
 * have side effects. It checks the open file again, because the path may have been replaced meanwhile. A non-blocking
 * open makes such a replacement harmless.
 */
export function readKeyFile(path: string): FileContent {
  try {
    const problem = problemOf(statSync(path));
    if (problem !== null) return { ok: false, reason: problem };
    const handle = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const stat = fstatSync(handle);
      const changed = problemOf(stat);
      if (changed !== null) return { ok: false, reason: changed };
      return { ok: true, text: readFileSync(handle, "utf8"), mode: stat.mode & 0o777 };
    } finally {
      closeSync(handle);
    }
  } catch (error) {
    return { ok: false, reason: reasonOf(error) };
  }
}

function problemOf(stat: Stats): string | null {
  if (stat.isDirectory()) return "it is a folder";
  if (!stat.isFile()) return "it is not a file";
  return stat.size > fileBytesMax ? "it is longer than 4 MiB" : null;
}

type AllSecrets = Required<GeneratedSecrets>;
type SecretsResult = Readonly<{ ok: true; secrets: AllSecrets } | { ok: false; reason: string }>;

const generateSecrets = (): AllSecrets => ({
  shared_secret: randomBytes(32).toString("base64"),
  cookie_secret: randomBytes(32).toString("base64"),
  idp_client_secret: randomBytes(32).toString("base64url"),
});

/**
 * The secrets of a data folder, generated when first needed. Two processes that start at the same time get the same
 * secrets: either the file appears whole under its name, or it already exists.
 */
function readOrCreateSecrets(dataDir: string): SecretsResult {
  const file = join(dataDir, "secrets.json");
  try {
    mkdirSync(dataDir, { recursive: true, mode: 0o700 });
    if (statSync(file, { throwIfNoEntry: false }) === undefined) {
      const draft = join(dataDir, `.secrets-${randomUUID()}`);
      try {
        const handle = openSync(draft, "wx", 0o600);
        try {
          writeSync(handle, `${JSON.stringify(generateSecrets(), null, 2)}\n`);
          fsyncSync(handle);
        } finally {
          closeSync(handle);
        }
        linkSync(draft, file);
      } catch (error) {
        if (codeOf(error) !== "EEXIST") throw error;
      } finally {
        rmSync(draft, { force: true });
      }
    }
  } catch (error) {
    return { ok: false, reason: reasonOf(error) };
  }
  const content = readKeyFile(file);
  if (!content.ok) return { ok: false, reason: `${file}: ${content.reason}` };
  if ((content.mode & 0o077) !== 0)
    return { ok: false, reason: `other users can read ${file} (chmod 600 ${file}, or delete it to end all sessions)` };
  const parsed = parseJson(content.text);
  const { shared_secret, cookie_secret, idp_client_secret } = (
    typeof parsed === "object" && parsed !== null ? parsed : {}
  ) as Record<string, unknown>;
  if (typeof shared_secret !== "string" || typeof cookie_secret !== "string" || typeof idp_client_secret !== "string") {
    return {
      ok: false,
      reason: `${file} does not contain the three secrets (delete it to make new ones, which ends all sessions)`,
    };
  }
  return { ok: true, secrets: { shared_secret, cookie_secret, idp_client_secret } };
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";
}

const reasons: Readonly<Record<string, string>> = {
  ENOENT: "it does not exist",
  EACCES: "permission denied",
  EPERM: "permission denied",
  ENOTDIR: "a part of its path is not a folder",
  EROFS: "the file system is read-only",
  ENOSPC: "the disk is full",
};

function reasonOf(error: unknown): string {
  return reasons[codeOf(error)] ?? (error instanceof Error ? error.message : "unknown");
}
