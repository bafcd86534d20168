/** A cluster with a canary, a drill file for it, and the real command line of drills. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { type PromiseName, promises } from "../../../src/cli/drill/drill.ts";
import type { RunRecord, Verdict } from "../../../src/cli/drill/run-record.ts";
import type { GroupView, UserView } from "../../../src/console/index.ts";
import { TemporaryFolder } from "../../support/child.ts";
import { mainFile } from "../../support/program.ts";
import { waitFor } from "../../support/wait-for.ts";
import { type Cluster, type ClusterOptions, type Session, startCluster } from "../cluster/cluster.ts";
import { fasterStart } from "../cluster/cluster-process.ts";

export type DrillResult = Readonly<{
  code: number | null;
  out: string;
  err: string;
  /** Path of the report; it exists if the drill began. */
  report: string;
  record(): RunRecord;
  verdict(name: PromiseName): Verdict;
}>;
export type RunningDrill = Readonly<{
  result: Promise<DrillResult>;
  kill(signal: NodeJS.Signals): void;
  err(): string;
  /** The terminal is gone: what the drill writes from now on fails. */
  closeOutput(): void;
}>;

export type DrillCluster = Readonly<{
  cluster: Cluster;
  /** Signs the canary in; the last session counts. `alone`: its earlier sessions are revoked first. */
  signIn(sessions?: "alone" | "another"): Promise<Session>;
  start(...args: readonly string[]): RunningDrill;
  run(...args: readonly string[]): Promise<DrillResult>;
  canary(): Promise<UserView>;
  groups(): Promise<readonly GroupView[]>;
  stop(): Promise<void>;
}>;

/** The canary's right is the group of the route `eng`. */
export async function startDrillCluster(options: ClusterOptions): Promise<DrillCluster> {
  const cluster = await startCluster(options);
  const folder = new TemporaryFolder("drills");
  const file = join(folder.path, "drill.yaml");
  const proxies = cluster.proxies.map(
    ({ name, ports }) =>
      `  ${name}: { address: "127.0.0.1:${ports.address}", metrics: "http://127.0.0.1:${ports.metrics}" }\n`,
  );
  writeFileSync(
    file,
    `canary:\n  url: http://${cluster.host("eng")}/\n  stream: /stream\n  user: canary@example.com\n  group: eng\n  route: eng\nproxies:\n${proxies.join("")}`,
  );
  let session: Session | undefined;
  let reports = 0;

  function start(...args: readonly string[]): RunningDrill {
    const report = join(folder.path, `report-${++reports}.html`);
    const all = [
      "drill",
      "run",
      ...args,
      "-f",
      file,
      "-c",
      cluster.authenticate.configFile,
      "--report",
      report,
      "--json",
    ];
    const child = spawn(process.execPath, ["--no-warnings", mainFile, ...all], {
      stdio: ["ignore", "pipe", "pipe"],
      env: {
        ...process.env,
        ...fasterStart,
        CARDEA_CANARY_TOKEN: session?.cookie.slice(session.cookie.indexOf("=") + 1) ?? "",
      },
    });
    let [out, err] = ["", ""];
    child.stdout.on("data", (chunk: Buffer) => {
      out += chunk.toString();
    });
    child.stderr.on("data", (chunk: Buffer) => {
      err += chunk.toString();
    });
    const result = once(child, "close").then(([code]): DrillResult => {
      const record = (): RunRecord => JSON.parse(out);
      return {
        code: typeof code === "number" ? code : null,
        out,
        err,
        report,
        record,
        verdict(name) {
          const found = record().verdicts.find(({ promise }) => promise === promises[name]);
          if (found === undefined) throw new Error(`the drill does not promise ${name}`);
          return found;
        },
      };
    });
    const closeOutput = (): void => {
      child.stdout.destroy();
      child.stderr.destroy();
    };
    return { result, kill: (signal) => void child.kill(signal), err: () => err, closeOutput };
  }

  async function readJson<T>(path: string): Promise<T> {
    return JSON.parse((await cluster.operator.get(path)).body);
  }
  const canary = async (): Promise<UserView> => {
    const { users } = await readJson<{ users: readonly UserView[] }>("/users");
    const found = users.find(({ email }) => email === "canary@example.com");
    if (found === undefined) throw new Error("the canary has never signed in");
    return found;
  };
  return {
    cluster,
    canary,
    start,
    run: (...args) => start(...args).result,
    groups: async () => (await readJson<{ groups: readonly GroupView[] }>("/groups")).groups,
    async signIn(sessions = "alone") {
      if (sessions === "alone" && session !== undefined)
        await cluster.operator.post(`/users/${session.userId}/sessions/revoke`, { wait: "all" });
      session = await cluster.session("canary");
      const { id } = session;
      await cluster.operator.post("/groups/eng/members", { add: [session.userId] });
      await waitFor("every proxy to permit the canary", async () => {
        const answers = await Promise.all(
          cluster.proxies.map((proxy) => cluster.getOnce(proxy, "eng", session).catch(() => undefined)),
        );
        return answers.every((answer) => answer?.permitted === true);
      });
      await waitFor("the operator API to know the session", async () => {
        const { sessions } = await readJson<{ sessions: readonly { id: string }[] }>(
          "/sessions?user=canary@example.com",
        );
        return sessions.some((one) => one.id === id);
      });
      return session;
    },
    async stop() {
      await cluster.stop();
      folder.remove();
    },
  };
}

/** A command for `--do` and `--undo` that makes this process act, and waits until it has. */
export async function startHooks(
  t: TestContext,
  actions: Readonly<Record<string, () => unknown>>,
): Promise<(name: string) => string> {
  const server = createServer((request, response) => {
    const action = actions[(request.url ?? "").slice(1)];
    Promise.resolve(action?.()).then(
      () => response.end("done\n"),
      (error: unknown) => response.writeHead(500).end(String(error)),
    );
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  const script = "fetch(process.argv[1]).then(async (r) => { if (!r.ok) throw new Error(await r.text()); })";
  return (name) => `'${process.execPath}' -e '${script}' http://127.0.0.1:${port}/${name}`;
}
