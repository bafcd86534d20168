/** Words of the receipt panel, and of the dialog before a change. Pure. */
const plural = (count: number | string, one: string, many: string): string => (String(count) === "1" ? one : many);

export const receipt = {
  title: "Receipt",
  recorded: (position: string) => `Recorded at ${position}.`,
  waiting: (done: string, all: string) => `${done} of ${all} nodes have confirmed.`,
  everywhere: (time: string) => `Enforced everywhere in ${time}.`,
  everywhereUntimed: "Enforced everywhere.",
  withFenced: (applied: string, fenced: string) => `In force everywhere: ${applied} applied, ${fenced} fenced.`,
  withFencedIn: (applied: string, fenced: string, time: string) =>
    `In force everywhere in ${time}: ${applied} applied, ${fenced} fenced.`,
  lost: "This change was lost in a failover.",
  lostText: "Nodes that had applied it still enforce it. It is not in the log, so make the change again.",
  table: "Nodes and whether they enforce this change",
  node: "Node",
  status: "Status",
  after: "After",
  statuses: { applied: "Applied", fenced: "Fenced", unconfirmed: "Waiting" },
  until: (time: string, seconds: string) => `Not confirmed. Fenced by ${time} at the latest, in ${seconds} s.`,
  fencedText: "Silent; its lease and grace ran out, so it permits nothing.",
  roles: {
    "decision-only":
      "Forwards no traffic: it signs people in, or decides for another proxy, which closes its own connections.",
    broker: "A regional broker: the nodes of its region get the log and their leases from it.",
  },
  download: "Download signed receipt",
  verify: "Check it yourself:",
  askAgain: "Ask again",
  unavailable: "No broker is answering, so the receipt isn't known yet. Asking again…",
  failed: (why: string) => `No receipt: ${why}`,
  open: "Open this receipt",
  again: "Make the change again…",
  madeOn: "Go to the page of the change",
  running: (count: string) => plural(count, "1 receipt running", `${count} receipts running`),
} as const;

export const act = {
  reason: "Reason",
  reasonHint: "Optional. It is kept in the record.",
  reasonNeeded: "Needed. It is kept in the record.",
  typed: (name: string) => `Type ${name} to confirm`,
  previewing: "Working out who this affects…",
  noPreview: "Couldn't work out who this affects. You can still continue.",
  people: (count: string) => plural(count, "1 person is affected.", `${count} people are affected.`),
  sessions: (count: string) =>
    plural(
      count,
      "1 session ends, and what is open on it closes.",
      `${count} sessions end, and what is open on them closes.`,
    ),
  lost: "They lose",
  gained: "They gain",
  cut: "Closed until they sign in again",
  route: (route: string, people: string) => `${route}: ${plural(people, "1 person", `${people} people`)}`,
  more: (count: string) => `and ${count} more`,
  selfSession: "This signs you out.",
  selfAccess: "This ends your own access.",
  final: "Nothing undoes this.",
  held: "This concerns so many people that it waits for an administrator.",
  unchanged: "The log has this already; nothing will change.",
  noRole: (role: string) => `This needs the role ${role}.`,
  sending: "Recording…",
  notKnown: "Not known whether this was recorded.",
  askAgain: "Ask again",
  refused: (why: string) => `Nothing was changed: ${why}`,
  signInAgain: "This needs a fresh sign-in.",
  signIn: "Sign in again",
  done: "Recorded.",
  inRegion: (region: string) =>
    `In force in region ${region} alone, because the home region is out of reach. It is recorded for all regions when that ends.`,
  unchangedDone: "Nothing had to change.",
} as const;
