/**
 * LDAP connection: one authenticated, encrypted connection to an LDAP server, for reading.
 *
 * - The messages are those of `ldapts`; its client is not used. That client reconnects without a word, unencrypted and
 *   anonymous after StartTLS, and ends a search at an empty page, which Active Directory sends in the middle of one.
 *   Either would look like people who have left.
 * - A connection that ends is never replaced: the request fails, and so does the run.
 * - Bytes that arrive before the TLS handshake of StartTLS are refused, not kept.
 * - One request is in flight at a time. Each has a deadline for its whole response.
 */
import { connect as connectTcp, isIP, type LookupFunction, type Socket } from "node:net";
import { connect as connectTls, type SecureContext } from "node:tls";
import type { Filter, Message, MessageResponse, SearchEntry } from "ldapts";
import { DirectoryError, type DirectoryErrorKind } from "../../directory-error.ts";
import type { LdapEntry } from "./ldap-entry.ts";
import { LdapFrames } from "./ldap-frames.ts";
import { ldapCodec } from "./ldap-modules.ts";

export type LdapServer = Readonly<{
  host: string;
  port: number;
  /** `ldaps`: TLS from the first byte. `start_tls`: TLS by an extended operation. `none`: loopback only. */
  encryption: "ldaps" | "start_tls" | "none";
  /** Null: the authorities of the system. */
  trust: SecureContext | null;
  lookup: LookupFunction;
  timeoutMs: number;
}>;

export type LdapSearch = Readonly<{
  base: string;
  scope: "base" | "one" | "sub";
  filter: Filter;
  attributes: readonly string[];
  /** Entries per page. Null: without paging, for a search that finds one entry. */
  pageSize: number | null;
  /** From the page before; empty: the first page. */
  cookie: Buffer;
}>;

/** The server refused a request. */
export class LdapResultError extends DirectoryError {
  /** RFC 4511 §4.1.9. */
  readonly status: number;
  constructor(operation: string, status: number) {
    const name = resultNames.get(status) ?? "result";
    super(`the LDAP server refused ${operation}: ${name} (${status})`, {
      kind: resultKinds.get(status) ?? "malformed",
    });
    this.status = status;
  }
}

const resultKinds: ReadonlyMap<number, DirectoryErrorKind> = new Map([
  [8, "forbidden"],
  [13, "forbidden"],
  [48, "unauthorized"],
  [49, "unauthorized"],
  [50, "forbidden"],
  [51, "unreachable"],
  [52, "unreachable"],
]);

const resultNames: ReadonlyMap<number, string> = new Map([
  [3, "time limit exceeded"],
  [4, "size limit exceeded"],
  [8, "stronger authentication required"],
  [10, "referral"],
  [11, "administrative limit exceeded"],
  [12, "unavailable critical extension"],
  [13, "confidentiality required"],
  [32, "no such object"],
  [34, "invalid DN"],
  [49, "invalid credentials"],
  [50, "insufficient access rights"],
  [51, "busy"],
  [52, "unavailable"],
  [53, "unwilling to perform"],
]);

const startTlsOid = "1.3.6.1.4.1.1466.20037";

type Codec = typeof import("ldapts");
type Pending = Readonly<{
  id: number;
  request: Message;
  onEntry: (entry: SearchEntry) => void;
  resolve: (answer: MessageResponse) => void;
  reject: (error: Error) => void;
}>;

export class LdapConnection {
  readonly #codec: Codec;
  readonly #server: LdapServer;
  readonly #parser: InstanceType<Codec["MessageParser"]>;
  #socket: Socket;
  #frames = new LdapFrames();
  #pending: Pending | undefined;
  #lastId = 0;
  #failure: Error | undefined;
  readonly #onData = (chunk: Buffer): void => this.#read(chunk);

