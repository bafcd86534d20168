/** Directory adapters: every source of people and groups that `directories` can name, by `provider`. */
import type { DirectoryAdapter } from "./adapter-contract.ts";
import { entraAdapter } from "./sources/entra/entra-adapter.ts";
import { fileAdapter } from "./sources/file/file-adapter.ts";
import { githubAdapter } from "./sources/github/github-adapter.ts";
import { gitlabAdapter } from "./sources/gitlab/gitlab-adapter.ts";
import { googleAdapter } from "./sources/google/google-adapter.ts";
import { ldapAdapter } from "./sources/ldap/ldap-adapter.ts";
import { oktaAdapter } from "./sources/okta/okta-adapter.ts";

export const directoryAdapters: readonly DirectoryAdapter[] = [
  entraAdapter,
  fileAdapter,
  githubAdapter,
  gitlabAdapter,
  googleAdapter,
  ldapAdapter,
  oktaAdapter,
];

export function findAdapter(provider: string): DirectoryAdapter | undefined {
  return directoryAdapters.find((adapter) => adapter.provider === provider);
}
