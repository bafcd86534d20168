/**
 * Reasons: what the reason words of policy mean, in sentences for the person who is refused.
 *
 * Pure. Says which kind of rule was not met, never what the rule contains: a stranger learns no group name and no
 * network here. What a route wants to tell more comes as `explain` of the page.
 */
const sentences: Readonly<Record<string, string>> = {
  reject: "This address is closed to everyone.",
  "user-unauthenticated": "You need to sign in first.",
  "user-unauthorized": "Your account is not among those that may use this.",
  "email-unauthorized": "Your e-mail address is not among those that may use this.",
  "domain-unauthorized": "Your e-mail address belongs to an organisation that may not use this.",
  "groups-unauthorized": "You are not a member of a group that may use this.",
  "claim-unauthorized": "What your identity provider says about you does not meet the rule for this address.",
  "device-unauthenticated": "You need to show a registered device.",
  "device-unauthorized": "Your device is not registered or not approved for this.",
  "client-certificate-required": "Your browser did not show a client certificate.",
  "invalid-client-certificate": "The client certificate your browser showed is not valid here.",
  "client-certificate-unauthorized": "The client certificate your browser showed may not be used here.",
  "http-method-unauthorized": "This kind of request is not allowed here.",
  "http-path-unauthorized": "This path is not among those you may use.",
  "encoded-separator": "The address has an encoded slash, and could be taken for another address.",
  "path-parameters": "The address has parameters behind a semicolon, and could be taken for another address.",
  "websocket-origin": "A page of another site may not open this connection with your session.",
  "source-ip-unauthorized": "The network you come from may not use this.",
  "non-cors-request": "Only requests of another site's script are allowed here without more.",
  "mcp-tool-no-match": "This tool is not among those you may call.",
  "mcp-not-a-tool-call": "Only tool calls are allowed here.",
  "ssh-username-unauthorized": "You may not log in under this user name.",
  "ssh-publickey-unauthorized": "This key may not be used here.",
  "date-unauthorized": "This may not be used on this date.",
  "day-of-week-unauthorized": "This may not be used on this day of the week.",
  "time-of-day-unauthorized": "This may not be used at this time of day.",
  "record-unauthorized": "What is known about you or your network does not meet the rule for this address.",
  "record-unavailable": "What has to be known about you or your network cannot be read right now. Try again later.",
  "bearer-token-invalid": "The token that came with the request is not valid here, is over, or was revoked.",
  "two-credentials":
    "The request came with a token and with the cookie of a session, and only one may say who you are.",
  "kubernetes-nobody": "Your account has no e-mail address that this cluster could know you by.",
  "route-not-found": "There is nothing at this address.",
};

/** A sentence for each reason that has one; words for a met condition say nothing and are left out. */
export function describeReasons(reasons: readonly string[]): readonly string[] {
  return [...new Set(reasons.flatMap((reason) => (Object.hasOwn(sentences, reason) ? [sentences[reason] ?? ""] : [])))];
}
