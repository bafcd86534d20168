/**
 * Kubernetes: how an API server learns on whose behalf it acts. The proxy calls with a service account's token and
 * impersonates the person (Kubernetes, "User impersonation"; docs/pomerium-behaviour.md §3.2).
 *
 * Pure. A call without a name would run with the service account's own rights, which are wide, so without a name
 * there is no call. Names that begin with `system:` are Kubernetes' own, and some of them are above its rules, so no
 * person may have one.
 */
import { headerValue } from "../message/header-names.ts";

export type KubernetesRules = Readonly<{ token: () => string }>;
export type ImpersonatedUser = Readonly<{ email?: string; groups?: readonly string[] }>;

export function mayImpersonate(person: ImpersonatedUser | null): boolean {
  return person?.email !== undefined && isImpersonable(person.email);
}

/**
 * @returns names and values in turn; no line of the caller may be mixed with them
 * @throws TypeError if `mayImpersonate` is false
 */
export function impersonationLines(rules: KubernetesRules, person: ImpersonatedUser | null): readonly string[] {
  if (!mayImpersonate(person)) throw new TypeError("an API server must not be called without a name");
  const lines = ["authorization", `Bearer ${rules.token()}`, "impersonate-user", headerValue(person?.email ?? "")];
  for (const group of person?.groups ?? [])
    if (isImpersonable(group)) lines.push("impersonate-group", headerValue(group));
  return lines;
}

/**
 * Whether the API server reads the name as it is here, and it is not Kubernetes' own. A name that would change on its
 * way is refused: servers trim spaces, and control characters cannot be sent, so ` eng` would become `eng`.
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

/** Whether a header of this folded name identifies the caller to an API server: its authenticating proxy's names. */
export function identifiesCaller(folded: string): boolean {
  return folded === "authorization" || folded.startsWith("xremote");
}

/**
 * The subprotocols of a WebSocket without the token that browsers put among them (Kubernetes, "websocket.Bearer").
 * @returns undefined: nothing is left
 */
export function withoutBearerToken(protocols: string): string | undefined {
  const kept = protocols
    .split(",")
    .filter((protocol) => !/^\s*base64url\.bearer\.authorization\.k8s\.io\./i.test(protocol));
  return kept.length === 0 ? undefined : kept.join(",").trim();
}
