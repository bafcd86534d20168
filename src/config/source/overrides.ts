/**
 * Overrides: values from the environment and the command line, which replace those of the file.
 *
 * - Pure: the environment is an argument.
 * - A variable is the key in capitals, with nested keys joined by `_` (`BROKER_LISTEN`).
 * - Lists are text with commas; mappings are JSON or `k=v,k=v`.
 * - `ROUTES` and `POLICY` are base64 of YAML; `HEADERS` is `set_response_headers`.
 * - An empty variable counts as unset.
 * - The command line takes precedence over the environment.
 */
import type { z } from "zod";
import { keyMeta } from "../schema/keys.ts";
import { isPlainObject, sectionShape } from "../values/value-type.ts";
import { type Path, type Problem, type SourceLocationTree, sourceWithoutLines } from "./source-locations.ts";
import { readYaml } from "./yaml-document.ts";

export type Environment = Readonly<Record<string, string | undefined>>;
export type Overrides = Readonly<{
  /** Values by dotted key, read as if written in the file: `{"data_dir": "/tmp/x", "broker.lease": "2s"}`. */
  values?: Readonly<Record<string, unknown>>;
  /**
   * New port by old port, applied to every address or URL of a `*.localhost` or loopback host. `cardea dev --port`
   * moves its file this way.
   */
  ports?: Readonly<Record<number, number>>;
}>;

export type ConfigSource = Readonly<{ value: Readonly<Record<string, unknown>>; locations: SourceLocationTree }>;

/** Every environment variable that is read, and the path of the key that it sets. */
export function environmentNames(shape: Readonly<Record<string, z.ZodType>>): ReadonlyMap<string, Path> {
  const names = new Map<string, Path>();
  const add = (inner: Readonly<Record<string, z.ZodType>>, path: Path): void => {
    for (const [key, schema] of Object.entries(inner)) {
      const here = [...path, key];
      const section = sectionShape(schema);
      if (section !== undefined) {
        add(section, here);
        continue;
      }
      names.set(here.join("_").toUpperCase(), here);
      for (const nested of keyMeta(schema).nested)
        names.set([...here, nested].join("_").toUpperCase(), [...here, nested]);
    }
  };
  add(shape, []);
  names.set("HEADERS", ["set_response_headers"]);
  return names;
}

export function applyEnvironment(
  source: ConfigSource,
  how: Readonly<{ env: Environment; names: ReadonlyMap<string, Path>; problems: Problem[] }>,
): ConfigSource {
  let result = source;
  for (const [name, path] of how.names) {
    const value = how.env[name];
    if (value === undefined || value === "") continue;
    result = setValue(result, { path, value, locations: sourceWithoutLines(`env ${name}`) });
  }
  for (const name of ["ROUTES", "POLICY"]) {
    const value = how.env[name];
    if (value === undefined || value === "") continue;
    const file = `env ${name}`;
    const key = name.toLowerCase();
    const text = /^[A-Za-z0-9+/\s]+={0,2}\s*$/.test(value) ? Buffer.from(value, "base64").toString("utf8") : undefined;
    const document = text === undefined ? undefined : readYaml(text, file);
    if (document === undefined) {
      how.problems.push({
        file,
        line: 0,
        column: 0,
        key,
        problem: "is not base64",
        remedy: "encode the YAML list of routes with base64",
        severity: "error",
      });
      continue;
    }
    how.problems.push(...document.problems);
    if (document.readable)
      result = setValue(result, { path: [key], value: document.value, locations: document.locations });
  }
  return result;
}

export function applyOverrides(source: ConfigSource, overrides: Overrides): ConfigSource {
  let result = source;
  if (overrides.ports !== undefined)
    result = { ...source, value: movePorts(source.value, overrides.ports) as ConfigSource["value"] };
  for (const [key, value] of Object.entries(overrides.values ?? {})) {
    result = setValue(result, { path: key.split("."), value, locations: sourceWithoutLines("command line") });
  }
  return result;
}

/** Sets one value. If the file has no mapping at the parent key, the file's mistake is kept, so it is reported. */
function setValue(
  source: ConfigSource,
  what: Readonly<{ path: Path; value: unknown; locations: SourceLocationTree }>,
): ConfigSource {
  const [step, ...rest] = what.path;
  if (step === undefined) return source;
  const there = source.value[step];
  const locationsThere = source.locations.inner.get(step);
  if (rest.length === 0) return setEntry(source, { step, value: what.value, locations: what.locations });
  if (there !== undefined && there !== null && !isPlainObject(there)) return source;
  const inner = setValue(
    { value: isPlainObject(there) ? there : {}, locations: locationsThere ?? { ...what.locations, inner: new Map() } },
    { ...what, path: rest },
  );
  return setEntry(source, { step, value: inner.value, locations: inner.locations });
}

function setEntry(
  source: ConfigSource,
  entry: Readonly<{ step: string | number; value: unknown; locations: SourceLocationTree }>,
): ConfigSource {
  return {
    value: { ...source.value, [entry.step]: entry.value },
    locations: { ...source.locations, inner: new Map(source.locations.inner).set(entry.step, entry.locations) },
  };
}

const localPort = /((?:^|\/\/)(?:(?:[a-z0-9-]+\.)*localhost|127(?:\.\d{1,3}){3}|\[::1\])):(\d{1,5})(?=$|[/,?#])/gi;

/** @param inside in a route, policies stay unchanged; the document's own `policy` is an older name of `routes` */
function movePorts(
  value: unknown,
  ports: Readonly<Record<number, number>>,
  inside: "document" | "route" = "document",
): unknown {
  if (typeof value === "string") {
    return value.replaceAll(localPort, (whole, before: string, port: string) => {
      const moved = ports[Number(port)];
      return moved === undefined ? whole : `${before}:${moved}`;
    });
  }
  if (Array.isArray(value)) return value.map((item) => movePorts(item, ports, "route"));
  if (!isPlainObject(value)) return value;
  const entries = Object.entries(value).map(([key, inner]) => {
    return [
      key,
      (key === "policy" || key === "shadow_policy") && inside === "route" ? inner : movePorts(inner, ports, inside),
    ] as const;
  });
  return Object.fromEntries(entries);
}
