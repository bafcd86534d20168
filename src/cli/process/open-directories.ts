/**
 * Open directories: the sources of the directories in a configuration, and the problems of their settings.
 *
 * Opening a source connects to nothing. A secret may be in a file, which is read when the configuration is loaded.
 */
import { readFileSync } from "node:fs";
import {
  createDirectoryHttp,
  directoryAdapters,
  findAdapter,
  type OpenDirectory,
  parseSettings,
  type SourceParts,
} from "../../auth/directory/index.ts";
import { createLocalFetch } from "../../auth/index.ts";
import type { Config, DirectoryConfig, Problem } from "../../config/index.ts";
import type { Logger } from "../../replication/index.ts";
import { systemClock } from "../../replication/runtime/index.ts";

const timeoutMs = 60_000;
const secretBytesMax = 64 * 1024;

export type OpenDirectories = Readonly<{ directories: readonly OpenDirectory[]; close(): Promise<void> }>;

/** @param file the configuration that the problems are about */
export function checkDirectories({ directories }: Config, file: string): readonly Problem[] {
  return directories.flatMap((directory) => {
    const adapter = findAdapter(directory.provider);
    const at = { file, line: 0, column: 0, severity: "error" } as const;
    const key = `directories.${directory.name}`;
    if (adapter === undefined) {
      const known = directoryAdapters.map(({ provider }) => provider).join(", ");
      const problem = `${directory.provider} is not a provider of directories`;
      return [{ ...at, key: `${key}.provider`, problem, remedy: `use ${known}` }];
    }
    const resolved = withSecretFiles(directory, adapter.secrets);
    if ("key" in resolved)
      return [{ ...at, key: `${key}.${resolved.key}`, problem: resolved.problem, remedy: "check the file" }];
    const parsed = parseSettings(adapter, resolved.settings);
    if ("settings" in parsed) return [];
    const remedy = "see docs/directories.md";
    return parsed.problems.map(({ key: inner, problem }) => {
      return { ...at, key: inner === "" ? key : `${key}.${inner}`, problem, remedy };
    });
  });
}

/** @param config one that `checkDirectories` found no problem with */
export function openDirectories(config: Config, logger: Logger): OpenDirectories {
  const local = createLocalFetch({
    timeoutMs,
    hosts: config.hostAliases,
    ...(config.certificateAuthority === null ? {} : { ca: config.certificateAuthority }),
  });
  const { fetch } = local;
  const now = (): number => systemClock.wall();
  const directories = config.directories.map((directory): OpenDirectory => {
    const { name, provider, match, groups, everyMs } = directory;
    const adapter = findAdapter(provider);
    const resolved = adapter && withSecretFiles(directory, adapter.secrets);
    if (adapter === undefined || resolved === undefined || "key" in resolved)
      throw new TypeError(`directory ${name} was not checked`);
    const parts: SourceParts = {
      name,
      http: (options) => createDirectoryHttp({ fetch, timeoutMs, now, ...options }),
      fetch,
      now,
      log: logger,
    };
    return { name, match, groups, everyMs, source: adapter.open(resolved.settings, parts) };
  });
  return {
    directories,
    async close() {
      await Promise.all(directories.map(({ source }) => source.close()));
      await local.close();
    },
  };
}

function withSecretFiles(
  { settings }: DirectoryConfig,
  secrets: readonly string[],
): Readonly<{ settings: DirectoryConfig["settings"] }> | Readonly<{ key: string; problem: string }> {
  const resolved: Record<string, unknown> = { ...settings };
  for (const secret of secrets) {
    const key = `${secret}_file`;
    const path = resolved[key];
    if (path === undefined) continue;
    delete resolved[key];
    if (typeof path !== "string") return { key, problem: "is not the path of a file" };
    if (resolved[secret] !== undefined) return { key, problem: `stands beside ${secret}` };
    try {
      const text = readFileSync(path, "utf8").trim();
      if (text.length > secretBytesMax) return { key, problem: "names a file that is too large for a secret" };
      resolved[secret] = text;
    } catch (error) {
      return { key, problem: `names a file that cannot be read (${(error as { code?: string }).code ?? "unknown"})` };
    }
  }
  return { settings: resolved };
}
