/** kubectl: finds the binary on this machine, and gives it an isolated environment. */
import { existsSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";

/** @returns the path of kubectl: CARDEA_KUBECTL, or the first one found */
export function findKubectl(): string | undefined {
  const chosen = process.env["CARDEA_KUBECTL"];
  if (chosen !== undefined) return chosen;
  const folders = (process.env["PATH"] ?? "").split(delimiter);
  return folders.map((folder) => join(folder, "kubectl")).find((path) => existsSync(path));
}

/** Writes a kubeconfig. @returns the environment with which kubectl uses only this file, and nothing of the user's */
export function kubectlEnvironment(
  folder: string,
  to: Readonly<{ server: string; certificateAuthority: string; user: object }>,
): Record<string, string> {
  const file = join(folder, "kubeconfig.json");
  const authority = Buffer.from(to.certificateAuthority).toString("base64");
  const config = {
    ...{ apiVersion: "v1", kind: "Config", "current-context": "it" },
    clusters: [{ name: "it", cluster: { server: to.server, "certificate-authority-data": authority } }],
    users: [{ name: "me", user: to.user }],
    contexts: [{ name: "it", context: { cluster: "it", user: "me", namespace: "default" } }],
  };
  writeFileSync(file, JSON.stringify(config), { mode: 0o600 });
  return { PATH: process.env["PATH"] ?? "", HOME: folder, KUBECONFIG: file, KUBECACHEDIR: join(folder, "cache") };
}
