/**
 * Kill at change: loaded before a command, kills its process once Postgres has carried out and answered as many
 * statements that change a server as KILL_AFTER_CHANGES says. It looks at what the process writes to its sockets.
 */
import { Socket } from "node:net";

const change = /alter system |pg_reload_conf|pg_terminate_backend|pg_promote\(/;
const isLastOf = Number(process.env["KILL_AFTER_CHANGES"]);
let changes = 0;

const write = Socket.prototype.write;
Socket.prototype.write = function (this: Socket, ...args: Parameters<typeof write>) {
  const [chunk] = args;
  const text = typeof chunk === "string" ? chunk : Buffer.from(chunk).toString("latin1");
  if (this.remotePort !== undefined && change.test(text)) {
    changes += 1;
    if (changes === isLastOf) this.once("data", () => process.kill(process.pid, "SIGKILL"));
  }
  return write.apply(this, args);
} as typeof write;
