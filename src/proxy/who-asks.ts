/**
 * Who asks: whose credential a request carries and what is known of them now; the same for what we forward and for what others do.
 *
 * Pure but for what it is given. Always: a credential counts only on the host that it was made for; a state of ours that is behind
 * is `behind` and never nobody; whoever was revoked by an event that cannot be read is nobody. It waits only where it must: for a token
 * not seen before, and for a link that is not applied yet.
 */
import { type Caller, type Credential, type Handle, handleFits } from "../auth/index.ts";
import { sessionStream, unreachable, userStream } from "../events/index.ts";
import type { ProxyPorts } from "./ports.ts";

/** Who asks, before it is looked up: the handle that a credential carried, and where it stood. */
export type Holder = Readonly<{
  handle: Handle | undefined;
  credentialInHeader: boolean;
}>;
/** `behind`: our projection has not reached what the credential needs, and no broker could help. */
export type Asking = Holder | "behind";
export const nobody: Holder = { handle: undefined, credentialInHeader: false };

/** Handles whose link was reached once. Forgotten when the projection is rebuilt: the link may be of a lost suffix. */
export class ReachedHandles {
  #handles = new WeakSet<Handle>();

  has(handle: Handle): boolean {
    return this.#handles.has(handle);
  }
  add(handle: Handle): void {
    this.#handles.add(handle);
  }
  forget(): void {
    this.#handles = new WeakSet();
  }
}

export type WhoAsks = Readonly<{
  /**
   * Of whoever holds a credential; undefined: there is none.
   * @param hostname where it was shown, as sign-in knows it
   */
  holderOf(credential: Credential | undefined, hostname: string): Asking | Promise<Asking>;
  /** As the projection is now. */
  callerOf(holder: Holder): Caller;
}>;

export function createWhoAsks(
  ports: Pick<ProxyPorts, "config" | "credentials" | "catchUp" | "resolveCaller" | "idpId" | "replica">,
  reached: ReachedHandles,
): WhoAsks {
  const { config, replica } = ports;

  function holderOf(credential: Credential | undefined, hostname: string): Asking | Promise<Asking> {
    if (credential === undefined) return nobody;
    const verified = ports.credentials.verify(credential.token);
    if (!(verified instanceof Promise)) return holderBy(verified, credential, hostname);
    return verified.then((handle) => holderBy(handle, credential, hostname));
  }

  function holderBy(handle: Handle | "invalid", credential: Credential, hostname: string): Asking | Promise<Asking> {
    const credentialInHeader = credential.source !== "cookie";
    const stranger: Holder = { handle: undefined, credentialInHeader };
    if (handle === "invalid" || !handleFits(handle, hostname, config.cookie.domain)) return stranger;
    const holder: Holder = { handle, credentialInHeader };
    if (handle.needs === null || reached.has(handle)) return holder;
    return ports.catchUp(handle.needs).then((outcome) => {
      switch (outcome) {
        case "reached":
          reached.add(handle);
          return holder;
        case "lost": // the session was never written: whoever holds it signs in again
          return stranger;
        case "behind":
          return "behind";
        default:
          return unreachable(outcome);
      }
    });
  }

  function callerOf({ handle, credentialInHeader }: Holder): Caller {
    const caller = ports.resolveCaller(handle, { idpId: ports.idpId, credentialInHeader });
    if (caller.type !== "principal") return caller;
    const { session, userId } = caller.principal;
    const denied =
      replica.stickilyDenied(sessionStream(session.sessionId)) || replica.stickilyDenied(userStream(userId));
    return denied ? { type: "anonymous", why: "session-revoked", credentialInHeader } : caller;
  }

  return { holderOf, callerOf };
}
