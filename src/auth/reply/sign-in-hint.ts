/**
 * Sign-in hint: header and body text of a 401 that explain to a program how to get a credential and send it.
 *
 * Pure. `docs/scripts.md` has the long form.
 */

/**
 * The challenge of every 401 for a missing session. A command line starts a sign-in at this path of the same host.
 */
export const signInChallenge = 'Pomerium login="/.pomerium/api/v1/login"';

export type CredentialSent = "none" | "refused";

/**
 * @param origin external origin of the request; null: unknown
 * @param credential `refused`: the request carried an invalid one
 */
export function signInHint(origin: string | null, credential: CredentialSent): string {
  const url = origin ?? "https://HOST";
  const problem =
    credential === "none"
      ? `Sign-in required: ${origin ?? "this address"} needs a credential, and this request has none.`
      : `Sign-in required: the credential of this request has expired, was revoked, or belongs to another host.`;
  return `${problem}

curl:     curl -H "Authorization: Pomerium $(cardea token ${url})" ${url}/
git:      git -c http.extraHeader="X-Pomerium-Authorization: $(cardea token ${url})" clone ${url}/...
CI:       curl -H "Authorization: Bearer $JOB_TOKEN" ${url}/  (where the route has bearer_token_format)
browser:  open ${url}/
`;
}
