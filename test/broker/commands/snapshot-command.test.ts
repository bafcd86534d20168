/** The command that announces a snapshot. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { parseCommandRequest } from "../../../src/broker/commands/parse-command.ts";
import { refuseCommand } from "../../../src/broker/commands/permissions.ts";
import type { CommandId, Hash, Position } from "../../../src/events/index.ts";

const request = (parts: object = {}) => ({
  commandId: randomUUID() as CommandId,
  actor: "system",
  command: { type: "recordSnapshot" as const, position: 7 as Position, manifestHash: "a".repeat(64) as Hash, ...parts },
});

test("only a duty of the leader may announce a snapshot", () => {
  assert.equal(refuseCommand("duty", request()), undefined);
  for (const role of ["broker", "proxy", "authorize", "authenticate", "operator"] as const)
    assert.match(refuseCommand(role, request()) ?? "", /may not/);
});

test("an announcement is parsed completely or refused", () => {
  assert.deepEqual(parseCommandRequest(request()).command, request().command);
  assert.throws(() => parseCommandRequest(request({ manifestHash: "x" })));
  assert.throws(() => parseCommandRequest(request({ position: -1 })));
});
