/**
 * Directory person: an operator wants a directory to be asked about one person, and the duty of the leader records what
 * it said. Pure.
 *
 * A request waits in the sealed state of the directory, so the next leader answers it if this one does not. The newest
 * requests are kept with their answers.
 */
import {
  type DirectoryPersonRequest,
  directoryPeopleMax,
  directoryPersonResults,
  directoryStateUser,
  parseUserId,
  saidCharsMax,
} from "../../../events/index.ts";
import type { CommandDefinition } from "../definition.ts";
import { fieldsOf, integerOf, textOf } from "../fields.ts";
import { refuseCommand } from "../performed.ts";
import { accessOfState, changeState, oneOf, parseDirectory, parseFlag, parseShortId } from "./directory-sync.ts";

export const requestDirectoryPerson: CommandDefinition<"requestDirectoryPerson"> = {
  schema: (fields) => ({
    type: "requestDirectoryPerson",
    directory: parseDirectory(fields),
    requestId: parseShortId(fields, "requestId"),
    userId: parseUserId(fields["userId"]),
  }),
  permission: ["operator"],
  access: accessOfState,
  person: ({ directory }) => directoryStateUser(directory),
  perform: (projection, { directory, requestId, userId }, tools) =>
    changeState(projection, directory, tools, (state) => {
      const waiting = state.people.filter(({ answer }) => answer === null);
      if (waiting.length >= directoryPeopleMax)
        return refuseCommand("conflict", `${waiting.length} requests about people wait for the directory ${directory}`);
      const others = state.people.filter(({ id }) => id !== requestId);
      return {
        state: { ...state, people: keepNewest([...others, { id: requestId, userId, answer: null }]) },
        events: [],
      };
    }),
};

export const completeDirectoryPerson: CommandDefinition<"completeDirectoryPerson"> = {
  schema(fields) {
    const answer = fieldsOf(fields["answer"], "answer");
    return {
      type: "completeDirectoryPerson",
      directory: parseDirectory(fields),
      requestId: parseShortId(fields, "requestId"),
      answer: {
        result: oneOf(answer["result"], directoryPersonResults, "result"),
        said: textOf(answer, "said").slice(0, saidCharsMax),
        changed: parseFlag(answer, "changed"),
        position:
          answer["position"] === null ? null : integerOf(answer, "position", { min: 0, max: Number.MAX_SAFE_INTEGER }),
      },
    };
  },
  permission: ["duty"],
  access: accessOfState,
  person: ({ directory }) => directoryStateUser(directory),
  perform: (projection, { directory, requestId, answer }, tools) =>
    changeState(projection, directory, tools, (state) => {
      if (!state.people.some(({ id }) => id === requestId))
        return refuseCommand("not-found", "there is no such request");
      const people = state.people.map((each) =>
        each.id === requestId ? { ...each, answer: { ...answer, answeredAt: tools.now } } : each,
      );
      return { state: { ...state, people }, events: [] };
    }),
};

/** Answered requests leave first, the oldest of them before the others. */
function keepNewest(people: readonly DirectoryPersonRequest[]): readonly DirectoryPersonRequest[] {
  let surplus = people.length - directoryPeopleMax;
  return people.filter(({ answer }) => answer === null || surplus-- <= 0);
}
