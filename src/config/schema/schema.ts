/**
 * Schema: the only source of keys, types, defaults and descriptions of `cardea.yaml`.
 *
 * - scripts/generate-config-docs.ts generates `docs/configuration.md`, `docs/cardea.schema.json` and `.env.example`
 *   from it.
 * - parse-config.ts reads configurations by it.
 * - Pomerium's keys keep their names and meanings.
 * - The rules between keys are in resolve/ and check-routes.ts.
 */
import * as z from "zod";
import { dataSources } from "../values/data-values.ts";
import { formatValue, isPlainObject, parseJson, scalarText, type ValueType, valueType } from "../values/value-type.ts";
import { auditKeys } from "./audit.ts";
import { brandingKeys } from "./branding.ts";
import { decisionKeys } from "./decisions.ts";
import { brokerKeys, processKeys, requestKeys, secretKeys, signInKeys, supportedGroups } from "./globals.ts";
import { identityHeaderKeys } from "./identity.ts";
import { cardea, pomerium, type Values } from "./keys.ts";
import { autocertKeys, listenerKeys } from "./listener.ts";
import { observingKeys } from "./observing.ts";
import { supportedRouteGroups, supportedRouteKeys } from "./route.ts";
import { runtimeFlags, unusedGlobals, unusedRouteKeys } from "./unsupported.ts";

const flags = (): ValueType<Readonly<Record<string, boolean>>> =>
  valueType({ label: "mapping of flag to true or false", json: { type: ["object", "string"] } }, (value, refuse) => {
    const map = typeof value === "string" ? parseJson(value) : value;
    if (!isPlainObject(map)) return refuse(`${formatValue(value)} is not a mapping`, "write flag: true or flag: false");
    const found: Record<string, boolean> = {};
    for (const [flag, set] of Object.entries(map)) {
      const word = scalarText(set)?.toLowerCase();
      if (word !== "true" && word !== "false")
        return refuse(`${formatValue(set)} is neither true nor false`, "write true or false", [flag]);
      found[flag] = word === "true";
    }
    return found;
  });

const flagsInUse: ReadonlySet<string> = new Set([
  "match_any_incoming_port",
  "config_hot_reload",
  "routes_portal",
  "pomerium_jwt_endpoint",
  "allow_any_sign_out_redirect_uri",
]);

/** External data for policies. */
const dataKeys = {
  data_sources: cardea(
    dataSources().prefault([]),
    "External data sets for the criterion `record`: a list of `{type, url or file, foreign_key, format, refresh_interval, timeout, max_age, max_bytes, max_records, headers}`. See docs/policy.md.",
    { secretParts: ["dataSources.*.headers.*"], inConfig: "value" },
  ),
};

const compatibility = {
  runtime_flags: pomerium(
    flags().prefault({}),
    `Pomerium's switches. \`match_any_incoming_port: false\` makes a \`from\` without a port match its scheme's port only; \`config_hot_reload: false\` ignores changed files until SIGHUP; \`routes_portal: false\` removes the list of the routes that a person may use; \`pomerium_jwt_endpoint: true\` gives pages of a route their visitor's assertion at \`/.pomerium/jwt\`; \`allow_any_sign_out_redirect_uri: true\` lets a sign-out end at its \`pomerium_redirect_uri\` if that is on the host of a route (despite the flag's name, nowhere else); the others (${Object.keys(
      runtimeFlags,
    )
      .filter((flag) => !flagsInUse.has(flag))
      .join(", ")}) are known and change nothing here.`,
  ),
};

export const globalGroups = [
  ...supportedGroups,
  { title: "Decisions for others", keys: decisionKeys },
  { title: "Pages", keys: brandingKeys },
  { title: "External data", keys: dataKeys },
  { title: "Compatibility", keys: compatibility },
] as const;
export const routeGroups = supportedRouteGroups;

export const globalKeys = {
  ...processKeys,
  ...listenerKeys,
  ...autocertKeys,
  ...secretKeys,
  ...signInKeys,
  ...identityHeaderKeys,
  ...requestKeys,
  ...brokerKeys,
  ...auditKeys,
  ...decisionKeys,
  ...brandingKeys,
  ...observingKeys,
  ...dataKeys,
  ...compatibility,
};
export const routeKeys = supportedRouteKeys;
export { runtimeFlags, unusedGlobals, unusedRouteKeys };

/** Every key that is known, by name. */
export const globalShape = { ...globalKeys, ...unusedGlobals };
export const routeShape = { ...routeKeys, ...unusedRouteKeys };

export const routeSchema = z.strictObject(routeShape);

const routeList = (description: string) => pomerium(z.array(routeSchema).optional(), description);

/** The whole document, for the JSON Schema. */
export const documentSchema = z.strictObject({
  ...globalShape,
  routes: routeList("The routes. Within a host the first that matches decides."),
  policy: routeList("Pomerium's older name of `routes`; these come first."),
});

export type Globals = Values<typeof globalKeys>;
export type Route = Values<typeof routeKeys>;
