/** Node opener: opens envelopes that nodes and regional brokers signed, under the root of their role. Pure. */
import {
  createEnvelopeOpener,
  enrolmentRoot,
  type Opened,
  type RefusedMessage,
  type Role,
} from "../../replication/wire/index.ts";

/** @param secrets the shared secret, then the previous one while it is being replaced */
export function nodeOpener(
  cluster: string,
  secrets: readonly Uint8Array[],
): (bytes: Uint8Array) => Opened | RefusedMessage {
  const openers = secrets.map((secret) => {
    const roots = new Map<Role, ReturnType<typeof enrolmentRoot>["publicKey"]>();
    for (const role of ["proxy", "authorize", "broker"] as const)
      roots.set(role, enrolmentRoot(secret, role).publicKey);
    return createEnvelopeOpener({ cluster, rootOf: (role) => roots.get(role) });
  });
  return (bytes) => {
    const answers = openers.map((open) => open(bytes));
    return answers.find((answer) => !("refused" in answer)) ?? answers[0] ?? { refused: "no secret to check it with" };
  };
}
