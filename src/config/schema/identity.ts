/** Schema of the tokens that callers may send instead of a session, and of the identity that upstreams receive. */

import { directories } from "../values/directory-values.ts";
import { scimClients, tokenIssuers } from "../values/identity-values.ts";
import { claimHeaders, headers } from "../values/network-values.ts";
import { bearerFormat } from "../values/process-values.ts";
import { signInProviders } from "../values/sign-in-provider-values.ts";
import { signalReceivers } from "../values/signal-receivers.ts";
import { signalTransmitters } from "../values/signal-transmitters.ts";
import { booleanValue, enumValue, integer, stringList } from "../values/value-type.ts";
import { cardea, pomerium } from "./keys.ts";

export const signInProviderKeys = {
  sign_in_providers: cardea(
    signInProviders().prefault({}),
    "More providers at which people sign in, by name: `{NAME: {provider, provider_url, client_id, client_secret or client_secret_file, title, scopes, request_params, client_auth, private_key or private_key_file, key_id, team_id, pushed_authorization, session_lifetime, session_idle_lifetime}}`. `provider` is one of the kinds of `idp_provider`. `session_lifetime` bounds the sessions of its sign-ins, at most to `cookie_expire`; `session_idle_lifetime` ends those that are unused. The callback at the provider is `/oauth2/callback/NAME` of `authenticate_service_url`. See docs/identity.md.",
    {
      secretParts: [
        "signInProviders.*.clientSecret",
        "signInProviders.*.privateKey",
        "signInProviders.*.requestParams.*",
      ],
      configPaths: ["signInProviders"],
    },
  ),
  default_sign_in_providers: cardea(
    stringList("name").optional(),
    "The providers of routes without `sign_in_providers`; `default` is that of the `idp_` keys. The first is also that of administrators and of the sign-in host itself. Absent: `default`, or else the only entry of `sign_in_providers`.",
    { configPaths: ["defaultSignInProviders"] },
  ),
};

export const bearerKeys = {
  idp_allow_plain_http: cardea(
    booleanValue().prefault(false),
    "Let `idp_provider_url` and those of `sign_in_providers` be plain HTTP outside loopback. Only where you own the network to the provider, for this process and for browsers: it carries the client secret, codes, tokens and passwords in clear text.",
  ),
  bearer_token_format: pomerium(
    bearerFormat().prefault("default"),
    "What a bearer token in `Authorization` is, unless a route says otherwise: `default` (left to the upstream), `idp_access_token` or `idp_identity_token` (of the route's identity provider), `jwt` (of an issuer in `identity_providers`). See docs/identity.md.",
  ),
  idp_access_token_allowed_audiences: pomerium(
    stringList("audience").optional(),
    "With `idp_access_token`: a token must name one of these in `aud`. Absent: any token that the provider accepts is valid, for whichever client it was issued.",
  ),
  identity_providers: pomerium(
    tokenIssuers().prefault({}),
    "Issuers of tokens for callers that are not people (a cluster, a pipeline), by name: `issuer`, `audiences`, and where needed `jwks_url` and `supported_algs`.",
  ),
};

export const scimKeys = {
  scim_clients: cardea(
    scimClients().prefault({}),
    "Clients of the SCIM server at `/scim/v2`, by name, with `match`: `subject` (the client's `externalId` is the provider's `sub`), `claim` (it is the claim named by `claim`) or `email` (the client's primary e-mail, or `userName`, is the e-mail that the provider has verified), and `provider`: an entry of `sign_in_providers` whose people it provisions, if they are not those of the `idp_` provider. The same on every node. See docs/scim.md.",
    { inConfig: "value" },
  ),
};

export const directoryKeys = {
  directories: cardea(
    directories().prefault({}),
    "Directories of people and groups that the leader reads, by name, with `provider`, `match` (`subject`, `claim` with `claim`, or `email`), `sign_in_provider` (an entry of `sign_in_providers`; absent: the `idp_` provider), `groups` (policies name groups by `name` or `id`), `interval` and the settings of the provider. The same on every process. See docs/directories.md.",
    { inConfig: "value", secretParts: ["directories.*.settings.*", "directories.*.settings.*.*"] },
  ),
};

export const signalKeys = {
  signal_receivers: cardea(
    signalReceivers().prefault({}),
    "Services that are told of revocations here (OpenID Shared Signals), by name, each with `audience` and a credential: `token_sha256`, or `client_id` with `client_secret_sha256`. Also `events`, `subject_format`, `session_subject`, `subjects`, `groups`, `push_urls`, `min_verification_interval` and `inactivity_timeout`. The same on every node. See docs/signal-receivers.md.",
    { inConfig: "value", secretParts: ["signalReceivers.*.tokenHash", "signalReceivers.*.client.secretHash"] },
  ),
  signal_transmitters: cardea(
    signalTransmitters().prefault({}),
    "Services whose signals are obeyed here (OpenID Shared Signals), by name, each with `issuer` and `audience`. Also `delivery` (`push` or `poll`), `push_token`, `access_token` or `client_id` with `client_secret` and `token_url` and `scope`, `stream_id`, `metadata_url`, `jwks_url`, `poll_url`, `match` (`subject`, `email`), `subject_issuers` and `actions`. A secret may be in a file: `push_token_file` and so on. The same on every node. See docs/shared-signals.md.",
    {
      secretParts: [
        "signalTransmitters.*.pushToken",
        "signalTransmitters.*.accessToken",
        "signalTransmitters.*.client.secret",
      ],
    },
  ),
};

export const identityHeaderKeys = {
  pass_identity_headers: pomerium(
    booleanValue().prefault(false),
    "Send the signed assertion and the claim headers upstream, unless a route says otherwise.",
  ),
  jwt_claims_headers: pomerium(
    claimHeaders().prefault([]),
    "Claims sent upstream: a list (header `x-pomerium-claim-<claim>`) or a mapping of header to claim.",
    { inConfig: "value" },
  ),
  jwt_issuer_format: pomerium(
    enumValue(["hostOnly", "uri"]).prefault("hostOnly"),
    "The assertion's issuer: the host, or `https://<host>/`.",
    { inConfig: "value" },
  ),
  jwt_groups_filter: pomerium(stringList("group").prefault([]), "The only groups named in the assertion; empty: all.", {
    inConfig: "value",
  }),
  max_identity_headers_bytes: cardea(
    integer({ min: 2_048, max: 262_144 }).prefault(16_384),
    "Upper bound on all identity headers of a request together, including the assertion. Above it, the groups are reduced to those that the route's policy names; if that is not enough, the request is refused. See docs/identity.md.",
  ),
  set_response_headers: pomerium(
    headers().optional(),
    "Headers set on every response. Absent: `X-Frame-Options: SAMEORIGIN`, `X-XSS-Protection: 1; mode=block` and, with a certificate, `Strict-Transport-Security`. The key `disable` means none. In the environment also `HEADERS`.",
  ),
};