  private constructor(codec: Codec, socket: Socket, server: LdapServer) {
    this.#codec = codec;
    this.#server = server;
    this.#socket = socket;
    this.#parser = new codec.MessageParser();
    this.#parser.on("message", (message) => this.#receive(message));
    // The decoder also passes on what a listener throws.
    this.#parser.on("error", (error) =>
      this.#fail(
        error instanceof DirectoryError
          ? error
          : malformed("the server sent a message that cannot be decoded", { cause: error }),
      ),
    );
    this.#listen(socket);
  }

  /**
   * @throws DirectoryError
   */
  static async open(server: LdapServer, signal: AbortSignal): Promise<LdapConnection> {
    const codec = ldapCodec();
    const socket = await connectSocket(server, signal);
    const connection = new LdapConnection(codec, socket, server);
    if (server.encryption !== "start_tls") return connection;
    try {
      await connection.#startTls(signal);
      return connection;
    } catch (error) {
      connection.close();
      throw error;
    }
  }

  /** A simple bind. @throws LdapResultError with status 49 if the name or password is wrong */
  async bind(dn: string, password: string, signal: AbortSignal): Promise<void> {
    // An empty password is an unauthenticated bind (RFC 4513 §5.1.2), which many servers accept as anonymous.
    if (dn === "" || password === "") throw unreachable("the bind needs a DN and a password");
    const id = this.#nextId();
    const answer = await this.#ask(new this.#codec.BindRequest({ messageId: id, dn, password }), { signal });
    if (!(answer instanceof this.#codec.BindResponse)) throw malformed("the server did not answer the bind");
    if (answer.status !== 0) throw new LdapResultError("the bind", answer.status);
  }

  /**
   * Reads one page.
   * @returns the cookie of the next page; empty: this was the last one
   */
  async searchPage(search: LdapSearch, onEntry: (entry: LdapEntry) => void, signal: AbortSignal): Promise<Buffer> {
    const { PagedResultsControl, SearchRequest, SearchResponse } = this.#codec;
    const { pageSize, cookie, base, scope, filter } = search;
    const controls =
      pageSize === null ? [] : [new PagedResultsControl({ critical: true, value: { size: pageSize, cookie } })];
    const messageId = this.#nextId();
    const attributes = [...search.attributes];
    const timeLimit = Math.ceil(this.#server.timeoutMs / 1_000);
    const request = new SearchRequest({
      messageId,
      baseDN: base,
      scope,
      filter,
      attributes,
      controls,
      timeLimit,
      sizeLimit: 0,
    });
    let entries = 0;
    const answer = await this.#ask(request, {
      signal,
      onEntry: (entry) => {
        entries += 1;
        if (pageSize !== null && entries > pageSize)
          throw malformed(`the server sent more entries than the page of ${pageSize} that was asked for`);
        onEntry(entryOf(entry));
      },
    });
    if (!(answer instanceof SearchResponse)) throw malformed("the server did not answer the search");
    if (answer.status !== 0) throw new LdapResultError(`the search below ${JSON.stringify(base)}`, answer.status);
    if (pageSize === null) return noCookie;
    const paged = (answer.controls ?? []).find((control) => control instanceof PagedResultsControl);
    if (paged === undefined) throw malformed("the server does not page its results");
    return paged.value?.cookie ?? noCookie;
  }

  close(): void {
    this.#failure ??= unreachable("the connection is closed");
    if (!this.#socket.destroyed && this.#pending === undefined)
      this.#socket.end(new this.#codec.UnbindRequest({ messageId: this.#nextId() }).write());
    this.#socket.destroySoon();
  }

  async #startTls(signal: AbortSignal): Promise<void> {
    const { ExtendedRequest, ExtendedResponse } = this.#codec;
    const answer = await this.#ask(new ExtendedRequest({ messageId: this.#nextId(), oid: startTlsOid }), { signal });
    if (!(answer instanceof ExtendedResponse)) throw malformed("the server did not answer StartTLS");
    if (answer.status !== 0) throw new LdapResultError("StartTLS", answer.status);
    const plain = this.#socket;
    plain.off("data", this.#onData);
    if (this.#frames.pendingBytes > 0) throw malformed("bytes arrived between StartTLS and the TLS handshake");
    plain.removeAllListeners("close");
    plain.removeAllListeners("error");
    this.#socket = await encryptSocket(this.#server, plain, signal);
    this.#listen(this.#socket);
  }

  #listen(socket: Socket): void {
    socket.on("data", this.#onData);
    socket.on("error", (error) => this.#fail(connectionError(this.#server, error)));
    socket.on("close", () => this.#fail(unreachable("the server closed the connection")));
  }

  #nextId(): number {
    this.#lastId += 1;
    return this.#lastId;
  }

  #ask(
    request: Message,
    options: Readonly<{ signal: AbortSignal; onEntry?: (entry: SearchEntry) => void }>,
  ): Promise<MessageResponse> {
    const { signal } = options;
    return new Promise((resolve, reject) => {
      if (this.#failure !== undefined) return reject(this.#failure);
      if (this.#pending !== undefined) return reject(unreachable("a request is already in flight"));
      const onAbort = (): void => this.#fail(unreachable("the request was cancelled", { cause: signal.reason }));
      if (signal.aborted) return onAbort();
      const { timeoutMs } = this.#server;
      const timer = setTimeout(
        () => this.#fail(unreachable(`the server did not answer within ${timeoutMs} ms`)),
        timeoutMs,
      );
      signal.addEventListener("abort", onAbort, { once: true });
      const settle = (): void => {
        clearTimeout(timer);
        signal.removeEventListener("abort", onAbort);
        this.#pending = undefined;
      };
      this.#pending = {
        id: request.messageId,
        request,
        onEntry: options.onEntry ?? refuseEntry,
        resolve: (answer) => {
          settle();
          resolve(answer);
        },
        reject: (error) => {
          settle();
          reject(error);
        },
      };
      this.#socket.write(request.write());
    });
  }

  #read(chunk: Buffer): void {
    try {
      for (const message of this.#frames.push(chunk)) {
        if (this.#failure !== undefined) return;
        const pending = this.#pending;
        if (pending === undefined) throw malformed("the server sent a message that was not asked for");
        this.#parser.read(message, new Map([[String(pending.id), { message: pending.request }]]));
      }
    } catch (error) {
      this.#fail(error instanceof Error ? error : malformed("a message could not be read", { cause: error }));
    }
  }

  #receive(message: MessageResponse): void {
    const pending = this.#pending;
    if (pending === undefined || message.messageId !== pending.id)
      // Message id 0 is a notice of disconnection (RFC 4511 §4.4.1).
      throw malformed(
        message.messageId === 0 ? "the server ends the connection" : "the server answered another request",
      );
    if (message instanceof this.#codec.SearchEntry) pending.onEntry(message);
    // References to other servers are not followed: the credentials are for this one.
    else if (!(message instanceof this.#codec.SearchReference)) pending.resolve(message);
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    this.#pending?.reject(this.#failure);
    this.#socket.destroy();
  }
}

const noCookie = Buffer.alloc(0);

function refuseEntry(): void {
  throw malformed("the server sent an entry that was not asked for");
}

function entryOf({ name, attributes }: SearchEntry): LdapEntry {
  const values = new Map<string, readonly Buffer[]>();
  for (const attribute of attributes) values.set(attribute.type.toLowerCase(), attribute.parsedBuffers);
  return { dn: name, attributes: values };
}

function connectSocket(server: LdapServer, signal: AbortSignal): Promise<Socket> {
  const { host, port, lookup, encryption } = server;
  const options = { host, port, lookup, noDelay: true };
  return encryption === "ldaps"
    ? connected(server, connectTls({ ...options, ...tlsOptions(server) }), "secureConnect", signal)
    : connected(server, connectTcp(options), "connect", signal);
}

function encryptSocket(server: LdapServer, socket: Socket, signal: AbortSignal): Promise<Socket> {
  return connected(server, connectTls({ socket, host: server.host, ...tlsOptions(server) }), "secureConnect", signal);
}

/** The certificate is always verified, for the host of the URL. */
function tlsOptions({ host, trust }: LdapServer): Readonly<{
  servername: string;
  minVersion: "TLSv1.2";
  secureContext?: SecureContext;
}> {
  const servername = isIP(host) === 0 ? host : "";
  return { servername, minVersion: "TLSv1.2", ...(trust !== null && { secureContext: trust }) };
}

function connected(
  server: LdapServer,
  socket: Socket,
  event: "connect" | "secureConnect",
  signal: AbortSignal,
): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const fail = (error: Error): void => {
      settle();
      socket.on("error", () => {}); // the failure is reported once
      socket.destroy();
      reject(error instanceof DirectoryError ? error : connectionError(server, error));
    };
    const onAbort = (): void => fail(unreachable("the request was cancelled", { cause: signal.reason }));
    const onClose = (): void => fail(unreachable("the server closed the connection"));
    const timer = setTimeout(
      () => fail(unreachable(`no connection to the server within ${server.timeoutMs} ms`)),
      server.timeoutMs,
    );
    function settle(): void {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
      socket.removeListener("error", fail);
      socket.removeListener("close", onClose);
    }
    socket.once("error", fail);
    socket.once("close", onClose);
    socket.once(event, () => {
      settle();
      resolve(socket);
    });
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) onAbort();
  });
}

function connectionError({ host, port }: LdapServer, cause: Error): DirectoryError {
  const code = "code" in cause && typeof cause.code === "string" ? cause.code : cause.message;
  return unreachable(`the connection to ${host}:${port} failed: ${code}`, { cause });
}

function malformed(problem: string, options?: ErrorOptions): DirectoryError {
  return new DirectoryError(problem, { kind: "malformed", ...options });
}

function unreachable(problem: string, options?: ErrorOptions): DirectoryError {
  return new DirectoryError(problem, { kind: "unreachable", ...options });
}
