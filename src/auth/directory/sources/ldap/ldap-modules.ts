/** LDAP modules: the codec library, loaded on first use, because most processes have no LDAP directory. */
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);

export function ldapCodec(): typeof import("ldapts") {
  return require("ldapts");
}
