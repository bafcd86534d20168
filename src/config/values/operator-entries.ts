/** Operator entries: who has a role in the operator API, and for which groups of routes. Pure. */
import { refuseInside, refuseUnknownKey } from "./named-mapping.ts";
import {
  formatValue,
  isPlainObject,
  isRefused,
  parseJson,
  parseStringList,
  type Refuse,
  type RefusedValue,
  scalarText,
  type ValueType,
  valueType,
} from "./value-type.ts";

/** `who`: `group:ID`, `email:ADDRESS` or `sub:SUBJECT`. A text alone has the role for all routes. */
export type OperatorEntry = string | Readonly<{ who: string; routeGroups: readonly string[] }>;

const roleKeys = ["administrators", "operators", "viewers"] as const;
export type RoleKey = (typeof roleKeys)[number];

/** Whether anyone has a role in the operator API by a session. */
export function hasOperators(keys: Readonly<Record<RoleKey, readonly OperatorEntry[]>>): boolean {
  return roleKeys.some((key) => keys[key].length > 0);
}

/** The name of a group of routes. */
export const routeGroupPattern = /^[a-z0-9][a-z0-9_.-]{0,62}$/;
const groupsMax = 20;

const namesJson = { type: ["array", "string"], items: { type: "string" } };

/** Names of groups of routes. */
export const routeGroupNames = (): ValueType<readonly string[]> =>
  valueType({ label: "list of group of routes", json: namesJson }, (value, refuse) => readGroups(value, refuse));

export const operatorEntries = (): ValueType<readonly OperatorEntry[]> =>
  valueType(
    {
      label: "list of operator",
      json: {
        type: ["array", "string"],
        items: {
          anyOf: [
            { type: "string" },
            {
              type: "object",
              properties: { who: { type: "string" }, route_groups: namesJson },
              required: ["who", "route_groups"],
              additionalProperties: false,
            },
          ],
        },
      },
    },
    (value, refuse) => {
      const list = typeof value === "string" && value.trim().startsWith("[") ? parseJson(value) : value;
      if (!Array.isArray(list) || !list.some(isPlainObject)) return parseStringList(value, refuse);
      const entries: OperatorEntry[] = [];
      let refused: RefusedValue | undefined;
      for (const [index, item] of list.entries()) {
        const entry = readEntry(item, refuseInside(refuse, index));
        if (isRefused(entry)) refused = entry;
        else entries.push(entry);
      }
      return refused ?? entries;
    },
  );

function readEntry(item: unknown, refuse: Refuse): OperatorEntry | RefusedValue {
  if (!isPlainObject(item)) {
    const text = scalarText(item);
    if (text === undefined || text.trim() === "")
      return refuse(`${formatValue(item)} is not an operator`, "write group:NAME, or who: and route_groups:");
    return text;
  }
  const unknown = refuseUnknownKey(item, ["who", "route_groups"], refuse);
  if (unknown !== undefined) return unknown;
  const { who, route_groups: groups } = item;
  if (typeof who !== "string" || who.trim() === "")
    return refuse("is missing or is not text", "write group:NAME, email:ADDRESS or sub:SUBJECT", ["who"]);
  const inGroups = refuseInside(refuse, "route_groups");
  // An empty list would read as "no routes" to one person and as "all routes" to another.
  if (groups === undefined || groups === null || (Array.isArray(groups) && groups.length === 0) || groups === "")
    return inGroups("names no group of routes", `name some, or write ${who} alone for all routes`);
  const routeGroups = readGroups(groups, inGroups);
  return isRefused(routeGroups) ? routeGroups : { who, routeGroups };
}

function readGroups(value: unknown, refuse: Refuse): readonly string[] | RefusedValue {
  const names = parseStringList(value, refuse);
  if (isRefused(names)) return names;
  const wrong = names.findIndex((name) => !routeGroupPattern.test(name));
  if (wrong >= 0)
    return refuse(
      `${formatValue(names[wrong])} is not the name of a group of routes`,
      "write lowercase letters, digits, _ . and -, at most 63, such as finance",
      Array.isArray(value) ? [wrong] : [],
    );
  if (names.length > groupsMax) return refuse(`names ${names.length} groups of routes`, `name at most ${groupsMax}`);
  return [...new Set(names)].sort();
}
