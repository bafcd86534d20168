/**
 * NATS client: one process's connection to the NATS model, with the behavior of the product's client library.
 *
 * - The client holds one connection at a time and opens the next when it ends.
 * - It detects the end when the server closes the connection or when pings stay unanswered.
 * - It resends nothing that it sent before, and does not learn what it missed.
 * - It belongs to one boot of its process and ends with that boot.
 */
import { Pipe } from "./nats-pipe.ts";
import type { PubAck, PublishCondition } from "./nats-stream.ts";
import type { SimProcess } from "./process.ts";
import type { World } from "./world.ts";

/** Faults beyond the documented behavior. Except for `lateMsMax`, each is a probability from 0 to 1 per delivery. */
export type NatsDisturbances = { drop: number; repeat: number; overtake: number; lateMsMax: number };

export type NatsLimits = Readonly<{
  /** Messages that a subscriber's kernel buffers while the subscriber does not read. They survive a server failure. */
  kernelMessages: number;
  /**
   * Messages that a server buffers for a subscriber beyond that. One more, and the server disconnects the subscriber.
   */
  pendingMessagesMax: number;
  /** A server that could not write for this long disconnects the subscriber. */
  writeDeadlineMs: number;
}>;

export type NatsCounts = {
  published: number;
  delivered: number;
  lost: number;
  repeated: number;
  consumersCut: number;
  disconnects: number;
  streamLost: number;
};

export type NatsClientOptions<M> = Readonly<{
  process: SimProcess;
  onMessage: (message: M) => void;
  /** Runs after each connect and reconnect, once the server has the subscription. */
  onConnected: () => void;
  onDisconnected: () => void;
}>;

export type Replay = Readonly<{ sinceMs: number; limit: number; timeoutMs: number }>;

/** Every callback runs within the process. None runs after its boot has ended. */
export type NatsClient<M> = Readonly<{
  connected: () => boolean;
  /** At-most-once delivery without an acknowledgement. Drops the message if there is no connection. */
  publish: (message: M) => "sent" | "dropped";
  /**
   * Publishes the message to the same subject and waits for the stream's acknowledgement; `undefined`: none arrived.
   * Core subscribers receive the message whatever the acknowledgement says.
   */
  publishToStream: (message: M, condition: PublishCondition, answered: (ack: PubAck | undefined) => void) => void;
  /**
   * The messages since then in the stream copy of the server's region, oldest first; empty if the copy is unreachable.
   */
  replay: (replay: Replay, answered: (found: readonly M[]) => void) => void;
  /** Creates the stream if it does not exist. */
  ensureStream: () => void;
  close: () => void;
}>;

export type Server<M> = {
  readonly process: SimProcess;
  /** `leaf`: it forwards messages and stores none, so it does not count for the majority of the stream. */
  readonly kind: "member" | "leaf";
  /** Work that arrived while the server was paused, in order. */
  readonly kernel: (() => void)[];
  readonly clients: Set<Client<M>>;
};

/** The servers, as a client sees them. */
export type NatsServers<M> = Readonly<{
  world: World;
  limits: NatsLimits;
  disturbances: NatsDisturbances;
  counts: NatsCounts;
  candidates: (region: string) => readonly Server<M>[];
  at: (server: Server<M>, run: () => void) => void;
  spread: (server: Server<M>, message: M) => void;
  capture: (server: Server<M>, message: M, condition: PublishCondition) => PubAck | undefined;
  createStream: (server: Server<M>) => void;
  held: (server: Server<M>, since: number, limit: number) => readonly M[];
  consumerCut: (client: string, server: string) => void;
}>;

const pingMs = 2_000;
const pingsMissedMax = 2;
const reconnectMs = 500;
const answerMs = 5_000;

export class Client<M> {
  readonly #servers: NatsServers<M>;
  readonly #options: NatsClientOptions<M>;
  readonly #process: SimProcess;
  #server: Server<M> | undefined;
  #out: Pipe | undefined;
  #in: Pipe | undefined;
  #ready = false;
  #closed = false;
  /** Deliveries that arrived while the process did not read, in order. */
  #unread: (() => void)[] = [];
  #reading = true;
  /** Unread messages of this connection: the first ones fill the kernel buffer, the rest wait in the server. */
  #pending = 0;
  #stuckSince: number | undefined;
  #pingsMissed = 0;
  /** Increases with each connection; callbacks of an older connection are ignored. */
  #generation = 0;

