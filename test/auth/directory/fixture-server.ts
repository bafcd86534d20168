/**
 * Fixture server: an HTTP server that answers as a directory's provider documents, and fails when a test says so.
 *
 * A test's `answer` is given each request with its token already checked. The pages of the fixtures have three entries.
 */
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import type { SourceParts } from "../../../src/auth/directory/adapter-contract.ts";
import { createDirectoryHttp, type DirectoryHttp } from "../../../src/auth/directory/directory-fetch.ts";
import { createLocalFetch } from "../../../src/auth/index.ts";
import type { ControlledDirectory, DirectoryContent, DirectoryFault } from "../../contract/directory-source.ts";

export const pageSize = 3;

export type FixtureRequest = Readonly<{
  method: string;
  path: string;
  query: URLSearchParams;
  headers: IncomingMessage["headers"];
  body: string;
}>;
export type FixtureAnswer = Readonly<{
  status?: number;
  headers?: Readonly<Record<string, string>>;
  /** Text is sent as it is, everything else as JSON. */
  body?: unknown;
}>;

export type Fixture = Readonly<{
  base: URL;
  parts: SourceParts;
  requests: FixtureRequest[];
  /** Ahead of the real clock, for the `now` of the parts. */
  skewMs: { value: number };
  content: { value: DirectoryContent };
  fail(fault: DirectoryFault, after: number): void;
  heal(): void;
  close(): Promise<void>;
}>;

export async function startFixture(
  options: Readonly<{
    /** How the provider says that a limit ends in two seconds. */
    limited: () => FixtureAnswer;
    refused: (request: FixtureRequest) => FixtureAnswer;
    answer: (request: FixtureRequest, fixture: Fixture) => FixtureAnswer | Promise<FixtureAnswer>;
  }>,
): Promise<Fixture> {
  let fault: { fault: DirectoryFault; after: number } | null = null;
  const requests: FixtureRequest[] = [];
  const server = createServer((message, response) => {
    void (async () => {
      const chunks: Uint8Array[] = [];
      for await (const chunk of message as AsyncIterable<Uint8Array>) chunks.push(chunk);
      const url = new URL(message.url ?? "/", base);
      const request: FixtureRequest = {
        method: message.method ?? "",
        path: url.pathname,
        query: url.searchParams,
        headers: message.headers,
        body: Buffer.concat(chunks).toString("utf8"),
      };
      requests.push(request);
      const present = fault !== null && fault.after-- <= 0 ? fault.fault : null;
      if (present === "unavailable") {
        response.writeHead(503).end();
        return;
      }
      const answer =
        present === "limited"
          ? options.limited()
          : present === "refused"
            ? options.refused(request)
            : await options.answer(request, fixture);
      const body = typeof answer.body === "string" ? answer.body : JSON.stringify(answer.body ?? {});
      const headers = { "content-type": "application/json; charset=utf-8", ...answer.headers };
      if (present === "cut") {
        response.writeHead(200, { ...headers, "content-length": String(Buffer.byteLength(body)) });
        response.write(body.slice(0, body.length / 2), () => response.destroy());
      } else response.writeHead(answer.status ?? 200, headers).end(answer.status === 304 ? undefined : body);
    })().catch((error: unknown) => response.destroy(error as Error));
  });
  // A failed test does not close the server, and must end all the same.
  server.unref().on("connection", (socket) => socket.unref());
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const base = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
  const local = createLocalFetch({ timeoutMs: 5_000 });
  const skewMs = { value: 0 };
  const now = (): number => Date.now() + skewMs.value;
  const http = (more: Parameters<SourceParts["http"]>[0] = {}): DirectoryHttp =>
    createDirectoryHttp({ ...more, fetch: local.fetch, timeoutMs: 5_000, now });
  const fixture: Fixture = {
    base,
    requests,
    skewMs,
    parts: { name: "fixture", http, fetch: local.fetch, now, log: { info() {}, warn() {} } },
    content: { value: { people: [], groups: [] } },
    fail(next, after) {
      fault = { fault: next, after };
    },
    heal() {
      fault = null;
    },
    async close() {
      await local.close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return fixture;
}

/** The parts of a controlled directory that every fixture has. */
export function controlledFixture(fixture: Fixture): Pick<ControlledDirectory, "set" | "fail" | "heal" | "close"> {
  return {
    set(content) {
      fixture.content.value = content;
    },
    fail: fixture.fail,
    heal: fixture.heal,
    close: fixture.close,
  };
}

/** A page of a list by offset, as many APIs number them. */
export function pageOf<T>(list: readonly T[], offset: number): Readonly<{ items: readonly T[]; next: number | null }> {
  const next = offset + pageSize;
  return { items: list.slice(offset, next), next: next < list.length ? next : null };
}
