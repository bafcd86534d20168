/**
 * Import of oidc-provider: loads it when a demo starts, and only then.
 *
 * The package writes a warning to the console when the running Node has no LTS name yet, which a release gets half a
 * year after it came out. That line alone is swallowed; it is no news, since Cardea says itself which Node it runs on.
 */
// biome-ignore-all lint/suspicious/noConsole: the console is what is kept quiet
import type * as OidcProvider from "oidc-provider";

export async function importOidcProvider(): Promise<typeof OidcProvider> {
  const warn = console.warn;
  console.warn = (...line: unknown[]) => {
    if (!String(line[0]).includes("oidc-provider WARNING: Unsupported runtime")) warn(...line);
  };
  try {
    return await import("oidc-provider");
  } finally {
    console.warn = warn;
  }
}
