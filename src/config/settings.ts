/**
 * Settings: every key of the configuration with its value, where that comes from, and no secret. Pure.
 *
 * A key with a secret in any part of its value shows only whether it is set. Other text is checked for private keys and
 * for credentials in URLs, as redact.ts does.
 */
import { withoutSecrets } from "./redact.ts";
import { keyMeta, writtenDefault } from "./schema/keys.ts";
import { globalGroups } from "./schema/schema.ts";
import type { ConfigSource } from "./source/overrides.ts";
import { locationOf } from "./source/source-locations.ts";
import { isPlainObject, type Shape, sectionShape } from "./values/value-type.ts";

export type Setting = Readonly<{
  /** As in the file, with dots: `broker.lease`. */
  key: string;
  /** As written, or the default; null: there is neither. */
  value: unknown;
  source: "file" | "env" | "command line" | "default";
  /** The environment variable; null: another source. */
  variable: string | null;
  /** The value is hidden; `set` says whether there is one. */
  secret: boolean;
  set: boolean;
  /** When a change takes effect. */
  reload: "live" | "restart";
  /** The file has another value, which waits for a restart. */
  waiting: boolean;
}>;
export type SettingsSection = Readonly<{ title: string; settings: readonly Setting[] }>;

export function settingsOf(source: ConfigSource, file: string): readonly SettingsSection[] {
  return globalGroups.map(({ title, keys }) => ({ title, settings: settingsIn(keys, [], { source, file }) }));
}

function settingsIn(
  keys: Shape,
  above: readonly string[],
  from: Readonly<{ source: ConfigSource; file: string }>,
): readonly Setting[] {
  return Object.entries(keys).flatMap(([name, schema]): readonly Setting[] => {
    const path = [...above, name];
    const inner = sectionShape(schema);
    if (inner !== undefined) return settingsIn(inner, path, from);
    const { isSecret, secretAt, reload } = keyMeta(schema);
    const written = valueAt(from.source.value, path);
    const set = written !== undefined && written !== null && written !== "";
    const secret = isSecret || secretAt.length > 0;
    const value = set ? written : writtenDefault(schema);
    return [
      {
        key: path.join("."),
        value: secret ? null : plainOf(value),
        ...originOf(path, { ...from, set }),
        secret,
        set,
        reload,
        waiting: false,
      },
    ];
  });
}

function originOf(
  path: readonly string[],
  { source, file, set }: Readonly<{ source: ConfigSource; file: string; set: boolean }>,
): Pick<Setting, "source" | "variable"> {
  if (!set) return { source: "default", variable: null };
  const place = locationOf(source.locations, path).file;
  if (place === file) return { source: "file", variable: null };
  const [, variable] = /^env (.*)$/.exec(place) ?? [];
  return variable === undefined ? { source: "command line", variable: null } : { source: "env", variable };
}

/** A value of the file has no cycles: YAML aliases are copies. */
function plainOf(value: unknown): unknown {
  return withoutSecrets(value ?? null, [], () => "***");
}

function valueAt(value: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>((at, step) => (isPlainObject(at) ? at[step] : undefined), value);
}

/** The settings in force: the new ones, but for those that wait for a restart. */
export function settingsInForce(
  running: readonly SettingsSection[],
  next: readonly SettingsSection[],
  waiting: readonly string[],
): readonly SettingsSection[] {
  const isWaiting = (key: string): boolean => waiting.some((name) => key === name || key.startsWith(`${name}.`));
  const before = new Map(running.flatMap(({ settings }) => settings.map((setting) => [setting.key, setting] as const)));
  return next.map(({ title, settings }) => ({
    title,
    settings: settings.map((setting) => {
      const old = isWaiting(setting.key) ? before.get(setting.key) : undefined;
      return old === undefined ? setting : { ...old, waiting: true };
    }),
  }));
}
