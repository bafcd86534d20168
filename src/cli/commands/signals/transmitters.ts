/** `cardea signals transmitters …`: the services whose signals are obeyed here, and our streams there. */
import type { ManagedStream, TransmitterDetails, TransmitterView } from "../../../auth/index.ts";
import { withOperator } from "../../operator/operator-client.ts";
import { operatorOptions, type Parsed, parse } from "../../terminal/arguments.ts";
import { type CliCommand, UsageError } from "../../terminal/command.ts";
import { formatTable } from "../../terminal/print.ts";

const eventOptions = { ...operatorOptions, events: { type: "string" } } as const;

export const transmittersList: CliCommand = {
  name: "signals transmitters list",
  usage: "",
  summary: "list the transmitters of signals, with what they last said of their streams",
  help: `Asks no transmitter. NOT ENDED counts people whose sessions a signal denies, and that the process which answers could
not end yet; it keeps trying. Exit 1 if there are any, or if a transmitter has paused or disabled its stream.`,
  run: (args, terminal) =>
    withOperator(parse(args, operatorOptions, { min: 0, max: 0 }), terminal, async (client, parsed) => {
      const answer = (await client.get("/signals/transmitters")) as Readonly<{ transmitters: TransmitterView[] }>;
      const { transmitters } = answer;
      if (parsed.flag("json")) terminal.out(`${JSON.stringify(transmitters)}\n`);
      else if (transmitters.length === 0) terminal.out("no transmitters in signal_transmitters\n");
      else {
        const rows = transmitters.map(({ name, delivery, issuer, reported, notEnded = 0 }) => [
          ...[name, delivery, reported?.status ?? "", reported?.verifiedAt ?? "never", String(notEnded), issuer],
        ]);
        terminal.out(formatTable(["TRANSMITTER", "DELIVERY", "STREAM", "VERIFIED", "NOT ENDED", "ISSUER"], rows));
      }
      const isWell = ({ reported, notEnded = 0 }: TransmitterView): boolean =>
        notEnded === 0 && (reported?.status ?? "enabled") === "enabled";
      return transmitters.every(isWell) ? 0 : 1;
    }),
};

export const transmittersShow: CliCommand = {
  name: "signals transmitters show",
  usage: "TRANSMITTER",
  summary: "ask a transmitter for our streams there",
  help: "TRANSMITTER is a name in signal_transmitters. Shows the address to which it pushes, and each stream with its status and events.",
  run: (args, terminal) =>
    withOperator(parse(args, operatorOptions, { min: 1, max: 1 }), terminal, async (client, parsed) => {
      const details = (await client.get(pathOf(parsed))) as TransmitterDetails;
      terminal.out(parsed.flag("json") ? `${JSON.stringify(details)}\n` : describeTransmitter(details));
      return 0;
    }),
};

const onStream = (
  verb: "create" | "update",
  of: Readonly<{ path: string; summary: string; help: string; done: string }>,
): CliCommand => ({
  name: `signals transmitters ${verb}`,
  usage: "TRANSMITTER [--events session-revoked,account-disabled,…]",
  summary: of.summary,
  help: of.help,
  run: (args, terminal) =>
    withOperator(parse(args, eventOptions, { min: 1, max: 1 }), terminal, async (client, parsed) => {
      const events = parsed.text("events");
      const body = events === undefined ? {} : { events: events.split(",").map((event) => event.trim()) };
      const { stream } = (await client.post(`${pathOf(parsed)}${of.path}`, body)) as Readonly<{
        stream: ManagedStream;
      }>;
      if (parsed.flag("json")) terminal.out(`${JSON.stringify(stream)}\n`);
      else terminal.out(`${of.done} ${stream.stream_id}\n${describeStream(stream)}`);
      return 0;
    }),
});

export const transmittersCreate = onStream("create", {
  path: "/stream",
  summary: "create our stream at a transmitter",
  help: `Requests the events whose action is not record, unless --events names others. For push it gives the transmitter our address and push_token.
Check afterwards with cardea signals transmitters verify.`,
  done: "created stream",
});
export const transmittersUpdate = onStream("update", {
  path: "/stream/update",
  summary: "change the events and the address of our stream at a transmitter",
  help: "As create, for the stream that exists: after a change of actions, of push_token or of the authenticate host.",
  done: "updated stream",
});

export const transmittersDelete: CliCommand = {
  name: "signals transmitters delete",
  usage: "TRANSMITTER",
  summary: "delete our stream at a transmitter",
  help: "Events that the transmitter still has for us are lost. What it has disabled here stays disabled.",
  run: (args, terminal) =>
    withOperator(parse(args, operatorOptions, { min: 1, max: 1 }), terminal, async (client, parsed) => {
      const { streamId } = (await client.post(`${pathOf(parsed)}/stream/delete`, {})) as Readonly<{ streamId: string }>;
      terminal.out(parsed.flag("json") ? `${JSON.stringify({ streamId })}\n` : `deleted stream ${streamId}\n`);
      return 0;
    }),
};

const change = (verb: "enable" | "pause" | "disable", status: string, help: string): CliCommand => ({
  name: `signals transmitters ${verb}`,
  usage: "TRANSMITTER [--reason TEXT]",
  summary: `ask a transmitter to ${verb} our stream there`,
  help,
  run: (args, terminal) =>
    withOperator(
      parse(args, { ...operatorOptions, reason: { type: "string" } }, { min: 1, max: 1 }),
      terminal,
      async (client, parsed) => {
        const reason = parsed.text("reason");
        const body = { status, ...(reason === undefined ? {} : { reason }) };
        const answer = (await client.post(`${pathOf(parsed)}/stream/status`, body)) as Readonly<{
          status: Readonly<{ stream_id: string; status: string }>;
        }>;
        const { stream_id: id, status: now } = answer.status;
        terminal.out(parsed.flag("json") ? `${JSON.stringify(answer.status)}\n` : `stream ${id} is ${now}\n`);
        return 0;
      },
    ),
});

