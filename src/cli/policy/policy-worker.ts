/**
 * Policy thread: answers the calls of the policy lab, one at a time. A text that takes too long or too much memory ends
 * this thread, and nothing else.
 */
import { parentPort } from "node:worker_threads";
import { reviveRoute, type StoredRoute } from "../../audit/index.ts";
import type { UnixMs } from "../../events/index.ts";
import type { LabAnswer, LabCall } from "../build/lab/lab-calls.ts";
import { checkText, testText } from "./policy-text.ts";

parentPort?.on("message", ({ id, text, table, route }: LabCall) => {
  const around = route === null ? null : reviveRoute(JSON.parse(route) as StoredRoute);
  const answer =
    table === null
      ? checkText({ text, route: around }, Date.now() as UnixMs)
      : testText({ text, table, route: around });
  parentPort?.postMessage({ id, answer } satisfies LabAnswer);
});
