/** `cardea signals streams list|show|pause|disable|enable`: the services that are told of our revocations. */
import type { SignalStreamView } from "../../../auth/index.ts";
import { type OperatorClient, withOperator } from "../../operator/operator-client.ts";
import { operatorOptions, parse } from "../../terminal/arguments.ts";
import { CannotError, type CliCommand } from "../../terminal/command.ts";
import { formatTable } from "../../terminal/print.ts";

export const signalStreamsList: CliCommand = {
  name: "signals streams list",
  usage: "",
  summary: "list the receivers of our signals, with what waits for each",
  help: "Exit 1 if a receiver has a gap, a failing delivery or a stream that an operator or the transmitter has stopped.",
  run: (args, terminal) =>
    withOperator(parse(args, operatorOptions, { min: 0, max: 0 }), terminal, async (client, parsed) => {
      const streams = await listStreams(client);
      if (parsed.flag("json")) terminal.out(`${JSON.stringify(streams)}\n`);
      else if (streams.length === 0) terminal.out("no receivers in signal_receivers\n");
      else terminal.out(formatTable(head, streams.map(rowOf)));
      return streams.some(needsAttention) ? 1 : 0;
    }),
};

export const signalStreamsShow: CliCommand = {
  name: "signals streams show",
  usage: "RECEIVER",
  summary: "show the stream of a receiver, with the tokens that it has refused",
  help: "RECEIVER is a name in signal_receivers.",
  run: (args, terminal) =>
    withOperator(parse(args, operatorOptions, { min: 1, max: 1 }), terminal, async (client, parsed) => {
      const name = parsed.positionals[0] ?? "";
      const stream = (await listStreams(client)).find(({ receiver }) => receiver === name);
      if (stream === undefined) throw new CannotError(`signal_receivers has no receiver ${name}`);
      terminal.out(parsed.flag("json") ? `${JSON.stringify(stream)}\n` : describeStream(stream));
      return 0;
    }),
};

const change = (
  verb: "pause" | "disable" | "enable",
  of: Readonly<{ status: SignalStreamView["status"]; summary: string; help: string }>,
): CliCommand => ({
  name: `signals streams ${verb}`,
  usage: "RECEIVER [--reason TEXT]",
  summary: of.summary,
  help: of.help,
  run: (args, terminal) =>
    withOperator(
      parse(args, { ...operatorOptions, reason: { type: "string" } }, { min: 1, max: 1 }),
      terminal,
      async (client, parsed) => {
        const name = parsed.positionals[0] ?? "";
        const reason = parsed.text("reason");
        const path = `/signals/streams/${encodeURIComponent(name)}/status`;
        const body = { status: of.status, ...(reason === undefined ? {} : { reason }) };
        const { stream } = (await client.post(path, body)) as Readonly<{ stream: SignalStreamView }>;
        terminal.out(
          parsed.flag("json") ? `${JSON.stringify(stream)}\n` : `the stream of ${name} is ${stream.status}\n`,
        );
        return 0;
      },
    ),
});

export const signalStreamsPause = change("pause", {
  status: "paused",
  summary: "stop the stream of a receiver; its signals wait in the log",
  help: "The receiver is notified first, and cannot enable the stream itself. What waits longer than the log is kept is lost; the receiver is notified.",
});
export const signalStreamsDisable = change("disable", {
  status: "disabled",
  summary: "stop the stream of a receiver; nothing is kept for it",
  help: "The receiver is notified first, and cannot enable the stream itself.",
});
export const signalStreamsEnable = change("enable", {
  status: "enabled",
  summary: "let the stream of a receiver continue",
  help: "A paused stream continues where it stopped, a disabled one at the present. The receiver is notified.",
});

const head = ["RECEIVER", "STATUS", "METHOD", "PENDING", "OLDEST", "DELIVERED", "REFUSED", "GAPS", "LAST ERROR"];

function rowOf(stream: SignalStreamView): readonly string[] {
  const { receiver, status, method, pending, more, lagSeconds, delivered, refused, gaps, failure } = stream;
  return [
    ...[receiver, status, method ?? "", `${pending}${more ? "+" : ""}`, lagSeconds === null ? "" : `${lagSeconds} s`],
    ...[String(delivered), String(refused), String(gaps), failure?.reason ?? ""],
  ];
}

function needsAttention({ status, statusBy, failure, gaps }: SignalStreamView): boolean {
  return gaps > 0 || failure !== null || ((status === "paused" || status === "disabled") && statusBy !== "receiver");
}

function describeStream(stream: SignalStreamView): string {
  const lines = [
    ["stream", stream.streamId ?? "none"],
    ["audience", stream.audience],
    [
      "status",
      `${stream.status}${stream.reason === null ? "" : ` (${stream.reason})`}, by ${stream.statusBy ?? "none"}`,
    ],
    ["delivery", [stream.method, stream.endpoint].filter((part) => part !== null).join(" ")],
    ["events", stream.events.join(", ")],
    ["pending", `${stream.pending}${stream.more ? " or more" : ""}, the oldest of ${stream.oldestAt ?? "none"}`],
    ["behind", `${stream.behind} positions of the log`],
    ["delivered", `${stream.delivered}, the last at ${stream.deliveredAt ?? "never"}`],
    ["refused", String(stream.refused)],
    ["gaps", String(stream.gaps)],
    ["last error", stream.failure === null ? "none" : `${stream.failure.reason}, at ${stream.failure.at}`],
  ];
  const letters = stream.deadLetters.map(({ jti, position, at, err, description }) => [
    ...[at, String(position), err, description, jti],
  ]);
  const refused =
    letters.length === 0
      ? ""
      : `\n${formatTable(["REFUSED AT", "POSITION", "ERROR", "DESCRIPTION", "TOKEN"], letters)}`;
  return `${formatTable([stream.receiver, ""], lines)}${refused}`;
}

async function listStreams(client: OperatorClient): Promise<readonly SignalStreamView[]> {
  const { streams } = (await client.get("/signals/streams")) as Readonly<{ streams: readonly SignalStreamView[] }>;
  return streams;
}
