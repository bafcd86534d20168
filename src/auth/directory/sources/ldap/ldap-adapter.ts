/** LDAP adapter: `provider: ldap`, an LDAP server or Active Directory (docs/directories-ldap.md). */
import { X509Certificate } from "node:crypto";
import { createSecureContext, getCACertificates, type SecureContext } from "node:tls";
import type { Filter } from "ldapts";
import * as z from "zod";
import { createLocalLookup } from "../../../authenticate/provider/local-fetch.ts";
import { defineAdapter, text } from "../../adapter-contract.ts";
import { LdapConnection, type LdapServer } from "./ldap-connection.ts";
import { ldapCodec } from "./ldap-modules.ts";
import { createLdapSource } from "./ldap-source.ts";

const attribute = (): z.ZodString =>
  z.string().regex(/^[A-Za-z][A-Za-z0-9-]{0,63}$/, "is not the name of an attribute");

const filter = z
  .string()
  .max(4_096)
  .transform((written, context): Filter => {
    try {
      // The parser accepts a filter whose last parentheses are missing.
      if (isBalanced(written)) return ldapCodec().FilterParser.parseString(written);
    } catch {
      // The parser's message would quote the filter.
    }
    context.addIssue({ code: "custom", message: "is not an LDAP filter (RFC 4515)" });
    return z.NEVER;
  });

/** Parentheses inside a value are escaped, so every one counts. */
function isBalanced(written: string): boolean {
  let depth = 0;
  for (const char of written) {
    if (char === "(") depth += 1;
    if (char === ")") depth -= 1;
    if (depth < 0) return false;
  }
  return depth === 0 && written.startsWith("(");
}

const isLoopback = (host: string): boolean => /^(localhost|.*\.localhost|127(\.\d+){3}|\[::1\])$/.test(host);

const serverUrl = z
  .string()
  .refine(
    (value) => URL.canParse(value) && /^ldaps?:$/.test(new URL(value).protocol),
    "must begin with ldaps:// or ldap://",
  )
  .transform((value) => new URL(value))
  .refine(({ hostname }) => hostname !== "", "names no host")
  .refine(({ username, password }) => username === "" && password === "", "must not contain a name or password")
  .refine(({ pathname, search }) => pathname.replace("/", "") === "" && search === "", "must be a host and port alone");

const authorities = z.string().transform((pem, context): SecureContext => {
  try {
    const found = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
    // Node ignores what it cannot read.
    if (found.map((each) => new X509Certificate(each)).length > 0)
      return createSecureContext({ ca: [...getCACertificates(), ...found], minVersion: "TLSv1.2" });
  } catch {
    // Reported below, like a text without any certificate.
  }
  context.addIssue({ code: "custom", message: "is not a list of PEM certificates" });
  return z.NEVER;
});

const settings = z
  .strictObject({
    kind: z.enum(["active_directory", "openldap"]),
    url: serverUrl,
    /** Encrypt the connection of an ldap:// URL with StartTLS. */
    start_tls: z.boolean().default(true),
    /** PEM of authorities that are trusted besides those of the system. */
    certificate_authority: authorities.optional(),
    bind_dn: text(),
    bind_password: z.string().min(1).max(1_024),
    people_base: text(),
    people_filter: filter.optional(),
    groups_base: text().optional(),
    groups_filter: filter.optional(),
    id_attribute: attribute().optional(),
    user_name_attribute: attribute().optional(),
    email_attribute: attribute().default("mail"),
    name_attribute: attribute().optional(),
    group_id_attribute: attribute().optional(),
    group_name_attribute: attribute().default("cn"),
    member_attribute: attribute().default("member"),
    page_size: z.number().int().min(10).max(1_000).default(500),
  })
  .superRefine(({ url, start_tls }, context) => {
    if (url.protocol === "ldap:" && !start_tls && !isLoopback(url.hostname))
      context.addIssue({
        code: "custom",
        path: ["start_tls"],
        message: "must stay true: without TLS the network in between reads the password and people's data",
      });
  });

const defaults = {
  active_directory: {
    people: "(&(objectCategory=person)(objectClass=user))",
    groups: "(objectClass=group)",
    id: "objectGUID",
    userName: "userPrincipalName",
    name: "displayName",
  },
  openldap: {
    people: "(objectClass=inetOrgPerson)",
    groups: "(|(objectClass=groupOfNames)(objectClass=groupOfUniqueNames)(objectClass=posixGroup))",
    id: "entryUUID",
    userName: "uid",
    name: "cn",
  },
} as const;

const timeoutMs = 60_000;

export const ldapAdapter = defineAdapter({
  provider: "ldap",
  settings,
  secrets: ["bind_password", "certificate_authority"],
  open(written) {
    const { url, kind } = written;
    const usual = defaults[kind];
    const parse = (text: string): Filter => ldapCodec().FilterParser.parseString(text);
    const isLdaps = url.protocol === "ldaps:";
    const server: LdapServer = {
      host: url.hostname.replace(/^\[|\]$/g, ""),
      port: url.port === "" ? (isLdaps ? 636 : 389) : Number(url.port),
      encryption: isLdaps ? "ldaps" : written.start_tls ? "start_tls" : "none",
      trust: written.certificate_authority ?? null,
      lookup: createLocalLookup({}),
      timeoutMs,
    };
    return createLdapSource({
      async connect(signal) {
        const connection = await LdapConnection.open(server, signal);
        try {
          await connection.bind(written.bind_dn, written.bind_password, signal);
          return connection;
        } catch (error) {
          connection.close();
          throw error;
        }
      },
      pageSize: written.page_size,
      schema: {
        isActiveDirectory: kind === "active_directory",
        people: {
          base: written.people_base,
          filter: written.people_filter ?? parse(usual.people),
          id: written.id_attribute ?? usual.id,
          userName: written.user_name_attribute ?? usual.userName,
          email: written.email_attribute,
          name: written.name_attribute ?? usual.name,
        },
        groups: {
          base: written.groups_base ?? written.people_base,
          filter: written.groups_filter ?? parse(usual.groups),
          id: written.group_id_attribute ?? usual.id,
          name: written.group_name_attribute,
          member: written.member_attribute,
        },
      },
    });
  },
});
