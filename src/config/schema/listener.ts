/** Schema of the keys of listeners, beside their address and certificates. */
import { z } from "zod";
import { hostPortOrOff, url } from "../values/network-values.ts";
import { subjectNamePatterns } from "../values/tls-values.ts";
import { booleanValue, enumValue, filePath, integer, secretString, stringValue } from "../values/value-type.ts";
import { pomerium } from "./keys.ts";

export const autocertKeys = {
  autocert: pomerium(
    booleanValue().prefault(false),
    "Get certificates from an ACME authority for every host of a route and of the authenticate service that no certificate above is for; its terms of service are agreed to. Wildcards cannot be had this way.",
  ),
  autocert_ca: pomerium(url({ schemes: ["https"] }).optional(), "The authority's directory. Absent: Let's Encrypt's."),
  autocert_email: pomerium(stringValue().optional(), "Whom the authority tells of problems."),
  autocert_use_staging: pomerium(
    booleanValue().prefault(false),
    "Let's Encrypt's authority for trying things out, which browsers do not trust; `autocert_ca` goes before it.",
  ),
  autocert_must_staple: pomerium(
    booleanValue().prefault(false),
    "Not supported: true is an error. Certificates that demand an OCSP answer are no longer issued by Let's Encrypt.",
  ),
  autocert_eab_key_id: pomerium(
    stringValue().optional(),
    "The key id of an account at the authority (external account binding).",
  ),
  autocert_eab_mac_key: pomerium(secretString().optional(), "The key that belongs to it, in base64url.", {
    secret: "autocert.eab.macKey",
  }),
  autocert_dir: pomerium(
    filePath().optional(),
    "The folder for certificates, keys and the account, readable by its owner alone; laid out as Pomerium's. Absent: `autocert` in the data folder.",
  ),
  autocert_trusted_ca: pomerium(
    stringValue().optional(),
    "Certificates (PEM, or base64 of it) that the authority's own server is verified by, beside the system's.",
  ),
  autocert_trusted_ca_file: pomerium(filePath().optional(), "The same, from a file."),
};

export const listenerKeys = {
  codec_type: pomerium(
    enumValue(["auto", "http1", "http2", "http3"], { "": "auto" }).prefault("auto"),
    "Which HTTP callers may speak: `auto` takes HTTP/2 and HTTP/1.1, `http1` and `http2` only that one. `http3` counts as `auto`: HTTP/3 is not served.",
    { reload: "restart" },
  ),
  http_redirect_addr: pomerium(
    hostPortOrOff().prefault("off"),
    "Where plain HTTP is answered with a redirect to https, and the questions of an ACME authority (HTTP-01) with their answers, such as `:80`.",
    { reload: "restart", configPaths: ["httpRedirectAddress"] },
  ),
  use_proxy_protocol: pomerium(
    booleanValue().prefault(false),
    "A load balancer in front says who its callers are in the PROXY protocol, version 1 or 2, on every connection; one without it is closed. Let nobody but the balancer reach the listener: it is believed.",
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
        "Lists of revoked certificates: PEM, or base64 of it. The list of a certificate's own issuer counts; without one nothing of that issuer is revoked.",
      ),
      crl_file: pomerium(filePath().optional(), "The same, from a file."),
      enforcement: pomerium(
        enumValue(["policy_with_default_deny", "policy", "reject_connection"], {
          "": "policy_with_default_deny",
        }).prefault("policy_with_default_deny"),
        "`policy_with_default_deny`: every route refuses callers without a valid certificate (495). `policy`: only routes whose policy asks for it do. `reject_connection`: nobody without one gets as far as a request.",
      ),
      match_subject_alt_names: pomerium(
        subjectNamePatterns().prefault([]),
        "A certificate must have one of these names: `dns`, `email`, `ip_address`, `uri` or `user_principal_name` with an expression that matches the whole name.",
      ),
      max_verify_depth: pomerium(
        integer({ min: 0, max: 4_294_967_295 }).prefault(1),
        "How many certificates may stand above the caller's own, the authority's included; 0: any number.",
      ),
    }),
    "Client certificates of callers. Reserved paths such as `/healthz` and sign-in answer without one, but for `reject_connection`.",
  ),
};
