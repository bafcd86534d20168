/** Lab calls: the messages between the policy lab and its thread (src/cli/policy/policy-worker.ts). Pure. */
import type { RouteConfig } from "../../../config/index.ts";
import { canonicalJson } from "../../../config/index.ts";
import type { CheckedText, TestedText } from "../../../console/index.ts";

export type LabCall = Readonly<{
  id: number;
  text: string;
  /** Null: the text is only checked. */
  table: string | null;
  /** JSON of the parts of a route that decide; null: the policy stands alone. */
  route: string | null;
}>;
export type LabAnswer = Readonly<{ id: number; answer: CheckedText | TestedText }>;

/** A route as a thread gets it: what decides, and how requests are read, without any secret. */
export function routeText(route: RouteConfig): string {
  const { id, name, host, port, match, tunnel, allowEncodedSlashes, subPolicies, requiresClientCertificate } = route;
  const { allowedUsers, allowedDomains, allowedIdpClaims } = route;
  const { allowPublicUnauthenticatedAccess, allowAnyAuthenticatedUser, corsAllowPreflight } = route;
  const reading = { id, name, host, port, match, tunnel, allowEncodedSlashes, requiresClientCertificate };
  const lists = { allowedUsers, allowedDomains, allowedIdpClaims };
  const flags = { allowPublicUnauthenticatedAccess, allowAnyAuthenticatedUser, corsAllowPreflight };
  return canonicalJson({
    ...reading,
    ...lists,
    ...flags,
    from: String(route.from),
    clientCa: route.clientCa === null ? null : "",
    policy: null,
    subPolicies: subPolicies.map(({ policy, ...sub }) => ({ ...sub, policy: policy?.ppl ?? null })),
  });
}
