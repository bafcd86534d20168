/** Request access: how people who are refused by a route may ask for it, and who decides. Pure. */
import { type GroupId, parseGroupId } from "../../events/index.ts";
import { refuseInside, refuseUnknownKey } from "./named-mapping.ts";
import { formatDuration, parseDuration } from "./network-values.ts";
import {
  formatValue,
  isPlainObject,
  isRefused,
  parseStringList,
  type Refuse,
  type RefusedValue,
  type ValueType,
  valueType,
} from "./value-type.ts";

export type RouteRequestAccess = Readonly<{
  /** The group of which an approval makes the person a member, for a time. */
  group: GroupId;
  /** `group:ID`, `email:ADDRESS` or `sub:SUBJECT`; at least one. */
  approvers: readonly string[];
  /** What a person may ask for, in ms, shortest first; at least one. The longest is also the most that is approved. */
  durations: readonly number[];
  reason: "required" | "optional";
}>;

const keys = ["group", "approvers", "durations", "reason"];
const kinds = ["group:", "email:", "sub:"];
const approversMax = 20;
const durationsMax = 8;
const shortestMs = 60_000;
const longestMs = 90 * 24 * 3_600_000;
const standardMs: readonly number[] = [3_600_000, 4 * 3_600_000, 8 * 3_600_000];

export const requestAccess = (): ValueType<RouteRequestAccess> =>
  valueType(
    {
      label: "access request",
      json: {
        type: "object",
        properties: {
          group: { type: "string" },
          approvers: { type: ["array", "string"], items: { type: "string" } },
          durations: { type: ["array", "string"], items: { type: "string" } },
          reason: { enum: ["required", "optional"] },
        },
        required: ["group", "approvers"],
        additionalProperties: false,
      },
    },
    (value, refuse) => readRequestAccess(value, refuse),
  );

function readRequestAccess(value: unknown, refuse: Refuse): RouteRequestAccess | RefusedValue {
  if (!isPlainObject(value)) return refuse(`${formatValue(value)} is not a mapping`, "write group: and approvers:");
  const unknown = refuseUnknownKey(value, keys, refuse);
  if (unknown !== undefined) return unknown;
  const group = readGroup(value["group"], refuseInside(refuse, "group"));
  const approvers = readApprovers(value["approvers"], refuseInside(refuse, "approvers"));
  const durations = readDurations(value["durations"], refuseInside(refuse, "durations"));
  const reason = value["reason"] ?? "required";
  if (reason !== "required" && reason !== "optional")
    return refuse(`${formatValue(reason)} is not a rule for reasons`, "write required or optional", ["reason"]);
  if (isRefused(group)) return group;
  if (isRefused(approvers)) return approvers;
  return isRefused(durations) ? durations : { group, approvers, durations, reason };
}

function readGroup(value: unknown, refuse: Refuse): GroupId | RefusedValue {
  const remedy = "write the id of the group that the policy of this route asks for, such as hr";
  if (typeof value !== "string" || value.trim() === "") return refuse("is missing or is not text", remedy);
  if (value.startsWith("group:")) return refuse("names a group with a prefix", `write ${value.slice("group:".length)}`);
  try {
    return parseGroupId(value);
  } catch {
    return refuse(`${formatValue(value)} is not a group id`, remedy);
  }
}

function readApprovers(value: unknown, refuse: Refuse): readonly string[] | RefusedValue {
  const remedy = "write group:NAME, email:ADDRESS or sub:SUBJECT";
  if (value === undefined || value === null) return refuse("is missing: no one could approve a request", remedy);
  const names = parseStringList(value, refuse);
  if (isRefused(names)) return names;
  if (names.length === 0) return refuse("is empty: no one could approve a request", remedy);
  if (names.length > approversMax)
    return refuse(`has ${names.length} entries`, `name at most ${approversMax}, such as one group`);
  const wrong = names.findIndex((name) => !kinds.some((kind) => name.startsWith(kind) && name.length > kind.length));
  if (wrong < 0) return [...new Set(names)];
  const named = formatValue(names[wrong]);
  const at = Array.isArray(value) ? [wrong] : [];
  return refuse(`${named} does not state whether it is a group, an e-mail address or a subject`, remedy, at);
}

function readDurations(value: unknown, refuse: Refuse): readonly number[] | RefusedValue {
  if (value === undefined || value === null) return standardMs;
  const texts = parseStringList(value, refuse);
  if (isRefused(texts)) return texts;
  if (texts.length === 0 || texts.length > durationsMax)
    return refuse(`has ${texts.length} durations`, `write one to ${durationsMax}, such as [1h, 4h, 8h]`);
  const durations: number[] = [];
  for (const [index, text] of texts.entries()) {
    const ms = parseDuration(text);
    const at = Array.isArray(value) ? [index] : [];
    if (ms === undefined) return refuse(`${formatValue(text)} is not a duration`, "write 1h, 4h or 72h", at);
    if (ms < shortestMs || ms > longestMs)
      return refuse(
        `${formatDuration(ms)} is outside of what is possible`,
        "write a duration from 1m to 2160h (90 days)",
        at,
      );
    durations.push(ms);
  }
  return [...new Set(durations)].sort((a, b) => a - b);
}
