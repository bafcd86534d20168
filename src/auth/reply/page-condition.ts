/**
 * Page condition: what happened, as a key. The console has the words for each key (`src/console/text/`); programs get
 * the wire words of the page instead. Pure.
 */
export type PageCondition =
  // A request that the proxy answers itself.
  | ("unauthenticated" | "unsent" | "denied" | "too-many-groups" | "device-unapproved" | "device-unregistered")
  | ("certificate" | "no-route" | "upgrade" | "ambiguous" | "method" | "slow-request" | "request-timeout")
  | ("too-large" | "address-too-long" | "expectation" | "headers-too-large")
  | ("lease" | "behind" | "provider" | "data" | "audit" | "busy" | "unhealthy" | "draining" | "sign-in-paused")
  | ("upstream-unreachable" | "upstream-broke" | "upstream-timeout" | "internal")
  // An address of our own.
  | ("page-not-found" | "handler-method" | "handler-failed" | "handler-unreadable")
  | ("sign-in-link" | "callback" | "other-browser" | "used-sign-in" | "wrong-provider" | "too-many-sign-ins")
  | ("suspended" | "signed-out-meanwhile" | "not-recorded" | "no-provider" | "needs-window")
  | ("provider-silent" | "provider-untrue" | "provider-refused" | "provider-cancelled")
  | ("redirect-refused" | "sign-out-elsewhere" | "still-signed-in" | "account-form");
