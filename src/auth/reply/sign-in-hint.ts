/**
 * Sign-in hint: what a 401 tells a program, in its header and in its body: where a credential comes from, and how to
 * send it.
 *
 * Pure. `docs/scripts.md` has the long form.
 */

/**
 * The challenge of every 401 for a missing session. The path is where a command line begins a sign-in, on the same
 * host.
 */
export const signInChallenge = 'Pomerium login="/.pomerium/api/v1/login"';

export type CredentialSent = "none" | "refused";

/**
 * @param origin as the caller reaches us; null: it could not be read
 * @param credential `refused`: the request carried one that does not count
 */
export function signInHint(origin: string | null, credential: CredentialSent): string {
  const url = origin ?? "https://HOST";
  const problem =
    credential === "none"
      ? `Sign-in required: ${origin ?? "this address"} needs a credential, and this request has none.`
      : `Sign-in required: the credential of this request has expired, was revoked, or was made for another host.`;
  return `${problem}

curl:     curl -H "Authorization: Pomerium $(cardea token ${url})" ${url}/
git:      git -c http.extraHeader="X-Pomerium-Authorization: $(cardea token ${url})" clone ${url}/...
CI:       curl -H "Authorization: Bearer $JOB_TOKEN" ${url}/  (where the route has bearer_token_format)
browser:  open ${url}/
`;
}
