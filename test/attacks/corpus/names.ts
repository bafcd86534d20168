/**
 * Header names and values that could be mistaken for the proxy's own identity headers, and credentials that must not
 * leave it.
 */

import { handleOf } from "../oracle.ts";
import { type Attack, answered, forwarded, get, refused } from "./attack.ts";

const root = { method: "GET", target: "/" } as const;
const withName = (name: string): string => get("/", `${name}: evil@example.com\r\n`);

/**
 * Spellings that some server reads as one of the proxy's headers. The oracle knows which may arrive, and with what
 * value.
 */
const spellings = [
  ...["X-Pomerium-Claim-Email", "x-pomerium-claim-email", "X-POMERIUM-CLAIM-EMAIL", "X-Pomerium-Claim-Groups"],
  ...["X-Pomerium-Jwt-Assertion", "X-Pomerium-Authorization", "X-Pomerium-Routing-Key", "X-Pomerium-Anything"],
  ...["X-Pomerium-Reproxy-Policy", "X-Pomerium-Reproxy-Policy-Hmac", "X-Pomerium", "XPomeriumClaimEmail"],
  ...["X.Pomerium.Claim.Email", "X~Pomerium~Claim~Email", "X!Pomerium#Claim$Email", "X'Pomerium`Claim|Email"],
  ...["X--Pomerium--Claim--Email", "X-Pomerium-Claim-Email-", "-X-Pomerium-Claim-Email", "X-Nick", "x.nick"],
  ...[
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Forwarded-Port",
    "X-Forwarded-User",
    "X-Forwarded-Email",
  ],
  ...[
    "X-Forwarded-Groups",
    "X-Forwarded-Access-Token",
    "X-Forwarded-Prefix",
    "X-Forwarded-Uri",
    "X+Forwarded+For",
    "Forwarded",
  ],
  ...["X-Real-IP", "X-Client-IP", "X-Original-URL", "X-Original-Host", "X-Rewrite-URL", "X-Original-Method"],
  ...["X-Envoy-External-Address", "X-Envoy-Original-Path", "X-Request-Id", "Remote-User", "Http-Remote-User", "Proxy"],
  ...["Impersonate-User", "Impersonate-Group", "Impersonate-Extra-Scopes", "Impersonate-Uid", "imperSONATE.user"],
];

const spoofed = forwarded(
  Object.fromEntries(spellings.map((name) => [`a caller that sends ${name}`, [withName(name), root] as const])),
);

const underscores = refused(400, {
  "an identity header with underscores": withName("X_Pomerium_Claim_Email"),
  "an identity header with one underscore": withName("X-Pomerium-Claim_Email"),
  "an assertion with underscores": withName("x_pomerium_jwt_assertion"),
  X_Forwarded_For: withName("X_Forwarded_For"),
  "an underscore anywhere": withName("A_b"),
  "an underscore alone": withName("_"),
});

const doubled = [
  ...refused(400, {
    "two Authorizations": get("/", "Authorization: a\r\nAuthorization: b\r\n"),
    "two Authorizations, the second with a session": get(
      "/",
      `Authorization: Basic a\r\nauthorization: Pomerium ${handleOf(2)}\r\n`,
    ),
    "two X-Pomerium-Authorizations": get(
      "/",
      `X-Pomerium-Authorization: ${handleOf(1)}\r\nX-Pomerium-Authorization: ${handleOf(2)}\r\n`,
    ),
    "two Content-Types": get("/", "Content-Type: a/b\r\nContent-Type: c/d\r\n"),
    "two Origins": get("/", "Origin: http://a\r\nOrigin: http://b\r\n"),
  }),
  ...forwarded({
    "an identity header, several times": [
      get("/", "X-Pomerium-Claim-Email: evil\r\nx-pomerium-claim-email: worse\r\n"),
      root,
    ],
    "an identity header with an empty value": [get("/", "X-Pomerium-Claim-Email:\r\n"), root],
    "a forged assertion": [get("/", "X-Pomerium-Jwt-Assertion: eyJhbGciOiJub25lIn0.eyJlbWFpbCI6ImV2aWwifQ.\r\n"), root],
  }),
];

/** `Connection` removes headers that the caller sent, never those that the proxy adds (as in CVE-2026-33805). */
const nominated = forwarded({
  "identity headers, nominated": [get("/", "Connection: X-Pomerium-Claim-Email, X-Pomerium-Jwt-Assertion\r\n"), root],
  "identity headers, sent and nominated": [
    get("/", "Connection: x-pomerium-claim-email\r\nX-Pomerium-Claim-Email: evil\r\n"),
    root,
  ],
  "X-Request-Id, nominated": [get("/", "Connection: X-Request-Id\r\n"), root],
  "X-Forwarded-For, nominated": [
    get("/", "Connection: X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host\r\n"),
    root,
  ],
  "Host, nominated": [get("/", "Connection: Host\r\n"), root],
  "Cookie, nominated": [get("/", "Connection: Cookie\r\n"), root],
  "a configured claim header, nominated": [get("/", "Connection: keep-alive, X-Nick\r\n"), root],
  "an identity header, nominated in a second line": [
    get("/", "Connection: keep-alive\r\nConnection: X-Pomerium-Claim-Email\r\n"),
    root,
  ],
  "an identity header, nominated between empty entries": [
    get("/", "Connection: ,, X-Pomerium-Claim-Email ,\r\n"),
    root,
  ],
});

