/**
 * Who is said to be asking: header names and values that could be taken for a statement of ours, and credentials that
 * should stay here.
 */

import { handleOf } from "../oracle.ts";
import { type Attack, answered, carried, get, refused } from "./attack.ts";

const root = { method: "GET", target: "/" } as const;
const withName = (name: string): string => get("/", `${name}: evil@example.com\r\n`);

/**
 * Names in every spelling that some server reads as one of ours. The oracle knows which may arrive, and what they must
 * say.
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

const spoofed = carried(
  Object.fromEntries(spellings.map((name) => [`a caller that says ${name}`, [withName(name), root] as const])),
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
    "two Authorizations, the second one ours": get(
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
  ...carried({
    "an identity header, several times": [
      get("/", "X-Pomerium-Claim-Email: evil\r\nx-pomerium-claim-email: worse\r\n"),
      root,
    ],
    "an identity header with an empty value": [get("/", "X-Pomerium-Claim-Email:\r\n"), root],
    "an assertion from elsewhere": [
      get("/", "X-Pomerium-Jwt-Assertion: eyJhbGciOiJub25lIn0.eyJlbWFpbCI6ImV2aWwifQ.\r\n"),
      root,
    ],
  }),
];

/** `Connection` takes away what the caller has sent, and nothing of what we add (CVE-2026-33805 elsewhere). */
const nominated = carried({
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
  "in two lines": [get("/", "Connection: keep-alive\r\nConnection: X-Pomerium-Claim-Email\r\n"), root],
  "with odd commas": [get("/", "Connection: ,, X-Pomerium-Claim-Email ,\r\n"), root],
});

const own = handleOf(1);
const credentials = carried({
  "Authorization: Pomerium": [get("/", `Authorization: Pomerium ${own}\r\n`), root],
  "Authorization: pomerium in lower case": [get("/", `authorization: pOMERIUM ${own}\r\n`), root],
  "Authorization: Bearer Pomerium-": [get("/", `Authorization: Bearer Pomerium-${own}\r\n`), root],
  "Authorization: bearer pomerium- in lower case": [get("/", `Authorization: bearer pomerium-${own}\r\n`), root],
  "Authorization: Bearer Pomerium- with more space": [get("/", `Authorization:   Bearer   Pomerium-${own}\r\n`), root],
  "X-Pomerium-Authorization": [get("/", `X-Pomerium-Authorization: ${own}\r\n`), root],
  "Proxy-Authorization": [get("/", `Proxy-Authorization: Pomerium ${own}\r\n`), root],
  "a cookie between others": [get("/", `Cookie: a=1; _pomerium=${own}; b=2\r\n`), root],
  "a cookie without spaces": [get("/", `Cookie: a=1;_pomerium=${own};b=2\r\n`), root],
  "a cookie in capitals": [get("/", `Cookie: _POMERIUM=${own}\r\n`), root],
  "a cookie in quotes": [get("/", `Cookie: _pomerium="${own}"\r\n`), root],
  "a cookie with a prefix": [get("/", `Cookie: __Host-_pomerium=${own}; __Secure-_pomerium=${own}\r\n`), root],
  "a cookie with space around its name": [get("/", `Cookie: a=1;  _pomerium  = ${own} \r\n`), root],
  "cookies in many lines": [
    get("/", `Cookie: a=1\r\nCookie: _pomerium=${own}\r\nCookie: _pomerium_csrf=${own}; c=3\r\n`),
    root,
  ],
  "the cookie several times": [get("/", `Cookie: _pomerium=${own}; _pomerium=${own}\r\n`), root],
  "other cookies of ours": [get("/", `Cookie: _pomerium_authenticate=${own}; _pomerium_nonce=${own}\r\n`), root],
  "a query": [get(`/?pomerium_session=${own}`), root],
  "a query among others": [get(`/?a=1&pomerium_session=${own}&b=2`), { ...root, target: "/?a=1&b=2" }],
  "a query, several times": [get(`/?pomerium_session=${own}&pomerium_session=${own}`), root],
  "a query whose name is encoded": [get(`/?pomerium%5Fsession=${own}&%70omerium_session=${own}`), root],
  "a query in capitals": [get(`/?Pomerium_Session=${own}`), root],
  "a query behind a semicolon": [get(`/?a=1;pomerium_session=${own}`), { ...root, target: "/?a=1" }],
  Referer: [get("/", `Referer: http://app.localhost/x?pomerium_session=${own}&a=1\r\n`), root],
  "Referer with an encoded name": [get("/", `Referer: http://app.localhost/x?%70omerium_session=${own}\r\n`), root],
});

/** Somebody else's credentials are not ours to take. */
const theirs = carried({
  Basic: [get("/", "Authorization: Basic dTpw\r\n"), root],
  "a bearer token": [get("/", "Authorization: Bearer abc\r\n"), root],
});

const nobody = answered({
  "no session, and a statement about who it is": [
    "GET / HTTP/1.1\r\nHost: app.localhost\r\nAccept: application/json\r\nX-Pomerium-Claim-Email: user1@example.com\r\n\r\n",
    401,
  ],
  "a handle that is none before one that is": [
    `GET / HTTP/1.1\r\nHost: app.localhost\r\nAccept: application/json\r\nCookie: _pomerium=x\r\nAuthorization: Pomerium ${own}\r\n\r\n`,
    401,
  ],
});

export const names: readonly Attack[] = [
  ...spoofed,
  ...underscores,
  ...doubled,
  ...nominated,
  ...credentials,
  ...theirs,
  ...nobody,
];
