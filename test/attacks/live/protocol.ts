/**
 * Messages between the three processes of a live-cut test: the proxy's process sends requests, the upstream and the
 * callers answer.
 */
export const kinds = ["sse", "websocket", "grpc", "tcp"] as const;
export type Kind = (typeof kinds)[number];
/** `eng` requires a group; `all` requires only a session. */
export const routeNames = ["eng", "all"] as const;
export type RouteName = (typeof routeNames)[number];
/** How the caller saw a stream end, in the terms of its protocol. */
export type Ending = string;

export type UpstreamPorts = Readonly<Record<Kind, readonly number[]>>;
export type ToUpstream =
  | Readonly<{ id: number; type: "listen"; portsEach: number }>
  | Readonly<{ id: number; type: "broadcast" | "count" }>;

export type StreamSpec = Readonly<{
  user: number;
  kind: Kind;
  route: RouteName;
  /** The upstream sends without end, and the caller does not read. */
  slow: boolean;
}>;
export type StreamState = StreamSpec & Readonly<{ received: number; ending: Ending | null }>;
export type ToCallers =
  | Readonly<{ id: number; type: "open"; port: number; streams: readonly StreamSpec[] }>
  | Readonly<{ id: number; type: "states" | "read" }>;

export const hostOf = (route: RouteName, kind: Kind): string => `${route}-${kind}.localhost`;
export const tunnelPort = 5_432;

/** Answers each message of the parent process with the handler's result or error. */
export function serve<Message extends { id: number }>(handle: (message: Message) => unknown): void {
  process.on("message", async (message: Message) => {
    try {
      process.send?.({ id: message.id, answer: (await handle(message)) ?? null });
    } catch (error) {
      process.send?.({ id: message.id, error: String(error) });
    }
  });
  process.on("disconnect", () => process.exit());
}
