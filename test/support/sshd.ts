/** sshd: the server that a test starts on a port of its own, with keys of its own. */
import { existsSync } from "node:fs";

/** @returns its path, where everything that the test needs of OpenSSH is */
export function findSshd(): string | undefined {
  const needed = ["/usr/sbin/sshd", "/usr/bin/ssh", "/usr/bin/ssh-keygen"];
  return needed.every((path) => existsSync(path)) ? needed[0] : undefined;
}
