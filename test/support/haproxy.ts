/** HAProxy: a real server, from Debian's package, with a configuration file of the test. */
import { existsSync } from "node:fs";
import { connect } from "node:net";
import { delimiter, join } from "node:path";
import { Child } from "./child.ts";
import { waitFor } from "./wait-for.ts";

export function findHaproxy(): string | undefined {
  const folders = [...(process.env["PATH"] ?? "").split(delimiter), "/usr/sbin", "/usr/local/sbin"];
  return folders.map((folder) => join(folder, "haproxy")).find((path) => existsSync(path));
}

/**
 * @param env variables that the file refers to, besides `LISTEN`
 * @throws when HAProxy is not installed: call `findHaproxy` first
 */
export async function startHaproxy(
  configFile: string,
  { port, env, logFile }: Readonly<{ port: number; env: Readonly<Record<string, string>>; logFile: string }>,
): Promise<Child> {
  const command = findHaproxy();
  if (command === undefined) throw new Error("there is no HAProxy on this machine");
  const listen = { ...env, LISTEN: `127.0.0.1:${port}` };
  const child = await Child.start({ command, args: ["-db", "-f", configFile], logFile, env: listen });
  await waitFor("HAProxy to listen", () => {
    if (!child.running) throw new Error(child.log());
    return new Promise<boolean>((resolve) => {
      const socket = connect(port, "127.0.0.1");
      socket.once("connect", () => {
        socket.destroy();
        resolve(true);
      });
      socket.once("error", () => resolve(false));
    });
  });
  return child;
}
