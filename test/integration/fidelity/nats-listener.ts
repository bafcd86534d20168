/** NATS listener: a separate process that a test can pause. It prints one line for each observation. */
import { connect } from "@nats-io/transport-node";

const [url = "", subject = ""] = process.argv.slice(2);
const print = (line: string): void => {
  process.stdout.write(`${line}\n`);
};
const connection = await connect({
  servers: [url],
  maxReconnectAttempts: -1,
  reconnectTimeWait: 200,
  pingInterval: 2_000,
});
connection.subscribe(subject, {
  callback: (error, message) => print(error === null ? message.string().trimEnd() : `error ${error.message}`),
});
await connection.flush();
print("connected");
for await (const { type } of connection.status()) {
  if (type === "disconnect") print("disconnected");
  if (type !== "reconnect") continue;
  await connection.flush();
  print("connected");
}
