/**
 * Provider callback: the path of the sign-in host to which an identity provider returns a person. Pure.
 *
 * Each provider has its own, so no provider's answer passes as that of another (RFC 9700 §4.4.2). That of the `idp_`
 * keys has Pomerium's.
 */
const ofDefault = "/oauth2/callback";
const pattern = /^\/oauth2\/callback(?:\/[a-z0-9-]{1,40})?$/;

/** Whether some provider may return to this path. */
export function isProviderCallback(path: string): boolean {
  return pattern.test(path);
}

/** @param providerName as configured; `default`: the provider of the `idp_` keys */
export function callbackPathOf(providerName: string): string {
  return providerName === "default" ? ofDefault : `${ofDefault}/${providerName}`;
}
