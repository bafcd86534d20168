/**
 * Criterion `device`: a security key or platform authenticator that the session has shown.
 *
 * - As in Pomerium, the first credential of the type counts, `any` is an ordinary type, and a session without a device
 *   is redirected to enrol or show one.
 * - Unlike in Pomerium, `approved: false` does not hold for a session that has shown no device.
 */

import type { DeviceCredential } from "../decision.ts";
import { describeValue, isObject, suggestionFor, useOneOf } from "../ppl-parser.ts";
import {
  type CompiledCriterion,
  type CriterionContext,
  type CriterionDescriptor,
  compiledCriterion,
  readsOf,
} from "./criterion-parts.ts";

export const defaultDeviceType = "any";
const conditions = ["is", "approved", "type"] as const;

export const deviceCriteria: readonly CriterionDescriptor[] = [
  {
    name: "device",
    compile: compileDevice,
    reasons: {
      ok: "device-ok",
      fail: "device-unauthorized",
      others: ["device-unauthenticated"],
    },
    replay: "unknown",
    mayRequireMore: true,
    unsupported: "this build cannot enrol devices",
  },
];

function compileDevice({ criterion, reasons, report, words }: CriterionContext): CompiledCriterion | undefined {
  const { data, path } = criterion;
  if (!isObject(data)) {
    report(path, `expected device conditions, found ${describeValue(data)}`, useOneOf(conditions));
    return undefined;
  }
  let complete = true;
  const refuse = (key: string, problem: string, remedy: string): void => {
    complete = false;
    report([...path, key], problem, remedy);
  };
  for (const [key, value] of Object.entries(data)) {
    if (!conditions.some((known) => known === key))
      refuse(key, `unknown device condition \`${key}\``, suggestionFor(key, conditions, data));
    else if (key !== "approved" && typeof value !== "string") {
      refuse(
        key,
        `${describeValue(value)} can never equal text`,
        key === "is" ? "write a device id" : "write a device type",
      );
    }
  }
  if (!complete) return undefined;
  const wantedId = data["is"];
  const wantsApproval = "approved" in data ? Boolean(data["approved"]) : undefined;
  const type = typeof data["type"] === "string" ? data["type"] : defaultDeviceType;
  const holds = ({ id, approvedBy }: DeviceCredential): boolean =>
    (wantedId === undefined || id === wantedId) &&
    (wantsApproval === undefined || isApproved(approvedBy) === wantsApproval);

  const met = reasons.of(words.ok).met;
  const unmet = reasons.of(words.fail).unmet;
  const noDevice = reasons.of("device-unauthenticated").unmet;
  const unauthenticated = reasons.of("user-unauthenticated").unmet;
  return compiledCriterion(
    (_request, principal) => {
      if (principal === null || principal.profile === undefined) return unauthenticated;
      const credential = principal.devices?.find(({ typeId }) => typeId === type);
      if (credential === undefined) return noDevice;
      return holds(credential) ? met : unmet;
    },
    { type: "device", approved: wantsApproval === true },
    { needsSession: true, reads: readsOf({ deviceTypes: [type] }) },
  );
}

function isApproved(approvedBy: string | null): boolean {
  return approvedBy !== null && approvedBy !== "";
}
