import type { Config, RouteConfig } from "../config.ts";
import type { Globals, Route } from "../schema/schema.ts";
import type { PolicySource, ProblemReporter } from "../source/source-locations.ts";
import type { KeyMaterial } from "./key-material.ts";

export type RouteContext = Readonly<{
  route: Route;
  present: ReadonlySet<string>;
  failed: ReadonlySet<string>;
  report: ProblemReporter;
  material: KeyMaterial;
  globals: Globals;
  matchAnyIncomingPort: boolean;
  /** Headers of every response, without those that the route adds. */
  responseHeaders: Readonly<Record<string, string>>;
  downstreamMtls: Config["downstreamMtls"];
  policy: PolicySource | null;
  shadowPolicy: PolicySource | null;
}>;

export type RouteOrigin = Readonly<{ url: URL; host: string; port: number | null; tunnel: RouteConfig["tunnel"] }>;
