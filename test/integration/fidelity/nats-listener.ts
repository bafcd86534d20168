/** NATS listener: a process of its own that a test can pause. It prints a line for each thing that it sees. */
import { connect } from "@nats-io/transport-node";

const [url = "", subject = ""] = process.argv.slice(2);
const say = (line: string): void => {
  process.stdout.write(`${line}\n`);
};
const connection = await connect({
  servers: [url],
  maxReconnectAttempts: -1,
  reconnectTimeWait: 200,
  pingInterval: 2_000,
});
connection.subscribe(subject, {
  callback: (error, message) => say(error === null ? message.string().trimEnd() : `error ${error.message}`),
});
await connection.flush();
say("connected");
for await (const { type } of connection.status()) {
  if (type === "disconnect") say("disconnected");
  if (type !== "reconnect") continue;
  await connection.flush();
  say("connected");
}