  constructor(servers: NatsServers<M>, options: NatsClientOptions<M>) {
    this.#servers = servers;
    this.#options = options;
    this.#process = options.process;
  }

  readonly face: NatsClient<M> = {
    connected: () => this.#ready,
    publish: (message) => this.#publish(message),
    publishToStream: (message, condition, answered) =>
      this.#ask(answerMs, answered, (server) => {
        const ack = this.#servers.capture(server, message, condition);
        this.#servers.spread(server, message);
        return ack?.type === "no-stream" ? undefined : ack; // no stream exists that could answer
      }),
    replay: ({ sinceMs, limit, timeoutMs }, answered) =>
      this.#ask<readonly M[]>(
        timeoutMs,
        (found) => answered(found ?? []),
        (server) => this.#servers.held(server, this.#servers.world.now - sinceMs, limit),
      ),
    ensureStream: () => this.#atServer((server) => this.#servers.createStream(server)),
    close: () => this.#close(),
  };

  start(): void {
    this.#process.onKill(() => this.#close());
    this.#connect(this.#servers.candidates(this.#process.region), 0);
    this.#watch();
  }

  // --- from the server

  deliver(message: M): void {
    const { counts, world } = this.#servers;
    const { drop, repeat, overtake, lateMsMax } = this.#servers.disturbances;
    const random = world.random("nats");
    if (drop > 0 && random.chance(drop)) {
      counts.lost += 1;
      return;
    }
    if (repeat > 0 && random.chance(repeat)) {
      counts.repeated += 1;
      world.after(random.within(0, lateMsMax), () => this.#write(message));
    }
    if (overtake > 0 && random.chance(overtake)) world.after(random.within(0, lateMsMax), () => this.#write(message));
    else this.#write(message);
  }

  /** The server closes the connection. The process still reads what had arrived, and then the end of the stream. */
  serverClosed(): void {
    const server = this.#server;
    if (server === undefined || this.#closed) return;
    const generation = this.#generation;
    const { world, counts } = this.#servers;
    counts.lost += this.#in?.break() ?? 0;
    if (world.network.isCut(server.process, this.#process)) return; // the client's own pings detect it
    world.after(world.network.delay(server.process, this.#process), () =>
      this.#receive(() => {
        if (generation === this.#generation) this.#disconnected();
      }),
    );
  }

  #write(message: M): void {
    const pipe = this.#in;
    if (pipe === undefined || this.#closed) return;
    const { kernelMessages, pendingMessagesMax, writeDeadlineMs } = this.#servers.limits;
    const { now } = this.#servers.world;
    const stuck = this.#process.status !== "running" || pipe.heldSince !== undefined; // else merely in flight
    if (!stuck || this.#pending < kernelMessages) this.#stuckSince = undefined;
    else this.#stuckSince ??= now;
    const tooLong = this.#stuckSince !== undefined && now - this.#stuckSince > writeDeadlineMs;
    if (tooLong || (stuck && this.#pending >= kernelMessages + pendingMessagesMax)) {
      this.#cutOff();
      return;
    }
    this.#pending += 1;
    const generation = this.#generation;
    pipe.send(() =>
      this.#receive(() => {
        if (generation === this.#generation) this.#pending -= 1;
        this.#servers.counts.delivered += 1;
        this.#options.onMessage(message);
      }),
    );
  }

  /** Disconnects a slow consumer: the server drops everything buffered for it and notifies no other client. */
  #cutOff(): void {
    const { counts, limits } = this.#servers;
    counts.consumersCut += 1;
    const kept = Math.min(this.#unread.length, limits.kernelMessages);
    counts.lost += this.#unread.length - kept;
    this.#unread.length = kept;
    this.#servers.consumerCut(this.#process.name, this.#server?.process.name ?? "nats");
    this.#server?.clients.delete(this);
    this.serverClosed();
  }

  /** Runs the callback in the process, after everything that the process has not read yet. */
  #receive(run: () => void): void {
    if (this.#closed) return;
    if (this.#process.status === "running" && this.#reading) {
      run();
      return;
    }
    this.#unread.push(run);
    if (!this.#reading) return;
    this.#reading = false;
    this.#process.run(() => this.#readOn());
  }

  #readOn(): void {
    while (!this.#closed && this.#process.status === "running") {
      const next = this.#unread.shift();
      if (next === undefined) break;
      next();
    }
    this.#reading = true;
    if (this.#unread.length > 0 && !this.#closed) this.#receive(() => {}); // the process was paused again meanwhile
  }

  // --- to the server

  #publish(message: M): "sent" | "dropped" {
    const sent = this.#atServer((server) => {
      this.#servers.capture(server, message, {});
      this.#servers.spread(server, message);
    });
    if (sent) this.#servers.counts.published += 1;
    return sent ? "sent" : "dropped";
  }

  #atServer(run: (server: Server<M>) => void): boolean {
    const [server, out] = [this.#server, this.#out];
    if (server === undefined || out === undefined || !this.#ready || this.#closed) return false;
    out.send(() => this.#servers.at(server, () => run(server)));
    return true;
  }

  #ask<T>(
    timeoutMs: number,
    answered: (answer: T | undefined) => void,
    at: (server: Server<M>) => T | undefined,
  ): void {
    let open = true;
    const answer = (value: T | undefined): void => {
      if (!open || this.#closed) return;
      open = false;
      timer.cancel();
      answered(value);
    };
    const timer = this.#process.after(timeoutMs, () => answer(undefined));
    const back = this.#in;
    this.#atServer((server) => {
      const value = at(server);
      if (value !== undefined) back?.send(() => this.#receive(() => answer(value)));
    });
  }

  // --- connecting

  #connect(servers: readonly Server<M>[], index: number): void {
    const server = servers[index];
    if (this.#closed || server === undefined) return;
    const { world } = this.#servers;
    this.#answers(server, (answers) => {
      if (!answers) {
        this.#process.after(world.random("nats").within(reconnectMs, 2 * reconnectMs), () => {
          const more = index + 1 < servers.length;
          if (more) this.#connect(servers, index + 1);
          else this.#connect(this.#servers.candidates(this.#process.region), 0);
        });
      } else this.#connected(server);
    });
  }

  /** One round trip to the server. `tell(false)` if a cut or the state of the server prevents an answer. */
  #answers(server: Server<M>, tell: (answers: boolean) => void): void {
    const { world } = this.#servers;
    const { network } = world;
    const roundMs = network.delay(this.#process, server.process) + network.delay(server.process, this.#process);
    this.#process.after(roundMs, () => {
      if (this.#closed) return;
      const passes = !network.isCut(this.#process, server.process) && !network.isCut(server.process, this.#process);
      tell(passes && server.process.status === "running");
    });
  }

  #connected(server: Server<M>): void {
    const { world } = this.#servers;
    this.#generation += 1;
    const generation = this.#generation;
    const back = new Pipe(world, server.process, this.#process);
    this.#server = server;
    this.#out = new Pipe(world, this.#process, server.process);
    this.#in = back;
    this.#pending = 0;
    this.#stuckSince = undefined;
    this.#pingsMissed = 0;
    // Sends the subscription and then a ping: the client is connected once the ping is answered.
    this.#out.send(() =>
      this.#servers.at(server, () => {
        if (generation !== this.#generation || this.#closed) return;
        server.clients.add(this);
        back.send(() =>
          this.#receive(() => {
            if (generation !== this.#generation) return;
            this.#ready = true;
            this.#options.onConnected();
          }),
        );
      }),
    );
  }

  #disconnected(): void {
    if (this.#server === undefined) return;
    this.#servers.counts.disconnects += 1;
    const wasReady = this.#ready;
    this.#leave();
    if (wasReady) this.#options.onDisconnected();
    const wait = this.#servers.world.random("nats").within(0, reconnectMs);
    this.#process.after(wait, () => this.#connect(this.#servers.candidates(this.#process.region), 0));
  }

  /** Messages already sent may still arrive: they are in the server's kernel buffer, or in flight. */
  #leave(): void {
    this.#generation += 1;
    this.#ready = false;
    this.#server?.clients.delete(this);
    this.#servers.counts.lost += this.#in?.break() ?? 0;
    this.#server = undefined;
    this.#out = undefined;
    this.#in = undefined;
  }

  #close(): void {
    this.#closed = true;
    this.#leave();
  }

  /** Pings the server periodically. Abandons a connection whose server does not answer. */
  #watch(): void {
    this.#process.after(pingMs, () => {
      if (this.#closed) return;
      const server = this.#server;
      if (server === undefined) return this.#watch();
      const generation = this.#generation;
      this.#answers(server, (answers) => {
        if (generation !== this.#generation) return;
        this.#pingsMissed = answers ? 0 : this.#pingsMissed + 1;
        if (this.#pingsMissed > pingsMissedMax) this.#disconnected();
      });
      return this.#watch();
    });
  }
}
