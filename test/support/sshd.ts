/** sshd: finds the server that a test starts on its own port, with its own keys. */
import { existsSync } from "node:fs";

/** @returns the path of sshd; undefined if any OpenSSH program that the test needs is missing */
export function findSshd(): string | undefined {
  const needed = ["/usr/sbin/sshd", "/usr/bin/ssh", "/usr/bin/ssh-keygen"];
  return needed.every((path) => existsSync(path)) ? needed[0] : undefined;
}
