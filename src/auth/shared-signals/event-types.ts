/**
 * Event types of Shared Signals: the short name of each, as the configuration, the log and the metrics use it, and its
 * URI on the wire (OpenID SSF 1.0 §8.1, CAEP 1.0, RISC 1.0). Pure.
 */

const ssf = "https://schemas.openid.net/secevent/ssf/event-type/";
const caep = "https://schemas.openid.net/secevent/caep/event-type/";
const risc = "https://schemas.openid.net/secevent/risc/event-type/";

/** Events about the stream itself. */
export const streamEventNames = ["verification", "stream-updated"] as const;
export const caepEventNames = [
  "session-revoked",
  "token-claims-change",
  "credential-change",
  "assurance-level-change",
  "device-compliance-change",
  "session-established",
  "session-presented",
  "risk-level-change",
] as const;
export const riscEventNames = [
  "account-credential-change-required",
  "account-purged",
  "account-disabled",
  "account-enabled",
  "identifier-changed",
  "identifier-recycled",
  "credential-compromise",
  "opt-in",
  "opt-out-initiated",
  "opt-out-cancelled",
  "opt-out-effective",
  "recovery-activated",
  "recovery-information-changed",
  "sessions-revoked",
] as const;

export type StreamEventName = (typeof streamEventNames)[number];
/** An event about a person, a session or a device. */
export type SignalName = (typeof caepEventNames)[number] | (typeof riscEventNames)[number];
export type SignalEventName = StreamEventName | SignalName;

export const signalNames: readonly SignalName[] = [...caepEventNames, ...riscEventNames];

const uris = new Map<SignalEventName, string>([
  ...streamEventNames.map((name) => [name, ssf + name] as const),
  ...caepEventNames.map((name) => [name, caep + name] as const),
  ...riscEventNames.map((name) => [name, risc + name] as const),
]);
const names = new Map([...uris].map(([name, uri]) => [uri, name] as const));

export function eventUriOf(name: SignalEventName): string {
  const uri = uris.get(name);
  if (uri === undefined) throw new TypeError(`an event without a URI: ${name}`);
  return uri;
}

/** Undefined: this build does not know the event. */
export const eventNameOf = (uri: string): SignalEventName | undefined => names.get(uri);

export const isStreamEvent = (name: SignalEventName): name is StreamEventName =>
  streamEventNames.some((each) => each === name);
