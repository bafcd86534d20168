/** Schema of the keys of listeners, except their addresses and certificates. */
import * as z from "zod";
import { hostPortOrOff, url } from "../values/network-values.ts";
import { subjectNamePatterns } from "../values/tls-values.ts";
import { booleanValue, enumValue, filePath, integer, secretString, stringValue } from "../values/value-type.ts";
import { cardea, pomerium } from "./keys.ts";

export const autocertKeys = {
  autocert: pomerium(
    booleanValue().prefault(false),
    "Get certificates from an ACME authority for every host of a route and of the authenticate service that no certificate above covers; this accepts its terms of service. Wildcard certificates are not available this way.",
  ),
  autocert_ca: pomerium(url({ schemes: ["https"] }).optional(), "The authority's directory. Absent: Let's Encrypt's."),
  autocert_email: pomerium(stringValue().optional(), "The address that the authority notifies about problems."),
  autocert_use_staging: pomerium(
    booleanValue().prefault(false),
    "Use Let's Encrypt's staging authority, which browsers do not trust; `autocert_ca` takes precedence.",
  ),
  autocert_must_staple: pomerium(
    booleanValue().prefault(false),
    "Not supported: true is an error. Certificates that demand an OCSP answer are no longer issued by Let's Encrypt.",
  ),
  autocert_eab_key_id: pomerium(
    stringValue().optional(),
    "The key id of an account at the authority (external account binding).",
  ),
  autocert_eab_mac_key: pomerium(secretString().optional(), "The key of `autocert_eab_key_id`, in base64url.", {
    secret: "autocert.eab.macKey",
  }),
  autocert_dir: pomerium(
    filePath().optional(),
    "The folder for certificates, keys and the account, readable by its owner alone; laid out as Pomerium's. Absent: `autocert` in the data folder.",
  ),
  autocert_trusted_ca: pomerium(
    stringValue().optional(),
    "Certificates (PEM, or base64 of it) that verify the authority's own server, in addition to the system's.",
  ),
  autocert_trusted_ca_file: pomerium(filePath().optional(), "The same, from a file."),
};

export const listenerKeys = {
  codec_type: pomerium(
    enumValue(["auto", "http1", "http2", "http3"], { "": "auto" }).prefault("auto"),
    "Which HTTP callers may speak: `auto` accepts HTTP/2 and HTTP/1.1, `http1` and `http2` only that one. `http3` is read as `auto`: HTTP/3 is not served.",
    { reload: "restart" },
  ),
  tls_session_tickets: cardea(
    enumValue(["shared", "process"]).prefault("shared"),
    "Where TLS sessions are resumed: `shared` at every process with this `shared_secret`, also after a restart; `process` only at the process that began them. `shared` makes forward secrecy in TLS 1.2 depend on `shared_secret` (docs/tls.md, Resumed sessions).",
    { inConfig: "value" },
  ),
  http2_connections: cardea(
    enumValue(["cardea", "node"]).prefault("cardea"),
    "What speaks HTTP/2 with callers and with upstreams, gRPC included: `cardea` is this proxy's own implementation, `node` the library of Node (nghttp2), which takes more processor time and drops malformed header lines instead of refusing the message. For comparison, and in case a client or an upstream fails with the former.",
    { reload: "restart", inConfig: "value" },
  ),
  http_redirect_addr: pomerium(
    hostPortOrOff().prefault("off"),
    "The address, such as `:80`, that redirects plain HTTP to https and answers the HTTP-01 challenges of an ACME authority.",
    { reload: "restart", configPaths: ["httpRedirectAddress"] },
  ),
  use_proxy_protocol: pomerium(
    booleanValue().prefault(false),
    "A load balancer in front names its callers by the PROXY protocol, version 1 or 2, on every connection; a connection without it is closed. Let only the balancer reach the listener: the header is trusted.",
    { reload: "restart", inConfig: "value" },
  ),
  downstream_mtls: pomerium(
    z.strictObject({
      ca: pomerium(
        stringValue().optional(),
        "The authorities whose certificates callers may show: PEM, or base64 of it.",
      ),
      ca_file: pomerium(filePath().optional(), "The same, from a file."),
      crl: pomerium(
        stringValue().optional(),
        "Lists of revoked certificates: PEM, or base64 of it. Only the list of a certificate's own issuer applies; without one, no certificate of that issuer counts as revoked.",
      ),
      crl_file: pomerium(filePath().optional(), "The same, from a file."),
      enforcement: pomerium(
        enumValue(["policy_with_default_deny", "policy", "reject_connection"], {
          "": "policy_with_default_deny",
        }).prefault("policy_with_default_deny"),
        "`policy_with_default_deny`: every route refuses callers without a valid certificate (495). `policy`: only routes whose policy asks for it do. `reject_connection`: the TLS handshake fails without one.",
      ),
      match_subject_alt_names: pomerium(
        subjectNamePatterns().prefault([]),
        "A certificate must have one of these names: `dns`, `email`, `ip_address`, `uri` or `user_principal_name` with an expression that matches the whole name.",
      ),
      max_verify_depth: pomerium(
        integer({ min: 0, max: 4_294_967_295 }).prefault(1),
        "How many certificates may be above the caller's own, including the authority's; 0: any number.",
      ),
    }),
    "Client certificates of callers. Reserved paths such as `/healthz` and sign-in answer without one, except with `reject_connection`.",
  ),
};
