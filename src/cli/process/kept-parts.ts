/**
 * Kept parts: whether what a process built from one configuration serves another one. Pure.
 *
 * Every key that a part reads must be compared here, or a reload that changes only that key has no effect on it.
 */
import { type Config, canonicalJson } from "../../config/index.ts";

/** Of the directories, and the duty that reads them. */
export function hasSameDirectories(a: Config, b: Config): boolean {
  const settingsOf = (config: Config) =>
    canonicalJson([config.directories, signInIssuersOf(config), config.hostAliases, config.certificateAuthority]);
  return settingsOf(a) === settingsOf(b);
}

/** Of the clients of identity providers, with their keys and failures, the refresh of sessions, and polled signals. */
export function hasSameProviders(a: Config, b: Config): boolean {
  const settingsOf = (config: Config) =>
    canonicalJson([
      config.idp,
      config.signInProviders,
      config.routes.flatMap(({ idpClient }) => idpClient ?? []),
      config.tokenIssuers,
      config.signalTransmitters,
      config.authenticateServiceUrl,
      config.hostAliases,
      config.certificateAuthority,
      config.groupsFromClaim,
      config.refreshEveryMs,
      config.refreshGraceMs,
      // A refresh gives a person what the provisioned people that correlate have.
      config.scimClients,
      config.directories.map(({ name, match, claim, signInProvider }) => ({ name, match, claim, signInProvider })),
    ]);
  return settingsOf(a) === settingsOf(b);
}

function signInIssuersOf({ idp, signInProviders }: Config): readonly unknown[] {
  return [idp?.url.href ?? null, signInProviders.map(({ name, url }) => [name, url.href])];
}
