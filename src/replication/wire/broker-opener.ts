/**
 * Broker opener: opens the envelopes of brokers, and checks that the sender leads the epoch and incarnation that the
 * message names. It refuses the envelopes of all other senders, even if their events link. Pure.
 */
import { enrolmentRoot, type Role } from "./cluster-keys.ts";
import { type Certificate, createEnvelopeOpener, type Opened, type RefusedMessage } from "./envelope.ts";
import { type Grant, parseGrant, parseGrantByAge } from "./messages.ts";

export type EnvelopeOpener = (bytes: Uint8Array) => Opened | RefusedMessage;

/** Kinds of refusal, for counting. `detail` is text for a person. */
export type Refusal = "not-authentic" | "wrong-kind" | "wrong-sender" | "malformed" | "does-not-chain";
export type RefusedEnvelope = Readonly<{ refused: Refusal; detail: string }>;

/**
 * Creates an opener for envelopes signed by the brokers of a cluster.
 * @param options.secrets the shared secret, then the previous one while it is being replaced
 */
export function createBrokerOpener(
  options: Readonly<{ cluster: string; secrets: readonly Uint8Array[] }>,
): EnvelopeOpener {
  const openers = options.secrets.map((secret) => {
    const { publicKey } = enrolmentRoot(secret, "broker");
    const rootOf = (role: Role) => (role === "broker" ? publicKey : undefined);
    return createEnvelopeOpener({ cluster: options.cluster, rootOf, certificatesMax: 256 });
  });
  return (bytes) => {
    let first: RefusedMessage | undefined;
    for (const open of openers) {
      const opened = open(bytes);
      if (!("refused" in opened)) return opened;
      first ??= opened;
    }
    return first ?? { refused: "no secret to check it with" };
  };
}

/** True when the sender leads this epoch and incarnation. */
export function isLeaderOf(from: Certificate, of: Readonly<{ epoch: number; incarnation: string }>): boolean {
  const { role, epoch, incarnation } = from;
  return role === "broker" && epoch === of.epoch && epoch > 0 && incarnation === of.incarnation && incarnation !== "";
}

export function openGrant(envelope: Uint8Array, open: EnvelopeOpener): Grant | RefusedEnvelope {
  const opened = open(envelope);
  if ("refused" in opened) return { refused: "not-authentic", detail: opened.refused };
  const { kind } = opened;
  if (kind !== "grant" && kind !== "grant-by-age") return { refused: "wrong-kind", detail: `a ${kind} is not a grant` };
  try {
    if (kind === "grant-by-age") return believeGrantByAge(opened.from, parseGrantByAge(opened.payload));
    return believeGrant(opened.from, parseGrant(opened.payload));
  } catch (error) {
    return { refused: "malformed", detail: error instanceof Error ? error.message : "not a grant" };
  }
}

/** Checks an authentic grant: its sender must lead the epoch. */
export function believeGrant(from: Certificate, grant: Grant): Grant | RefusedEnvelope {
  return isLeaderOf(from, grant) ? grant : { refused: "wrong-sender", detail: "the sender does not lead that epoch" };
}

/**
 * Checks an authentic grant by age. Any broker may give one, from a lease that it says it holds.
 */
export function believeGrantByAge(from: Certificate, grant: Grant): Grant | RefusedEnvelope {
  return from.role === "broker" && grant.ageMs !== undefined
    ? grant
    : { refused: "wrong-sender", detail: "the sender is not a broker" };
}