export const transmittersEnable = change("enable", "enabled", "The transmitter sends what it held meanwhile.");
export const transmittersPause = change("pause", "paused", "The transmitter holds events, and may drop some.");
export const transmittersDisable = change("disable", "disabled", "The transmitter holds nothing for us.");

export const transmittersVerify: CliCommand = {
  name: "signals transmitters verify",
  usage: "TRANSMITTER [--timeout 10s]",
  summary: "check that events of a transmitter arrive",
  help: "Asks for a verification event and waits until the log has it. Exit 1 if it does not arrive in time.",
  run: (args, terminal) =>
    withOperator(
      parse(args, { ...operatorOptions, timeout: { type: "string" } }, { min: 1, max: 1 }),
      terminal,
      async (client, parsed) => {
        const timeoutMs = parseSeconds(parsed.text("timeout"));
        const answer = (await client.post(
          `${pathOf(parsed)}/stream/verify`,
          { timeoutMs },
          timeoutMs + 30_000,
        )) as Readonly<{ streamId: string; verified: boolean }>;
        if (parsed.flag("json")) terminal.out(`${JSON.stringify(answer)}\n`);
        else if (answer.verified) terminal.out(`stream ${answer.streamId} is verified\n`);
        else terminal.err(`no verification event of stream ${answer.streamId} has arrived in ${timeoutMs / 1_000} s\n`);
        return answer.verified ? 0 : 1;
      },
    ),
};

const onSubject = (verb: "add-subject" | "remove-subject", change: "add" | "remove", help: string): CliCommand => ({
  name: `signals transmitters ${verb}`,
  usage: "TRANSMITTER (--email E-MAIL | --issuer URL --subject SUB | --id ID)",
  summary: `${change} a subject ${change === "add" ? "to" : "from"} our stream at a transmitter`,
  help,
  run: (args, terminal) =>
    withOperator(
      parse(
        args,
        {
          ...operatorOptions,
          email: { type: "string" },
          issuer: { type: "string" },
          subject: { type: "string" },
          id: { type: "string" },
        },
        { min: 1, max: 1 },
      ),
      terminal,
      async (client, parsed) => {
        const body = { change, subject: subjectIn(parsed) };
        const { streamId } = (await client.post(`${pathOf(parsed)}/subjects`, body)) as Readonly<{ streamId: string }>;
        terminal.out(parsed.flag("json") ? `${JSON.stringify({ streamId })}\n` : `stream ${streamId} is changed\n`);
        return 0;
      },
    ),
});

const subjectHelp = "Only for a transmitter that sends nothing, or everything, by default (default_subjects).";
export const transmittersAddSubject = onSubject("add-subject", "add", subjectHelp);
export const transmittersRemoveSubject = onSubject("remove-subject", "remove", subjectHelp);

function subjectIn(parsed: Parsed): object {
  const [email, issuer] = [parsed.text("email"), parsed.text("issuer")];
  const [subject, id] = [parsed.text("subject"), parsed.text("id")];
  if (email !== undefined && issuer === undefined && subject === undefined && id === undefined)
    return { format: "email", email };
  if (issuer !== undefined && subject !== undefined && email === undefined && id === undefined)
    return { format: "iss_sub", iss: issuer, sub: subject };
  if (id !== undefined && email === undefined && issuer === undefined && subject === undefined)
    return { format: "opaque", id };
  throw new UsageError("name the subject by --email, by --issuer and --subject, or by --id");
}

function parseSeconds(text: string | undefined): number {
  if (text === undefined) return 10_000;
  const seconds = Number(/^(\d{1,2})s$/.exec(text)?.[1] ?? 0);
  if (seconds < 1 || seconds > 60) throw new UsageError("--timeout is 1s to 60s");
  return seconds * 1_000;
}

function pathOf(parsed: Parsed): string {
  return `/signals/transmitters/${encodeURIComponent(parsed.positionals[0] ?? "")}`;
}

function describeTransmitter({ transmitter, metadata, streams }: TransmitterDetails): string {
  const lines = [
    ["issuer", transmitter.issuer],
    ["audience", transmitter.audiences.join(", ")],
    ["delivery", transmitter.delivery],
    ...(transmitter.pushUrl === null ? [] : [["pushes to", transmitter.pushUrl]]),
    ["version", metadata.spec_version ?? "not stated"],
    ["subjects", metadata.default_subjects ?? "not stated"],
    ["critical", metadata.critical_subject_members.join(", ") || "none"],
    ["verified", transmitter.reported?.verifiedAt ?? "never"],
  ];
  const none = "\nno streams; create one with cardea signals transmitters create\n";
  const shown = streams.length === 0 ? none : streams.map((stream) => `\n${describeStream(stream)}`).join("");
  return `${formatTable([transmitter.name, ""], lines)}${shown}`;
}

function describeStream(stream: ManagedStream): string {
  const { status, delivery } = stream;
  const names = stream.events_delivered.map((uri) => uri.slice(uri.lastIndexOf("/") + 1));
  return formatTable(
    ["stream", stream.stream_id],
    [
      ...(status === null
        ? []
        : [["status", [status.status, status.reason].filter((part) => part !== null).join(": ")]]),
      ["audience", stream.aud.join(", ")],
      ["delivery", [delivery.method, delivery.endpoint_url].filter((part) => part !== null).join(" ")],
      ["events", names.join(", ")],
    ],
  );
}
