/**
 * Reload: the part of a new configuration that a running process applies, and the keys that need a restart.
 *
 * - Pure. Each key of the schema says whether it is `live` or needs a `restart` (schema/keys.ts).
 * - A field of `Config` that needs a restart keeps its value. The keys that it comes from are named.
 * - The hash is that of the configuration in force, not of the file.
 */
import type { Config } from "./config.ts";
import { canonicalJson, hashConfig } from "./hash.ts";
import { fieldName, keyMeta } from "./schema/keys.ts";
import { globalKeys } from "./schema/schema.ts";
import { settingsInForce } from "./settings.ts";
import { isPlainObject, type Shape, sectionShape } from "./values/value-type.ts";

export type Reload = Readonly<{
  /** The configuration to apply now. */
  config: Config;
  /** Changed keys that wait for the next start, such as `broker.lease`. */
  waiting: readonly string[];
}>;

/** A key that needs a restart, and the path in `Config` that it sets. */
type RestartKey = Readonly<{ key: string; path: readonly string[] }>;

const restartKeysByField = Map.groupBy(restartKeysIn(globalKeys), ({ path }) => path[0] ?? "");

export function reloadConfig(running: Config, next: Config): Reload {
  const applied: Record<string, unknown> = { ...next };
  const waiting: string[] = [];
  for (const [field, keys] of restartKeysByField) {
    const before = valueAt(running, [field]);
    const after = valueAt(next, [field]);
    applied[field] = keepRestartKeys(before, after, keys);
    waiting.push(...changedKeys(running, next, { field, keys }));
  }
  // A certificate is replaced live. Whether there is TLS at all is not.
  if ((running.certificates.length === 0) !== (next.certificates.length === 0)) {
    applied["certificates"] = running.certificates;
    waiting.push("certificates");
  }
  // The only runtime flag that needs a restart.
  if (running.hotReload !== next.hotReload) {
    applied["hotReload"] = running.hotReload;
    waiting.push("runtime_flags.config_hot_reload");
  }
  applied["settings"] = settingsInForce(running.settings, next.settings, waiting);
  const config = applied as Config; // field for field of one of the two
  return { config: { ...config, hash: hashConfig(config) }, waiting };
}

/**
 * The new value of a field, with the running value of the parts that need a restart: all of it, or single entries.
 */
function keepRestartKeys(before: unknown, after: unknown, keys: readonly RestartKey[]): unknown {
  if (keys.some(({ path }) => path.length === 1) || !isPlainObject(before) || !isPlainObject(after)) return before;
  const entries = new Set(keys.map(({ path }) => path[1] ?? ""));
  return { ...after, ...Object.fromEntries([...entries].map((entry) => [entry, before[entry]])) };
}

/** The keys that changed a field; the name of the section if no single key did. */
function changedKeys(
  running: Config,
  next: Config,
  { field, keys }: Readonly<{ field: string; keys: readonly RestartKey[] }>,
): readonly string[] {
  const differs = (path: readonly string[]): boolean =>
    canonicalJson(valueAt(running, path)) !== canonicalJson(valueAt(next, path));
  const section = (keys.find(({ path }) => path.length === 1) ?? keys[0])?.key ?? field;
  if (!differs([field])) return [];
  if (valueAt(running, [field]) === null || valueAt(next, [field]) === null) return [section.split(".")[0] ?? section];
  const changed = keys.filter(({ path }) => path.length > 1 && differs(path)).map(({ key }) => key);
  const whole = keys.some(({ path }) => path.length === 1) && changed.length === 0 ? [section] : [];
  return [...new Set([...whole, ...changed])];
}

function restartKeysIn(
  shape: Shape,
  above: Readonly<{ key: string; path: readonly string[] }> | null = null,
): RestartKey[] {
  return Object.entries(shape).flatMap(([name, schema]) => {
    const key = above === null ? name : `${above.key}.${name}`;
    const path = [...(above?.path ?? []), fieldName(name, schema)];
    const { reload, configPaths } = keyMeta(schema);
    const paths = configPaths.length === 0 ? [path] : configPaths.map((written) => written.split("."));
    const own = reload === "restart" ? paths.map((at) => ({ key, path: at })) : [];
    const inner = sectionShape(schema);
    return inner === undefined ? own : [...own, ...restartKeysIn(inner, { key, path })];
  });
}

/** Null: the path does not exist. */
function valueAt(value: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>((at, step) => (isPlainObject(at) ? at[step] : null), value) ?? null;
}
