/**
 * Reasons: what the reason words of policy mean, in sentences for the person who is refused.
 *
 * Pure. Says which kind of rule was not met, never what the rule contains: a stranger learns no group name and no
 * network here. What a route wants to tell more comes as `explain` of the page.
 */
const sentences: Readonly<Record<string, string>> = {
  reject: "This address is closed to everyone.",
  "user-unauthenticated": "You need to sign in first.",
  "user-unauthorized": "Your account does not have access.",
  "email-unauthorized": "Your e-mail address does not have access.",
  "domain-unauthorized": "The organisation of your e-mail address does not have access.",
  "groups-unauthorized": "You are not a member of a group that has access.",
  "claim-unauthorized": "The information from your identity provider does not meet the rule for this address.",
  "device-unauthenticated": "You need to identify yourself with a registered device.",
  "device-unauthorized": "Your device is not registered or not approved for this.",
  "client-certificate-required": "Your browser did not present a client certificate.",
  "invalid-client-certificate": "Your browser's client certificate is not valid here.",
  "client-certificate-unauthorized": "Your browser's client certificate does not have access.",
  "http-method-unauthorized": "This kind of request is not allowed here.",
  "http-path-unauthorized": "You do not have access to this path.",
  "encoded-separator": "The address contains an encoded slash, so another server could read it as a different address.",
  "path-parameters":
    "The address has parameters after a semicolon, so another server could read it as a different address.",
  "websocket-origin": "A page of another site tried to open this connection with your session.",
  "source-ip-unauthorized": "Your network does not have access.",
  "non-cors-request": "Without other permissions, only requests from another site's scripts are allowed here.",
  "mcp-tool-no-match": "You may not call this tool.",
  "mcp-not-a-tool-call": "Only tool calls are allowed here.",
  "ssh-username-unauthorized": "You may not log in with this user name.",
  "ssh-publickey-unauthorized": "This key does not have access.",
  "date-unauthorized": "Access is not allowed on this date.",
  "day-of-week-unauthorized": "Access is not allowed on this day of the week.",
  "time-of-day-unauthorized": "Access is not allowed at this time of day.",
  "record-unauthorized": "The data about you or your network does not meet the rule for this address.",
  "record-unavailable": "The data about you or your network cannot be read right now. Try again later.",
  "bearer-token-invalid": "The token in the request is not valid here, has expired, or was revoked.",
  "two-credentials": "The request has both a token and a session cookie. Send only one of them.",
  "kubernetes-nobody": "Your account has no e-mail address to identify you to this cluster.",
  "route-not-found": "There is nothing at this address.",
};

/** A sentence for each reason that has one; words for a met condition say nothing and are left out. */
export function describeReasons(reasons: readonly string[]): readonly string[] {
  return [...new Set(reasons.flatMap((reason) => (Object.hasOwn(sentences, reason) ? [sentences[reason] ?? ""] : [])))];
}
