/**
 * Drill file: the canary, and the addresses of the proxies, as the operator of the cluster writes them.
 *
 * It holds no secret: the canary's credential comes from `cardea login`, the operator's from the usual places.
 */
import { readFileSync } from "node:fs";
import { parse as parseYaml } from "yaml";
import * as z from "zod";
import { isLoopback, parseHostPort } from "../../config/index.ts";
import { CannotError } from "../terminal/command.ts";

export type DrillProxy = Readonly<{
  /** The node's name in `cardea cluster status`. */
  node: string;
  host: string;
  port: number;
  /** The listener at its `metrics_address`; null: not given. */
  metrics: URL | null;
}>;

export type DrillFile = Readonly<{
  canary: Readonly<{
    url: URL;
    /** The path of a response that does not end; null: no stream is opened. */
    stream: string | null;
    user: string;
    group: string;
    /** The id of the route, whose requests are not counted as people's. */
    route: string;
  }>;
  proxies: readonly DrillProxy[];
  /** The share of people's requests that may fail before a drill stops. */
  peopleErrorsMax: number;
}>;

const proxiesMax = 256;
const name = z.string().min(1).max(200);
const fileSchema = z.strictObject({
  canary: z.strictObject({
    url: z.url(),
    stream: z.string().startsWith("/").max(1_000).optional(),
    user: name,
    group: name,
    route: name,
  }),
  proxies: z.record(name, z.strictObject({ address: z.string(), metrics: z.url().optional() })),
  people_errors: z.number().gt(0).max(0.2).default(0.01),
});

/** @throws CannotError */
export function readDrillFile(path: string): DrillFile {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    throw new CannotError(`${path} cannot be read; docs/drills.md shows a drill file`, { cause });
  }
  return parseDrillFile(text, path);
}

/** @throws CannotError */
export function parseDrillFile(text: string, path: string): DrillFile {
  const found = fileSchema.safeParse(yamlIn(text, path));
  if (!found.success) {
    const [first] = found.error.issues;
    throw new CannotError(`${path}: ${first?.path.join(".") ?? ""}: ${first?.message ?? "not a drill file"}`);
  }
  const { canary, proxies, people_errors: peopleErrorsMax } = found.data;
  const url = new URL(canary.url);
  if (url.protocol !== "https:" && !(url.protocol === "http:" && isLoopback(url.hostname)))
    throw new CannotError(`${path}: canary.url: write an https address, since it gets the canary's credential`);
  const listed = Object.entries(proxies).map(([node, { address, metrics }]): DrillProxy => {
    const at = parseHostPort(address);
    const colon = address.lastIndexOf(":");
    if (at === undefined || at.port === 0 || colon <= 0)
      throw new CannotError(`${path}: proxies.${node}.address: write host:port, the address of this proxy alone`);
    const host = address.slice(0, colon).replace(/^\[|\]$/g, "");
    return { node, host, port: at.port, metrics: metrics === undefined ? null : new URL("/metrics", metrics) };
  });
  if (listed.length === 0 || listed.length > proxiesMax)
    throw new CannotError(`${path}: proxies: name each proxy by its node name, from 1 to ${proxiesMax}`);
  return { canary: { ...canary, url, stream: canary.stream ?? null }, proxies: listed, peopleErrorsMax };
}

function yamlIn(text: string, path: string): unknown {
  try {
    return parseYaml(text);
  } catch (cause) {
    const why = cause instanceof Error ? (cause.message.split("\n")[0] ?? "") : "";
    throw new CannotError(`${path} is not YAML: ${why}`, { cause });
  }
}
