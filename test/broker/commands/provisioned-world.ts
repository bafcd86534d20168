/** A broker on a memory log at a level, for the commands of SCIM clients. */
import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import {
  type Command,
  type CommandResult,
  decodeEvents,
  genesis,
  open,
  type Profile,
  type Projection,
  parseProfile,
  type Recorded,
  type Sealed,
  type UserId,
  unwrapKey,
} from "../../../src/events/index.ts";
import { createMemoryLog } from "../../../src/replication/log/index.ts";
import { personKeyWrap } from "../../../src/replication/wire/index.ts";
import { waitFor } from "../../support/wait-for.ts";
import { asked, brokerOn, folded, secret } from "../support.ts";

type As = "authenticate" | "operator";

export async function provisionedWorld(
  t: TestContext,
  { level = 4 }: Readonly<{ level?: number }> = {},
): Promise<
  Readonly<{
    submit(command: Command, as?: As): Promise<CommandResult>;
    /** Submits, and asserts that the command is done. */
    done(command: Command, as?: As): Promise<void>;
    projection(): Promise<Projection>;
    /** Every event of the log. */
    events(): Promise<readonly Recorded[]>;
    /** Opens what is sealed under the key of a person. */
    opener(userId: UserId): Promise<(sealed: Sealed) => Profile>;
  }>
> {
  const log = createMemoryLog();
  const broker = brokerOn(log);
  t.after(() => broker.stop());
  const submit = (command: Command, as: As = "authenticate"): Promise<CommandResult> =>
    broker.databroker(as).submit(asked(command));
  const finalize: Command = { type: "finalizeUpgrade", level };
  await waitFor("the level", async () => (await submit(finalize, "operator")).type === "done");
  return {
    submit,
    async done(command, as = "authenticate") {
      const result = await submit(command, as);
      assert.equal(result.type, "done", JSON.stringify(result));
    },
    projection: () => folded(log),
    async events() {
      const outcome = await log.read(genesis, 10_000);
      assert.equal(outcome.type, "page");
      return decodeEvents(outcome.page.entries, genesis);
    },
    async opener(userId) {
      const [wrapped] = await log.keys([userId]);
      const person = unwrapKey(wrapped ?? assert.fail(), personKeyWrap(secret));
      return (sealed) => parseProfile(open(sealed, person)) ?? assert.fail();
    },
  };
}
