/**
 * Reasons: a sentence for each reason code of a policy, for the person who is refused.
 *
 * Pure. Says which kind of rule was not met, never its contents: a stranger learns no group name and no network. A
 * route can add more with `explain` of the page.
 */
import { criterionDescriptors } from "../../auth/index.ts";

/** Reasons that no criterion gives, or that many give. */
const otherSentences: readonly (readonly [reason: string, sentence: string])[] = [
  ["user-unauthenticated", "You need to sign in first."],
  [
    "encoded-separator",
    "The address contains an encoded slash, so another server could read it as a different address.",
  ],
  [
    "path-parameters",
    "The address has parameters after a semicolon, so another server could read it as a different address.",
  ],
  ["websocket-origin", "A page of another site tried to open this connection with your session."],
  ["bearer-token-invalid", "The token in the request is not valid here, has expired, or was revoked."],
  ["revoked-by-region", "An administrator has ended your session."],
  ["two-credentials", "The request has both a token and a session cookie. Send only one of them."],
  ["kubernetes-nobody", "Your account has no e-mail address to identify you to this cluster."],
  ["route-not-found", "There is nothing at this address."],
];

const sentences: ReadonlyMap<string, string> = new Map([
  ...criterionDescriptors.flatMap(({ reasons: { fail, sentence, others = {} } }) => [
    [fail, sentence] as const,
    ...Object.entries(others),
  ]),
  ...otherSentences,
]);

/** A sentence for each reason that has one. Codes of met conditions have none. */
export function describeReasons(reasons: readonly string[]): readonly string[] {
  return [...new Set(reasons.flatMap((reason) => sentences.get(reason) ?? []))];
}
