/** Operations of the operator API for configurations and the policy lab. Pure. */
import {
  checkAnswer,
  checkSchema,
  diffAnswer,
  historyAnswer,
  replaySchema,
  testAnswer,
  testSchema,
} from "./lab-schemas.ts";

export const labOperations = {
  "GET /configurations/history": {
    role: "viewer",
    summary: "When configurations were first and last in force, and since when each node runs which",
    status: 200,
    answer: historyAnswer,
    errors: [],
  },
  "GET /configurations/:a/diff/:b": {
    role: "viewer",
    summary: "What differs between two stored configurations, and who gains or loses which route",
    status: 200,
    answer: diffAnswer,
    errors: [400, 404],
  },
  "POST /policy/check": {
    role: "viewer",
    scoped: true,
    summary: "The problems and findings of a policy that is not in force",
    body: checkSchema,
    status: 200,
    answer: checkAnswer,
    errors: [400, 404],
  },
  "POST /policy/test": {
    role: "viewer",
    scoped: true,
    summary: "Table tests of a policy that is not in force",
    body: testSchema,
    status: 200,
    answer: testAnswer,
    errors: [400, 404],
  },
  "POST /policy/replay": {
    role: "operator",
    scoped: true,
    summary: "Who would have gained or lost access: recorded decisions, decided again with another policy",
    body: replaySchema,
    status: 200,
    stream: "`progress` while decisions are read, then `result`, or `failed` with `error`.",
    errors: [400, 404],
  },
} as const;
