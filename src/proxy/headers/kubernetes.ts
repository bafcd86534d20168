/**
 * Kubernetes: how an API server learns for whom it acts. We call with a service account's token, and impersonate the person
 * (Kubernetes, "User impersonation"; docs/pomerium-behaviour.md §3.2).
 *
 * Pure. A call that names nobody would be carried out with the service account's own rights, which are wide: without a name there is no
 * call. Names that begin with `system:` are Kubernetes' own, and some of them stand above its rules: nobody from outside bears one.
 */
import { headerValue } from "../message/header-names.ts";

export type KubernetesRules = Readonly<{ token: () => string }>;
export type ImpersonatedUser = Readonly<{ email?: string; groups?: readonly string[] }>;

export function mayImpersonate(person: ImpersonatedUser | null): boolean {
  return person?.email !== undefined && isImpersonable(person.email);
}

/**
 * @returns names and values in turn, with which no line of the caller's may be mixed
 * @throws TypeError where `mayImpersonate` says no
 */
export function impersonationLines(rules: KubernetesRules, person: ImpersonatedUser | null): readonly string[] {
  if (!mayImpersonate(person)) throw new TypeError("an API server is called for nobody");
  const lines = ["authorization", `Bearer ${rules.token()}`, "impersonate-user", headerValue(person?.email ?? "")];
  for (const group of person?.groups ?? [])
    if (isImpersonable(group)) lines.push("impersonate-group", headerValue(group));
  return lines;
}

/**
 * A name that the API server reads as it is here, and that is not Kubernetes' own. What would change on its way is nobody's: servers cut off
 * spaces, and control characters cannot be sent, so ` eng` would become `eng`.
 */
function isImpersonable(name: string): boolean {
  return (
    name !== "" &&
    name === name.trim() &&
    name.isWellFormed() &&
    !unsendablePattern.test(name) &&
    !/^system:/i.test(name)
  );
}
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused
const unsendablePattern = /[\u0000-\u001f\u007f]/;

/** What says to an API server who is calling, beside what no upstream is told: a front proxy's names. By a folded name. */
export function identifiesCaller(folded: string): boolean {
  return folded === "authorization" || folded.startsWith("xremote");
}

/**
 * The protocols of a WebSocket without the token that browsers put among them (Kubernetes, "websocket.Bearer").
 * @returns undefined: nothing is left
 */
export function withoutBearerToken(protocols: string): string | undefined {
  const kept = protocols
    .split(",")
    .filter((protocol) => !/^\s*base64url\.bearer\.authorization\.k8s\.io\./i.test(protocol));
  return kept.length === 0 ? undefined : kept.join(",").trim();
}