const handle = handleOf(1);
const credentials = forwarded({
  "Authorization: Pomerium": [get("/", `Authorization: Pomerium ${handle}\r\n`), root],
  "Authorization: pomerium in lower case": [get("/", `authorization: pOMERIUM ${handle}\r\n`), root],
  "Authorization: Bearer Pomerium-": [get("/", `Authorization: Bearer Pomerium-${handle}\r\n`), root],
  "Authorization: bearer pomerium- in lower case": [get("/", `Authorization: bearer pomerium-${handle}\r\n`), root],
  "Authorization: Bearer Pomerium- with more space": [
    get("/", `Authorization:   Bearer   Pomerium-${handle}\r\n`),
    root,
  ],
  "X-Pomerium-Authorization": [get("/", `X-Pomerium-Authorization: ${handle}\r\n`), root],
  "Proxy-Authorization": [get("/", `Proxy-Authorization: Pomerium ${handle}\r\n`), root],
  "a cookie between others": [get("/", `Cookie: a=1; _pomerium=${handle}; b=2\r\n`), root],
  "a cookie without spaces": [get("/", `Cookie: a=1;_pomerium=${handle};b=2\r\n`), root],
  "a cookie in capitals": [get("/", `Cookie: _POMERIUM=${handle}\r\n`), root],
  "a cookie in quotes": [get("/", `Cookie: _pomerium="${handle}"\r\n`), root],
  "a cookie with a prefix": [get("/", `Cookie: __Host-_pomerium=${handle}; __Secure-_pomerium=${handle}\r\n`), root],
  "a cookie with space around its name": [get("/", `Cookie: a=1;  _pomerium  = ${handle} \r\n`), root],
  "cookies in many lines": [
    get("/", `Cookie: a=1\r\nCookie: _pomerium=${handle}\r\nCookie: _pomerium_csrf=${handle}; c=3\r\n`),
    root,
  ],
  "the cookie several times": [get("/", `Cookie: _pomerium=${handle}; _pomerium=${handle}\r\n`), root],
  "other cookies of the proxy": [
    get("/", `Cookie: _pomerium_authenticate=${handle}; _pomerium_nonce=${handle}\r\n`),
    root,
  ],
  "a query parameter": [get(`/?pomerium_session=${handle}`), root],
  "a query parameter among others": [get(`/?a=1&pomerium_session=${handle}&b=2`), { ...root, target: "/?a=1&b=2" }],
  "a query parameter, several times": [get(`/?pomerium_session=${handle}&pomerium_session=${handle}`), root],
  "a query parameter whose name is encoded": [get(`/?pomerium%5Fsession=${handle}&%70omerium_session=${handle}`), root],
  "a query parameter in capitals": [get(`/?Pomerium_Session=${handle}`), root],
  "a query parameter after a semicolon": [get(`/?a=1;pomerium_session=${handle}`), { ...root, target: "/?a=1" }],
  Referer: [get("/", `Referer: http://app.localhost/x?pomerium_session=${handle}&a=1\r\n`), root],
  "Referer with an encoded name": [get("/", `Referer: http://app.localhost/x?%70omerium_session=${handle}\r\n`), root],
});

/** Credentials for the upstream pass through. */
const upstreamCredentials = forwarded({
  Basic: [get("/", "Authorization: Basic dTpw\r\n"), root],
  "a bearer token": [get("/", "Authorization: Bearer abc\r\n"), root],
});

const withoutSession = answered({
  "a claimed identity without a session": [
    "GET / HTTP/1.1\r\nHost: app.localhost\r\nAccept: application/json\r\nX-Pomerium-Claim-Email: user1@example.com\r\n\r\n",
    401,
  ],
  "an invalid handle before a valid one": [
    `GET / HTTP/1.1\r\nHost: app.localhost\r\nAccept: application/json\r\nCookie: _pomerium=x\r\nAuthorization: Pomerium ${handle}\r\n\r\n`,
    401,
  ],
});

export const names: readonly Attack[] = [
  ...spoofed,
  ...underscores,
  ...doubled,
  ...nominated,
  ...credentials,
  ...upstreamCredentials,
  ...withoutSession,
];
